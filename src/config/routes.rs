//! `[upstream]`, and what may stand beside it: named pools and conditional forwarding.

use std::net::IpAddr;
use std::time::Duration;

use super::node::Node;
use super::{Reader, doors, keys, kinds, servers};
use crate::listen::{Door, DoorKind};
use crate::upstream::address::Host;
use crate::upstream::settings::Strategy;
use crate::upstream::{PoolSettings, Scheme, Server, Settings};

const STRATEGIES: [(&str, Strategy); 5] = [
    ("adaptive", Strategy::Adaptive),
    ("ordered", Strategy::Ordered),
    ("round-robin", Strategy::RoundRobin),
    ("weighted", Strategy::Weighted),
    ("race", Strategy::Race),
];

/// The default pool.
pub fn read(reader: &mut Reader<'_>) -> Settings {
    reader.require_items("upstream.servers", "[] would leave nobody to ask: name at least one server");
    let settings = pool(reader, "upstream");
    let (timeout, attempt) = (settings.timeout, settings.attempt_timeout);
    let explicit = |node: &&Node| node.origin.is_explicit();
    if let Some(node) = reader.values.get("upstream.attempt_timeout").filter(explicit).filter(|_| attempt > timeout) {
        let what = format!("{} is longer than upstream.timeout, which ends every attempt", node.shown());
        reader.findings.warning("upstream.attempt_timeout", node.origin, what);
    }
    Settings::new(settings)
}

/// Reads what this version refuses, so that every mistake in it is found all the same.
pub fn read_refused(reader: &mut Reader<'_>) {
    let pools = reader.values.pools();
    for (path, origin) in &pools {
        if reader.values.get(&format!("{path}.servers")).is_none() {
            reader.findings.error(path, *origin, "`servers` is missing");
        }
        pool(reader, path);
    }
    for (key, node) in reader.read_items("forward") {
        let Some(fields) = reader.fields(&key, node, keys::FORWARD, "forward") else { continue };
        reader.require_field(&fields, "domains");
        reader.field_list(&fields, "domains", kinds::domain);
        reader.field(&fields, "fallthrough", kinds::flag);
        servers::read_field(reader, &fields, "servers");
        let Some(name) = reader.field(&fields, "pool", kinds::text) else { continue };
        if !pools.iter().any(|(path, _)| path.strip_prefix("pool.") == Some(name)) {
            let origin = fields.get("pool").map_or(fields.origin, |node| node.origin);
            reader.findings.error(&fields.key("pool"), origin, format!("\"{name}\": there is no [pool.{name}]"));
        }
    }
}

fn pool(reader: &mut Reader<'_>, prefix: &str) -> PoolSettings {
    let key = |name: &str| format!("{prefix}.{name}");
    let timeouts = Duration::from_millis(100)..=Duration::from_mins(1);
    reader.read_list(&key("bootstrap"), servers::plain);
    let hedges = reader.read(&key("hedge"), kinds::flag);
    let budget = reader.read(&key("hedge_budget"), kinds::share);
    PoolSettings {
        strategy: reader.read(&key("strategy"), kinds::choice(&STRATEGIES)),
        bootstrap: Vec::new(),
        hedge: per_mille(budget).filter(|_| hedges),
        servers: servers::read(reader, &key("servers")),
        fallback: servers::read(reader, &key("fallback")),
        timeout: reader.read(&key("timeout"), kinds::duration(timeouts.clone())),
        attempt_timeout: reader.read(&key("attempt_timeout"), kinds::duration(timeouts)),
    }
}

/// Thousandths of a share of one; None for no share.
#[allow(clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
fn per_mille(share: f64) -> Option<u16> {
    Some((share * 1000.0).round() as u16).filter(|&thousandths| thousandths > 0)
}

/// A server that is one of our own doors would have the gateway ask itself without end (DOH-25).
pub fn check_loops(reader: &mut Reader<'_>, upstream: &Settings, doors: &[Door]) {
    // After an error the servers read and the servers written no longer run in step.
    if reader.findings.is_fatal() {
        return;
    }
    for (path, list) in
        [("upstream.servers", &upstream.default.servers), ("upstream.fallback", &upstream.default.fallback)]
    {
        let nodes = reader.read_items(path);
        for ((key, node), server) in nodes.into_iter().zip(list) {
            if doors.iter().any(|door| leads_to(server, door)) {
                let what = format!("\"{}\" is a door of this gateway: it would ask itself", server.url);
                reader.findings.error(&key, node.origin, what);
            }
        }
    }
}

fn leads_to(server: &Server, door: &Door) -> bool {
    let spoken = match server.url.scheme {
        Scheme::Udp | Scheme::Tcp => DoorKind::Dns,
        Scheme::Tls => DoorKind::Dot,
        Scheme::Https | Scheme::H3 => DoorKind::Doh,
        Scheme::Quic => DoorKind::Doq,
    };
    let host = match &server.url.host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    };
    let (own, port) = (door.address.ip(), door.address.port());
    let is_own = |address: IpAddr| address == own || (own.is_unspecified() && doors::is_loopback(address));
    spoken == door.kind && port == server.url.port && host.iter().chain(&server.addresses).copied().any(is_own)
}
