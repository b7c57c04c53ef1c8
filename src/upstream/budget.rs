//! What a pool may ask twice: a share of its questions, saved up to a small burst, so that help never becomes a flood.

use std::sync::atomic::{AtomicU32, Ordering};

/// A bucket of extra questions, filled by questions.
#[derive(Debug)]
pub struct Budget {
    /// Thousandths of an extra question.
    saved: AtomicU32,
    per_mille: u32,
    full: u32,
}

/// One extra question.
const WHOLE: u32 = 1000;

impl Budget {
    /// A full bucket of `burst` extra questions that each question fills by `per_mille` thousandths of one.
    #[must_use]
    pub const fn new(per_mille: u16, burst: u16) -> Self {
        let full = burst as u32 * WHOLE;
        Self { saved: AtomicU32::new(full), per_mille: per_mille as u32, full }
    }

    /// Counts a question.
    pub fn earn(&self) {
        // A full bucket is read and not written: no core waits for another's line.
        if self.saved.load(Ordering::Relaxed) < self.full {
            let earn = |saved: u32| Some(saved.saturating_add(self.per_mille).min(self.full));
            let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
        }
    }

    /// Takes one extra question; false where there is none left.
    pub fn spend(&self) -> bool {
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(WHOLE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_no_more_than_the_share() {
        let budget = Budget::new(50, 10);
        let spent = (0..10_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        let spent = spent.count();
        assert!((505..=511).contains(&spent), "{spent}");
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "no more than the burst is saved up");
    }
}
