//! A stream to a server: found, connected from the right source, through a proxy if there is one.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::error::Cause;
use super::eyeballs;
use super::kept::Home;
use super::proxy::{ProxyError, Through};
use super::resolve::Addresses;
use super::settings::Server;

/// How streams to one server are opened.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Where to connect to: the server, or its proxy.
    addresses: Addresses,
    through: Option<Through>,
}

impl Dialer {
    /// For streams to `server`.
    ///
    /// # Errors
    /// What is wrong with its proxy's settings.
    pub fn new(server: &Server, home: &Home) -> Result<Self, ProxyError> {
        Ok(match &server.proxy {
            None => Self { addresses: Addresses::of(server, &home.commons), through: None },
            Some(proxy) => Self {
                addresses: Addresses::of_proxy(proxy, server.source, &home.commons),
                through: Some(Through::new(server, proxy)?),
            },
        })
    }

    /// Connects, and shakes hands by `greet`, at whichever address of the server both succeed first (RFC 8305). `greet` is told the
    /// address that was connected to: through a proxy that is the proxy's. A proxy that fails is never gone around.
    ///
    /// # Errors
    /// Why the last one failed; [`Cause::Unknown`] where there is no address.
    pub async fn dial<T, F, R>(&self, until: Instant, greet: F) -> Result<T, Cause>
    where
        F: Fn(TcpStream, SocketAddr) -> R + Send + Sync,
        R: Future<Output = Result<T, Cause>> + Send,
    {
        let greet = &greet;
        let Some(through) = &self.through else {
            return self.addresses.race(until, |to| async move { greet(self.connect(to).await?, to).await }).await;
        };
        let race = eyeballs::race(through.targets(), |target| async move {
            let way = |proxy| async move {
                let stream = through.open(self.connect(proxy).await?, target).await?;
                greet(stream, proxy).await
            };
            self.addresses.race(until, way).await
        });
        match timeout_at(until, race).await {
            Ok(outcome) => outcome.map_err(|failures| failures.last().copied().unwrap_or(Cause::Unknown)),
            Err(_) => Err(Cause::Timeout),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, Cause> {
        self.addresses.origin().connect(address).await.map_err(|error| {
            debug!(%address, %error, "no connection to an upstream");
            Cause::Connect
        })
    }
}
