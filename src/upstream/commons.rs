//! What all servers of a gateway share: the runtime that owns their connections, how names are found, what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Handle;

use super::resolve::Resolver;
use super::timekeeper::Timekeeper;
use crate::trail::UpstreamId;

/// Shared by the servers of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commons {
    /// The home runtime.
    pub runtime: Handle,
    /// Where the addresses of names come from.
    pub resolver: Arc<Resolver>,
    /// The time that certificates are judged by.
    pub times: Arc<Timekeeper>,
    ids: Arc<AtomicU32>,
}

impl Commons {
    /// Servers that live on `runtime`, found by the system's means, under the system's clock.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, resolver: Arc::default(), times: Arc::default(), ids: Arc::default() }
    }

    /// The same, with certificates judged by `times`.
    #[must_use]
    pub fn with_times(self, times: Arc<Timekeeper>) -> Self {
        Self { times, ..self }
    }

    /// The next server's id; None when all are given out.
    #[must_use]
    pub fn next_id(&self) -> Option<UpstreamId> {
        u16::try_from(self.ids.fetch_add(1, Ordering::Relaxed)).ok().map(UpstreamId)
    }
}
