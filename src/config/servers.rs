//! The servers of a pool: URLs, or tables that say more.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::kinds::{self, What};
use super::node::{Node, Value};
use super::reader::Fields;
use super::{Reader, keys, privacy};
use crate::upstream::address::Host;
use crate::upstream::settings::Method;
use crate::upstream::{Address, Server};

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
        return reader.check(key, node, url).map(Server::new);
    }
    let fields = reader.fields(key, node, keys::SERVER, "upstream.*")?;
    reader.require_field(&fields, "url");
    let methods = [("post", Method::Post), ("get", Method::Get)];
    let ca = fields.get("ca").and_then(|node| {
        let file = reader.file(node);
        reader.check(&fields.key("ca"), node, |_| file)
    });
    let addresses = reader.field_list(&fields, "addresses", ip).unwrap_or_default();
    let tls_name = reader.field(&fields, "tls_name", kinds::host);
    let pins = reader.field_list(&fields, "pins", pin).unwrap_or_default();
    let method = reader.field(&fields, "method", kinds::choice(&methods)).unwrap_or_default();
    let weight = reader.field(&fields, "weight", kinds::whole(1..=1000));
    reader.field(&fields, "ecs", privacy::ecs);
    reader.field(&fields, "proxy", socks);
    let url = reader.field(&fields, "url", url)?;
    check_fit(reader, &fields, &url);
    let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
    Some(Server { addresses, tls_name, ca, pins, method, weight, ..Server::new(url) })
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
    let named = matches!(url.host, Host::Name(_));
    misplaced("addresses", named, "the URL's host is an address already".to_owned());
}

fn url(node: &Node) -> Result<Address, What> {
    kinds::parsed(node, |error| format!("is no server: {error}"))
}

fn ip(node: &Node) -> Result<IpAddr, What> {
    kinds::parsed(node, |_| "must be an IP address without a port".to_owned())
}

/// RFC 7858 4.2: the SHA-256 digest of a `SubjectPublicKeyInfo`.
fn pin(node: &Node) -> Result<[u8; 32], What> {
    let digest = kinds::text(node)?.strip_prefix("sha256/").and_then(|text| STANDARD.decode(text).ok());
    let digest = digest.and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    digest.ok_or_else(|| format!("{} must be \"sha256/\" and 32 octets in base64", node.shown()))
}

fn socks(node: &Node) -> Result<(), What> {
    let text = kinds::text(node)?;
    if text.starts_with("socks5://") { Ok(()) } else { Err(format!("{} must start with socks5://", node.shown())) }
}

/// A plain server by address, for `bootstrap`.
pub fn plain(node: &Node) -> Result<(), What> {
    let text = kinds::text(node)?;
    let by_url =
        text.parse::<Address>().is_ok_and(|url| !url.scheme.is_encrypted() && matches!(url.host, Host::Address(_)));
    let by_address = text.parse::<IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok();
    if by_url || by_address {
        return Ok(());
    }
    Err(format!("{} must be a plain server by address, like \"9.9.9.9\" or \"udp://9.9.9.9\"", node.shown()))
}
