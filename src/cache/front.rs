//! What one worker is asked for most: copies of a few answers, so that workers do not queue for the shard of a name that all are
//! asked for, and do not pass its cache lines to and fro.
//!
//! Between recall and the shards. A copy is served as long as nothing has left its shard since it was made and it is not in its
//! last tenth: what was replaced, removed or flushed is never served, and what is to be refreshed is seen by the shard. A name
//! earns its place by a majority vote of those that fall to it (Boyer and Moore), so names asked now and then cost no copying.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Cache, Key};
use crate::clock::Moment;
use crate::reply::{Meta, Stored};

/// One worker's copies. Clones are the same front.
#[derive(Clone)]
pub struct Front(Arc<Mutex<Box<[Place]>>>);

/// Counts what has left one shard: replaced, removed, shed or flushed. On cache lines of its own, which all workers only read as
/// long as nothing leaves.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Departures(AtomicU64);

/// Where one answer may be, and who would have the place instead.
#[derive(Clone)]
#[repr(align(64))]
struct Place {
    /// The hash of the key; 0 where there is none.
    hash: u64,
    /// The departures from its shard when it was copied.
    departures: u64,
    /// It is served before this.
    until: Moment,
    /// Part of the hash of who would come in, and the votes it is ahead.
    rival: u32,
    votes: u16,
    /// Times served that the entry in the shard does not know of.
    uncounted: u16,
    key: u16,
    message: u16,
    ttls: u16,
    meta: Meta,
    octets: [u8; ROOM],
}

/// What the places say of a question.
enum Said {
    /// It is not here.
    Absent,
    /// It is not here, and has earned the place.
    Wanted,
}

/// Places of a front.
const PLACES: usize = 128;

/// Octets for key, message and TTL offsets of one answer. Most answers are smaller; others stay in their shard.
const ROOM: usize = 424;

/// Votes that earn a place.
const EARNED: u16 = 16;

/// Times served after which the shard hears of it, so that it keeps what is asked for.
const TOLD: u16 = 64;

const _: () = assert!(size_of::<Place>() == 512);

impl Departures {
    /// One more.
    pub fn count(&self) {
        // Whoever writes holds the shard's lock.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Front {
    /// Octets of one front.
    pub const SIZE: usize = PLACES * size_of::<Place>();

    /// An empty front; with no places, nothing is ever in it.
    pub(super) fn new(is_wanted: bool) -> Self {
        let places = if is_wanted { PLACES } else { 0 };
        Self(Arc::new(Mutex::new(vec![Place::empty(); places].into())))
    }
}

impl Cache {
    /// [`Cache::lookup`] by way of a worker's `front`, which must be of this cache; where the asker `renews` answers, `take` hears
    /// too whether it is time to have this one renewed, and one asker in its life hears that it is.
    ///
    /// It is time in the last tenth of the life of an answer that is asked for again. What lives under 10 s is never renewed, nor
    /// what says that a name does not exist.
    pub fn lookup_through<T>(
        &self,
        front: &Front,
        (key, renews): (&Key, bool),
        now: Moment,
        take: impl FnOnce(Stored<'_>, bool) -> T,
    ) -> Option<T> {
        let (hash, octets) = (self.hash(key)?, key.as_bytes());
        let mut places = front.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = place_of(&mut places, hash) else {
            return self.lookup_hashed((hash, renews), octets, now, take);
        };
        if place.is_of(hash, octets) {
            let departures = self.departures(hash)?;
            if place.departures == departures.so_far() && place.is_fresh(now) {
                place.votes = place.votes.saturating_sub(1);
                place.uncounted += 1;
                if place.uncounted >= TOLD {
                    self.tell(place);
                }
                return place.stored().map(|stored| take(stored, false));
            }
            self.tell(place);
        } else {
            match place.vote(hash) {
                Said::Absent => {
                    drop(places);
                    return self.lookup_hashed((hash, renews), octets, now, take);
                }
                Said::Wanted => self.tell(place),
            }
        }
        let departures = self.departures(hash)?;
        self.lookup_hashed((hash, renews), octets, now, |stored, is_due| {
            // Under the shard's lock: nothing leaves meanwhile.
            place.keep((hash, octets), stored, departures.so_far(), now);
            take(stored, is_due)
        })
    }

    /// Lets the shard know how often the answer at `place` was served.
    fn tell(&self, place: &mut Place) {
        let hits = std::mem::take(&mut place.uncounted);
        if hits > 0
            && let Some(key) = place.octets.get(..place.key.into())
        {
            self.credit(place.hash, key, hits.into());
        }
    }
}

impl Place {
    fn empty() -> Self {
        Self {
            hash: 0,
            departures: 0,
            until: Moment(0),
            rival: 0,
            votes: 0,
            uncounted: 0,
            key: 0,
            message: 0,
            ttls: 0,
            meta: Meta::default(),
            octets: [0; ROOM],
        }
    }

    fn is_of(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.octets.get(..self.key.into()) == Some(key)
    }

    fn is_fresh(&self, now: Moment) -> bool {
        now < self.until
    }

    fn stored(&self) -> Option<Stored<'_>> {
        let rest = self.octets.get(self.key.into()..)?;
        let (message, rest) = rest.split_at_checked(self.message.into())?;
        Some(Stored { meta: self.meta, message, ttls: rest.get(..self.ttls.into())? })
    }

    /// Counts a vote for a name that is not here.
    fn vote(&mut self, hash: u64) -> Said {
        let rival = tag(hash);
        if self.rival == rival {
            self.votes += 1;
        } else if self.votes == 0 {
            (self.rival, self.votes) = (rival, 1);
        } else {
            self.votes -= 1;
        }
        if self.votes < EARNED {
            return Said::Absent;
        }
        self.votes = 0;
        Said::Wanted
    }

    /// Copies `stored` here, unless it is too long or near its end. What was here then stays, if it is another's.
    fn keep(&mut self, (hash, key): (u64, &[u8]), stored: Stored<'_>, departures: u64, now: Moment) {
        let meta = stored.meta;
        let until = Moment(meta.received.0.saturating_add(u64::from(meta.lifetime) * 900));
        if now >= until || key.len() + stored.message.len() + stored.ttls.len() > ROOM {
            if self.hash == hash {
                self.hash = 0;
            }
            return;
        }
        self.hash = 0;
        let mut rest = self.octets.as_mut_slice();
        for part in [key, stored.message, stored.ttls] {
            let Some((place, after)) = rest.split_at_mut_checked(part.len()) else { return };
            place.copy_from_slice(part);
            rest = after;
        }
        let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(0);
        (self.key, self.message, self.ttls) = (length(key), length(stored.message), length(stored.ttls));
        (self.hash, self.departures, self.until, self.meta) = (hash, departures, until, meta);
    }
}

fn place_of(places: &mut [Place], hash: u64) -> Option<&mut Place> {
    let length = u64::try_from(places.len()).ok()?;
    let at = usize::try_from(hash.checked_rem(length)?).ok()?;
    places.get_mut(at)
}

/// The half of `hash` that does not choose the place.
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::cache::{Bits, Fate, Settings};
    use crate::reply::Kind;

    const NOW: Moment = Moment(1000);

    fn cache() -> Cache {
        Cache::new(&Settings { size: 16 << 20, spread: false, ..Settings::default() })
    }

    fn key(n: u32) -> Key {
        Key::new(format!("\x08{n:08}\x07example\0\0\x01\0\x01").as_bytes(), Bits::default(), 0, 0)
    }

    fn put(cache: &Cache, n: u32, message: &[u8]) {
        let meta = Meta { received: NOW, lifetime: 100, kind: Kind::Positive, ..Meta::default() };
        cache.insert(&key(n), Stored { meta, message, ttls: b"ttls" }, NOW);
    }

    fn ask(cache: &Cache, front: &Front, n: u32, now: Moment) -> Option<Vec<u8>> {
        cache.lookup_through(front, (&key(n), true), now, |stored, _| {
            assert_eq!((stored.ttls, stored.meta.lifetime), (&b"ttls"[..], 100));
            stored.message.to_vec()
        })
    }

    /// Hits that the shard knows of.
    fn known(cache: &Cache, n: u32) -> u32 {
        cache.peek(&key(n), NOW).unwrap().hits
    }

    /// Asks until a copy is served.
    fn heat(cache: &Cache, front: &Front, n: u32) {
        for _ in 0..=EARNED {
            assert!(ask(cache, front, n, NOW).is_some());
        }
        let before = known(cache, n);
        assert!(ask(cache, front, n, NOW).is_some());
        assert_eq!(known(cache, n), before, "served from the front");
    }

    #[test]
    fn what_is_asked_for_again_and_again_is_served_from_a_copy_and_every_hit_is_counted_in_the_end() {
        let (cache, front) = (cache(), Front::new(true));
        put(&cache, 1, b"one");
        for asked in 1..1000_u32 {
            assert_eq!(ask(&cache, &front, 1, NOW).unwrap(), b"one");
            assert!(known(&cache, 1) <= asked && known(&cache, 1) + u32::from(TOLD) > asked, "{asked}");
        }
    }

    #[test]
    fn what_was_replaced_removed_or_flushed_is_never_served_from_a_copy() {
        let (cache, front) = (cache(), Front::new(true));
        let gone: [&dyn Fn(); 3] = [&|| assert!(cache.remove(&key(1))), &|| _ = cache.flush_all(), &|| {
            let mut walk = cache.walk();
            while walk.step(&mut |_| Fate::Goes) {}
        }];
        for go in gone {
            put(&cache, 1, b"old");
            heat(&cache, &front, 1);
            put(&cache, 1, b"new");
            assert_eq!(ask(&cache, &front, 1, NOW).unwrap(), b"new");
            heat(&cache, &front, 1);
            go();
            assert_eq!(ask(&cache, &front, 1, NOW), None);
        }
    }

    #[test]
    fn ttl_02_a_copy_is_served_before_its_last_tenth_and_what_expired_is_not_served_at_all() {
        let (cache, front) = (cache(), Front::new(true));
        put(&cache, 1, b"one");
        heat(&cache, &front, 1);
        let shard_hears = |seconds: u64| {
            let before = known(&cache, 1);
            assert!(ask(&cache, &front, 1, Moment(NOW.0 + seconds * 1000)).is_some());
            known(&cache, 1) > before
        };
        assert!(!shard_hears(89));
        assert!(shard_hears(90));
        assert!(shard_hears(99));
        assert_eq!(ask(&cache, &front, 1, Moment(NOW.0 + 100_000)), None);
    }

    #[test]
    fn names_that_are_asked_for_evenly_are_not_copied_and_do_not_displace_a_hot_one() {
        let (cache, front) = (cache(), Front::new(true));
        (0..2000).for_each(|n| put(&cache, n, b"some"));
        heat(&cache, &front, 7);
        let before = known(&cache, 7);
        for _ in 0..20 {
            (0..2000).for_each(|n| drop(ask(&cache, &front, n, NOW)));
        }
        let told = known(&cache, 7) - before;
        assert!(told == 0, "still served from the front: {told}");
        let copied = front.0.lock().unwrap().iter().filter(|place| place.hash != 0).count();
        assert_eq!(copied, 1);
    }

    #[test]
    fn a_long_answer_stays_in_its_shard() {
        let (cache, front) = (cache(), Front::new(true));
        let long = vec![7; ROOM];
        put(&cache, 1, &long);
        for asked in 1..100 {
            assert_eq!(ask(&cache, &front, 1, NOW).unwrap(), long);
            assert_eq!(known(&cache, 1), asked);
        }
    }

    #[test]
    fn who_has_won_the_vote_but_does_not_fit_does_not_cost_another_its_place() {
        let (cache, front) = (cache(), Front::new(true));
        put(&cache, 1, b"one");
        heat(&cache, &front, 1);
        let at = |n: u32| cache.hash(&key(n)).unwrap() % PLACES as u64;
        let rival = (2..10_000).find(|&n| at(n) == at(1)).unwrap();
        put(&cache, rival, &[7; ROOM]);
        // That may have been the same shard: copied anew.
        assert!(ask(&cache, &front, 1, NOW).is_some());
        for _ in 0..100 {
            assert!(ask(&cache, &front, rival, NOW).is_some());
        }
        let before = known(&cache, 1);
        assert!(ask(&cache, &front, 1, NOW).is_some());
        assert_eq!(known(&cache, 1), before, "served from the front");
    }

    #[test]
    fn fronts_are_part_of_the_size_and_are_no_more_than_their_share() {
        let cache = cache();
        let before = cache.footprint();
        let fronts: Vec<Front> = (0..100).map(|_| cache.front()).collect();
        let filled = fronts.iter().filter(|front| !front.0.lock().unwrap().is_empty()).count();
        assert_eq!(filled, (16 << 20) / crate::cache::FRONTS_SHARE / Front::SIZE);
        assert_eq!(cache.footprint(), before + filled * Front::SIZE);
        assert!(cache.footprint() <= 16 << 20);
        put(&cache, 1, b"one");
        assert_eq!(ask(&cache, &fronts[99], 1, NOW).unwrap(), b"one");
    }

    #[test]
    fn who_has_seen_a_newer_answer_never_gets_an_older_one_from_a_copy() {
        let cache = cache();
        let newest = AtomicU32::new(0);
        put(&cache, 1, &0_u32.to_be_bytes());
        let read = || {
            let front = Front::new(true);
            while newest.load(Ordering::Acquire) < 5000 {
                let least = newest.load(Ordering::Acquire);
                // Between removal and insertion of a newer one there is none.
                let Some(message) = ask(&cache, &front, 1, NOW) else { continue };
                assert!(u32::from_be_bytes(message.try_into().unwrap()) >= least);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(read);
            scope.spawn(read);
            for version in 1..=5000_u32 {
                put(&cache, 1, &version.to_be_bytes());
                newest.store(version, Ordering::Release);
            }
        });
    }
}
