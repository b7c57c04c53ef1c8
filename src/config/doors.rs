//! `[listen]`, `[doh]` and `[access]`: the front doors, and who may ask at each.

use std::net::{IpAddr, SocketAddr};

use super::claims::{Claim, Claimant, Claims};
use super::networks::{Allowed, allowed};
use super::node::{Node, Value};
use super::reader::Fields;
use super::trust;
use super::{Origin, Reader, keys, kinds};
use crate::guard::{Network, Refuse, Trust};
use crate::listen::{Absent, Door, DoorKind};

/// The doors and their rules, by `DoorId`.
#[derive(Debug, Default)]
pub struct Doors {
    /// The doors.
    pub list: Vec<Door>,
    /// What to do about an IPv6 door where there is no IPv6: only loopback doors are left out.
    pub absent: Absent,
    /// Who may ask at each.
    pub allow: Vec<Vec<Network>>,
    /// Whose word about others is taken at each.
    pub trust: Vec<Trust>,
    /// How a refused client hears of it.
    pub refuse: Refuse,
    /// Paths that DoH answers at.
    pub doh_paths: Vec<String>,
    /// Is the set-up page there too?
    pub setup_page: bool,
}

/// One door as it is written.
struct Entry {
    key: String,
    origin: Origin,
    door: Door,
    allow: Option<Allowed>,
    trust: Trust,
}

const KINDS: [(&str, DoorKind); 4] = [
    ("listen.dns", DoorKind::Dns),
    ("listen.dot", DoorKind::Dot),
    ("listen.doh", DoorKind::Doh),
    ("listen.doq", DoorKind::Doq),
];

/// Reads them all.
pub fn read(reader: &mut Reader<'_>, claims: &mut Claims) -> Doors {
    let mut entries = Vec::new();
    let mut named = 0;
    for (path, kind) in KINDS {
        for (key, node) in reader.read_items(path) {
            named += 1;
            entries.extend(entry(reader, kind, &key, node));
        }
    }
    let broken = KINDS.iter().any(|(path, _)| !reader.values.get(path).is_some_and(is_list));
    if let Some(origin) = reader.values.section("listen").filter(|_| named == 0 && !broken) {
        reader.findings.error("listen", origin, "opens no door: name at least one address under dns, dot, doh or doq");
    }
    for entry in &entries {
        check_place(reader, entry, claims);
    }
    let choices = [("answer", Refuse::Answer), ("drop", Refuse::Drop)];
    let refuse = reader.read("access.refuse", kinds::choice(&choices));
    let everywhere = reader.values.get("access.allow").map(|node| allowed(reader, "access.allow", node));
    let everywhere = everywhere.unwrap_or_default();
    check_open(reader, &entries, &everywhere);
    // Without IPv6 nobody could come through a loopback door of it: nothing is lost by leaving that out.
    let mut v6 = entries.iter().map(|entry| entry.door.address.ip()).filter(IpAddr::is_ipv6);
    let unasked = v6.all(|ip| ip.is_loopback());
    Doors {
        absent: if unasked { Absent::Skip } else { Absent::Refuse },
        list: entries.iter().map(|entry| entry.door).collect(),
        trust: entries.iter().map(|entry| entry.trust.clone()).collect(),
        allow: entries.iter().map(|entry| entry.allow.as_ref().unwrap_or(&everywhere).networks.clone()).collect(),
        refuse,
        doh_paths: paths(reader),
        setup_page: reader.read("doh.setup_page", kinds::flag),
    }
}

fn is_list(node: &Node) -> bool {
    matches!(&node.value, Value::List(_))
}

fn entry(reader: &mut Reader<'_>, kind: DoorKind, key: &str, node: &Node) -> Option<Entry> {
    let origin = node.origin;
    if !matches!(&node.value, Value::Table(_)) {
        let address = reader.check(key, node, kinds::address)?;
        return Some(Entry {
            key: key.to_owned(),
            origin,
            door: Door { kind, address },
            allow: None,
            trust: Trust::default(),
        });
    }
    let fields = reader.fields(key, node, keys::DOOR, "listen.*")?;
    reader.require_field(&fields, "address");
    let trust = trust::read(reader, &fields, kind);
    let allow = fields.get("allow").map(|list| allowed(reader, &fields.key("allow"), list));
    let tls = reader.field(&fields, "tls", kinds::flag).unwrap_or(true);
    let address = reader.field(&fields, "address", kinds::address)?;
    let kind = match (kind, tls) {
        (DoorKind::Doh, false) => clear(reader, &fields, address, &trust),
        (DoorKind::Doh, true) if !trust.proxy.is_empty() => trust::without_quic(reader, &fields),
        _ => kind_with_tls(reader, &fields, kind),
    };
    Some(Entry {
        key: fields.key("address"),
        origin: fields.get("address")?.origin,
        door: Door { kind, address },
        allow,
        trust,
    })
}

/// DoH without TLS (DOH-17): only where no stranger hears it.
fn clear(reader: &mut Reader<'_>, fields: &Fields<'_>, address: SocketAddr, trust: &Trust) -> DoorKind {
    let origin = fields.get("tls").map_or(fields.origin, |node| node.origin);
    if !is_loopback(address.ip()) && trust.proxy.is_empty() && trust.forwarded.is_empty() {
        let what =
            format!("false at {address}: clear text is for loopback, or for those named in `forwarded` or `proxy`");
        reader.findings.error(&fields.key("tls"), origin, what);
    }
    DoorKind::DohClear
}

fn kind_with_tls(reader: &mut Reader<'_>, fields: &Fields<'_>, kind: DoorKind) -> DoorKind {
    if kind != DoorKind::Doh {
        for name in ["tls", "forwarded", "forwarded_header"] {
            let Some(node) = fields.get(name) else { continue };
            reader.findings.error(&fields.key(name), node.origin, "only a doh door can have this key");
        }
    }
    kind
}

/// Loopback, also where it is written as a v4-mapped address.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Port 53 is for plain DNS (DOT-02, DOQ-02), and no two doors share a port of one protocol.
fn check_place(reader: &mut Reader<'_>, entry: &Entry, claims: &mut Claims) {
    let Door { kind, address } = entry.door;
    if address.port() == 53 && matches!(kind, DoorKind::Dot | DoorKind::Doq) {
        let what = format!("\"{address}\": port 53 is for plain DNS only; 853 is usual here");
        reader.findings.error(&entry.key, entry.origin, what);
    }
    let claim = Claim { claimant: Claimant::Door(kind), address, key: entry.key.clone(), origin: entry.origin };
    claims.add(claim, reader.findings);
}

/// A plain UDP door that answers everybody amplifies floods toward forged addresses (PRG-08): it must be meant.
fn check_open(reader: &mut Reader<'_>, entries: &[Entry], everywhere: &Allowed) {
    if reader.read("access.open_resolver", kinds::flag) {
        return;
    }
    let plain = entries.iter().filter(|entry| entry.door.kind == DoorKind::Dns);
    let mut open: Vec<_> = plain.filter_map(|e| e.allow.as_ref().unwrap_or(everywhere).everybody.as_ref()).collect();
    open.dedup();
    for (key, origin) in open {
        let what = "lets everybody ask over plain UDP, which attackers use to flood others: \
                    name networks, or set access.open_resolver = true";
        reader.findings.error(key, *origin, what);
    }
}

fn paths(reader: &mut Reader<'_>) -> Vec<String> {
    reader.require_items("doh.paths", "[] would leave DoH without a path: name at least one, like \"/dns-query\"");
    reader.read_list("doh.paths", |node| {
        let text = kinds::text(node)?;
        let plain = text.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'?' | b'#' | b'{' | b'}'));
        if text.starts_with('/') && plain {
            return Ok(text.to_owned());
        }
        Err(format!("{} must be a path that starts with \"/\", without ? # {{ }} and spaces", node.shown()))
    })
}
