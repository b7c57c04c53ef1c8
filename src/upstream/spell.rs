//! What was found out about a server and is believed for a while: a state with an end, and a suspicion that needs repeating.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Something that holds for a while.
#[derive(Debug, Default)]
pub struct Spell {
    /// Its end, while it lasts.
    until: Mutex<Option<Instant>>,
}

impl Spell {
    fn with<R>(&self, act: impl FnOnce(&mut Option<Instant>) -> R) -> R {
        act(&mut self.until.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Holds from now on for `time`.
    pub fn begin(&self, time: Duration) {
        let end = Instant::now() + time;
        self.with(|until| *until = Some(end));
    }

    /// Holds no longer.
    pub fn end(&self) {
        self.with(|until| *until = None);
    }

    /// Does it hold now?
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.with(|until| until.is_some_and(|end| Instant::now() < end))
    }
}

/// A suspicion that is believed after `OFTEN` times in a row: once may be a forger's luck.
#[derive(Debug, Default)]
pub struct Doubt {
    row: Mutex<u8>,
}

/// How often in a row is often enough.
const OFTEN: u8 = 3;

impl Doubt {
    fn with<R>(&self, act: impl FnOnce(&mut u8) -> R) -> R {
        act(&mut self.row.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It looked so again. Answers whether that was often enough; then the count begins anew.
    pub fn confirm(&self) -> bool {
        self.with(|row| {
            *row = row.saturating_add(1);
            if *row < OFTEN {
                return false;
            }
            *row = 0;
            true
        })
    }

    /// It did not look so.
    pub fn dispel(&self) {
        self.with(|row| *row = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_spell_ends_by_itself_or_when_told() {
        let spell = Spell::default();
        assert!(!spell.lasts());
        spell.begin(Duration::from_mins(1));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(spell.lasts());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!spell.lasts());
        spell.begin(Duration::from_mins(1));
        spell.end();
        assert!(!spell.lasts());
    }

    #[test]
    fn only_three_in_a_row_are_often_enough() {
        let doubt = Doubt::default();
        assert_eq!([doubt.confirm(), doubt.confirm()], [false; 2]);
        doubt.dispel();
        assert_eq!([doubt.confirm(), doubt.confirm(), doubt.confirm(), doubt.confirm()], [false, false, true, false]);
    }
}
