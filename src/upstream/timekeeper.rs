//! The time that certificates are judged by, on a machine whose clock may be wrong after a power cut.
//!
//! A machine without a battery starts in 1970, where no certificate is valid; without certificates there is no DNS, without DNS no
//! time server, and without a time server it stays 1970. So certificates are judged by the latest of three: the system's clock, the
//! time this program was built, and a stamp in `state_dir`. The stamp is the latest time at which a server has proven itself under a
//! clock that was not behind: a clock that runs ahead of every certificate never gets into it. A floor only ever makes more
//! certificates count as expired, so it weakens nothing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use time::OffsetDateTime;
use tracing::{info, warn};

use super::stamp::{self, Stamp};
use super::tally::Count;
use crate::identity::IdentityError;

/// Where the time of day is read. A test has one of its own.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// A clock that `read` reads.
    pub fn new(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// What it says: seconds since 1970.
    fn read(&self) -> u64 {
        self.since_1970().as_secs()
    }

    fn since_1970(&self) -> Duration {
        (self.0)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// The system's.
impl Default for WallClock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// Knows the earliest time that it can be.
#[derive(Debug)]
pub struct Timekeeper {
    clock: WallClock,
    stamp: Option<Stamp>,
    /// The earliest that it can be, in seconds since 1970.
    floor: u64,
    /// The latest time at which a server has proven itself under a clock not behind the floor; 0: none has.
    proven: AtomicU64,
    /// The same, as it is on disk.
    written: AtomicU64,
    /// Has the operator heard that the clock is behind?
    told: AtomicBool,
    adjusted: Count,
}

/// When this program was built, in seconds since 1970.
#[must_use]
pub fn built() -> u64 {
    // The build script writes digits.
    env!("HUSHGATE_BUILT").parse().unwrap_or(0)
}

/// How long a stamp may grow old on disk while newer times are proven: a write an hour wears no flash.
const STAMP_AGE: Duration = Duration::from_hours(1);

/// By the system's clock and the time of the build, with nothing remembered.
impl Default for Timekeeper {
    fn default() -> Self {
        Self::new(WallClock::default(), None)
    }
}

impl Timekeeper {
    /// Reads `clock`, and what `state_dir` remembers if there is one.
    #[must_use]
    pub fn new(clock: WallClock, state_dir: Option<&Path>) -> Self {
        let stamp = state_dir.map(Stamp::in_directory);
        let remembered = stamp.as_ref().map_or(0, |stamp| remembered(stamp, built()));
        Self {
            clock,
            stamp,
            floor: built().max(remembered),
            proven: AtomicU64::new(0),
            written: AtomicU64::new(remembered),
            told: AtomicBool::new(false),
            adjusted: Count::default(),
        }
    }

    /// The time to judge a certificate by, where the system's clock says `clock`.
    #[must_use]
    pub fn judge(&self, clock: UnixTime) -> UnixTime {
        if clock.as_secs() >= self.floor {
            return clock;
        }
        self.adjusted.add_one();
        if !self.told.swap(true, Ordering::Relaxed) {
            let (clock, judged_by) = (shown(clock.as_secs()), shown(self.floor));
            warn!(%clock, %judged_by, "the clock is behind: certificates are judged by the later time until it is set");
        }
        UnixTime::since_unix_epoch(Duration::from_secs(self.floor))
    }

    /// The time by which our own certificates are made and judged: the clock's, or the earliest that it can be.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock.read().max(self.floor))
    }

    /// The system's clock, since 1970; `None` while it is behind the earliest time that it can be, when it tells no time of day.
    #[must_use]
    pub fn wall(&self) -> Option<Duration> {
        Some(self.clock.since_1970()).filter(|clock| clock.as_secs() >= self.floor)
    }

    /// A server has proven itself now: its certificate holds, and it has the key.
    pub fn witness(&self) {
        let clock = self.clock.read();
        if clock < self.floor {
            return;
        }
        let before = self.proven.fetch_max(clock, Ordering::Relaxed);
        if before == 0 && self.told.load(Ordering::Relaxed) {
            info!(clock = %shown(clock), "the clock is right: a server has proven itself under it");
        }
    }

    /// Has a server proven itself under the system's clock since we started? Once true it stays so.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.proven.load(Ordering::Relaxed) > 0
    }

    /// Is the system's clock behind the earliest time that it can be?
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.clock.read() < self.floor
    }

    /// Certificates judged by a later time than the system's clock said.
    #[must_use]
    pub fn adjusted(&self) -> u64 {
        self.adjusted.value()
    }

    /// Remembers the proven time where what is on disk has grown old. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be written, and is named.
    pub fn remember(&self) -> Result<(), IdentityError> {
        self.remember_after(STAMP_AGE)
    }

    /// The same however new the one on disk is: for the end.
    ///
    /// # Errors
    /// As [`Timekeeper::remember`].
    pub fn remember_last(&self) -> Result<(), IdentityError> {
        self.remember_after(Duration::from_secs(1))
    }

    fn remember_after(&self, age: Duration) -> Result<(), IdentityError> {
        let (proven, written) = (self.proven.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
        let Some(stamp) = &self.stamp else { return Ok(()) };
        if proven < written.saturating_add(age.as_secs()) {
            return Ok(());
        }
        stamp.write(proven)?;
        self.written.store(proven, Ordering::Relaxed);
        Ok(())
    }
}

/// TLS sessions age by the system's clock; certificates are judged by [`Timekeeper::judge`].
impl TimeProvider for Timekeeper {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.clock.read())))
    }
}

/// What the stamp says, 0 where it says nothing that can be believed.
fn remembered(stamp: &Stamp, built: u64) -> u64 {
    match stamp.read(built) {
        Ok(found) => found.unwrap_or(0),
        Err(stamp::Unbelievable { file, why }) => {
            warn!(file = %file.display(), %why, "the time remembered from the last run is ignored");
            0
        }
    }
}

/// Seconds since 1970 as people read them, to the minute.
fn shown(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or_else(
        || format!("{seconds} s since 1970"),
        |time| format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute()),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// A timekeeper, and the hand of its clock.
    fn keeper(state: Option<&Path>) -> (Timekeeper, Arc<AtomicU64>) {
        let hand = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&hand);
        let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(read.load(Ordering::SeqCst)));
        (Timekeeper::new(clock, state), hand)
    }

    #[test]
    fn a_clock_in_1970_is_overruled_by_the_build_and_one_that_is_right_is_not() {
        let (times, _) = keeper(None);
        assert!(built() > 1_700_000_000);
        assert_eq!((times.judge(at(0)), times.adjusted(), times.is_behind()), (at(built()), 1, true));
        assert_eq!((times.judge(at(built() + 5)), times.adjusted()), (at(built() + 5), 1));
        assert_eq!(times.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(built()));
    }

    #[test]
    fn only_a_proof_under_a_clock_not_behind_makes_it_right() {
        let (times, hand) = keeper(None);
        for (clock, right) in [(0, false), (built() - 1, false), (built(), true), (0, true)] {
            hand.store(clock, Ordering::SeqCst);
            times.witness();
            assert_eq!(times.is_right(), right, "{clock}");
        }
    }

    #[test]
    fn the_proven_time_is_remembered_hourly_and_at_the_end_and_only_forward() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("state");
        let ((times, hand), file) = (keeper(Some(&directory)), directory.join("clock"));
        times.remember().unwrap();
        assert!(!directory.exists(), "nothing has been proven");
        let read = || fs::read_to_string(&file).unwrap().trim().parse::<u64>().unwrap();
        for (proven, expected) in [(100, 100), (200, 100), (3800, 3800), (50, 3800)] {
            hand.store(built() + proven, Ordering::SeqCst);
            times.witness();
            times.remember().unwrap();
            assert_eq!(read(), built() + expected);
        }
        hand.store(built() + 3900, Ordering::SeqCst);
        times.witness();
        times.remember_last().unwrap();
        assert_eq!(read(), built() + 3900);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (next, hand) = keeper(Some(&directory));
        assert_eq!(next.judge(at(0)), at(built() + 3900));
        hand.store(built() + 1000, Ordering::SeqCst);
        next.witness();
        next.remember_last().unwrap();
        assert_eq!((read(), next.is_right()), (built() + 3900, false));
    }

    #[test]
    fn a_damaged_or_absurd_stamp_is_ignored() {
        let state = tempfile::tempdir().unwrap();
        let absurd = (built() + 21 * 366 * 86_400).to_string();
        for text in ["", "soon", "-5", "99999999999999999999", &absurd, &"1".repeat(5000), "1\n2\n"] {
            fs::write(state.path().join("clock"), text).unwrap();
            assert_eq!(keeper(Some(state.path())).0.judge(at(0)), at(built()), "{text:.30}");
        }
    }

    #[test]
    fn times_are_shown_to_the_minute() {
        assert_eq!(shown(0), "1970-01-01 00:00 UTC");
        assert_eq!(shown(1_795_268_494), "2026-11-21 13:41 UTC");
        assert_eq!(shown(u64::MAX), format!("{} s since 1970", u64::MAX));
    }
}
