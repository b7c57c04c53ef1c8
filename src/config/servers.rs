//! The servers of a pool: URLs, or tables that say more.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::kinds::{self, What};
use super::node::{Node, Value};
use super::reader::Fields;
use super::{Reader, keys, privacy, senders};
use crate::upstream::address::{AddressError, Host, Scheme, is_of_a_server, parse_authority};
use crate::upstream::hosts::is_own;
use crate::upstream::proxy::Login;
use crate::upstream::settings::{Method, Proxy, ProxyKind};
use crate::upstream::{Address, PoolSettings, Server, SubnetRule};

/// The servers in the list at `path`.
pub fn read(reader: &mut Reader<'_>, path: &str) -> Vec<Server> {
    let items = reader.read_items(path);
    items.into_iter().filter_map(|(key, node)| server(reader, &key, node)).collect()
}

/// The servers in the list `node`, said at `key`.
pub fn read_list(reader: &mut Reader<'_>, key: &str, node: &Node) -> Vec<Server> {
    let items = reader.items(key, node);
    items.into_iter().filter_map(|(key, node)| server(reader, &key, node)).collect()
}

fn server(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Server> {
    if !matches!(&node.value, Value::Table(_)) {
        let server = Server { ecs: for_all(reader), ..Server::new(reader.check(key, node, url)?) };
        senders::advise(reader, (key, node.origin), &server);
        return Some(server);
    }
    let fields = reader.fields(key, node, keys::SERVER, "upstream.*")?;
    reader.require_field(&fields, "url");
    let methods = [("post", Method::Post), ("get", Method::Get)];
    let ca = fields.get("ca").and_then(|node| {
        let file = reader.file(node);
        reader.check(&fields.key("ca"), node, |_| file)
    });
    let addresses = reader.field_list(&fields, "addresses", server_ip).unwrap_or_default();
    let tls_name = reader.field(&fields, "tls_name", kinds::host);
    let pins = reader.field_list(&fields, "pins", pin).unwrap_or_default();
    let method = reader.field(&fields, "method", kinds::choice(&methods)).unwrap_or_default();
    let weight = reader.field(&fields, "weight", kinds::whole(1..=1000));
    let ecs = reader.field(&fields, "ecs", privacy::ecs).unwrap_or_else(|| for_all(reader));
    let source = reader.field(&fields, "source", ip);
    let proxy = read_proxy(reader, &fields);
    let url = reader.field(&fields, "url", url)?;
    check_fit(reader, &fields, &url);
    let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
    let server = Server { addresses, tls_name, ca, pins, method, weight, source, proxy, ecs, ..Server::new(url) };
    check_source(reader, &fields, &server);
    if fields.get("ecs").is_none() {
        senders::advise(reader, (key, node.origin), &server);
    }
    Some(server)
}

/// What servers are told of clients' networks unless their table says otherwise. Its mistakes are told where `[privacy]` is read.
fn for_all(reader: &Reader<'_>) -> SubnetRule {
    reader.values.get("privacy.ecs").and_then(|node| privacy::ecs(node).ok()).unwrap_or_default()
}

fn read_proxy(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Proxy> {
    let found = reader.field(fields, "proxy", proxy);
    let key = fields.key("proxy_credentials");
    let Some(node) = fields.get("proxy_credentials") else { return found };
    if fields.get("proxy").is_none() {
        reader.findings.error(&key, node.origin, "there is no `proxy` to show them to");
        return None;
    }
    let file = reader.file(node);
    let file = file.and_then(|file| Login::read(&file).map(|_| file).map_err(|error| error.to_string()));
    let credentials = reader.check(&key, node, |_| file);
    found.map(|proxy| Proxy { credentials, ..proxy })
}

/// A source of one family reaches nobody of the other.
fn check_source(reader: &mut Reader<'_>, fields: &Fields<'_>, server: &Server) {
    let (Some(source), Some(node)) = (server.source, fields.get("source")) else { return };
    let host = server.proxy.as_ref().map_or(&server.url.host, |proxy| &proxy.host);
    let mut goals: Vec<IpAddr> = if server.proxy.is_none() { server.addresses.clone() } else { Vec::new() };
    goals.extend(match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    });
    if !goals.is_empty() && goals.iter().all(|goal| goal.is_ipv4() != source.is_ipv4()) {
        let (own, other) = if source.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        let what = format!("\"{source}\" is {own}, and everything it should reach is {other}");
        reader.findings.error(&fields.key("source"), node.origin, what);
    }
}

/// What the scheme has no use for would be ignored: a pin on a plain server must not look like protection.
fn check_fit(reader: &mut Reader<'_>, fields: &Fields<'_>, url: &Address) {
    let mut misplaced = |name: &str, fits: bool, what: String| {
        let node = fields.get(name).filter(|_| !fits);
        if let Some(node) = node {
            reader.findings.error(&fields.key(name), node.origin, what);
        }
    };
    let scheme = url.scheme;
    for name in ["tls_name", "ca", "pins"] {
        misplaced(name, scheme.is_encrypted(), format!("{}:// is not encrypted: nothing is verified", scheme.name()));
    }
    misplaced("method", scheme.is_http(), format!("{}:// has no method: only https:// and h3:// have", scheme.name()));
    let stream = match scheme {
        Scheme::Udp => Some(Scheme::Tcp),
        Scheme::H3 => Some(Scheme::Https),
        Scheme::Quic => Some(Scheme::Tls),
        Scheme::Tcp | Scheme::Tls | Scheme::Https => None,
    };
    let instead = stream.map_or("", Scheme::name);
    misplaced("proxy", stream.is_none(), format!("no proxy carries {}://: use {instead}://", scheme.name()));
    let named = matches!(url.host, Host::Name(_));
    misplaced("addresses", named, "the URL's host is an address already".to_owned());
}

fn url(node: &Node) -> Result<Address, What> {
    kinds::parsed(node, |error| format!("is no server: {error}"))
}

fn ip(node: &Node) -> Result<IpAddr, What> {
    kinds::parsed(node, |_| "must be an IP address without a port".to_owned())
}

/// An address that a server may have.
fn server_ip(node: &Node) -> Result<IpAddr, What> {
    ip(node).and_then(|address| {
        let what = || format!("{}: {}", node.shown(), AddressError::Nobody);
        is_of_a_server(address).then_some(address).ok_or_else(what)
    })
}

/// RFC 7858 4.2: the SHA-256 digest of a `SubjectPublicKeyInfo`.
pub fn pin(node: &Node) -> Result<[u8; 32], What> {
    let digest = kinds::text(node)?.strip_prefix("sha256/").and_then(|text| STANDARD.decode(text).ok());
    let digest = digest.and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    digest.ok_or_else(|| format!("{} must be \"sha256/\" and 32 octets in base64", node.shown()))
}

/// `socks5://host:port` or `http://host:port`.
fn proxy(node: &Node) -> Result<Proxy, What> {
    let text = kinds::text(node)?;
    let kinds = [("socks5://", ProxyKind::Socks5), ("http://", ProxyKind::Connect)];
    let known = kinds.iter().find_map(|(start, kind)| Some((kind, text.strip_prefix(start)?)));
    if known.is_some_and(|(_, rest)| rest.contains('@')) {
        return Err("must not hold credentials: name a file with them as `proxy_credentials`".to_owned());
    }
    let parsed = known.and_then(|(kind, rest)| Some((*kind, parse_authority(rest.trim_end_matches('/')).ok()?)));
    match parsed {
        Some((kind, (host, Some(port)))) => Ok(Proxy { kind, host, port, credentials: None }),
        _ => Err(format!("{} must be \"socks5://host:port\" or \"http://host:port\"", node.shown())),
    }
}

/// A plain server by address, for `bootstrap`.
pub fn plain(node: &Node) -> Result<Server, What> {
    let text = kinds::text(node)?;
    let by_address = text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, Scheme::Udp.port()));
    let by_socket = by_address.or_else(|| text.parse().ok());
    let by_socket = by_socket.filter(|address| address.port() != 0 && is_of_a_server(address.ip()));
    let url = match by_socket {
        Some(at) => {
            Some(Address { scheme: Scheme::Udp, host: Host::Address(at.ip()), port: at.port(), path: Box::default() })
        }
        None => text.parse().ok(),
    };
    let fits = |url: &Address| !url.scheme.is_encrypted() && matches!(url.host, Host::Address(_));
    url.filter(fits).map(Server::new).ok_or_else(|| {
        format!("{} must be a plain server by address, like \"9.9.9.9\" or \"udp://9.9.9.9\"", node.shown())
    })
}

/// Warns of servers, written as `nodes`, that could be found only by asking this gateway, whose plain doors are `own` (DOH-25).
pub fn check_finding(
    reader: &mut Reader<'_>,
    nodes: &[(String, &Node)],
    servers: &[Server],
    pool: &PoolSettings,
    own: &[SocketAddr],
) {
    let machine = &reader.around.name_servers;
    let ours = |&address: &IpAddr| is_own(SocketAddr::new(address, Scheme::Udp.port()), own);
    // After an error the servers read and the servers written no longer run in step.
    if reader.findings.is_fatal() || !pool.bootstrap.is_empty() || machine.is_empty() || !machine.iter().all(ours) {
        return;
    }
    for ((key, node), server) in nodes.iter().zip(servers) {
        let name = match (&server.proxy, &server.url.host) {
            (Some(Proxy { host: Host::Name(name), .. }), _) => name,
            (None, Host::Name(name)) if server.addresses.is_empty() => name,
            _ => continue,
        };
        let what = format!(
            "only this gateway could find {name}, as it is the machine's resolver: set {}",
            if server.proxy.is_some() { "`bootstrap`" } else { "`bootstrap` or `addresses`" }
        );
        reader.findings.warning(key, node.origin, what);
    }
}
