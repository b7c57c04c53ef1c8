//! The one clock that answers are aged by: monotonic milliseconds, counted from well before the gateway was built (TTL-12), so that
//! an answer from before a restart has a moment too.
//!
//! Read in `listen`, `pipeline` and `upstream` only; `cache` and `wire` are handed a [`Moment`].
//! A test may move it forward instead of sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A point in monotonic time: milliseconds since [`BEFORE`] the start of the [`Clock`] it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Whole seconds from `earlier` to this moment, 0 if it is later (RFC 1035 3.2.1 counts TTLs in seconds).
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(u32::MAX)
    }

    /// This moment and `duration` more.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this moment, zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// How long before the start of a clock its moment zero lies: longer ago than anything that is still kept was received, a TTL and a
/// stale window being of seven days at most.
pub const BEFORE: Duration = Duration::from_hours(30 * 24);

/// A source of moments. Clones share one origin and one skew.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    skew: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that has been going for [`BEFORE`] now.
    #[must_use]
    pub fn start() -> Self {
        let clock = Self { origin: Instant::now(), skew: Arc::default() };
        clock.advance(BEFORE);
        clock
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment(elapsed.saturating_add(self.skew.load(Ordering::Relaxed)))
    }

    /// Moves this clock and its clones forward: how tests let a TTL pass without a sleep.
    pub fn advance(&self, by: Duration) {
        self.skew.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_before_the_start_has_a_moment() {
        let clock = Clock::start();
        let weeks = Moment(clock.now().0 - 14 * 86_400_000);
        assert!(clock.now().since(weeks) >= Duration::from_hours(14 * 24));
    }
}
