//! Who may ask: the words `private`, `link` and `any`, and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::kinds::{self, What};
use super::node::Node;
use super::{Origin, Reader};
use crate::guard::Network;

/// RFC 1918, loopback, link-local, shared address space (RFC 6598), unique-local (RFC 4193).
const PRIVATE: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
];

const EVERYBODY: [(IpAddr, u8); 2] = [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)];

/// A list of who may ask.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// The networks.
    pub networks: Vec<Network>,
    /// Where everybody is let in, if so.
    pub everybody: Option<(String, Origin)>,
}

/// Reads the list `node`, said at `key`.
pub fn allowed(reader: &mut Reader<'_>, key: &str, node: &Node) -> Allowed {
    let mut all = Allowed::default();
    let items = reader.items(key, node);
    if items.is_empty() && matches!(&node.value, super::node::Value::List(_)) {
        reader.findings.error(key, node.origin, "[] would let nobody ask: name at least one network");
    }
    for (key, item) in items {
        let around = reader.around;
        let networks = reader.check(&key, item, |item| expand(item, &around.link)).unwrap_or_default();
        if all.everybody.is_none() && networks.iter().any(is_everybody) {
            all.everybody = Some((key, item.origin));
        }
        all.networks.extend(networks);
    }
    all
}

fn expand(node: &Node, link: &[Network]) -> Result<Vec<Network>, What> {
    Ok(match kinds::text(node)? {
        "private" => PRIVATE.map(|(address, length)| Network::of(address, length)).to_vec(),
        "any" => EVERYBODY.map(|(address, length)| Network::of(address, length)).to_vec(),
        "link" => link.to_vec(),
        _ => {
            let what =
                |error| format!("must be \"private\", \"link\", \"any\" or a network like \"10.0.0.0/8\": {error}");
            vec![kinds::parsed(node, what)?]
        }
    })
}

/// Is this all there is of one family?
pub fn is_everybody(network: &Network) -> bool {
    EVERYBODY.iter().any(|(address, length)| Network::of(*address, *length) == *network)
}
