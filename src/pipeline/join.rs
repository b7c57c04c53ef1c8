//! Equal questions in flight are asked once (TTL-14, RFC 5452 5).
//!
//! An exchange belongs to no client: a task of its own flies it, clients hold receivers and may leave. The flight's entry is
//! taken away when its [`Lead`] is dropped, however the task ends, and whoever waited then hears that it ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ahash::RandomState;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::crowd::Place;
use super::flushes::Flushes;
use super::rcode::Problem;
use crate::reply::StoredBuf;
use crate::trail::{Attempts, Sudden};

/// Flights at one time, all workers together.
pub const FLIGHTS: usize = 10_000;

/// Clients that wait for one flight, its leader aside.
pub const FOLLOWERS: usize = 4096;

const SHARDS: usize = 16;

/// How a flight ended.
#[derive(Debug)]
pub struct Landed {
    /// The answer, or the reply in its stead.
    pub result: Result<StoredBuf, Problem>,
    /// The attempts.
    pub attempts: Attempts,
    /// Was a denial sudden?
    pub sudden: Sudden,
}

impl Landed {
    /// Nobody was asked.
    #[must_use]
    pub fn refused(problem: Problem) -> Self {
        Self { result: Err(problem), attempts: Attempts::default(), sudden: Sudden::No }
    }
}

/// Each wait holds a clone, so the count tells how many still wait.
type Shard = HashMap<Box<[u8]>, Arc<Landing>, RandomState>;

/// The table of flights.
#[derive(Debug)]
pub struct Joins {
    /// Protects the flights of one part of the keys; held for one look-up, and for one look into the cache.
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    in_flight: AtomicUsize,
    flights: usize,
    followers: usize,
}

/// Where a flight ends.
#[derive(Debug)]
struct Landing {
    begun: Instant,
    /// The flushes that had begun by then.
    flushes: u64,
    /// How; None inside if its task died.
    outcome: OnceLock<Option<Landed>>,
    ended: Notify,
}

/// Holders of a [`Landing`] that do not follow: the table, the [`Lead`], and the client who leads.
const HOLDERS: usize = 3;

/// What a client that has to wait does.
#[derive(Debug)]
pub enum Ticket {
    /// It asks, for itself and all who follow.
    Lead(Lead),
    /// It waits for a flight under way.
    Follow(Follow),
    /// It looks again: a flight landed a moment ago.
    Landed,
    /// It gets an error: the table, or the flight, is full.
    Full,
}

/// The right and duty to end a flight.
#[derive(Debug)]
pub struct Lead {
    joins: Arc<Joins>,
    key: Box<[u8]>,
    landing: Arc<Landing>,
    /// Given back when the flight has left the table.
    place: Place,
}

/// A wait for a flight.
#[derive(Debug)]
pub struct Follow {
    landing: Arc<Landing>,
}

impl Joins {
    /// A table for that many flights, with that many followers each.
    #[must_use]
    pub fn new(flights: usize, followers: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            in_flight: AtomicUsize::new(0),
            flights,
            followers,
        })
    }

    /// Flights now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        let at = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        // A panic under this lock leaves the map whole: every change to it is one call.
        self.shards.get(at).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight of `key`, or leads one unless `landed` says that its answer has been kept meanwhile. A flight that one of
    /// `flushes` meant flies on for those who wait for it, but is joined no more: whoever asks after a flush hears nothing from before.
    pub fn join(self: &Arc<Self>, key: &[u8], flushes: &Flushes, landed: impl FnOnce() -> bool) -> Ticket {
        let mut shard = self.shard(key);
        if let Some(landing) = shard.get(key).filter(|landing| !flushes.meant(key, landing.flushes)) {
            if Arc::strong_count(landing) >= HOLDERS + self.followers {
                return Ticket::Full;
            }
            return Ticket::Follow(Follow { landing: Arc::clone(landing) });
        }
        // Flights keep their answer before they leave the table: under its lock, no entry and no answer means not asked.
        if landed() {
            return Ticket::Landed;
        }
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.flights {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Ticket::Full;
        }
        let (begun, flushes) = (Instant::now(), flushes.count());
        let landing = Arc::new(Landing { begun, flushes, outcome: OnceLock::new(), ended: Notify::new() });
        shard.insert(key.into(), Arc::clone(&landing));
        Ticket::Lead(Lead { joins: Arc::clone(self), key: key.into(), landing, place: Place::FREE })
    }
}

impl Lead {
    /// A wait for this flight.
    #[must_use]
    pub fn follow(&self) -> Follow {
        Follow { landing: Arc::clone(&self.landing) }
    }

    /// The flushes that had begun when the flight did: a mark for [`Flushes::meant`].
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.landing.flushes
    }

    /// Takes `place` along to the end.
    pub fn occupy(&mut self, place: Place) {
        self.place = place;
    }

    /// Tells everyone how the flight ended.
    pub fn land(self, landed: Landed) {
        // Whoever waits is woken when the flight has left the table.
        let _ = self.landing.outcome.set(Some(landed));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut shard = self.joins.shard(&self.key);
        // After a flush another flight may have its place.
        if shard.get(&self.key).is_some_and(|landing| Arc::ptr_eq(landing, &self.landing)) {
            shard.remove(&self.key);
        }
        drop(shard);
        self.joins.in_flight.fetch_sub(1, Ordering::Relaxed);
        let _ = self.landing.outcome.set(None);
        self.landing.ended.notify_waiters();
    }
}

impl Follow {
    /// When the flight began.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.landing.begun
    }

    /// Waits for the flight to end; `None` if its task died.
    pub async fn landed(&self) -> Option<&Landed> {
        // Made before the look: from here on no end is missed.
        let ended = self.landing.ended.notified();
        if self.landing.outcome.get().is_none() {
            ended.await;
        }
        self.landing.outcome.get()?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::rcode;

    fn landed() -> Landed {
        Landed { result: Err(rcode::TIMED_OUT), attempts: Attempts::default(), sudden: Sudden::No }
    }

    fn lead(joins: &Arc<Joins>, key: &[u8]) -> Lead {
        match joins.join(key, &Flushes::default(), || false) {
            Ticket::Lead(lead) => lead,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn ttl_14_followers_hear_what_the_leader_heard() {
        let joins = Joins::new(10, 10);
        let leading = lead(&joins, b"a");
        let own = leading.follow();
        let Ticket::Follow(follow) = joins.join(b"a", &Flushes::default(), || false) else { panic!("no follower") };
        assert_eq!(joins.in_flight(), 1);
        leading.land(landed());
        assert!(std::ptr::eq(own.landed().await.unwrap(), follow.landed().await.unwrap()));
        assert_eq!(joins.in_flight(), 0);
        assert!(
            matches!(joins.join(b"a", &Flushes::default(), || true), Ticket::Landed),
            "the cache is looked at again under the entry"
        );
        drop(lead(&joins, b"a"));
    }

    #[tokio::test]
    async fn followers_are_answered_when_the_task_dies() {
        let joins = Joins::new(10, 10);
        let leading = lead(&joins, b"a");
        let Ticket::Follow(follow) = joins.join(b"a", &Flushes::default(), || false) else { panic!("no follower") };
        let task = tokio::spawn(async move {
            let _leading = leading;
            panic!("as a fault would");
        });
        assert!(task.await.is_err());
        assert!(follow.landed().await.is_none());
        assert_eq!(joins.in_flight(), 0);
    }

    #[test]
    fn flights_and_followers_are_bounded_and_places_come_back() {
        let joins = Joins::new(2, 1);
        let (first, _second) = (lead(&joins, b"a"), lead(&joins, b"b"));
        assert!(matches!(joins.join(b"c", &Flushes::default(), || false), Ticket::Full));
        let _leader = first.follow();
        let follower = joins.join(b"a", &Flushes::default(), || false);
        assert!(matches!(follower, Ticket::Follow(_)));
        assert!(matches!(joins.join(b"a", &Flushes::default(), || false), Ticket::Full));
        drop(follower);
        assert!(matches!(joins.join(b"a", &Flushes::default(), || false), Ticket::Follow(_)), "who leaves makes room");
        drop(first);
        drop(lead(&joins, b"c"));
    }
}
