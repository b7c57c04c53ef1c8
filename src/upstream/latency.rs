//! How long one server takes: an estimate for choosing, and the usual range for knowing when an answer is late.
//!
//! Both forget: the estimate by time and by count, the range by halving its counts. Pure: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// What the answers of one server took.
#[derive(Debug)]
pub struct Latency {
    /// Microseconds, weighted toward the latest; None before the first.
    estimate: Option<(f32, Instant)>,
    /// Answers by duration, four classes an octave from [`FIRST`] on.
    classes: [u16; CLASSES],
    total: u16,
}

const CLASSES: usize = 64;
/// Microseconds below which answers are one class.
const FIRST: f32 = 128.0;
/// Answers after which the counts are halved: some hundreds are remembered.
const REMEMBERED: u16 = 512;
/// Answers before the range is known.
const KNOWN: u16 = 8;
/// After this long without an answer, the next one counts for about as much as all before it.
const MEMORY: Duration = Duration::from_secs(10);
/// The least share of one answer in the estimate.
const SHARE: f32 = 0.125;

impl Default for Latency {
    fn default() -> Self {
        Self { estimate: None, classes: [0; CLASSES], total: 0 }
    }
}

impl Latency {
    /// Notes an answer.
    pub fn answered(&mut self, took: Duration, now: Instant) {
        self.weigh(took, now);
        self.sort_in(took);
    }

    /// Notes that an answer of a server which lives was not waited for: it would have taken at least this long.
    ///
    /// Among the slowest it counts. Were those left out that another server overtook, the slow end of the range would never be
    /// seen, and ever more answers would be taken to be late.
    pub fn overtaken(&mut self, at_least: Duration, now: Instant) {
        self.waited(at_least, now);
        // The usual is told as the upper end of its class, a fifth above the lower.
        if self.percentile(95).is_some_and(|usual| at_least * 6 / 5 >= usual) {
            self.sort_in(at_least);
        }
    }

    /// Forgets the range, which has turned out to be wrong, and keeps the estimate.
    pub fn forget_range(&mut self) {
        (self.classes, self.total) = ([0; CLASSES], 0);
    }

    fn sort_in(&mut self, took: Duration) {
        if let Some(count) = self.classes.get_mut(class(took)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= REMEMBERED {
            self.classes.iter_mut().for_each(|count| *count /= 2);
            self.total = self.classes.iter().sum();
        }
    }

    /// Notes that an answer would have taken at least this long: it moves the estimate up, never down.
    pub fn waited(&mut self, at_least: Duration, now: Instant) {
        if self.estimate().is_none_or(|estimate| at_least > estimate) {
            self.weigh(at_least, now);
        }
    }

    /// The estimate; None before the first answer or failure.
    pub fn estimate(&self) -> Option<Duration> {
        self.estimate.map(|(micros, _)| Duration::from_secs_f32(micros / 1e6))
    }

    /// The time within which `percent` of a hundred answers come, to a fifth; None before there are some.
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        let rank = (u32::from(self.total) * percent).div_ceil(100);
        let mut passed = 0;
        let found = self.classes.iter().position(|&count| {
            passed += u32::from(count);
            passed >= rank
        });
        found.filter(|_| self.total >= KNOWN).map(upper)
    }

    fn weigh(&mut self, took: Duration, now: Instant) {
        let sample = took.as_secs_f32() * 1e6;
        let estimate = self.estimate.map_or(sample, |(old, at)| {
            let since = now.saturating_duration_since(at).as_secs_f32();
            let share = (1.0 - (-since / MEMORY.as_secs_f32()).exp()).max(SHARE);
            old + (sample - old) * share
        });
        self.estimate = Some((estimate, now));
    }
}

#[allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "the logarithm of a number of at least one is not negative, and small"
)]
fn class(took: Duration) -> usize {
    let octaves = (took.as_secs_f32() * 1e6 / FIRST).max(1.0).log2();
    ((octaves * 4.0).ceil() as usize).min(CLASSES - 1)
}

#[allow(clippy::cast_precision_loss, reason = "classes are few")]
fn upper(class: usize) -> Duration {
    Duration::from_secs_f32(FIRST * (class as f32 / 4.0).exp2() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn is_near(found: Option<Duration>, wanted: u64) -> bool {
        found.is_some_and(|found| found >= millis(wanted) && found <= millis(wanted) * 13 / 10)
    }

    #[test]
    fn percentiles_are_known_after_some_answers_and_forget() {
        let (mut latency, now) = (Latency::default(), Instant::now());
        (0..7).for_each(|_| latency.answered(millis(10), now));
        assert_eq!(latency.percentile(95), None);
        (0..80).for_each(|_| latency.answered(millis(10), now));
        (0..13).for_each(|_| latency.answered(millis(100), now));
        assert!(is_near(latency.percentile(50), 10), "{:?}", latency.percentile(50));
        assert!(is_near(latency.percentile(95), 100), "{:?}", latency.percentile(95));
        (0..3000).for_each(|_| latency.answered(millis(40), now));
        assert!(is_near(latency.percentile(50), 40) && is_near(latency.percentile(95), 40));
    }

    #[test]
    fn the_estimate_follows_and_an_old_one_weighs_little() {
        let (mut latency, start) = (Latency::default(), Instant::now());
        latency.answered(millis(100), start);
        assert!(latency.estimate().unwrap().abs_diff(millis(100)) < millis(1));
        latency.answered(millis(20), start);
        assert!(latency.estimate().unwrap().abs_diff(millis(90)) < millis(1));
        latency.answered(millis(20), start + millis(40_000));
        assert!(latency.estimate().unwrap() < millis(23));
        latency.waited(millis(5), start + millis(80_000));
        assert!(latency.estimate().unwrap() > millis(19), "a lower bound says nothing");
        latency.waited(millis(500), start + millis(120_000));
        assert!(latency.estimate().unwrap() > millis(400));
    }

    #[test]
    fn answers_that_were_overtaken_keep_the_range_from_shrinking() {
        let (mut latency, now) = (Latency::default(), Instant::now());
        (0..100).for_each(|_| latency.answered(millis(10), now));
        // One answer in ten takes 100 ms, and another server overtakes it soon after it is late.
        for number in 0..2000 {
            if number % 10 == 0 { latency.overtaken(millis(30), now) } else { latency.answered(millis(10), now) }
        }
        assert!(is_near(latency.percentile(95), 30), "{:?}", latency.percentile(95));
        (0..500).for_each(|_| latency.overtaken(millis(1), now));
        assert!(is_near(latency.percentile(50), 10), "what was let go early says nothing");
        latency.forget_range();
        assert_eq!(latency.percentile(95), None);
    }

    #[test]
    fn no_duration_is_out_of_range() {
        let (mut latency, now) = (Latency::default(), Instant::now());
        for took in [Duration::ZERO, Duration::from_nanos(1), Duration::from_hours(100_000)] {
            (0..200).for_each(|_| latency.answered(took, now));
        }
        assert!(latency.percentile(50).is_some() && latency.percentile(100).is_some());
    }
}
