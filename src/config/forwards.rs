//! `[[forward]]`: which domains go to which pool, named or written in place.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::domains::{self, Words};
use super::kinds::{self, What};
use super::node::Node;
use super::reader::Fields;
use super::{Origin, Reader, keys, routes, servers};
use crate::pipeline::{is_answered_here, switchable};
use crate::upstream::address::{Host, ends_in_a_number};
use crate::upstream::settings::{Forward, NamedPool};
use crate::upstream::{PoolSettings, Server, Settings};
use crate::wire::name;

const WORDS: Words = Words {
    none: "[] forwards nothing: name at least one domain, or leave the forward out",
    twice: "is already forwarded by",
};

/// What networks call their own, and nobody else knows (RFC 6762 appendix G); `internal` is set aside for it.
const INSIDE: [&str; 6] = ["internal", "intranet", "private", "corp", "home", "lan"];

/// Reads all forwards into `settings`, whose pools are read already: servers in place become a pool of their own.
pub fn read(reader: &mut Reader<'_>, settings: &mut Settings) {
    let mut taken = BTreeMap::new();
    for (key, node) in reader.read_items("forward") {
        let Some(fields) = reader.fields(&key, node, keys::FORWARD, "forward") else { continue };
        let domains = domains::read(reader, &fields, &mut taken, &WORDS, zone);
        let fallthrough = reader.field(&fields, "fallthrough", kinds::flag).unwrap_or_default();
        if fallthrough {
            warn_of_leaks(reader, &fields, &domains, &settings.default);
        }
        if let Some(pool) = read_pool(reader, &fields, settings) {
            settings.forwards.push(Forward { domains, pool, fallthrough });
        }
    }
}

/// The index of the pool that a forward names or holds.
fn read_pool(reader: &mut Reader<'_>, fields: &Fields<'_>, settings: &mut Settings) -> Option<usize> {
    let named = fields.get("pool").map(|node| (node.origin, reader.check(&fields.key("pool"), node, kinds::text)));
    match (named, fields.get("servers")) {
        (None, None) => {
            reader.findings.error(fields.path(), fields.origin, "`pool` is missing, or `servers` in place");
            None
        }
        (Some((origin, _)), Some(_)) => {
            let what = "a forward has a `pool` or `servers` in place, not both";
            reader.findings.error(&fields.key("pool"), origin, what);
            None
        }
        (Some((origin, name)), None) => {
            let name = name?;
            let found = settings.pools.iter().position(|pool| *pool.name == *name);
            if found.is_none() {
                reader.findings.error(&fields.key("pool"), origin, format!("\"{name}\": there is no [pool.{name}]"));
            }
            found
        }
        (None, Some(node)) => {
            let list = fields.key("servers");
            reader.require_listed(&list, node, routes::NOBODY);
            let servers = servers::read_list(reader, &list, node);
            let bootstrap = settings.default.bootstrap.clone();
            let pool = PoolSettings { bootstrap, ..PoolSettings::new(servers) };
            routes::warn_of_weights(reader, &list, node, pool.strategy);
            // Brackets: no [pool.NAME] can have this name.
            settings.pools.push(NamedPool { name: fields.path().into(), pool });
            settings.pools.len().checked_sub(1)
        }
    }
}

/// A domain to forward, as a wire name in lower case.
fn zone(node: &Node) -> Result<Box<[u8]>, What> {
    let wire = domains::any(node)?;
    if is_answered_here(&wire) {
        return Err(format!("{} is answered here and never forwarded (RFC 6761, 7686, 9462)", node.shown()));
    }
    Ok(wire)
}

/// A name that may be asked in plain while the clock is wrong. The root would let every name out.
pub fn time_server(node: &Node) -> Result<String, What> {
    let text = kinds::domain(node)?;
    if text == "." || ends_in_a_number(&text) {
        return Err(format!(
            "{} must be the name of a time server, or of a domain that holds nothing else",
            node.shown()
        ));
    }
    Ok(text)
}

/// Warns where names that mean something inside alone would be told to resolvers outside whenever the servers inside are down.
fn warn_of_leaks(reader: &mut Reader<'_>, fields: &Fields<'_>, domains: &[Box<[u8]>], default: &PoolSettings) {
    let Some(node) = fields.get("fallthrough") else { return };
    let Some(domain) = domains.iter().find(|domain| is_inside(domain)) else { return };
    let Some(server) = default.servers.iter().chain(&default.fallback).find(|server| !is_near(server)) else { return };
    let shown = name::Shown(domain).to_string();
    let what = format!(
        "true tells {} of names in \"{}\" whenever no server here answers, and they are this network's own: leave it out and name \
         more servers here instead; domains that may be asked outside can have a forward of their own",
        server.url,
        shown.trim_end_matches('.')
    );
    reader.findings.warning(&fields.key("fallthrough"), node.origin, what);
}

/// Does `domain` lie in a zone that is private or special, or hold one? The root holds all, and is nobody's own.
fn is_inside(domain: &[u8]) -> bool {
    let own = INSIDE.into_iter().filter_map(domains::wire);
    let mut zones = switchable().filter_map(|(text, _)| domains::wire(&text)).chain(own);
    domain.len() > 1 && zones.any(|zone| name::is_under(domain, &zone) || name::is_under(&zone, domain))
}

/// Is a server known to be in a network of ours? One whose name has to be looked up is not.
fn is_near(server: &Server) -> bool {
    let is_own = |address: &IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    };
    match &server.url.host {
        Host::Address(address) => is_own(address),
        Host::Name(_) => !server.addresses.is_empty() && server.addresses.iter().all(is_own),
    }
}

/// Warns of pools that no forward leads to.
pub fn check_use(reader: &mut Reader<'_>, settings: &Settings, pools: &[(String, Origin)]) {
    if reader.findings.is_fatal() {
        return;
    }
    for (index, (path, origin)) in pools.iter().enumerate() {
        if !settings.forwards.iter().any(|forward| forward.pool == index) {
            reader.findings.warning(path, *origin, "no [[forward]] leads here: nobody in it is ever asked");
        }
    }
}
