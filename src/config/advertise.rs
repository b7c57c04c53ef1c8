//! `[advertise]`: what the outside sees of the doors, where that is not what is seen from here.

use std::net::IpAddr;

use super::Reader;
use super::kinds::{self, What};
use super::node::{Node, Value};
use crate::discovery::{Advertise, MOST_ADDRESSES, Port, Protocol};
use crate::listen::{Door, DoorKind};

/// Octets of a page's address: with its key it is one string of a record (RFC 9606 4).
const LONGEST_URL: usize = 247;
/// Octets of a name: `_dns.` goes before it.
const LONGEST_NAME: usize = 248;

/// Zones whose names lead to the machine that asks, or to nobody (RFC 6761 6.3, 6.4; RFC 7686).
const NOBODYS: [&str; 3] = ["localhost", "invalid", "onion"];

/// Reads it all.
pub fn read(reader: &mut Reader<'_>, doors: &[Door]) -> Advertise {
    Advertise {
        name: read_name(reader),
        addresses: read_addresses(reader),
        dot: read_port(reader, doors, Protocol::Dot),
        doh: read_port(reader, doors, Protocol::Doh),
        doq: read_port(reader, doors, Protocol::Doq),
        discovery: reader.read("advertise.discovery", kinds::flag),
        resinfo: reader.read("advertise.resinfo", kinds::flag),
        info_url: read_if(reader, "advertise.info_url", url),
    }
}

fn read_if<T>(reader: &mut Reader<'_>, path: &str, parse: impl FnOnce(&Node) -> Result<T, What>) -> Option<T> {
    let values = reader.values;
    values.get(path).and_then(|node| reader.check(path, node, parse))
}

/// A single label is warned of: a host of its own network may know it, and nobody else does.
fn read_name(reader: &mut Reader<'_>) -> Option<String> {
    const PATH: &str = "advertise.name";
    let name = read_if(reader, PATH, name)?;
    if let Some(node) = reader.values.get(PATH)
        && !name.contains('.')
    {
        let what =
            format!("\"{name}\" is a single label: clients outside its own network do not find it; say the whole name");
        reader.findings.warning(PATH, node.origin, what);
    }
    Some(name)
}

fn name(node: &Node) -> Result<String, What> {
    let text = kinds::domain(node)?.trim_end_matches('.').to_ascii_lowercase();
    let last = text.rsplit('.').next().unwrap_or_default();
    if NOBODYS.contains(&last) {
        return Err(format!("{} names no gateway that clients could ask: .{last} leads nowhere else", node.shown()));
    }
    // What ends in a number is an address to whoever reads a URL, and mostly a wrong one.
    let is_address = !last.is_empty() && last.bytes().all(|octet| octet.is_ascii_digit());
    let is_zone = text == "resolver.arpa" || text.ends_with(".resolver.arpa");
    if is_address || is_zone || text.is_empty() || text.len() > LONGEST_NAME {
        return Err(format!("{} must be a name of this gateway, like \"dns.example\"", node.shown()));
    }
    Ok(text)
}

fn read_addresses(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    const PATH: &str = "advertise.addresses";
    let addresses = reader.read_list(PATH, |node| {
        let address: IpAddr = kinds::parsed(node, |_| "must be an IP address, like \"192.0.2.1\"".to_owned())?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!("{} is no address that clients could ask", node.shown()));
        }
        Ok(address.to_canonical())
    });
    if let Some(node) = reader.values.get(PATH)
        && addresses.len() > MOST_ADDRESSES
    {
        let what = format!("names {} addresses: at most {MOST_ADDRESSES}", addresses.len());
        reader.findings.error(PATH, node.origin, what);
    }
    addresses
}

fn read_port(reader: &mut Reader<'_>, doors: &[Door], protocol: Protocol) -> Port {
    let path = format!("advertise.{}", protocol.key());
    let kind = match protocol {
        Protocol::Dot => DoorKind::Dot,
        Protocol::Doh => DoorKind::Doh,
        Protocol::Doq => DoorKind::Doq,
    };
    let is_open = doors.iter().any(|door| door.kind == kind);
    let port = read_if(reader, &path, |node| {
        let port = port(node)?;
        match port {
            Port::At(53) if protocol != Protocol::Doh => Err("53: port 53 is for plain DNS only".to_owned()),
            Port::At(number) if !is_open => {
                Err(format!("{number}: listen.{} opens no door with TLS that could be told of", protocol.key()))
            }
            Port::AsBound | Port::At(_) | Port::Hidden => Ok(port),
        }
    });
    port.unwrap_or_default()
}

fn port(node: &Node) -> Result<Port, What> {
    let number = match node.value {
        Value::Integer(0) | Value::Boolean(false) => return Ok(Port::Hidden),
        Value::Integer(number) => u16::try_from(number).ok(),
        _ => None,
    };
    number.map(Port::At).ok_or_else(|| format!("{} must be a port from 1 to 65535, or 0", node.shown()))
}

fn url(node: &Node) -> Result<String, What> {
    let text = kinds::text(node)?;
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let plain = text.bytes().all(|octet| octet.is_ascii_graphic());
    if rest.is_empty() || !plain || text.len() > LONGEST_URL {
        let what = format!(
            "must be the address of a page, like \"https://dns.example/about\", of {LONGEST_URL} octets at most"
        );
        return Err(format!("{} {what}", node.shown()));
    }
    Ok(text.to_owned())
}
