//! What a configuration says of the doors, for a gateway that is not running.

use std::path::Path;

use crate::config::Config;
use crate::discovery::{Advertise, Covered, Door, Inputs, Protocol};
use crate::listen::DoorKind;

/// What is known of a gateway of `config` whose default certificate is for `subjects`; None: the private authority signs for `tls.names`.
pub fn configured(config: &Config, subjects: Option<&[String]>) -> Inputs {
    let doors = config.listen.doors.iter();
    let doors = doors.filter_map(|door| Some(Door { protocol: protocol(door.kind)?, address: door.address }));
    Inputs {
        doors: doors.collect(),
        certificate: Covered::of(subjects.unwrap_or(&config.tls.names).iter().map(String::as_str)),
        authority: if config.tls.certificates.is_empty() { authority(&config.tls.state_dir) } else { None },
        doh_paths: config.listen.doh_paths.clone(),
        machine: Vec::new(),
        advertise: Advertise::default(),
    }
}

/// None for clear-text DoH: what its clients see is the web server in front.
const fn protocol(kind: DoorKind) -> Option<Option<Protocol>> {
    match kind {
        DoorKind::Dns => Some(None),
        DoorKind::Dot => Some(Some(Protocol::Dot)),
        DoorKind::Doh => Some(Some(Protocol::Doh)),
        DoorKind::Doq => Some(Some(Protocol::Doq)),
        DoorKind::DohClear => None,
    }
}

/// The private authority's certificate (DER); None where it has not been made yet.
fn authority(state_dir: &Path) -> Option<Vec<u8>> {
    let pem = std::fs::read(state_dir.join("authority.pem")).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    Some(block.contents)
}
