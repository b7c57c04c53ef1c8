//! Flushes, as questions under way must know of them: what was asked before a flush is not kept after it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cache::Selection;

/// Flushes remembered; a flight that has seen more of them begin is taken to be meant by one.
const REMEMBERED: usize = 64;

/// The flushes of late.
#[derive(Debug, Default)]
pub struct Flushes {
    /// How many there were, readable without the lock.
    count: AtomicU64,
    /// The last of them. Held for a push, or a comparison with each.
    last: Mutex<VecDeque<Selection>>,
}

impl Flushes {
    /// How many there were: a mark for [`Flushes::meant`].
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// One begins. To be called before anything is dropped: what is kept meanwhile is then dropped by the flush or by its keeper.
    pub fn begin(&self, selection: Selection) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(selection);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Has a flush that means the key of these octets begun since there were `before`?
    pub fn meant(&self, key: &[u8], before: u64) -> bool {
        if self.count() == before {
            return false;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let since = usize::try_from(self.count().saturating_sub(before)).unwrap_or(usize::MAX);
        since > REMEMBERED || last.iter().rev().take(since).any(|selection| selection.takes(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Bits, Key};

    #[test]
    fn only_flushes_that_began_since_and_mean_the_key_count() {
        let key = Key::new(b"\x01a\x02ex\0\0\x01\0\x01", Bits::default(), 0, 0);
        let key = key.as_bytes();
        let flushes = Flushes::default();
        flushes.begin(Selection::All);
        let before = flushes.count();
        assert!(!flushes.meant(key, before));
        flushes.begin(Selection::Suffix(b"\x02no\0".as_slice().into()));
        assert!(!flushes.meant(key, before));
        flushes.begin(Selection::Suffix(b"\x02EX\0".as_slice().into()));
        assert!(flushes.meant(key, before) && !flushes.meant(key, flushes.count()));
        let after = flushes.count();
        for _ in 0..=REMEMBERED {
            flushes.begin(Selection::Suffix(b"\x02no\0".as_slice().into()));
        }
        assert!(flushes.meant(key, after), "what is no longer known may have meant it");
    }
}
