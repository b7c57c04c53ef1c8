//! `[upstream]`, and what may stand beside it: named pools and conditional forwarding.

use std::net::IpAddr;
use std::time::Duration;

use super::node::{Node, Value};
use super::{Reader, capacity, domains, doors, effect, forwards, kinds, servers};
use crate::listen::{Door, DoorKind};
use crate::upstream::address::Host;
use crate::upstream::route::DEFAULT;
use crate::upstream::settings::{Datagrams, NamedPool, Strategy};
use crate::upstream::{PoolSettings, Scheme, Server, Settings};

const STRATEGIES: [(&str, Strategy); 5] = [
    ("adaptive", Strategy::Adaptive),
    ("ordered", Strategy::Ordered),
    ("round-robin", Strategy::RoundRobin),
    ("weighted", Strategy::Weighted),
    ("race", Strategy::Race),
];

/// Why a list of servers may not be empty.
pub const NOBODY: &str = "[] would leave nobody to ask: name at least one server";

const TIME_SERVERS: &str = "upstream.time_servers_plain";

/// All pools and forwards.
pub fn read(reader: &mut Reader<'_>) -> Settings {
    reader.require_items("upstream.servers", NOBODY);
    let mut settings = Settings::new(pool(reader, "upstream", &[]));
    let written = reader.values.pools();
    for (path, origin) in &written {
        let name = path.strip_prefix("pool.").unwrap_or_default();
        if name == DEFAULT {
            let what = "\"default\" is what the pool of [upstream] is called: give this one another name";
            reader.findings.error(path, *origin, what);
        }
        match reader.values.get(&format!("{path}.servers")) {
            None => reader.findings.error(path, *origin, "`servers` is missing"),
            Some(node) => reader.require_listed(&format!("{path}.servers"), node, NOBODY),
        }
        let pool = pool(reader, path, &settings.default.bootstrap);
        settings.pools.push(NamedPool { name: name.into(), pool });
    }
    forwards::read(reader, &mut settings);
    forwards::check_use(reader, &settings, &written);
    let times = reader.read_list(TIME_SERVERS, forwards::time_server);
    settings.time_servers_plain = times.iter().filter_map(|text| domains::wire(text)).collect();
    if !times.is_empty() && settings.default.bootstrap.is_empty() {
        warn_of_time_servers(reader);
    }
    settings.datagrams =
        Datagrams { cookies: reader.read("cookies.client", kinds::flag), sockets: capacity::sockets(reader.around) };
    settings
}

/// The pool below `prefix`; `bootstrap` is what it takes over where it says nothing of its own.
fn pool(reader: &mut Reader<'_>, prefix: &str, bootstrap: &[Server]) -> PoolSettings {
    let key = |name: &str| format!("{prefix}.{name}");
    let timeouts = Duration::from_millis(100)..=Duration::from_mins(1);
    let hedges = reader.read(&key("hedge"), kinds::flag);
    let budget = reader.read(&key("hedge_budget"), kinds::share);
    let settings = PoolSettings {
        strategy: reader.read(&key("strategy"), kinds::choice(&STRATEGIES)),
        bootstrap: read_bootstrap(reader, prefix, bootstrap),
        hedge: per_mille(budget).filter(|_| hedges),
        servers: servers::read(reader, &key("servers")),
        fallback: servers::read(reader, &key("fallback")),
        timeout: reader.read(&key("timeout"), kinds::duration(timeouts.clone())),
        attempt_timeout: reader.read(&key("attempt_timeout"), kinds::duration(timeouts)),
    };
    warn(reader, prefix, &settings);
    settings
}

fn read_bootstrap(reader: &mut Reader<'_>, prefix: &str, inherited: &[Server]) -> Vec<Server> {
    let path = format!("{prefix}.bootstrap");
    let of_all = "upstream.bootstrap";
    // Taken over, its mistakes have been told where they stand.
    if path != of_all && reader.values.get(&path) == reader.values.get(of_all) {
        return inherited.to_vec();
    }
    reader.read_list(&path, servers::plain)
}

/// Says what of a pool has not the effect that it was written for.
fn warn(reader: &mut Reader<'_>, prefix: &str, settings: &PoolSettings) {
    let said = |reader: &Reader<'_>, name: &str| {
        let key = format!("{prefix}.{name}");
        let node = reader.values.get(&key).filter(|node| node.origin.is_explicit())?;
        Some((key, node.origin, node.shown()))
    };
    let longer = settings.attempt_timeout > settings.timeout;
    if let Some((key, origin, shown)) = said(reader, "attempt_timeout").filter(|_| longer) {
        let what = format!("{shown} is longer than {prefix}.timeout, which ends every attempt");
        reader.findings.warning(&key, origin, what);
    }
    let in_vain = settings.strategy == Strategy::Ordered && settings.hedge.is_some();
    if let Some((key, origin, shown)) = said(reader, "hedge").filter(|_| in_vain) {
        let what = format!(
            "{shown} has no effect with the strategy \"ordered\": the next server is asked when the one before has failed"
        );
        reader.findings.warning(&key, origin, what);
    }
    for list in ["servers", "fallback"] {
        let key = format!("{prefix}.{list}");
        if let Some(node) = reader.values.get(&key) {
            warn_of_weights(reader, &key, node, settings.strategy);
        }
    }
}

/// Warns of names that somebody chose and that nobody will be asked for.
fn warn_of_time_servers(reader: &mut Reader<'_>) {
    let Some(node) = reader.values.get(TIME_SERVERS) else { return };
    let origin = node.origin;
    if origin.is_explicit() && !effect::is_default(TIME_SERVERS, &node.to_toml()) {
        let what = "has no effect without upstream.bootstrap: only the servers named there are asked in plain DNS";
        reader.findings.warning(TIME_SERVERS, origin, what);
    }
}

/// Warns of weights in the list `node`, said at `key`, that nobody looks at.
pub fn warn_of_weights(reader: &mut Reader<'_>, key: &str, node: &Node, strategy: Strategy) {
    let Value::List(items) = &node.value else { return };
    if strategy == Strategy::Weighted {
        return;
    }
    for (index, item) in items.iter().enumerate() {
        let Value::Table(entries) = &item.value else { continue };
        for weight in entries.iter().filter(|entry| entry.key == "weight") {
            let what = format!("{} has an effect with the strategy \"weighted\" alone", weight.node.shown());
            reader.findings.warning(&format!("{key}[{index}].weight"), weight.node.origin, what);
        }
    }
}

/// Thousandths of a share of one; None for no share.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share is from 0 to 1")]
fn per_mille(share: f64) -> Option<u16> {
    Some((share * 1000.0).round() as u16).filter(|&thousandths| thousandths > 0)
}

/// A server that is one of our own doors would have the gateway ask itself without end (DOH-25).
pub fn check_loops(reader: &mut Reader<'_>, upstream: &Settings, doors: &[Door]) {
    // After an error the servers read and the servers written no longer run in step.
    if reader.findings.is_fatal() {
        return;
    }
    for (path, list, pool) in lists(upstream) {
        let nodes = written(reader, &path);
        servers::check_finding(reader, &nodes, list, pool, &upstream.own);
        for (index, ((key, node), server)) in nodes.into_iter().zip(list).enumerate() {
            let mut earlier =
                list.iter().take(index).chain(pool.servers.iter().filter(|_| path.ends_with(".fallback")));
            if node.origin.is_explicit() && earlier.any(|earlier| earlier == server) {
                let what = format!("\"{}\" is in this pool already, and would be asked as if it were two", server.url);
                reader.findings.warning(&key, node.origin, what);
            }
            if doors.iter().any(|door| leads_to(server, door)) {
                let what = format!("\"{}\" is a door of this gateway: it would ask itself", server.url);
                reader.findings.error(&key, node.origin, what);
            }
        }
    }
}

/// A list of servers: the path that it is written at, what stands there, and the pool it is of.
type List<'a> = (String, &'a [Server], &'a PoolSettings);

/// Every list of servers.
fn lists(upstream: &Settings) -> Vec<List<'_>> {
    let mut lists = Vec::new();
    let default = std::iter::once(("upstream".to_owned(), &upstream.default));
    let others = upstream.pools.iter().map(|NamedPool { name, pool }| {
        let in_place = name.contains('[');
        (if in_place { name.to_string() } else { format!("pool.{name}") }, pool)
    });
    for (place, pool) in default.chain(others) {
        lists.push((format!("{place}.servers"), &*pool.servers, pool));
        lists.push((format!("{place}.fallback"), &*pool.fallback, pool));
        // One that is taken over has been looked at where it stands.
        if place == "upstream" || pool.bootstrap != upstream.default.bootstrap {
            lists.push((format!("{place}.bootstrap"), &*pool.bootstrap, pool));
        }
    }
    lists
}

/// The items of the list at `path`, be it a key's or the servers in a forward.
fn written<'a>(reader: &mut Reader<'a>, path: &str) -> Vec<(String, &'a Node)> {
    let forwards = reader.read_items("forward");
    let inside = forwards.into_iter().find_map(|(place, node)| match (&node.value, path.strip_prefix(&place)) {
        (Value::Table(entries), Some(".servers")) => entries.iter().find(|entry| entry.key == "servers"),
        _ => None,
    });
    match inside {
        Some(entry) => reader.items(path, &entry.node),
        None => reader.read_items(path),
    }
}

fn leads_to(server: &Server, door: &Door) -> bool {
    let spoken = match server.url.scheme {
        Scheme::Udp | Scheme::Tcp => DoorKind::Dns,
        Scheme::Tls => DoorKind::Dot,
        Scheme::Https | Scheme::H3 => DoorKind::Doh,
        Scheme::Quic => DoorKind::Doq,
    };
    let localhost = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let host = match &server.url.host {
        Host::Address(address) => std::slice::from_ref(address),
        Host::Name(name) if &**name == "localhost" && server.addresses.is_empty() => &localhost[..],
        Host::Name(_) => &[],
    };
    let (own, port) = (door.address.ip().to_canonical(), door.address.port());
    let is_own = |address: &IpAddr| {
        let address = address.to_canonical();
        address == own || (own.is_unspecified() && doors::is_loopback(address))
    };
    spoken == door.kind && port == server.url.port && host.iter().chain(&server.addresses).any(is_own)
}
