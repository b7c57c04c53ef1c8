//! Plain DNS over TCP (RFC 7766): the stream that [`Mux`] speaks over, opened.

use tokio::time::Instant;

use super::delivery::Facts;
use super::dial::Dialer;
use super::error::Cause;
use super::mux::{Mux, Streams};
use crate::peer::Transport;

/// A server asked over TCP.
#[derive(Debug)]
pub struct Tcp {
    dialer: Dialer,
}

impl Tcp {
    /// A server reached by `dialer`.
    #[must_use]
    pub const fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }
}

impl Streams for Tcp {
    async fn connect(&self, until: Instant) -> Result<Mux, Cause> {
        self.dialer
            .dial(until, |stream, address| async move {
                Ok(Mux::start(stream, Facts { address, transport: Transport::Tcp, secured: None }))
            })
            .await
    }
}
