//! Plain DNS over TCP (RFC 7766): the stream that [`Mux`] speaks over, opened.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Ask;
use super::delivery::{Delivered, Facts};
use super::error::Cause;
use super::kept::Carrier;
use super::mux::Mux;
use super::resolve::Addresses;
use crate::peer::Transport;

/// A server asked over TCP.
#[derive(Debug)]
pub struct Tcp {
    addresses: Addresses,
}

impl Tcp {
    /// A server at `addresses`.
    #[must_use]
    pub const fn new(addresses: Addresses) -> Self {
        Self { addresses }
    }
}

impl Carrier for Tcp {
    type Connection = Mux;

    async fn open(&self, until: Instant) -> Result<Mux, Cause> {
        self.addresses
            .in_turn(until, |address, _| async move {
                let stream = connect(address).await?;
                Ok(Mux::start(stream, Facts { address, transport: Transport::Tcp, secured: None }))
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

/// Connects, with small writes sent at once.
///
/// # Errors
/// [`Cause::Connect`].
pub async fn connect(address: SocketAddr) -> Result<TcpStream, Cause> {
    let stream = TcpStream::connect(address).await.map_err(|_| Cause::Connect)?;
    stream.set_nodelay(true).map_err(|_| Cause::Connect)?;
    Ok(stream)
}
