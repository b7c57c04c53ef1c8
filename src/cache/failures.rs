//! Questions that lately could not be resolved, and are not tried again yet (RFC 9520 3.2; NEG-11 to NEG-18).
//!
//! A table of its own, so that a flood of failures never displaces an answer. Only questions that memory does not answer come here.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use lru::LruCache;

use super::{Key, Selection, Settings};
use crate::clock::Moment;

/// No failure is kept longer (RFC 9520 3.2).
const LONGEST: Duration = Duration::from_mins(5);

/// Nor shorter.
const SHORTEST: Duration = Duration::from_secs(1);

/// What has an expired answer to stand in is not tried again sooner (RFC 8767 5).
const RECHECK: Duration = Duration::from_secs(30);

/// Failures kept; the one recorded least lately makes way. About 200 octets each.
const MOST: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Outdated failures that one call clears away at most.
const SWEEP: usize = 4;

/// A failure that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was answered.
    pub rcode: u16,
    /// The extended error that went with it (RFC 8914).
    pub ede: u16,
    /// Seconds it still holds, at least 1.
    pub left: u32,
    /// Seconds it still holds where no expired answer stands in, or does so no longer; 0: the question is to be asked.
    pub left_alone: u32,
}

/// When a question fails, or is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The time.
    pub now: Moment,
    /// How often servers that its question may go to have answered again after being down. What failed before the last time is worth
    /// another attempt.
    pub comebacks: u32,
}

/// The table. Shared by all workers.
pub struct Failures {
    /// The lock protects the table; it is held for one operation.
    table: Arc<Mutex<Table>>,
    /// The length of the table, readable without the lock.
    length: Arc<AtomicUsize>,
    first: Duration,
    longest: Duration,
}

type Table = LruCache<Box<[u8]>, Record, RandomState>;

#[derive(Clone, Copy)]
struct Record {
    rcode: u16,
    ede: u16,
    window: Duration,
    until: Moment,
    /// When it was met.
    begun: Moment,
    /// Until when it holds where an expired answer stands in.
    held: Moment,
    comebacks: u32,
}

impl Record {
    /// What it says, while it holds.
    fn failure(&self, At { now, comebacks }: At) -> Option<Failure> {
        let left = |end: Moment| u32::try_from(end.since(now).as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let (left, left_alone) = (left(self.end(comebacks)), left(self.end_alone(comebacks)));
        (left > 0).then_some(Failure { rcode: self.rcode, ede: self.ede, left, left_alone })
    }

    /// When it holds for nobody any more.
    fn end(&self, comebacks: u32) -> Moment {
        self.cut(self.until.max(self.held), comebacks)
    }

    /// When it holds no more where nothing stands in.
    fn end_alone(&self, comebacks: u32) -> Moment {
        self.cut(self.until, comebacks)
    }

    /// `end`, or no later than it must be (NEG-11) where a server has come back since.
    fn cut(&self, end: Moment, comebacks: u32) -> Moment {
        if comebacks == self.comebacks { end } else { end.min(self.begun.after(SHORTEST)) }
    }
}

impl Failures {
    /// An empty table. Times outside 1 s to 300 s are moved to that range.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let first = settings.failure_ttl.clamp(SHORTEST, LONGEST);
        Self {
            table: Arc::new(Mutex::new(LruCache::with_hasher(MOST, RandomState::new()))),
            length: Arc::default(),
            first,
            longest: settings.failure_ttl_max.clamp(first, LONGEST),
        }
    }

    /// The same failures; those recorded from now on hold as long as `settings` say.
    #[must_use]
    pub fn renewed(&self, settings: &Settings) -> Self {
        let (table, length) = (Arc::clone(&self.table), Arc::clone(&self.length));
        Self { table, length, ..Self::new(settings) }
    }

    /// The failure of `key`, while it holds: until then nothing is sent for it (NEG-13).
    pub fn recall(&self, key: &Key, at: At) -> Option<Failure> {
        if self.is_empty() {
            return None;
        }
        let mut table = self.open();
        self.sweep(&mut table, at.now);
        // Not a use: the order is that of recording, so that the sweep meets the oldest first.
        table.peek(key.as_bytes())?.failure(at)
    }

    /// Keeps a failure: `failure_ttl` at first, twice as long each time it is met again soon after, up to `failure_ttl_max`.
    ///
    /// What is recorded while the failure holds comes from attempts begun before it and prolongs nothing.
    pub fn record(&self, key: &Key, at: At, rcode: u16, ede: u16) {
        let At { now, comebacks } = at;
        if key.as_bytes().is_empty() {
            return;
        }
        let mut table = self.open();
        self.sweep(&mut table, now);
        let known = table.peek(key.as_bytes()).copied();
        let record = self.next(known.as_ref(), at);
        let held = known.filter(|known| known.comebacks == comebacks).map_or(record.until, |known| known.held);
        table.put(key.as_bytes().into(), Record { rcode, ede, held, ..record });
        self.length.store(table.len(), Ordering::Relaxed);
    }

    /// Keeps a failure of a question that an expired answer stands in for: half a minute at least (RFC 8767 5; STL-04), but no longer
    /// than [`Failures::record`] does should that answer be gone by then. False where one holds already, which stays as it is.
    #[must_use]
    pub fn hold(&self, key: &Key, at: At, rcode: u16, ede: u16) -> bool {
        let At { now, comebacks } = at;
        if key.as_bytes().is_empty() {
            return false;
        }
        let mut table = self.open();
        self.sweep(&mut table, now);
        let known = table.peek(key.as_bytes()).copied();
        if known.is_some_and(|known| now < known.end(comebacks)) {
            return false;
        }
        let held = now.after(RECHECK.max(self.first));
        table.put(key.as_bytes().into(), Record { rcode, ede, held, ..self.next(known.as_ref(), at) });
        self.length.store(table.len(), Ordering::Relaxed);
        true
    }

    /// A failure met now, `known` being what was met before: how long it holds and until when.
    fn next(&self, known: Option<&Record>, At { now, comebacks }: At) -> Record {
        let window = match known {
            Some(known) if now < known.end_alone(comebacks) => return *known,
            Some(known) if !self.is_over(known, now) => (known.window * 2).min(self.longest),
            _ => self.first,
        };
        let until = now.after(window);
        Record { rcode: 0, ede: 0, window, begun: now, until, held: until, comebacks }
    }

    /// Forgets the failure of `key`: it was resolved (NEG-14).
    pub fn clear(&self, key: &Key) {
        if self.is_empty() {
            return;
        }
        let mut table = self.open();
        table.pop(key.as_bytes());
        self.length.store(table.len(), Ordering::Relaxed);
    }

    /// Forgets the failures of `selection`, and says how many that was.
    pub fn forget(&self, selection: &Selection) -> u64 {
        let mut table = self.open();
        let chosen: Vec<Box<[u8]>> =
            table.iter().filter(|(key, _)| selection.takes(key)).map(|(key, _)| key.clone()).collect();
        for key in &chosen {
            table.pop(key);
        }
        self.length.store(table.len(), Ordering::Relaxed);
        chosen.len() as u64
    }

    /// The failures of `selection` that hold, each with the octets of its key: the latest first, `most` at most.
    ///
    /// `at` says for the octets of a key when they are asked about.
    pub fn list(&self, selection: &Selection, at: impl Fn(&[u8]) -> At, most: usize) -> Vec<(Box<[u8]>, Failure)> {
        let table = self.open();
        let chosen = table.iter().filter(|(key, _)| selection.takes(key));
        chosen.filter_map(|(key, record)| Some((key.clone(), record.failure(at(key))?))).take(most).collect()
    }

    /// Is nothing known to fail? One relaxed load.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Failures kept, those included that have ended but still count for doubling.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Has it ended so long ago that meeting it again is a new failure?
    fn is_over(&self, record: &Record, now: Moment) -> bool {
        now >= record.end(record.comebacks).after(self.longest)
    }

    /// Clears a few outdated records away, oldest first, so that a table goes back to empty after an outage.
    fn sweep(&self, table: &mut LruCache<Box<[u8]>, Record, RandomState>, now: Moment) {
        for _ in 0..SWEEP {
            match table.peek_lru() {
                Some((_, record)) if self.is_over(record, now) => table.pop_lru(),
                _ => break,
            };
        }
        self.length.store(table.len(), Ordering::Relaxed);
    }

    /// The table. After a panic under the lock it is emptied: a failure forgotten costs one more attempt.
    fn open(&self) -> MutexGuard<'_, LruCache<Box<[u8]>, Record, RandomState>> {
        self.table.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut table = poisoned.into_inner();
            *table = LruCache::with_hasher(MOST, RandomState::new());
            self.table.clear_poison();
            table
        })
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures").field("length", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Bits;

    fn key(n: u32, bits: Bits) -> Key {
        let question = [&[4][..], &n.to_be_bytes(), &[0, 0, 1, 0, 1]].concat();
        Key::new(&question, bits, 0, 0)
    }

    fn failing() -> Key {
        key(1, Bits::default())
    }

    const fn at(seconds: u64) -> At {
        At { now: Moment(seconds * 1000), comebacks: 0 }
    }

    #[test]
    fn neg_11_a_failure_holds_at_least_a_second() {
        let settings = Settings { failure_ttl: Duration::ZERO, failure_ttl_max: Duration::ZERO, ..Settings::default() };
        let failures = Failures::new(&settings);
        assert!(failures.is_empty());
        failures.record(&failing(), at(10), 2, 22);
        assert!(!failures.is_empty());
        assert_eq!(
            failures.recall(&failing(), At { now: Moment(10_999), comebacks: 0 }),
            Some(Failure { rcode: 2, ede: 22, left: 1, left_alone: 1 })
        );
        assert_eq!(failures.recall(&failing(), at(11)), None);
    }

    #[test]
    fn neg_12_no_failure_holds_longer_than_300_seconds() {
        let hour = Duration::from_hours(1);
        let settings = Settings { failure_ttl: hour, failure_ttl_max: hour, ..Settings::default() };
        let failures = Failures::new(&settings);
        for round in 0..5 {
            failures.record(&failing(), at(round * 300), 2, 0);
            assert_eq!(failures.recall(&failing(), at(round * 300)).unwrap().left, 300);
            assert_eq!(failures.recall(&failing(), at(round * 300 + 300)), None);
        }
    }

    #[test]
    fn neg_14_the_time_doubles_while_the_failure_lasts_up_to_the_ceiling() {
        let failures = Failures::new(&Settings::default());
        let mut now = 0;
        for expected in [5, 10, 20, 30, 30] {
            failures.record(&failing(), at(now), 2, 0);
            assert_eq!(failures.recall(&failing(), at(now)).unwrap().left, expected);
            now += u64::from(expected);
        }
        // Long after the last one it is a new failure.
        failures.record(&failing(), at(now + 30), 2, 0);
        assert_eq!(failures.recall(&failing(), at(now + 30)).unwrap().left, 5);
    }

    #[test]
    fn stl_04_a_failure_that_an_answer_stands_in_for_holds_half_a_minute_and_is_claimed_once() {
        let failures = Failures::new(&Settings::default());
        assert!(failures.hold(&failing(), at(0), 2, 22));
        for second in [0, 10, 29] {
            assert!(!failures.hold(&failing(), at(second), 2, 23), "it holds already");
            assert_eq!(failures.recall(&failing(), at(second)).unwrap().ede, 22);
        }
        assert_eq!(failures.recall(&failing(), at(30)), None);
        assert!(failures.hold(&failing(), at(30), 2, 22));
        assert_eq!(failures.recall(&failing(), at(30)).unwrap().left, 30);
        assert!(!failures.hold(&Key::new(&[], Bits::default(), 0, 0), at(0), 2, 22));
        let hour = Settings { failure_ttl: Duration::from_hours(1), ..Settings::default() };
        let failures = Failures::new(&hour);
        assert!(failures.hold(&failing(), at(0), 2, 22));
        assert_eq!(failures.recall(&failing(), at(0)).unwrap().left, 300);
    }

    #[test]
    fn neg_16_what_failed_before_a_server_came_back_holds_no_longer_than_the_second_that_it_must() {
        let failures = Failures::new(&Settings::default());
        let after = |now| At { now: Moment(now), comebacks: 1 };
        failures.record(&failing(), at(0), 2, 22);
        assert_eq!(failures.recall(&failing(), after(999)).unwrap().left, 1, "NEG-11");
        assert_eq!(failures.recall(&failing(), after(1000)), None);
        assert_eq!(failures.recall(&failing(), at(1)).unwrap().left, 4, "nobody came back");
        assert!(failures.list(&Selection::All, |_| after(1000), 1).is_empty());
        failures.record(&failing(), after(1000), 2, 22);
        assert_eq!(failures.recall(&failing(), after(1000)).unwrap().left, 10, "it came back and failed again");
        assert!(!failures.hold(&failing(), after(2000), 2, 22));
        let again = At { comebacks: 2, ..after(2000) };
        assert!(failures.hold(&failing(), again, 2, 22));
        assert_eq!(failures.recall(&failing(), again).unwrap().left, 30);
    }

    #[test]
    fn neg_14_success_resets_the_time() {
        let failures = Failures::new(&Settings::default());
        failures.record(&failing(), at(0), 2, 0);
        failures.record(&failing(), at(5), 2, 0);
        failures.clear(&failing());
        assert!(failures.is_empty());
        assert_eq!(failures.recall(&failing(), at(6)), None);
        failures.record(&failing(), at(6), 2, 0);
        assert_eq!(failures.recall(&failing(), at(6)).unwrap().left, 5);
    }

    #[test]
    fn what_is_recorded_while_a_failure_holds_does_not_prolong_it() {
        let failures = Failures::new(&Settings::default());
        failures.record(&failing(), at(0), 2, 22);
        failures.record(&failing(), at(4), 5, 23);
        assert_eq!(failures.recall(&failing(), at(4)), Some(Failure { rcode: 5, ede: 23, left: 1, left_alone: 1 }));
        assert_eq!(failures.recall(&failing(), at(5)), None);
    }

    #[test]
    fn neg_17_a_failure_with_cd_clear_does_not_answer_cd_set() {
        let failures = Failures::new(&Settings::default());
        failures.record(&failing(), at(0), 2, 0);
        let unchecked = key(1, Bits { checking_disabled: true, ..Bits::default() });
        assert_eq!(failures.recall(&unchecked, at(0)), None);
    }

    #[test]
    fn neg_18_the_table_is_bounded_and_empties_after_an_outage() {
        let failures = Failures::new(&Settings::default());
        for n in 0..20_000 {
            failures.record(&key(n, Bits::default()), at(0), 2, 0);
        }
        assert_eq!(failures.len(), MOST.get());
        assert!(failures.recall(&key(19_999, Bits::default()), at(0)).is_some());
        assert!(failures.recall(&key(0, Bits::default()), at(0)).is_none());
        for _ in 0..MOST.get().div_ceil(SWEEP) {
            failures.recall(&failing(), at(60));
        }
        assert!(failures.is_empty());
    }

    #[test]
    fn failures_are_listed_and_forgotten_by_name() {
        let failures = Failures::new(&Settings::default());
        failures.record(&failing(), at(0), 2, 22);
        failures.record(&key(2, Bits::default()), at(3), 5, 23);
        let one = Selection::Name { name: failing().name().into(), rtype: None };
        let listed = failures.list(&one, |_| at(1), 10);
        assert_eq!(listed, [(failing().as_bytes().into(), Failure { rcode: 2, ede: 22, left: 4, left_alone: 4 })]);
        assert!(failures.list(&one, |_| at(5), 10).is_empty(), "it holds no more");
        assert_eq!(failures.list(&Selection::All, |_| at(4), 1).len(), 1);
        assert_eq!((failures.forget(&one), failures.forget(&one), failures.len()), (1, 0, 1));
        assert_eq!((failures.forget(&Selection::All), failures.len()), (1, 0));
    }

    #[test]
    fn a_poisoned_table_is_emptied_and_works_on() {
        let failures = Failures::new(&Settings::default());
        failures.record(&failing(), at(0), 2, 0);
        std::thread::scope(|scope| {
            let broken = scope.spawn(|| {
                let _table = failures.table.lock();
                panic!("on purpose");
            });
            assert!(broken.join().is_err());
        });
        assert_eq!(failures.recall(&failing(), at(0)), None);
        failures.record(&failing(), at(0), 2, 0);
        assert!(failures.recall(&failing(), at(0)).is_some());
    }
}
