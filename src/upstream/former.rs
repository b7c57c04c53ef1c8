//! Servers carried over from one configuration to the next: who is the same goes on with its connections, health and tallies.
//!
//! Beside `pool`: a pool that is built anew asks here for each of its servers before it makes one.

use std::cell::RefCell;
use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::pool::Pool;
use super::server::Upstream;
use super::settings::{PoolSettings, Server};

/// All that a server's object was made of: two that are equal here would be made alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What is said of it.
    pub server: Server,
    /// How long an attempt there may take.
    pub patience: Duration,
    /// Who finds its name.
    pub bootstrap: Vec<Server>,
    /// Our own plain doors, which do not; only where the machine's own means find it.
    pub own: Vec<SocketAddr>,
    /// Is it shown cookies?
    pub cookies: bool,
    /// What its files held.
    pub files: u64,
}

impl Identity {
    /// That of `server` in a pool of `settings`, of a gateway with these plain doors.
    #[must_use]
    pub fn of(server: &Server, settings: &PoolSettings, own: &[SocketAddr], cookies: bool) -> Self {
        let is_found_by_us = settings.bootstrap.is_empty() && server.addresses.is_empty();
        Self {
            server: server.clone(),
            patience: settings.attempt_timeout,
            bootstrap: settings.bootstrap.clone(),
            own: if is_found_by_us { own.to_vec() } else { Vec::new() },
            cookies,
            files: digest(server),
        }
    }
}

/// Files under the same name may hold something else by now; one that cannot be read is for whoever uses it to tell.
fn digest(server: &Server) -> u64 {
    let mut hasher = SipHasher13::new();
    let credentials = server.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
    for file in server.ca.iter().chain(credentials) {
        hasher.write(&std::fs::read(file).unwrap_or_default());
        hasher.write_u8(0);
    }
    hasher.finish()
}

/// The servers of the configuration before, each taken over once.
#[derive(Debug, Default)]
pub struct Former(RefCell<Vec<(Box<str>, Arc<Upstream>)>>);

impl Former {
    /// Those of these pools.
    #[must_use]
    pub fn of<'a>(pools: impl Iterator<Item = (&'a str, &'a Pool)>) -> Self {
        let named = |(name, pool): (&'a str, &'a Pool)| {
            let servers: Vec<_> = pool.servers().map(|server| (Box::from(name), Arc::clone(server))).collect();
            servers
        };
        Self(RefCell::new(pools.flat_map(named).collect()))
    }

    /// The server that `identity` describes: of the pool of this name, or else of another.
    #[must_use]
    pub fn take(&self, pool: &str, identity: &Identity) -> Option<Arc<Upstream>> {
        let mut all = self.0.borrow_mut();
        let is_same = |server: &Upstream| server.identity().is_some_and(|known| known == identity);
        let here = all.iter().position(|(home, server)| **home == *pool && is_same(server));
        let place = here.or_else(|| all.iter().position(|(_, server)| is_same(server)))?;
        Some(all.swap_remove(place).1)
    }
}
