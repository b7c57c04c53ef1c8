//! Answers that are kept: flat, sharded, bounded in bytes, resistant to scans. The clock is an argument.
//!
//! A question is hashed once, with a key of this process (who asks chooses the names): the upper half of the hash chooses the
//! `shard`, the lower half is the tag that its index and ghost know the answer by. A shard is locked for one lookup or one
//! insertion. All memory is laid out at construction (`layout`) and nothing is allocated afterwards.

pub mod codec;
pub mod domain;
pub mod failures;
pub mod key;
pub mod lifetime;
pub mod rules;
pub mod selection;
pub mod settings;

mod entry;
mod front;
mod ghost;
mod index;
mod layout;
mod mark;
mod reach;
mod ring;
mod shard;
mod share;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ahash::RandomState;

pub use entry::Entry;
pub use failures::{At, Failure, Failures};
pub use front::Front;
pub use key::{Bits, Key, KeyView, Reach};
pub use lifetime::lifetime;
pub use rules::{Limits, Rule};
pub use selection::Selection;
pub use settings::Settings;
pub use shard::Fate;

use crate::clock::Moment;
use crate::reply::{Kind, Meta, Stored};
use crate::trail::UpstreamId;
use entry::Draft;
use front::Departures;
use layout::Layout;
use reach::Lengths;
use shard::{Shard, Steps};

/// The cache. Shared by all workers; clones hold the same answers.
#[derive(Clone)]
pub struct Cache {
    /// A power of two of them; none where the cache is off.
    shards: Arc<[Door]>,
    /// What has left each of them.
    departures: Arc<[Arc<Departures>]>,
    hasher: RandomState,
    allowed: usize,
    /// Do equal lifetimes end one by one?
    spread: bool,
    lengths: Arc<Lengths>,
    /// Workers that may still have a front, out of the share of `allowed` that is set aside for them.
    fronts_left: Arc<AtomicUsize>,
    fronts: usize,
}

/// A shard behind its lock, on cache lines of its own. The lock protects everything in the shard.
#[repr(align(128))]
struct Door(Mutex<Shard>);

/// What became of an answer that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept.
    Kept,
    /// It is not to be kept: TTL 0, or fleeting. An older answer stays as it was.
    Fleeting,
    /// It is large for this cache, and is kept when the question comes again.
    Deferred,
    /// It is too large for this cache.
    TooLarge,
    /// The cache is off.
    Off,
}

/// What the cache holds and has done since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Answers held, expired ones included.
    pub entries: u64,
    /// Octets they take.
    pub octets_used: u64,
    /// Octets that everything may take, index and spare room included.
    pub octets_allowed: u64,
    /// Answers kept.
    pub inserted: u64,
    /// Answers dropped to make room.
    pub evicted: u64,
    /// Answers not kept for their size.
    pub rejected: u64,
    /// Times an answer lost or did not get a lasting place because its domain has its share.
    pub limited: u64,
}

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    /// Seconds since it was received.
    pub age: u32,
    /// Seconds it is still fresh, rounded up; 0 once it has expired.
    pub left: u32,
    /// Times it was served.
    pub hits: u32,
    /// Who supplied it.
    pub supplier: UpstreamId,
    /// Octets it takes.
    pub size: usize,
}

impl Cache {
    /// An empty cache of `settings.size` octets; off below 4 KiB.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let fronts = settings.size / FRONTS_SHARE / Front::SIZE;
        let layout = Layout::of(settings.size - fronts * Front::SIZE, SHARD_FIXED);
        let shards: Arc<[Door]> = match layout.map(|layout| layout.shared(settings.domain_share)) {
            Some(layout) => (0..layout.shards).map(|_| Door(Mutex::new(Shard::new(layout)))).collect(),
            None => Arc::new([]),
        };
        let departures = shards.iter().map(|door| door.open().departures()).collect();
        let (hasher, allowed, fronts_left) = (RandomState::new(), settings.size, Arc::new(AtomicUsize::new(fronts)));
        Self {
            shards,
            departures,
            hasher,
            allowed,
            spread: settings.spread,
            lengths: Arc::default(),
            fronts_left,
            fronts,
        }
    }

    /// The same answers under other settings. `size` and `domain_share` are those that it was built with: they shaped its memory.
    #[must_use]
    pub fn renewed(&self, settings: &Settings) -> Self {
        Self { spread: settings.spread, ..self.clone() }
    }

    /// A front for one more worker. Where the share for fronts is used up, nothing is ever in it.
    #[must_use]
    pub fn front(&self) -> Front {
        let left = self.fronts_left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        Front::new(left.is_ok())
    }

    /// The fresh answer of `key`, handed to `take` under the lock of its shard: copy it, do nothing slow.
    pub fn lookup<T>(&self, key: &Key, now: Moment, take: impl FnOnce(Stored<'_>) -> T) -> Option<T> {
        let (door, tag) = self.door(key)?;
        door.open().lookup(tag, key.as_bytes(), now).map(take)
    }

    /// The answer of `key` that has expired but may stand in while no fresh one is to be had (RFC 8767), as [`Cache::lookup`].
    pub fn lookup_stale<T>(&self, key: &Key, now: Moment, take: impl FnOnce(Stored<'_>) -> T) -> Option<T> {
        let (door, tag) = self.door(key)?;
        door.open().lookup_stale(tag, key.as_bytes(), now).map(take)
    }

    /// Sets out on a walk past everything that is held.
    #[must_use]
    pub fn walk(&self) -> Walk<'_> {
        Walk { cache: self, shard: 0, steps: Steps::default() }
    }

    /// Keeps `stored` under `key`, in the place of what was kept before. Its lifetime is [`lifetime::spread`]: it may end a little
    /// before its TTL does, never after.
    pub fn insert(&self, key: &Key, stored: Stored<'_>, now: Moment) -> Inserted {
        if stored.meta.lifetime == 0 || stored.meta.kind == Kind::Fleeting {
            return Inserted::Fleeting;
        }
        let Some((door, tag)) = self.door(key) else { return Inserted::Off };
        self.lengths.note(key);
        let domain = self.domain(key);
        let lifetime = stored.meta.lifetime;
        let lifetime = if self.spread { lifetime::spread(lifetime, tag) } else { lifetime };
        let meta = Meta { lifetime, ..stored.meta };
        let stored = Stored { meta, ..stored };
        let Some(draft) = Draft::new(tag, domain, key.as_bytes(), stored) else { return Inserted::TooLarge };
        door.open().insert(&draft, now)
    }

    /// Keeps an answer from before a restart, served `hits` times then, unless one of `key` is here. Says whether it is kept.
    pub fn restore(&self, key: &Key, stored: Stored<'_>, hits: u32, now: Moment) -> bool {
        if stored.meta.lifetime == 0 || stored.meta.kind == Kind::Fleeting {
            return false;
        }
        let Some((door, tag)) = self.door(key) else { return false };
        self.lengths.note(key);
        let draft = Draft::new(tag, self.domain(key), key.as_bytes(), stored);
        draft.is_some_and(|draft| door.open().restore(&draft.with_hits(hits), hits, now))
    }

    /// Drops the answer of `key`; says whether there was one.
    pub fn remove(&self, key: &Key) -> bool {
        self.door(key).is_some_and(|(door, tag)| door.open().remove(tag, key.as_bytes()))
    }

    /// Drops everything, shard by shard, and says how many answers that was. A lock is held for an exchange of pointers; memory is
    /// made and freed outside it.
    pub fn flush_all(&self) -> u64 {
        let mut dropped = 0;
        for door in self.shards.iter() {
            let layout = door.open().layout();
            let fresh = Shard::new(layout);
            let old = door.open().emptied_into(fresh);
            dropped += old.len() as u64;
        }
        dropped
    }

    /// What is held and has been done. Locks one shard after the other, briefly.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { octets_allowed: self.allowed as u64, ..Stats::default() };
        for door in self.shards.iter() {
            let shard = door.open();
            let tally = shard.tally();
            stats.entries += shard.len() as u64;
            stats.octets_used += shard.octets() as u64;
            stats.inserted += tally.inserted;
            stats.evicted += tally.evicted;
            stats.rejected += tally.rejected;
            stats.limited += tally.limited;
        }
        stats
    }

    /// What is known of the entry of `key`, fresh or expired. Not a visit: looking does not keep it alive.
    #[must_use]
    pub fn peek(&self, key: &Key, now: Moment) -> Option<EntryFacts> {
        let (door, tag) = self.door(key)?;
        let header = door.open().peek(tag, key.as_bytes())?;
        let age = now.seconds_since(header.meta.received);
        let left = header.meta.lifetime.saturating_sub(age);
        Some(EntryFacts { age, left, hits: header.hits, supplier: header.meta.supplier, size: header.mark.size() })
    }

    /// Has the answer of `key` expired, and may it stand in? Not a visit.
    #[must_use]
    pub fn has_stale(&self, key: &Key, now: Moment) -> bool {
        let header = self.door(key).and_then(|(door, tag)| door.open().peek(tag, key.as_bytes()));
        header.is_some_and(|header| header.is_stale(now))
    }

    /// The facts of the answer of `key`, fresh or expired. Not a visit.
    #[must_use]
    pub fn meta(&self, key: &Key) -> Option<Meta> {
        let (door, tag) = self.door(key)?;
        let header = door.open().peek(tag, key.as_bytes())?;
        Some(header.meta)
    }

    /// Seconds since the data of `key` was received, if it is held and was fresh at any time in the `window` seconds before `now`.
    /// Not a visit.
    #[must_use]
    pub fn data_within(&self, key: &Key, window: u32, now: Moment) -> Option<u32> {
        let (door, tag) = self.door(key)?;
        let header = door.open().peek(tag, key.as_bytes())?;
        let counts = header.meta.kind == Kind::Positive && header.was_fresh_within(window, now);
        counts.then(|| now.seconds_since(header.meta.received))
    }

    /// Octets that the cache holds, index, ghost and shards included; at most `Settings::size`, whatever is in it.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let heap: usize = self.shards.iter().map(|door| door.open().footprint()).sum();
        let fronts = self.fronts - self.fronts_left.load(Ordering::Relaxed);
        heap + self.shards.len() * SHARD_FIXED + fronts * Front::SIZE
    }

    /// Stands for the registrable domain of the name of `key`; 0 where there is none.
    fn domain(&self, key: &Key) -> u32 {
        let (_, tag) = domain::registrable(key.name()).map_or((0, 0), |domain| halves(self.hasher.hash_one(domain)));
        tag
    }

    /// What finds `key`; `None` where nothing can be kept under it.
    fn hash(&self, key: &Key) -> Option<u64> {
        let octets = key.as_bytes();
        (!octets.is_empty()).then(|| self.hasher.hash_one(octets))
    }

    /// The shard of `key`, and its tag there.
    fn door(&self, key: &Key) -> Option<(&Door, u32)> {
        self.door_of(self.hash(key)?)
    }

    fn door_of(&self, hash: u64) -> Option<(&Door, u32)> {
        let (upper, tag) = halves(hash);
        let door = self.shards.get(index::scale(upper, self.shards.len()))?;
        Some((door, tag))
    }

    /// [`Cache::lookup`] of a key that has been hashed already.
    fn lookup_hashed<T>(
        &self,
        (hash, renews): (u64, bool),
        key: &[u8],
        now: Moment,
        take: impl FnOnce(Stored<'_>, bool) -> T,
    ) -> Option<T> {
        let (door, tag) = self.door_of(hash)?;
        let mut shard = door.open();
        if renews {
            shard.lookup_due(tag, key, now).map(|(stored, is_due)| take(stored, is_due))
        } else {
            shard.lookup(tag, key, now).map(|stored| take(stored, false))
        }
    }

    /// Counts `hits` that a front has served.
    fn credit(&self, hash: u64, key: &[u8], hits: u32) {
        if let Some((door, tag)) = self.door_of(hash) {
            door.open().credit(tag, key, hits);
        }
    }

    /// What has left the shard of `hash`.
    fn departures(&self, hash: u64) -> Option<&Departures> {
        let (upper, _) = halves(hash);
        self.departures.get(index::scale(upper, self.departures.len())).map(|departures| &**departures)
    }
}

/// A walk past everything that is held, some dozens of entries at a time: nobody who asks meanwhile waits for longer than that.
#[derive(Debug)]
pub struct Walk<'a> {
    cache: &'a Cache,
    shard: usize,
    steps: Steps,
}

impl Walk<'_> {
    /// Shows some more entries to `visit`, under one lock: copy what is wanted, do nothing slow. False at the end.
    ///
    /// Whatever was held when the walk began is shown, unless it has gone meanwhile; what came later may be shown too, and what
    /// moves may be shown twice.
    pub fn step(&mut self, visit: &mut dyn FnMut(Entry<'_>) -> Fate) -> bool {
        let Some(door) = self.cache.shards.get(self.shard) else { return false };
        if !door.open().walk(&mut self.steps, visit) {
            self.shard += 1;
            self.steps = Steps::default();
        }
        true
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("shards", &self.shards.len())
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

impl Door {
    /// The shard. After a panic under the lock its contents are in doubt: it is emptied and goes on.
    fn open(&self) -> MutexGuard<'_, Shard> {
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut shard = poisoned.into_inner();
            let fresh = Shard::new(shard.layout());
            let _old = shard.emptied_into(fresh);
            self.0.clear_poison();
            shard
        })
    }
}

/// What a shard takes beside its [`Layout`]: itself, and the count of its departures behind two counts of references.
const SHARD_FIXED: usize = size_of::<Door>() + size_of::<Arc<Departures>>() + 2 * size_of::<Departures>();

/// The fronts of all workers together take at most this part of the cache.
const FRONTS_SHARE: usize = 64;

#[expect(clippy::cast_possible_truncation, reason = "two halves")]
const fn halves(hash: u64) -> (u32, u32) {
    ((hash >> 32) as u32, hash as u32)
}
