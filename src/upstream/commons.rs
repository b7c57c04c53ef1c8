//! What all servers of a gateway share: the runtime that owns their connections, how names are found, what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Handle;

use super::resolve::Resolver;
use super::settings::Datagrams;
use super::sockets::Sockets;
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
    /// The sockets of questions over UDP.
    pub sockets: Arc<Sockets>,
    /// Are plain servers shown cookies?
    pub cookies: bool,
    ids: Arc<AtomicU32>,
}

impl Commons {
    /// Servers that live on `runtime`, found by the system's means, under the system's clock.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            resolver: Arc::default(),
            times: Arc::default(),
            sockets: Arc::new(Sockets::new(Datagrams::DEFAULT.sockets)),
            cookies: Datagrams::DEFAULT.cookies,
            ids: Arc::default(),
        }
    }

    /// The same, but plain servers are asked as `datagrams` says.
    #[must_use]
    pub fn with_datagrams(&self, datagrams: Datagrams) -> Self {
        Self { sockets: Arc::new(Sockets::new(datagrams.sockets)), cookies: datagrams.cookies, ..self.clone() }
    }

    /// The next server's id; None when all are given out.
    #[must_use]
    pub fn next_id(&self) -> Option<UpstreamId> {
        u16::try_from(self.ids.fetch_add(1, Ordering::Relaxed)).ok().map(UpstreamId)
    }
}
