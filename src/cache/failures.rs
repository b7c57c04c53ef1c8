//! Failures that are not tried again yet (RFC 9520).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Key, Settings};
use crate::clock::Moment;

/// A failure in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The RCODE.
    pub rcode: u16,
    /// The extended error, 0 for none.
    pub ede: u16,
    /// Seconds left.
    pub left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    until: Moment,
    window: Duration,
    rcode: u16,
    ede: u16,
}

/// The table.
#[derive(Debug)]
pub struct Failures {
    entries: Mutex<HashMap<Box<[u8]>, Entry>>,
    first: Duration,
    last: Duration,
}

impl Failures {
    /// An empty one.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { entries: Mutex::default(), first: settings.failure_ttl, last: settings.failure_ttl_max }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failure in force, if any.
    pub fn recall(&self, key: &Key, now: Moment) -> Option<Failure> {
        let entry = *self.entries().get(key.as_bytes())?;
        let left = entry.until.since(now);
        let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        (entry.until > now).then_some(Failure { rcode: entry.rcode, ede: entry.ede, left: seconds })
    }

    /// Records a failure; its window doubles while it lasts.
    pub fn record(&self, key: &Key, now: Moment, rcode: u16, ede: u16) {
        let mut entries = self.entries();
        let window = entries.get(key.as_bytes()).map_or(self.first, |entry| (entry.window * 2).min(self.last));
        entries.insert(key.as_bytes().into(), Entry { until: now.after(window), window, rcode, ede });
    }

    /// Forgets it.
    pub fn clear(&self, key: &Key) {
        self.entries().remove(key.as_bytes());
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }
}
