//! What the admin listener holds of the rest of the gateway: closures and shared counters, no trait and no type of theirs.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use super::change::{Key, Reloaded};
use super::{CacheAnswer, CacheRequest, ExplainRequest, Explained, Vitals};
use crate::telemetry::{Counters, Gauges};

/// The future of an explanation.
pub type Explaining = Pin<Box<dyn Future<Output = Result<Explained, ExplainRefused>> + Send + 'static>>;

/// The future of something told of the cache, or done to it.
pub type CacheAnswering = Pin<Box<dyn Future<Output = CacheAnswer> + Send + 'static>>;

/// The future of a reload; None where it was lost.
pub type Reloading = Pin<Box<dyn Future<Output = Option<Reloaded>> + Send + 'static>>;

/// Is what was read to be put in force?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Yes.
    No,
    /// It is only tried.
    Yes,
}

/// The rest of the gateway.
#[derive(Clone)]
pub struct Handles {
    /// Each worker's counters.
    pub counters: Vec<Arc<Counters>>,
    /// What is measured at the moment of a scrape. `ready` is filled in here.
    pub gauges: Arc<dyn Fn() -> Gauges + Send + Sync>,
    /// What `/readyz` judges by.
    pub vitals: Arc<dyn Fn() -> Vitals + Send + Sync>,
    /// Walks a question through the pipeline. Must end by itself, about when a client's question would.
    pub explain: Arc<dyn Fn(ExplainRequest) -> Explaining + Send + Sync>,
    /// Counts, shows or drops what the cache holds. Must let other tasks run, and must end by itself.
    pub cache: Arc<dyn Fn(CacheRequest) -> CacheAnswering + Send + Sync>,
    /// Puts the configuration in force as it is read now, or tries whether that could be done.
    pub reload: Arc<dyn Fn(Trial) -> Reloading + Send + Sync>,
    /// The configuration in force, key by key.
    pub keys: Arc<dyn Fn() -> Vec<Key> + Send + Sync>,
    /// The doors, as bound.
    pub doors: Arc<dyn Fn() -> Vec<DoorFacts> + Send + Sync>,
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").field("doors", &(self.doors)()).finish_non_exhaustive()
    }
}

/// A door, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorFacts {
    /// What is spoken there: `dns`, `dot`, `doh`, `doq`.
    pub speaks: &'static str,
    /// Where.
    pub address: SocketAddr,
}

/// Why a question is not explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainRefused {
    /// No door of that kind is open.
    #[error("no such door is open here; see the doors on the status page or in `hushgate check`")]
    NoSuchDoor,
    /// Workers are starting, stopping or too busy.
    #[error("the gateway is busy or stopping: try again")]
    Busy,
}
