//! Where an ACME directory is: asked of the gateway's own upstreams, because the system's resolver may be this very gateway, which
//! would then be asked to find what it needs for its own certificate. The system is asked where they know nothing (`/etc/hosts`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::bootstrap::addresses_in;
use crate::upstream::{Ask, Exchange as _, Routes};
use crate::wire::name;
use crate::wire::registry::rtype;

/// How long the upstreams have for it.
const PATIENCE: Duration = Duration::from_secs(8);

/// The addresses of `host`, with `port`; IPv4 and IPv6 in turn of their asking.
///
/// # Errors
/// Nobody knows it.
pub async fn look_up(routes: Arc<Routes>, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if let Ok(wire) = name::from_text(&host) {
        let (v4, v6) = tokio::join!(ask(&routes, &wire, rtype::A), ask(&routes, &wire, rtype::AAAA));
        let found: Vec<_> = v4.into_iter().chain(v6).map(|address| SocketAddr::new(address, port)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

async fn ask(routes: &Routes, wire: &[u8], rtype: u16) -> Vec<IpAddr> {
    let exchanging = routes.exchange(Arc::new(Ask::new(wire, rtype)), Instant::now() + PATIENCE);
    let Ok(answered) = exchanging.await.result else { return Vec::new() };
    addresses_in(&answered.message, wire, rtype)
}
