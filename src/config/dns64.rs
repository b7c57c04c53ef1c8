//! `[dns64]`: the prefix that IPv4 addresses are put behind for hosts without IPv4, and which IPv6 addresses count as none.

use super::kinds::{self, What};
use super::node::Node;
use super::{Reader, effect};
use crate::guard::Network;
use crate::pipeline::{Dns64, Prefix};

/// Reads it; without a prefix it is off.
pub fn read(reader: &mut Reader<'_>) -> Option<Dns64> {
    let exclude = reader.read_list("dns64.exclude", excluded);
    let Some(node) = reader.values.get("dns64.prefix") else {
        let said = reader.values.get("dns64.exclude").filter(|node| node.origin.is_explicit());
        if let Some(node) = said.filter(|node| !effect::is_default("dns64.exclude", &node.to_toml())) {
            let what = "has no effect: DNS64 is off without dns64.prefix";
            reader.findings.warning("dns64.exclude", node.origin, what);
        }
        return None;
    };
    let prefix: Prefix = reader.check("dns64.prefix", node, prefix)?;
    Some(Dns64 { prefix, exclude })
}

fn prefix(node: &Node) -> Result<Prefix, What> {
    kinds::parsed(node, |error| format!("must be a prefix like \"64:ff9b::/96\": {error}"))
}

/// A network of IPv6; those of mapped addresses are kept as the IPv4 ones they mean.
fn excluded(node: &Node) -> Result<Network, What> {
    let network = kinds::network(node)?;
    if kinds::text(node)?.contains(':') {
        Ok(network)
    } else {
        Err(format!("{} must be a network of IPv6, like \"::ffff:0:0/96\"", node.shown()))
    }
}
