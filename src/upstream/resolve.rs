//! Where a server is: literal addresses, configured ones, or a look-up by the operating system.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::address::Host;
use super::commons::Commons;
use super::error::Cause;
use super::settings::Server;

/// The addresses of one server.
#[derive(Clone, Debug)]
pub enum Addresses {
    /// Known without asking.
    Known(Vec<SocketAddr>),
    /// A name that must be looked up.
    Named {
        /// The name.
        name: Box<str>,
        /// The port.
        port: u16,
        /// Who finds it.
        resolver: Arc<Resolver>,
    },
}

/// Finds the addresses of servers that are given by name.
#[derive(Debug, Default)]
pub struct Resolver {}

impl Resolver {
    /// The addresses of `name`.
    ///
    /// # Errors
    /// [`Cause::Unknown`] where there is none, [`Cause::Timeout`].
    pub async fn resolve(&self, name: &str, until: Instant) -> Result<Vec<IpAddr>, Cause> {
        match timeout_at(until, tokio::net::lookup_host((name, 0))).await {
            Ok(Ok(found)) => Ok(found.take(TRIED).map(|address| address.ip()).collect()),
            Ok(Err(_)) => Err(Cause::Unknown),
            Err(_) => Err(Cause::Timeout),
        }
    }
}

/// How many addresses of one name are tried.
const TRIED: usize = 4;

impl Addresses {
    /// Where `server` is, as far as its settings say.
    #[must_use]
    pub fn of(server: &Server, commons: &Commons) -> Self {
        let port = server.url.port;
        let at = |&address: &IpAddr| SocketAddr::new(address, port);
        match &server.url.host {
            Host::Address(address) => Self::Known(vec![at(address)]),
            Host::Name(_) if !server.addresses.is_empty() => Self::Known(server.addresses.iter().map(at).collect()),
            Host::Name(name) => Self::Named { name: name.clone(), port, resolver: Arc::clone(&commons.resolver) },
        }
    }

    async fn list(&self, until: Instant) -> Result<Vec<SocketAddr>, Cause> {
        match self {
            Self::Known(addresses) => Ok(addresses.clone()),
            Self::Named { name, port, resolver } => {
                let found = resolver.resolve(name, until).await?;
                Ok(found.into_iter().map(|address| SocketAddr::new(address, *port)).collect())
            }
        }
    }

    /// Tries `reach` at each address in turn until one succeeds, giving each an even share of the time that is left.
    ///
    /// # Errors
    /// Why the last one failed; [`Cause::Unknown`] where there is no address.
    pub async fn in_turn<T, F, R>(&self, until: Instant, reach: F) -> Result<T, Cause>
    where
        F: Fn(SocketAddr, Instant) -> R + Send + Sync,
        R: Future<Output = Result<T, Cause>> + Send,
    {
        let addresses = self.list(until).await?;
        let mut failure = Cause::Unknown;
        let mut left = u32::try_from(addresses.len().min(TRIED)).unwrap_or(1);
        for address in addresses.into_iter().take(TRIED) {
            let now = Instant::now();
            let end = now + until.saturating_duration_since(now) / left.max(1);
            left = left.saturating_sub(1);
            match timeout_at(end, reach(address, end)).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(cause)) => failure = cause,
                Err(_) => failure = Cause::Timeout,
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn addresses_are_tried_in_turn_until_one_works() {
        let mut server = Server::new("tls://dns.example".parse().unwrap());
        server.addresses = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let until = Instant::now() + Duration::from_secs(5);
        let reached = Addresses::of(&server, &Commons::new(tokio::runtime::Handle::current()))
            .in_turn(until, |address, _| async move {
                if address.to_string() == "192.0.2.2:853" { Ok(address) } else { Err(Cause::Connect) }
            })
            .await;
        assert_eq!(reached.unwrap().to_string(), "192.0.2.2:853");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_leaves_time_for_the_next() {
        let mut server = Server::new("tls://dns.example".parse().unwrap());
        server.addresses = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let start = Instant::now();
        let reached = Addresses::of(&server, &Commons::new(tokio::runtime::Handle::current()))
            .in_turn(start + Duration::from_secs(2), |address, _| async move {
                if address.to_string() == "192.0.2.1:853" {
                    std::future::pending::<()>().await;
                }
                Ok(address)
            })
            .await;
        assert_eq!(reached.unwrap().to_string(), "192.0.2.2:853");
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
