//! `[edns]`: what is said and relayed in OPT records beyond what every gateway does.

use super::Reader;
use super::kinds::{self, What};
use super::node::Node;
use crate::wire::registry::option;

/// Octets that the gateway's name may have: enough for a host name and an instance, and no burden on a datagram.
const LONGEST_NAME: usize = 64;

/// What the gateway calls itself (RFC 5001); none where nobody says so.
pub fn read_nsid(reader: &mut Reader<'_>) -> Option<Box<[u8]>> {
    let node = reader.values.get("edns.nsid")?;
    reader.check("edns.nsid", node, nsid)
}

fn nsid(node: &Node) -> Result<Box<[u8]>, What> {
    let text = kinds::text(node)?;
    let octets = match text.strip_prefix("0x") {
        Some(digits) => hex(digits).ok_or_else(|| format!("{} must be whole octets in hex after 0x", node.shown()))?,
        None => text.as_bytes().to_vec(),
    };
    let fits = (1..=LONGEST_NAME).contains(&octets.len());
    if fits { Ok(octets.into()) } else { Err(format!("{} must be of 1 to {LONGEST_NAME} octets", node.shown())) }
}

/// Codes of the options that pass from end to end.
pub fn read_pass(reader: &mut Reader<'_>) -> Vec<u16> {
    reader.read_list("edns.pass", code)
}

fn code(node: &Node) -> Result<u16, What> {
    let code = kinds::whole(1..=65_534)(node).map(|code| u16::try_from(code).unwrap_or(u16::MAX))?;
    let reason = match code {
        option::NSID => "NSID names one server: this one is named by edns.nsid",
        5..=7 => "DAU, DHU and N3U are signals of whoever validates to the server it asks",
        option::ECS => "what servers are told of clients' networks is said by privacy.ecs",
        9 => "EXPIRE belongs to zone transfers, which are not served",
        option::COOKIE => "cookies are of one hop, see [cookies]",
        option::KEEPALIVE => "keepalive is of one connection",
        option::PADDING => "padding is of one connection, see privacy.padding",
        option::EDE => "extended errors reach clients without it",
        18 => "reports of errors are asked for by servers of those who resolve",
        _ => return Ok(code),
    };
    Err(format!("{code} may not pass: {reason}"))
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|nibble| u8::try_from(nibble).ok())).collect();
    let (pairs, rest) = nibbles.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
