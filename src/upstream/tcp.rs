//! Plain DNS over TCP (RFC 7766): the stream that [`Mux`] speaks over, opened.

use std::sync::Arc;

use tokio::time::Instant;

use super::Ask;
use super::delivery::{Delivered, Facts};
use super::dial::Dialer;
use super::error::Cause;
use super::kept::{Carrier, Terms};
use super::mux::Mux;
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

impl Carrier for Tcp {
    type Connection = Mux;

    async fn open(&self, until: Instant) -> Result<Mux, Cause> {
        self.dialer
            .dial(until, |stream, address| async move {
                Ok(Mux::start(stream, Facts { address, transport: Transport::Tcp, secured: None }))
            })
            .await
    }

    fn is_open(&self, connection: &Mux) -> bool {
        connection.is_open()
    }

    fn facts(connection: &Mux) -> &Facts {
        connection.facts()
    }

    fn terms(connection: &Mux) -> Terms {
        connection.terms()
    }

    async fn closed(connection: &Mux) {
        connection.closed().await;
    }

    fn cut(connection: &Mux) {
        connection.cut();
    }

    async fn ask(&self, connection: &Mux, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        connection.ask(ask).await
    }
}
