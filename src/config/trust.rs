//! `proxy`, `forwarded` and `forwarded_header` of a door: whose word about other addresses is taken there.

use super::kinds::{self, What};
use super::node::Node;
use super::reader::{Fields, Reader};
use crate::guard::{ForwardedHeader, Network, Trust};
use crate::listen::DoorKind;

/// Reads them from a door's table; which doors may have `forwarded` is for the caller to say.
pub fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: DoorKind) -> Trust {
    if let Some(node) = fields.get("proxy").filter(|_| kind == DoorKind::Doq) {
        let what = "no PROXY header goes with QUIC: a doq door cannot have this key";
        reader.findings.error(&fields.key("proxy"), node.origin, what);
        return Trust::default();
    }
    let choices = [("x-forwarded-for", ForwardedHeader::XForwardedFor), ("forwarded", ForwardedHeader::Forwarded)];
    let header = reader.field(fields, "forwarded_header", kinds::choice(&choices));
    if let Some(node) = fields.get("forwarded_header").filter(|_| fields.get("forwarded").is_none()) {
        let what = "there is no `forwarded` that says whose header it is";
        reader.findings.error(&fields.key("forwarded_header"), node.origin, what);
    }
    Trust {
        proxy: networks(reader, fields, "proxy"),
        forwarded: networks(reader, fields, "forwarded"),
        header: header.unwrap_or_default(),
    }
}

/// A DoH door behind a proxy, said so where the door is written: the clients of HTTP/3 would come past the proxy, or by its address.
pub fn without_quic(reader: &mut Reader<'_>, fields: &Fields<'_>) -> DoorKind {
    if let Some(node) = fields.get("proxy") {
        let what = "no PROXY header goes with QUIC: this door opens no HTTP/3";
        reader.findings.notice(&fields.key("proxy"), node.origin, what);
    }
    DoorKind::DohTcp
}

fn networks(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Vec<Network> {
    if let Some(node) = fields.get(name) {
        reader.require_listed(&fields.key(name), node, "[] trusts nobody: name a network, or leave the key out");
    }
    reader.field_list(fields, name, network).unwrap_or_default()
}

/// A network that not everybody is in.
fn network(node: &Node) -> Result<Network, What> {
    let network = kinds::network(node)?;
    if network.is_everybody() {
        return Err(format!("{} would let anybody claim any address: name the proxies", node.shown()));
    }
    Ok(network)
}
