//! How many requests a client may begin and not finish (RFC 9114 10.5): a burst, and then a steady few.

use std::time::Instant;

use super::request::End;

/// What is left of the patience with one connection.
#[derive(Debug)]
pub(super) struct Patience {
    /// Requests that may yet be given up, in thousandths.
    left: u64,
    counted: Instant,
    /// Requests given up before their header; h3 remembers each for as long as the connection lives.
    headless: usize,
}

/// There is none left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl Patience {
    /// All there is.
    pub(super) fn new() -> Self {
        Self { left: BURST, counted: Instant::now(), headless: 0 }
    }

    /// Takes note of how a request ended.
    pub(super) fn judge(&mut self, end: End, now: Instant) -> Result<(), Spent> {
        match end {
            End::Answered => return Ok(()),
            End::Abandoned => {}
            End::Headless => self.headless += 1,
        }
        let since = u64::try_from(now.saturating_duration_since(self.counted).as_millis()).unwrap_or(u64::MAX);
        self.counted = now;
        self.left = self.left.saturating_add(since.saturating_mul(PER_SECOND)).min(BURST);
        self.left = self.left.checked_sub(1000).ok_or(Spent)?;
        if self.headless > HEADLESS { Err(Spent) } else { Ok(()) }
    }
}

/// A client that gives up all it has in flight, twice over, in thousandths.
const BURST: u64 = 200 * 1000;

/// Requests given up a second, or thousandths a millisecond.
const PER_SECOND: u64 = 20;

/// Requests given up before their header, in a connection's life.
const HEADLESS: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dh3_10_a_burst_of_given_up_requests_is_borne_and_then_a_few_a_second() {
        let mut patience = Patience::new();
        let start = patience.counted;
        assert!((0..200).all(|_| patience.judge(End::Abandoned, start).is_ok()));
        assert_eq!(patience.judge(End::Abandoned, start), Err(Spent));
        assert_eq!(patience.judge(End::Answered, start), Ok(()));
        let later = start + Duration::from_secs(1);
        assert!((0..20).all(|_| patience.judge(End::Headless, later).is_ok()));
        assert_eq!(patience.judge(End::Abandoned, later), Err(Spent));
    }

    #[test]
    fn dh3_10_requests_without_a_header_are_counted_for_life() {
        let mut patience = Patience::new();
        let start = patience.counted;
        let hour = |hours: u64| start + Duration::from_secs(3600 * hours);
        assert!((0..10_000).all(|hours| patience.judge(End::Headless, hour(hours)).is_ok()));
        assert_eq!(patience.judge(End::Headless, hour(10_001)), Err(Spent));
    }
}
