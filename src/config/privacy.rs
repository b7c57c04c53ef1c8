//! `[privacy]` and `[cookies]`: what servers learn of clients, and how clients show who they are; and, since the pipeline does both,
//! the rest of its settings.

use std::net::IpAddr;
use std::time::Duration;

use super::kinds::{self, What};
use super::node::{Entry, Node, Value};
use super::secrets::Secrets;
use super::{Reader, capacity, dns64, edns, special};
use crate::guard::Network;
use crate::pipeline::{CookieRule, Settings};
use crate::upstream::{self, SubnetRule};
use crate::wire::Subnet;

/// RFC 9715 R3.
const DATAGRAM_LIMIT: usize = 1232;

/// Reads all that the pipeline is told; `upstream` is read already, `keepalive` is what TCP and DoT clients are told,
/// `secrets` what cookies are signed with.
pub fn read(reader: &mut Reader<'_>, upstream: &upstream::Settings, keepalive: Duration, secrets: Secrets) -> Settings {
    let rules = [("never", CookieRule::Never), ("when-busy", CookieRule::WhenBusy), ("always", CookieRule::Always)];
    // Each server takes it over where its table says nothing else; here its mistakes are told.
    let _: SubnetRule = reader.read("privacy.ecs", ecs);
    let settings = Settings {
        timeout: upstream.longest_timeout(),
        cookies: reader.read("cookies.server", kinds::flag),
        require_cookie: reader.read("cookies.require", kinds::choice(&rules)),
        padding: reader.read("privacy.padding", kinds::flag),
        datagram_limit: DATAGRAM_LIMIT,
        keepalive,
        special: special::read(reader, &upstream.forwards),
        any: special::read_any(reader),
        // Known once the doors are open.
        about: Vec::new(),
        outstanding_per_domain: capacity::read_outstanding(reader),
        secrets,
        nsid: edns::read_nsid(reader),
        pass: edns::read_pass(reader),
        dns64: dns64::read(reader),
    };
    if let Some(node) = reader.values.get("cookies.require")
        && settings.require_cookie == CookieRule::Always
        && !settings.cookies
    {
        let what = "\"always\" shuts every UDP client out while cookies.server is false: none could get a cookie";
        reader.findings.error("cookies.require", node.origin, what);
    }
    settings
}

/// What servers are told of clients' networks (RFC 7871).
pub fn ecs(node: &Node) -> Result<SubnetRule, What> {
    let rule = match &node.value {
        Value::Text(text) => match text.as_str() {
            "strip" => Some(SubnetRule::Strip),
            "opt-out" => Some(SubnetRule::OptOut),
            "forward" => Some(SubnetRule::Forward),
            _ => None,
        },
        Value::Table(entries) => match entries.as_slice() {
            [Entry { key, node, .. }] if key == "fixed" => return fixed(node).map(SubnetRule::Fixed),
            [Entry { key, node, .. }] if key == "add" => return add(node),
            _ => None,
        },
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) | Value::List(_) => None,
    };
    rule.ok_or_else(|| {
        format!(
            "{} must be \"strip\", \"opt-out\", \"forward\", {{ add = {{ v4 = 24, v6 = 56 }} }} or \
             {{ fixed = \"192.0.2.0/24\" }}",
            node.shown()
        )
    })
}

/// Longer ones are refused: with more bits a server could tell one household from the next (RFC 7871 11.1).
fn add(node: &Node) -> Result<SubnetRule, What> {
    const SHAPE: &str =
        "`add` must be a table that says how many bits of addresses are told, like { v4 = 24, v6 = 56 }";
    let (mut v4, mut v6) = (Subnet::LONGEST_V4, Subnet::LONGEST);
    let Value::Table(entries) = &node.value else { return Err(SHAPE.to_owned()) };
    for Entry { key, node, .. } in entries {
        let (length, most) = match key.as_str() {
            "v4" => (&mut v4, Subnet::LONGEST_V4),
            "v6" => (&mut v6, Subnet::LONGEST),
            _ => return Err(SHAPE.to_owned()),
        };
        let found = kinds::whole(0..=most.into())(node).ok().and_then(|found| u8::try_from(found).ok());
        *length = found.ok_or_else(|| {
            let shown = node.shown();
            format!(
                "{key} = {shown} must be 0 to {most}: more bits would tell one household from the next (RFC 7871 11.1)"
            )
        })?;
    }
    Ok(SubnetRule::Add { v4, v6 })
}

/// A network that means something to servers, and that none of them would cut.
fn fixed(node: &Node) -> Result<Subnet, What> {
    let text = kinds::text(node)?;
    text.parse::<Network>().map_err(|error| format!("{} is no network: {error}", node.shown()))?;
    let (address, length) = text.split_once('/').unwrap_or((text, "128"));
    let whole = address.parse::<IpAddr>().ok().filter(|address| address.to_canonical() == *address).map(Subnet::of);
    let subnet = whole.zip(length.parse().ok()).map(|(whole, length)| whole.within(length));
    subnet.filter(|subnet| subnet.public() == Some(*subnet)).ok_or_else(|| {
        format!(
            "{} must be a network of public addresses of at most 24 bits of IPv4 or 56 of IPv6: servers use no others \
             (RFC 7871 11.1)",
            node.shown()
        )
    })
}
