//! When to try: pure functions of time and luck. `share` is a random number from 0 to 1, so that gateways started together part.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_mins(1);
/// After many.
const LONGEST: Duration = Duration::from_hours(6);
/// Each wait is this many times the one before: five failures in the first hour at most, which is what public authorities allow.
const FACTOR: u32 = 3;
/// The longest that an authority may have us wait.
pub const OBEDIENCE: Duration = Duration::from_hours(48);
/// Bounds on how often renewal information is asked for (RFC 9773 4.3.2).
const LOOKS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));

/// How long to wait after `failures` in a row (at least one), where the authority asked for `asked`.
#[must_use]
pub fn backoff(failures: u32, asked: Option<Duration>, share: f64) -> Duration {
    let steps = failures.saturating_sub(1).min(8);
    let wait = FIRST.saturating_mul(FACTOR.pow(steps)).min(LONGEST);
    // Up to a tenth later, never earlier.
    wait.mul_f64(1.0 + share / 10.0).max(asked.unwrap_or_default().min(OBEDIENCE))
}

/// When to renew where the authority has no opinion: at two thirds of the life and up to a hundredth of it later; all in seconds
/// since 1970.
#[must_use]
pub fn by_age(not_before: i64, not_after: i64, share: f64) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0);
    not_before.saturating_add(life / 3 * 2).saturating_add(part(life / 100, share))
}

/// A random point of the window that the authority suggests (RFC 9773 4.2).
#[must_use]
pub fn within(start: i64, end: i64, share: f64) -> i64 {
    start.saturating_add(part(end.saturating_sub(start).max(0), share))
}

/// When to ask for renewal information again.
#[must_use]
pub fn look_again(asked: Duration) -> Duration {
    asked.clamp(LOOKS.0, LOOKS.1)
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "seconds of a certificate's life are far below 2^52"
)]
fn part(whole: i64, share: f64) -> i64 {
    (whole as f64 * share) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_waited_out_longer_and_longer_and_never_more_than_five_times_in_an_hour() {
        assert_eq!(backoff(1, None, 0.0), Duration::from_mins(1));
        assert_eq!(backoff(2, None, 0.0), Duration::from_mins(3));
        assert_eq!(backoff(2, None, 1.0), Duration::from_secs(198));
        assert_eq!(backoff(7, None, 0.0), Duration::from_hours(6));
        assert_eq!(backoff(u32::MAX, None, 0.0), Duration::from_hours(6));
        let mut at = Duration::ZERO;
        let tries = (1..).map(|failures| {
            at += backoff(failures, None, 0.0);
            at
        });
        assert_eq!(1 + tries.take_while(|at| *at < Duration::from_hours(1)).count(), 5);
    }

    #[test]
    fn an_authority_that_asks_for_patience_gets_it_within_reason() {
        let hours = Duration::from_hours;
        assert_eq!(backoff(1, Some(hours(7)), 0.5), hours(7));
        assert_eq!(backoff(9, Some(Duration::from_secs(1)), 0.0), hours(6));
        assert_eq!(backoff(1, Some(hours(9999)), 0.0), hours(48));
        assert_eq!(look_again(Duration::ZERO), Duration::from_mins(1));
        assert_eq!(look_again(hours(6)), hours(6));
        assert_eq!(look_again(hours(999)), hours(24));
    }

    #[test]
    fn renewal_is_at_two_thirds_of_the_life_or_anywhere_in_the_window() {
        assert_eq!((by_age(1000, 10_000, 0.0), by_age(1000, 10_000, 1.0)), (7000, 7090));
        assert_eq!((within(100, 200, 0.0), within(100, 200, 0.25), within(100, 200, 1.0)), (100, 125, 200));
        assert_eq!(within(200, 100, 0.5), 200, "a window that ends before it begins is a point");
        assert_eq!(by_age(10, 0, 0.5), 10);
    }
}
