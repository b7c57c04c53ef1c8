//! What is out by key, with a bound on each: taken and given back seldom enough that a lock per shard will do.
//!
//! Connections, questions that wait, octets that are kept: never asked for a question that memory answers. A map holds an entry for
//! each key that has something out, so never more than there are things out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

/// Amounts by key. Those without a key are in the total alone.
#[derive(Debug)]
pub struct Tally<K> {
    total: AtomicUsize,
    hasher: RandomState,
    /// What is out by key; an entry is never zero.
    shards: Box<[Mutex<Shard<K>>]>,
}

type Shard<K> = HashMap<K, usize, RandomState>;

/// Takers of different keys seldom meet at one lock.
const SHARDS: u64 = 32;

impl<K> Default for Tally<K> {
    /// Nothing is out.
    fn default() -> Self {
        // One keyed hasher for choosing the shard, another inside: else the keys of a shard would share hash bits.
        let inner = RandomState::new();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(inner.clone()))).collect();
        Self { total: AtomicUsize::new(0), hasher: RandomState::new(), shards }
    }
}

impl<K: Copy + Eq + Hash> Tally<K> {
    /// Takes `amount`, unless `key` would have more than `bound` then.
    #[must_use]
    pub fn take(&self, key: Option<K>, amount: usize, bound: usize) -> bool {
        if key.is_some_and(|key| !self.take_for(key, amount, bound)) {
            return false;
        }
        self.total.fetch_add(amount, Ordering::AcqRel);
        true
    }

    /// Takes one whatever `key` has, if the total stays within `most`.
    #[must_use]
    pub fn take_of_all(&self, most: usize) -> bool {
        self.total
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |total| (total < most).then_some(total + 1))
            .is_ok()
    }

    /// Gives back what was taken for the same `key`.
    pub fn give_back(&self, key: Option<K>, amount: usize) {
        if let Some(key) = key {
            self.give_back_for(key, amount);
        }
        self.total.fetch_sub(amount, Ordering::AcqRel);
    }

    /// All that is out.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Acquire)
    }

    /// Takes for `key` alone, the total left as it is.
    #[must_use]
    pub fn take_for(&self, key: K, amount: usize, bound: usize) -> bool {
        let Some(mut shard) = self.shard(&key) else { return false };
        let out = shard.get(&key).copied().unwrap_or(0).saturating_add(amount);
        if out > bound {
            return false;
        }
        if out > 0 {
            shard.insert(key, out);
        }
        true
    }

    fn give_back_for(&self, key: K, amount: usize) {
        let Some(mut shard) = self.shard(&key) else { return };
        let Entry::Occupied(mut entry) = shard.entry(key) else { return };
        match entry.get().saturating_sub(amount) {
            0 => _ = entry.remove(),
            left => *entry.get_mut() = left,
        }
    }

    /// Amounts stay right across a panic of another holder: each is changed by a single insert or remove.
    fn shard(&self, key: &K) -> Option<MutexGuard<'_, Shard<K>>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS).ok()?;
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keys that have something out.
    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_bounded_by_key_summed_over_all_and_forgotten_when_they_are_back() {
        let tally = Tally::default();
        assert!(tally.take(Some(1), 600, 1000) && tally.take(Some(2), 1000, 1000) && tally.take(None, 5000, 1000));
        assert!(!tally.take(Some(1), 401, 1000) && tally.take(Some(1), 400, 1000));
        assert_eq!((tally.total(), tally.entries()), (7000, 2));
        tally.give_back(Some(1), 600);
        tally.give_back(Some(1), 400);
        tally.give_back(None, 5000);
        assert_eq!((tally.total(), tally.entries()), (1000, 1));
        assert!(!tally.take(Some(3), usize::MAX, usize::MAX - 1) && tally.take(Some(3), 0, 0));
        assert_eq!(tally.entries(), 1, "nothing leaves no entry");
    }
}
