//! DNS over TLS (RFC 7858, strict profile of RFC 8310): [`Mux`] over an authenticated stream.

use std::sync::Arc;

use tokio::time::Instant;

use super::Ask;
use super::delivery::{Delivered, Facts};
use super::error::Cause;
use super::kept::Carrier;
use super::mux::Mux;
use super::resolve::Addresses;
use super::tcp::connect;
use super::tls::{Tls, TlsError, Trust};
use crate::peer::Transport;

/// A server asked over TLS.
#[derive(Debug)]
pub struct Dot {
    addresses: Addresses,
    tls: Tls,
}

impl Dot {
    /// A server at `addresses` that proves itself by `trust`. A server that answers no ALPN is fine (RFC 7858 names none).
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn new(addresses: Addresses, trust: &Trust) -> Result<Self, TlsError> {
        Ok(Self { addresses, tls: Tls::new(trust, b"dot")? })
    }
}

impl Carrier for Dot {
    type Connection = Mux;

    async fn open(&self, until: Instant) -> Result<Mux, Cause> {
        self.addresses
            .in_turn(until, |address, _| async move {
                let (stream, secured) = self.tls.secure(connect(address).await?).await?;
                Ok(Mux::start(stream, Facts { address, transport: Transport::Dot, secured: Some(secured) }))
            })
            .await
    }

    fn is_open(&self, connection: &Mux) -> bool {
        connection.is_open()
    }

    async fn ask(&self, connection: &Mux, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        connection.ask(ask).await
    }
}
