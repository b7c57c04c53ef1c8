//! How fast a client cancels (RFC 9250 4.3.1): a cancelled question costs us work and its client nothing.

use std::time::Duration;

use tokio::time::Instant;

/// Cancellations of one connection in the second that is running.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    since: Option<Instant>,
    count: u32,
}

impl Pace {
    /// Counts one cancellation at `now`; is that too many?
    pub fn exceeds(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count > MOST
    }
}

/// Cancellations a second.
const MOST: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doq_17_a_thousand_a_second_pass_and_one_more_does_not() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert!((0..MOST).all(|_| !pace.exceeds(start)));
        assert!(pace.exceeds(start + Duration::from_millis(999)));
        assert!(!pace.exceeds(start + Duration::from_secs(1)));
    }
}
