//! The store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Key, Settings};
use crate::clock::Moment;
use crate::reply::{Stored, StoredBuf};

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Kept.
    Kept,
    /// Not kept.
    Refused,
}

/// An entry's facts.
#[derive(Clone, Copy, Debug)]
pub struct EntryFacts {
    /// Seconds left.
    pub left: u32,
}

/// Counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Entries.
    pub entries: usize,
}

/// The store.
#[derive(Debug)]
pub struct Cache {
    entries: Mutex<HashMap<Box<[u8]>, StoredBuf>>,
    size: usize,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { entries: Mutex::default(), size: settings.size }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, StoredBuf>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a fresh entry to `take`.
    pub fn lookup<T>(&self, key: &Key, now: Moment, take: impl FnOnce(Stored<'_>) -> T) -> Option<T> {
        let entries = self.entries();
        let entry = entries.get(key.as_bytes())?;
        (now.seconds_since(entry.meta.received) < entry.meta.lifetime).then(|| take(entry.view()))
    }

    /// Keeps an answer.
    pub fn insert(&self, key: &Key, stored: Stored<'_>, _now: Moment) -> Inserted {
        if self.size == 0 || stored.meta.lifetime == 0 {
            return Inserted::Refused;
        }
        let entry = StoredBuf { meta: stored.meta, message: stored.message.into(), ttls: stored.ttls.into() };
        self.entries().insert(key.as_bytes().into(), entry);
        Inserted::Kept
    }

    /// Looks without touching.
    pub fn peek(&self, key: &Key, now: Moment) -> Option<EntryFacts> {
        let entries = self.entries();
        let meta = entries.get(key.as_bytes())?.meta;
        let left = meta.lifetime.saturating_sub(now.seconds_since(meta.received));
        (left > 0).then_some(EntryFacts { left })
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        Stats { entries: self.entries().len() }
    }
}
