//! `[admin]` and `[shutdown]`: how the gateway is watched, and how it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::claims::{Claim, Claimant, Claims};
use super::node::Node;
use super::{Reader, doors, kinds};
use crate::admin::{Place, Settings};

/// How the gateway stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Not ready but still serving, for load balancers to notice. Default 0 s.
    pub delay: Duration,
    /// For questions in flight. Default 10 s.
    pub grace: Duration,
    /// For connections that are served on after another process has taken the doors over. Default 60 s.
    pub handover_grace: Duration,
}

const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// Reads `[admin]`.
pub fn read(reader: &mut Reader<'_>, claims: &mut Claims) -> Settings {
    let token_file = token_file(reader);
    let has_token = reader.values.get("admin.token_file").is_some();
    let mut listen = Vec::new();
    for (key, node) in reader.read_items("admin.listen") {
        let parsed = place(reader, node);
        let Some(place) = reader.check(&key, node, |_| parsed) else { continue };
        if let Place::Address(address) = place {
            claims.add(claim(&key, node, address), reader.findings);
            if !has_token && !doors::is_loopback(address.ip()) {
                let what =
                    format!("\"{address}\" is not loopback: set admin.token_file, so that not everybody may use it");
                reader.findings.error(&key, node.origin, what);
            }
        }
        listen.push(place);
    }
    let mut probes = Vec::new();
    for (key, node) in reader.read_items("admin.probes") {
        let Some(address) = reader.check(&key, node, kinds::address) else { continue };
        claims.add(claim(&key, node, address), reader.findings);
        probes.push(address);
    }
    let ready_wait = reader.read("admin.ready_wait", kinds::duration(Duration::ZERO..=LONGEST_WAIT));
    let self_probe = reader.read("admin.self_probe", kinds::flag);
    Settings { listen, probes, token_file, ready_wait, self_probe }
}

/// Reads `[shutdown]`.
pub fn read_shutdown(reader: &mut Reader<'_>) -> Shutdown {
    let mut wait = |key: &str| reader.read(key, kinds::duration(Duration::ZERO..=LONGEST_WAIT));
    Shutdown {
        delay: wait("shutdown.delay"),
        grace: wait("shutdown.grace"),
        handover_grace: wait("shutdown.handover_grace"),
    }
}

fn token_file(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let node = reader.values.get("admin.token_file")?;
    let file = reader.file(node);
    reader.check("admin.token_file", node, |_| file)
}

fn place(reader: &Reader<'_>, node: &Node) -> Result<Place, kinds::What> {
    let Some(path) = kinds::text(node)?.strip_prefix("unix:") else {
        return kinds::address(node)
            .map(Place::Address)
            .map_err(|what| format!("{what}, or a socket \"unix:admin.sock\""));
    };
    reader.path(&Node { value: super::node::Value::Text(path.to_owned()), ..node.clone() }).map(Place::Unix)
}

fn claim(key: &str, node: &Node, address: SocketAddr) -> Claim {
    Claim { claimant: Claimant::Admin, address, key: key.to_owned(), origin: node.origin }
}
