//! How long a connection may rest without a question: what its server says (RFC 7828), what its server does, and what is decent.
//!
//! A warm connection is what a client waits least for, so one is kept for as long as its server keeps it, within bounds, and let go
//! a little before the server would: a question is not sent into a connection that is being closed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What one server has taught about rest.
#[derive(Debug)]
pub struct Rest {
    /// How long without any teaching.
    usual: Duration,
    /// Protects what was learned; held for a few comparisons.
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    /// No connection rests longer than this.
    limit: Option<Duration>,
    /// How long the last connection had rested that the server closed; None when it was we who closed the last.
    closed: Option<Duration>,
}

/// The rest of a connection whose server has taught nothing (RFC 7766 6.2.3: seconds; public resolvers close after 10 to 30).
pub const USUAL: Duration = Duration::from_secs(30);

/// Not even a server that closes sooner is left sooner.
const LEAST: Duration = Duration::from_secs(1);

/// Whatever a server offers, no more is taken.
const MOST: Duration = Duration::from_mins(1);

impl Rest {
    /// Nothing learned: connections rest for `usual`.
    #[must_use]
    pub fn new(usual: Duration) -> Self {
        Self { usual, learned: Mutex::default() }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Learned) -> R) -> R {
        act(&mut self.learned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long a connection may rest whose server has `announced` how long it keeps it.
    #[must_use]
    pub fn limit(&self, announced: Option<Duration>) -> Duration {
        let told = announced.map_or(self.usual, |announced| shortly_before(announced).min(MOST));
        self.with(|learned| learned.limit).map_or(told, |limit| limit.min(told))
    }

    /// The server closed a connection that had rested for `rested`.
    ///
    /// One that restarts closes early once; a habit shows in two, the longer of which is believed. What is closed at once had its
    /// number of questions, not its time: that says nothing of rest.
    pub fn closed_after(&self, rested: Duration) {
        if rested < LEAST {
            return;
        }
        self.with(|learned| {
            if let Some(before) = learned.closed.replace(rested) {
                learned.limit = Some(shortly_before(before.max(rested)).clamp(LEAST, MOST));
            }
        });
    }

    /// A connection rested for as long as it might and the server had not closed it: the next may rest a little longer.
    pub fn outlived(&self) {
        self.with(|learned| {
            learned.closed = None;
            learned.limit = learned.limit.map(|limit| limit * 5 / 4).filter(|&limit| limit < self.usual);
        });
    }
}

/// An eighth less, for the way there and for the server's clock.
fn shortly_before(time: Duration) -> Duration {
    time * 7 / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn kal_06_a_connection_rests_a_little_less_than_its_server_says_and_never_without_end() {
        let rest = Rest::new(USUAL);
        assert_eq!(rest.limit(None), USUAL);
        assert_eq!(rest.limit(Some(seconds(8))), seconds(7));
        assert_eq!(rest.limit(Some(seconds(6553))), MOST);
        assert_eq!(rest.limit(Some(Duration::ZERO)), Duration::ZERO);
    }

    #[test]
    fn a_server_that_closes_idle_connections_is_left_before_it_does() {
        let rest = Rest::new(USUAL);
        rest.closed_after(seconds(3));
        assert_eq!(rest.limit(None), USUAL, "one close may be a restart");
        rest.closed_after(seconds(8));
        assert_eq!(rest.limit(None), seconds(7));
        assert_eq!(rest.limit(Some(seconds(60))), seconds(7), "what it does weighs more than what it says");
        rest.closed_after(LEAST);
        rest.closed_after(LEAST);
        assert_eq!(rest.limit(None), LEAST);
    }

    #[test]
    fn a_server_that_ends_connections_after_so_many_questions_teaches_nothing_of_rest() {
        let rest = Rest::new(USUAL);
        for _ in 0..5 {
            rest.closed_after(Duration::from_millis(20));
        }
        assert_eq!(rest.limit(None), USUAL);
    }

    #[test]
    fn what_was_learned_is_tried_again_now_and_then() {
        let rest = Rest::new(USUAL);
        rest.closed_after(seconds(8));
        rest.closed_after(seconds(8));
        rest.outlived();
        assert_eq!(rest.limit(None), seconds(7) * 5 / 4);
        for _ in 0..20 {
            rest.outlived();
        }
        assert_eq!(rest.limit(None), USUAL);
    }
}
