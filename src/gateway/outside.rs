//! How the outside sees the gateway: from its configuration, its doors and its certificate to what discovery is told.
//!
//! The description is made at start, at each reload, and when other certificates have come into force.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, machine_addresses};
use crate::discovery::page::{Document, documents};
use crate::discovery::{self, Covered, Door, Inputs, Protocol, Resolver};
use crate::identity::authority::CERTIFICATE;
use crate::listen::DoorKind;
use crate::listen::http::pages::Page;
use crate::pipeline;

/// What is known of a gateway of `config` with these doors whose default certificate is for `subjects`: its names and addresses.
#[must_use]
pub fn inputs(config: &Config, doors: &[(DoorKind, SocketAddr)], subjects: &[String]) -> Inputs {
    let doors = doors.iter().filter_map(|&(kind, address)| door(kind, address)).collect();
    let is_private = config.tls.certificates.is_empty();
    Inputs {
        doors,
        certificate: Covered::of(subjects.iter().map(String::as_str)),
        authority: if is_private { authority(&config.tls.state_dir) } else { None },
        doh_paths: config.listen.doh_paths.clone(),
        setup_page: config.listen.setup_page,
        machine: machine_addresses(),
        advertise: config.advertise.clone(),
    }
}

/// The same of a gateway that is not running: its doors are as configured, and `subjects` those of the first certificate file; None
/// where the private authority will sign for `tls.names`.
#[must_use]
pub fn configured(config: &Config, subjects: Option<&[String]>) -> Inputs {
    let doors: Vec<_> = config.listen.doors.iter().map(|door| (door.kind, door.address)).collect();
    inputs(config, &doors, subjects.unwrap_or(&config.tls.names))
}

/// What a running gateway tells of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// To those who ask in DNS.
    pub about: Vec<discovery::OwnName>,
    /// To people, on the DoH doors.
    pub pages: Arc<[Page]>,
}

impl Told {
    /// By what is known of it and its `config`. Whatever keeps clients from finding its doors is logged.
    #[must_use]
    pub fn of(inputs: &Inputs, config: &Config) -> Self {
        for problem in discovery::problems(inputs) {
            tracing::warn!(key = problem.key(), "discovery: {problem}");
        }
        let resolver = Resolver::describe(inputs);
        let documents = if config.listen.setup_page { documents(&resolver) } else { Vec::new() };
        let page = |one: Document| Page { path: one.path, media_type: one.media_type, body: one.body.into() };
        Self {
            about: discovery::own_names(&resolver, &inputs.advertise, &pipeline::extended_errors(&config.pipeline)),
            pages: documents.into_iter().map(page).collect(),
        }
    }
}

/// None for DoH that has no HTTP/3 or no TLS: what its clients see is the proxy or the web server in front.
const fn door(kind: DoorKind, address: SocketAddr) -> Option<Door> {
    let protocol = match kind {
        DoorKind::Dns => None,
        DoorKind::Dot => Some(Protocol::Dot),
        DoorKind::Doh => Some(Protocol::Doh),
        DoorKind::Doq => Some(Protocol::Doq),
        DoorKind::DohTcp | DoorKind::DohClear => return None,
    };
    Some(Door { protocol, address })
}

/// The private authority's certificate (DER); None where it has not been made yet.
fn authority(state_dir: &Path) -> Option<Vec<u8>> {
    let pem = std::fs::read(state_dir.join(CERTIFICATE)).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    Some(block.contents)
}
