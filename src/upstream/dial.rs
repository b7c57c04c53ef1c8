//! A stream to a server: found, connected from the right source, through a proxy if there is one.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::error::Cause;
use super::kept::Home;
use super::resolve::Addresses;
use super::settings::Server;

/// How streams to one server are opened.
#[derive(Clone, Debug)]
pub struct Dialer {
    addresses: Addresses,
}

impl Dialer {
    /// For streams to `server`.
    #[must_use]
    pub fn new(server: &Server, home: &Home) -> Self {
        Self { addresses: Addresses::of(server, &home.commons) }
    }

    /// Connects, and shakes hands by `greet`, at whichever address of the server both succeed first.
    ///
    /// # Errors
    /// Why the last one failed; [`Cause::Unknown`] where there is no address.
    pub async fn dial<T, F, R>(&self, until: Instant, greet: F) -> Result<T, Cause>
    where
        F: Fn(TcpStream, SocketAddr) -> R + Send + Sync,
        R: Future<Output = Result<T, Cause>> + Send,
    {
        let greet = &greet;
        self.addresses.in_turn(until, |address, _| async move { greet(connect(address).await?, address).await }).await
    }
}

/// Connects, with small writes sent at once.
async fn connect(address: SocketAddr) -> Result<TcpStream, Cause> {
    let stream = TcpStream::connect(address).await.map_err(|_| Cause::Connect)?;
    stream.set_nodelay(true).map_err(|_| Cause::Connect)?;
    Ok(stream)
}
