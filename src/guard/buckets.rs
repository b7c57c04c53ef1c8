//! Token buckets in fixed memory: no lock, no allocation, whatever the number of clients.
//!
//! A bucket is one 64-bit word: a 16-bit tag of its client and the moment at which it will be full again (the "theoretical arrival
//! time" of the generic cell rate algorithm). Eight buckets fill one cache line and are searched together. A bucket that is full
//! again says nothing and is free for another client. When all eight are in use, the one nearest to full goes, so that a flood of
//! new clients, forged ones too, cannot wash out the memory of a busy one, and a new client always finds a place.
//!
//! Time is counted in thousandths of a token: milliseconds times tokens a second, so no rate is rounded. It wraps at 48 bits (1.7
//! years at 5000 a second); a bucket left alone for exactly that long is at worst short of tokens for some seconds.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Moment;

/// A table of buckets that all refill at the same rate and hold as much: a second's worth, or a few.
#[derive(Debug)]
pub struct Buckets {
    /// As many as a power of two, so that a part of a hash is an index.
    sets: Box<[Set]>,
    per_second: u64,
    /// What a full bucket holds, in thousandths of a token.
    full: u64,
}

/// The buckets that one client may be in.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; 8]);

/// Sets in a table for whoever may ask: 65 536 buckets, 512 KiB.
const SETS: usize = 8192;

/// Sets in a table for those who connect, whose addresses are seldom forged: 16 384 buckets, 128 KiB.
const FEW_SETS: usize = 2048;

/// The part of a word that holds the moment; the rest is the tag.
const TIME: u64 = (1 << 48) - 1;

/// One token, in the unit of the moments.
const TOKEN: u64 = 1000;

/// How many seconds' worth ahead of now a moment is believed. Workers read the clock once a turn, so one may lag behind another by
/// some milliseconds; a moment further ahead than this is an old one, seen after the clock has wrapped.
const AHEAD: u64 = 32;

/// Attempts to change a word that other workers change too. Whoever loses them all goes uncounted once.
const ATTEMPTS: usize = 8;

impl Buckets {
    /// Full buckets that refill with `per_second` tokens, at least one, in a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self::of(SETS, per_second, 1)
    }

    /// The same in a smaller table, with buckets that hold `seconds`' worth; eight at most.
    #[must_use]
    pub fn bursting(per_second: u32, seconds: u8) -> Self {
        Self::of(FEW_SETS, per_second, seconds)
    }

    /// One bucket for all: every hash is to be the same.
    #[must_use]
    pub fn single(per_second: u32) -> Self {
        Self::of(1, per_second, 1)
    }

    fn of(sets: usize, per_second: u32, seconds: u8) -> Self {
        let per_second = u64::from(per_second.max(1));
        let full = per_second * TOKEN * u64::from(seconds.clamp(1, 8));
        Self { sets: (0..sets).map(|_| Set::default()).collect(), per_second, full }
    }

    /// Takes one token from the bucket of the client whose keyed hash is `hash`: was there one?
    pub fn take(&self, hash: u64, now: Moment) -> bool {
        let Some(set) = self.set(hash) else { return true };
        let (tag, clock) = (hash & !TIME, self.clock(now));
        for _ in 0..ATTEMPTS {
            let Some(found) = self.find(set, tag, clock) else { return true };
            let missing = found.missing + TOKEN;
            if missing > self.full {
                return false;
            }
            let word = tag | (clock.wrapping_add(missing) & TIME);
            if found.cell.compare_exchange_weak(found.word, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        true
    }

    /// Is the bucket of the client whose keyed hash is `hash` shut? An empty one is not.
    pub fn is_shut(&self, hash: u64, now: Moment) -> bool {
        let found = self.set(hash).and_then(|set| self.find(set, hash & !TIME, self.clock(now)));
        found.is_some_and(|found| found.missing > self.full)
    }

    /// Empties the client's bucket, and has it stay empty for `seconds`, eight at most.
    pub fn shut(&self, hash: u64, seconds: u8, now: Moment) {
        let Some(set) = self.set(hash) else { return };
        let (tag, clock) = (hash & !TIME, self.clock(now));
        let missing = self.full + self.per_second * TOKEN * u64::from(seconds.min(8));
        for _ in 0..ATTEMPTS {
            let Some(found) = self.find(set, tag, clock) else { return };
            let word = tag | (clock.wrapping_add(missing) & TIME);
            if found.cell.compare_exchange_weak(found.word, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// The buckets that the client may be in. The lowest bits tell, the highest are its tag.
    fn set(&self, hash: u64) -> Option<&Set> {
        let mask = self.sets.len().wrapping_sub(1);
        self.sets.get(usize::try_from(hash & 0xffff_ffff).unwrap_or_default() & mask)
    }

    const fn clock(&self, now: Moment) -> u64 {
        now.0.wrapping_mul(self.per_second) & TIME
    }

    /// The client's bucket, or the one of the set that it may have: full, or else nearest to full.
    fn find<'a>(&self, set: &'a Set, tag: u64, clock: u64) -> Option<Found<'a>> {
        let mut fullest: Option<Found<'a>> = None;
        for cell in &set.0 {
            let word = cell.load(Ordering::Relaxed);
            let missing = self.missing(word, clock);
            if word & !TIME == tag {
                return Some(Found { cell, word, missing });
            }
            if fullest.as_ref().is_none_or(|other| missing < other.missing) {
                fullest = Some(Found { cell, word, missing });
            }
        }
        fullest.map(|other| Found { missing: 0, ..other })
    }

    /// What is missing in a bucket at `clock` until it is full.
    const fn missing(&self, word: u64, clock: u64) -> u64 {
        let ahead = word.wrapping_sub(clock) & TIME;
        if ahead > self.per_second * TOKEN * AHEAD { 0 } else { ahead }
    }
}

/// A bucket as it was seen.
struct Found<'a> {
    cell: &'a AtomicU64,
    word: u64,
    missing: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(tag: u64, set: u64) -> u64 {
        (tag << 48) | set
    }

    fn taken(buckets: &Buckets, hash: u64, now: Moment, asked: usize) -> usize {
        (0..asked).filter(|_| buckets.take(hash, now)).count()
    }

    #[test]
    fn a_bucket_holds_one_second_and_refills_at_its_rate() {
        for per_second in [1, 3, 7, 5000] {
            let buckets = Buckets::new(per_second);
            let whole = usize::try_from(per_second).unwrap();
            assert_eq!(taken(&buckets, 77, Moment(0), whole * 2), whole);
            assert_eq!(taken(&buckets, 77, Moment(999), whole * 2), whole * 999 / 1000);
            assert_eq!(taken(&buckets, 77, Moment(1000), whole * 2), whole - whole * 999 / 1000);
            assert_eq!(taken(&buckets, 77, Moment(1_000_000), whole * 2), whole);
        }
    }

    #[test]
    fn steady_asking_at_the_rate_is_never_refused_and_above_it_gets_the_rate() {
        let buckets = Buckets::new(100);
        assert!((0..10_000).all(|n| buckets.take(5, Moment(n * 10))));
        let later = (0..10_000).filter(|n| buckets.take(6, Moment(n * 5))).count();
        assert_eq!(later, 100 + 5000 - 1);
    }

    #[test]
    fn extreme_rates_neither_overflow_nor_refuse_the_first_question() {
        let most = Buckets::new(u32::MAX);
        for now in [0, 1, u64::from(u32::MAX), u64::MAX / 3, u64::MAX] {
            assert!(most.take(1, Moment(now)));
        }
        let none = Buckets::new(0);
        assert!(none.take(1, Moment(0)));
        assert!(!none.take(1, Moment(0)));
    }

    #[test]
    fn a_worker_whose_clock_lags_finds_the_bucket_as_empty_as_it_is() {
        let buckets = Buckets::new(10);
        assert_eq!(taken(&buckets, 9, Moment(5000), 20), 10);
        assert_eq!(taken(&buckets, 9, Moment(4990), 20), 0);
    }

    #[test]
    fn the_wrap_of_the_clock_leaves_a_bucket_usable() {
        let buckets = Buckets::new(5000);
        let wrap = (TIME + 1) / 5000;
        assert_eq!(taken(&buckets, hash(1, 9), Moment(wrap - 1), 6000), 5000);
        assert_eq!(taken(&buckets, hash(1, 9), Moment(wrap + 1), 6000), 10);
        assert_eq!(taken(&buckets, hash(1, 9), Moment(wrap + 2000), 6000), 5000);
        assert_eq!(taken(&buckets, hash(1, 9), Moment(3 * wrap / 2), 6000), 5000);
    }

    #[test]
    fn a_full_set_gives_up_the_bucket_nearest_to_full_and_keeps_the_busy_one() {
        let buckets = Buckets::new(10);
        let busy = hash(1, 0);
        assert_eq!(taken(&buckets, busy, Moment(0), 20), 10);
        for other in 2..1000 {
            assert!(buckets.take(hash(other, 0), Moment(0)));
        }
        assert!(!buckets.take(busy, Moment(0)));
    }

    #[test]
    fn a_bucket_may_hold_some_seconds_worth_and_be_shut_for_some_more() {
        let buckets = Buckets::bursting(10, 4);
        assert_eq!(taken(&buckets, 5, Moment(0), 100), 40);
        assert!(!buckets.is_shut(5, Moment(0)), "empty, not shut");
        buckets.shut(5, 8, Moment(1000));
        assert!(buckets.is_shut(5, Moment(8999)) && !buckets.is_shut(5, Moment(9000)));
        assert!(!buckets.is_shut(6, Moment(1000)), "the others are not shut out");
        assert_eq!(taken(&buckets, 5, Moment(30_000), 100), 40, "and it is full again");
        let single = Buckets::single(3);
        assert_eq!(taken(&single, 0, Moment(0), 9), 3);
    }

    #[test]
    fn workers_that_share_a_bucket_do_not_multiply_it() {
        let buckets = Buckets::new(1000);
        let counts: Vec<usize> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&buckets, 3, Moment(0), 1000))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        // A worker that loses the race for a word eight times goes uncounted: rare, and bounded here.
        assert!((1000..1100).contains(&counts.iter().sum::<usize>()), "{counts:?}");
    }
}
