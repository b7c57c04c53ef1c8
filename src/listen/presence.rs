//! A connection is counted while its presence lives, however it ends.

use std::sync::Arc;

use crate::peer::Transport;
use crate::telemetry::Counters;

/// One open connection in the counters of its worker.
#[derive(Debug)]
pub struct Presence {
    counters: Arc<Counters>,
    transport: Transport,
}

impl Presence {
    /// Counts a connection over `transport` as accepted and open.
    #[must_use]
    pub fn of(counters: &Arc<Counters>, transport: Transport) -> Self {
        if let Some(counter) = counters.connections.get(transport as usize) {
            counter.add_one();
        }
        if let Some(gauge) = counters.connections_open.get(transport as usize) {
            gauge.add_one();
        }
        Self { counters: Arc::clone(counters), transport }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(gauge) = self.counters.connections_open.get(self.transport as usize) {
            gauge.sub_one();
        }
    }
}
