//! `[tls]` and `state_dir`: who the gateway is to its clients, and where it keeps what makes it so.

use std::path::PathBuf;

use super::{Origin, Reader, keys, kinds, secrets};
use crate::identity::{Chain, MinVersion, Settings, UnknownNames};
use crate::listen::{Door, DoorKind};

/// Reads both.
pub fn read(reader: &mut Reader<'_>, doors: &[Door]) -> Settings {
    let versions = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let items = reader.read_items("tls.certificates");
    let encrypted = doors.iter().any(|door| !matches!(door.kind, DoorKind::Dns | DoorKind::DohClear));
    if items.is_empty() && encrypted {
        let what = "[] would leave the private authority nothing to certify: name at least one, or give certificates";
        reader.require_items("tls.names", what);
    }
    Settings {
        state_dir: state_dir(reader),
        certificates: items.into_iter().filter_map(|(key, node)| certificate(reader, &key, node)).collect(),
        names: reader.read_list("tls.names", kinds::host),
        guests: crate::identity::Guests::default(),
        min_version: reader.read("tls.min_version", kinds::choice(&versions)),
        unknown_names: if reader.read("tls.strict_sni", kinds::flag) {
            UnknownNames::Refused
        } else {
            UnknownNames::Served
        },
        fleet: secrets::read_fleet(reader),
    }
}

fn certificate(reader: &mut Reader<'_>, key: &str, node: &super::node::Node) -> Option<Chain> {
    let fields = reader.fields(key, node, keys::CERTIFICATE, "tls.certificates")?;
    let [chain, key] = ["chain", "key"].map(|name| {
        reader.require_field(&fields, name);
        let node = fields.get(name)?;
        let file = reader.file(node);
        reader.check(&fields.key(name), node, |_| file)
    });
    Some(Chain { chain: chain?, key: key? })
}

fn state_dir(reader: &mut Reader<'_>) -> PathBuf {
    if let Some(node) = reader.values.get("state_dir") {
        let path = reader.path(node).and_then(|path| match path.metadata() {
            Ok(found) if !found.is_dir() => Err(format!("{} is not a directory", path.display())),
            // It is made at start where it does not exist.
            Ok(_) | Err(_) => Ok(path),
        });
        return reader.check("state_dir", node, |_| path).unwrap_or_default();
    }
    let Some(path) = reader.around.state_dir.clone() else {
        let what = "nowhere to keep state: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; name a directory";
        reader.findings.error("state_dir", Origin::Default, what);
        return PathBuf::new();
    };
    path
}
