//! The cache over a restart: a file in the state directory, written at intervals and at the end, read at the start.
//!
//! All of it happens on a thread of its own beside the control thread. Of the cache it holds one lock at a time, as briefly as a
//! question does, so nobody who asks waits for it; nobody waits for the start either. Ages go by the time of day, which is all that
//! two processes share: while the clock is behind the earliest time that it can be, nothing is read or written.
//!
//! A file that is damaged, foreign or from the future is refused whole and lies where it lay until the next one takes its place.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::cache::codec::{Reader, Record, Refused, Writer, Written};
use crate::cache::{self, Fate, Limits};
use crate::clock::Moment;
use crate::control::Force;
use crate::identity::IdentityError;
use crate::identity::state_dir::StateDir;
use crate::reply::{Meta, Stored};
use crate::shutdown::Drain;
use crate::telemetry::SnapshotGauge;
use crate::trail::UpstreamId;
use crate::upstream::timekeeper::Timekeeper;
use crate::upstream::{Exchange as _, Routes};
use crate::wire::registry::ede;

/// The file in the state directory.
pub const NAME: &str = "cache.snapshot";

/// Time between two snapshots; what has come since the last one is lost with the power.
const INTERVAL: Duration = Duration::from_mins(5);

/// Time between two looks at whether the clock has been set.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// How long the last snapshot may take. One that takes longer is given up, and the one before stays.
pub const GRACE: Duration = Duration::from_secs(10);

/// Answers that are taken over before a worker on the same processor is let through.
const BATCH: u64 = 64;

/// Keeps the snapshot.
#[derive(Debug)]
pub struct Snapshot {
    settings: cache::Settings,
    directory: PathBuf,
    force: Force,
    times: Arc<Timekeeper>,
    given_up: AtomicBool,
    ledger: Ledger,
}

/// What has become of it, for metrics.
#[derive(Debug, Default)]
struct Ledger {
    loaded: AtomicU64,
    refused: AtomicU64,
    entries: AtomicU64,
    octets: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
    /// Answers that the cache had ever been given when the last one was written.
    inserted: AtomicU64,
}

/// How reading ended.
enum Loaded {
    /// With as many answers taken over, of as many in the file.
    Whole(u64, u64),
    /// There was no file.
    Absent,
    /// The gateway stops before it was done.
    Interrupted,
}

impl Snapshot {
    /// That of the cache of `shared`, in `directory`.
    #[must_use]
    pub fn new(settings: cache::Settings, directory: PathBuf, force: Force, times: Arc<Timekeeper>) -> Self {
        let (given_up, ledger) = (AtomicBool::new(false), Ledger::default());
        Self { settings, directory, force, times, given_up, ledger }
    }

    /// What is measured.
    #[must_use]
    pub fn gauge(&self) -> SnapshotGauge {
        let Ledger { loaded, refused, entries, octets, written, failed, .. } = &self.ledger;
        let [loaded, refused, entries, octets, written, failed] =
            [loaded, refused, entries, octets, written, failed].map(|number| number.load(Ordering::Relaxed));
        SnapshotGauge { loaded, refused, entries, octets, written, failed }
    }

    /// Stops what is being written: nobody waits any longer.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn file(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Says what lies there unread, so that nobody wonders why the cache starts empty, nor what has been written down.
    fn mention(&self) {
        let file = self.file();
        if file.exists() {
            info!(file = %file.display(), "cache.snapshot is off: a snapshot of the cache is left unread; delete it if it is not wanted");
        }
    }

    /// Takes over what the file has. False if there may be more in it than in the cache, so that it must not be replaced.
    fn load(&self, drain: &Drain) -> bool {
        let (file, begun) = (self.file(), Instant::now());
        match self.read(drain) {
            Ok(Loaded::Whole(taken, entries)) => {
                self.ledger.loaded.store(taken, Ordering::Relaxed);
                let millis = millis(begun.elapsed());
                info!(file = %file.display(), taken, entries, millis, "answers are taken over from the snapshot of the cache");
            }
            Ok(Loaded::Absent) => info!(file = %file.display(), "there is no snapshot of the cache yet"),
            Ok(Loaded::Interrupted) => return false,
            Err(why) => {
                self.ledger.refused.fetch_add(1, Ordering::Relaxed);
                warn!(file = %file.display(), %why, "the snapshot of the cache is refused: the cache starts empty");
            }
        }
        true
    }

    fn read(&self, drain: &Drain) -> Result<Loaded, Refused> {
        let file = match File::open(self.file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
            opened => opened?,
        };
        let Some(wall) = self.times.wall() else { return Ok(Loaded::Interrupted) };
        let mut reader = Reader::open(BufReader::new(&file))?;
        reader.age(wall)?;
        // All of it is read before any of it is believed.
        while reader.read_next()?.is_some() {
            if drain.is_wanted() {
                return Ok(Loaded::Interrupted);
            }
        }
        (&file).rewind()?;
        let mut reader = Reader::open(BufReader::new(&file))?;
        let (now, suppliers) = (self.force.load().shared.clock().now(), self.suppliers(reader.names()));
        let away = reader.age(self.times.wall().unwrap_or(wall))?;
        let (mut taken, mut entries) = (0, 0);
        while let Some(record) = reader.read_next()? {
            entries += 1;
            taken += u64::from(self.take_over(&record, away, now, &suppliers));
            if entries % BATCH == 0 {
                std::thread::yield_now();
                if drain.is_wanted() {
                    return Ok(Loaded::Interrupted);
                }
            }
        }
        Ok(Loaded::Whole(taken, entries))
    }

    /// The servers that had these names.
    fn suppliers(&self, names: &[String]) -> Vec<UpstreamId> {
        let now = self.force.load();
        let known: Vec<&str> = Self::names(&now.routes).collect();
        let id = |name: &String| {
            let place = known
                .iter()
                .position(|known| known == name && !name.is_empty())
                .and_then(|place| u16::try_from(place).ok());
            place.map_or(UpstreamId::FORMER, UpstreamId)
        };
        names.iter().map(id).collect()
    }

    /// The names of all servers, by their ids; empty where there is none any more.
    fn names(routes: &Routes) -> impl Iterator<Item = &str> {
        let last = routes.last_id().map_or(0, |id| id.saturating_add(1));
        (0..last).map(|id| routes.name(UpstreamId(id)).unwrap_or_default())
    }

    /// Keeps what is neither over nor here already; what holds now bounds what held then.
    fn take_over(&self, record: &Record<'_>, away: Duration, now: Moment, suppliers: &[UpstreamId]) -> bool {
        let Record { key, age, hits, stored } = record;
        let limits = Limits::of(key.name(), &self.settings);
        let lifetime = stored.meta.lifetime.min(limits.ceiling(stored.meta.kind));
        let stale = stored.meta.stale.min(limits.stale_window);
        let age = age.saturating_add(away);
        // What it was made with may be set otherwise by now.
        if stored.meta.ede == Some(ede::SYNTHESIZED) {
            return false;
        }
        if limits.never || age >= Duration::from_secs(u64::from(lifetime) + u64::from(stale)) {
            return false;
        }
        let Some(received) = now.0.checked_sub(millis(age)).map(Moment) else { return false };
        let supplier = suppliers.get(usize::from(stored.meta.supplier.0)).copied().unwrap_or(UpstreamId::FORMER);
        let stored = Stored { meta: Meta { received, lifetime, stale, supplier, ..stored.meta }, ..*stored };
        self.force.load().shared.cache().restore(key, stored, *hits, now)
    }

    /// Writes one, unless the last one still tells all.
    fn save(&self) {
        let Some(wall) = self.times.wall() else {
            return info!("no snapshot of the cache is written while the clock is behind");
        };
        let inserted = self.force.load().shared.cache().stats().inserted;
        if self.ledger.written.load(Ordering::Relaxed) > 0 && self.ledger.inserted.load(Ordering::Relaxed) == inserted {
            return;
        }
        let begun = Instant::now();
        match self.write(wall) {
            Ok(Written { entries, octets }) => {
                let millis = millis(begun.elapsed());
                info!(file = %self.file().display(), entries, octets, millis, "a snapshot of the cache is written");
                let Ledger { entries: place, octets: size, written, inserted: mark, .. } = &self.ledger;
                for (place, value) in [(place, entries), (size, octets), (written, wall.as_secs()), (mark, inserted)] {
                    place.store(value, Ordering::Relaxed);
                }
            }
            Err(error) => {
                self.ledger.failed.fetch_add(1, Ordering::Relaxed);
                warn!(%error, "no snapshot of the cache is written; the one before stays");
            }
        }
    }

    fn write(&self, wall: Duration) -> Result<Written, IdentityError> {
        let directory = StateDir::open(&self.directory)?;
        let lock = directory.lock()?;
        directory.pour(&lock, NAME, |file| {
            let shared = Arc::clone(&self.force.load().shared);
            let now = shared.clock().now();
            let routes = &self.force.load().routes;
            let mut writer = Writer::begin(BufWriter::new(file), wall, Self::names(routes))?;
            let mut walk = shared.cache().walk();
            loop {
                let more = walk.step(&mut |entry| {
                    let Meta { received, lifetime, stale, .. } = entry.stored.meta;
                    if now.since(received) < Duration::from_secs(u64::from(lifetime) + u64::from(stale)) {
                        writer.take(&entry, now);
                    }
                    Fate::Stays
                });
                if !more {
                    return writer.finish();
                }
                writer.flush()?;
                if self.given_up.load(Ordering::Relaxed) {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
                }
                std::thread::yield_now();
            }
        })
    }
}

/// Takes over what was kept, then writes down what is, until the gateway has nothing left to do.
pub async fn keep(snapshot: Arc<Snapshot>, mut drain: Drain) {
    if !snapshot.settings.snapshot {
        return aside(&snapshot, Snapshot::mention).await.unwrap_or_default();
    }
    while snapshot.times.wall().is_none() {
        tokio::select! {
            () = tokio::time::sleep(CLOCK_LOOK) => {}
            () = drain.wanted() => return,
        }
    }
    let watched = drain.clone();
    if !aside(&snapshot, move |snapshot| snapshot.load(&watched)).await.unwrap_or(false) {
        return;
    }
    // Once at least: a gateway that stops as soon as it has read has something to write too.
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = drain.wanted() => {}
        }
        aside(&snapshot, Snapshot::save).await;
        if drain.is_wanted() {
            return;
        }
    }
}

/// A number in logs, as 128 bits are not.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Does `what` on a thread that may wait for the disk. `None` if it panicked.
async fn aside<T: Send + 'static>(
    snapshot: &Arc<Snapshot>,
    what: impl FnOnce(&Snapshot) -> T + Send + 'static,
) -> Option<T> {
    let snapshot = Arc::clone(snapshot);
    tokio::task::spawn_blocking(move || what(&snapshot)).await.ok()
}
