//! `[acme]`: the certificate that is ordered from a public authority.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::claims::{Claim, Claimant, Claims};
use super::node::Node;
use super::{Reader, kinds};
use crate::identity::acme::{External, Method, Settings};
use crate::listen::{Door, DoorKind};

/// More names than this no public authority puts into one certificate.
const MOST: usize = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Word {
    #[default]
    TlsAlpn,
    Http,
    Dns,
}

const WORDS: [(&str, Word); 3] = [("tls-alpn", Word::TlsAlpn), ("http", Word::Http), ("dns", Word::Dns)];

/// Reads it; `None` where no domain is named.
pub fn read(reader: &mut Reader<'_>, doors: &[Door], claims: &mut Claims, state_dir: &Path) -> Option<Settings> {
    let word = reader.read("acme.challenge", kinds::choice(&WORDS));
    let domains = reader.read_list("acme.domains", |node| domain(node, word));
    let directory = reader.read("acme.directory", |node| https(node).map(str::to_owned));
    let contact = reader.read_list("acme.contact", contact);
    let accepted = reader.read("acme.accept_terms", kinds::flag);
    let http_listen = listen(reader, claims);
    let hook = executable(reader);
    let ca = file(reader, "acme.ca");
    let external = external(reader);
    let named = reader.values.get("acme.domains")?;
    if reader.read_items("acme.domains").is_empty() {
        return None;
    }
    let mut refuse = |key: &str, what: String| {
        let origin = reader.values.get(key).filter(|node| node.origin.is_explicit()).unwrap_or(named).origin;
        reader.findings.error(key, origin, what);
    };
    if !accepted {
        refuse("acme.accept_terms", "must be true where acme.domains names any: the authority asks for it".to_owned());
    }
    if domains.len() > MOST {
        refuse("acme.domains", format!("names {} domains: one certificate has at most {MOST}", domains.len()));
    }
    let provable = doors.iter().any(|door| matches!(door.kind, DoorKind::Dot | DoorKind::Doh));
    let method = match word {
        Word::TlsAlpn => {
            if !provable {
                let what = "\"tls-alpn\" is answered at a dot or doh door with TLS, and there is none";
                refuse("acme.challenge", what.to_owned());
            }
            Method::TlsAlpn
        }
        Word::Http => {
            if http_listen.is_empty() && reader.read_items("acme.http_listen").is_empty() {
                let what = "[] leaves \"http\" nowhere to be answered: name where the outside's port 80 arrives";
                let origin = reader.values.get("acme.challenge").unwrap_or(named).origin;
                reader.findings.error("acme.http_listen", origin, what);
            }
            Method::Http(http_listen)
        }
        Word::Dns => {
            if reader.values.get("acme.hook").is_none() {
                let what = "is missing: challenge = \"dns\" needs a program that changes the zone";
                let origin = reader.values.get("acme.challenge").unwrap_or(named).origin;
                reader.findings.error("acme.hook", origin, what);
            }
            Method::Dns(hook.unwrap_or_default())
        }
    };
    Some(Settings { domains, directory, contact, method, ca, external, state_dir: state_dir.into() })
}

/// A name that a public authority certifies: of two labels at least, and no address.
fn domain(node: &Node, word: Word) -> Result<String, kinds::What> {
    let text = kinds::text(node)?;
    let base = text.strip_prefix("*.").unwrap_or(text);
    if base.parse::<IpAddr>().is_ok() {
        return Err(format!("{} is an address: only names are ordered", node.shown()));
    }
    let plain = |label: &str| {
        let inner = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if base.len() > 250 || !base.split('.').all(plain) {
        return Err(format!("{} must be a domain name in ASCII, without a dot at its end", node.shown()));
    }
    if !base.contains('.') {
        return Err(format!("{} has one label: no public authority certifies it", node.shown()));
    }
    if text != base && word != Word::Dns {
        return Err(format!("{} needs challenge = \"dns\": a wildcard is proven in no other way", node.shown()));
    }
    Ok(text.to_ascii_lowercase())
}

fn https(node: &Node) -> Result<&str, kinds::What> {
    let text = kinds::text(node)?;
    let uri = text.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"));
    let is_good = uri.and_then(|uri| uri.host().map(|host| !host.is_empty())).unwrap_or(false);
    if is_good { Ok(text) } else { Err(format!("{} must be an https URL (RFC 8555 6.1)", node.shown())) }
}

fn contact(node: &Node) -> Result<String, kinds::What> {
    let text = kinds::text(node)?;
    let address = text.strip_prefix("mailto:").filter(|address| address.contains('@') && !address.contains([',', '?']));
    if address.is_some() {
        return Ok(text.to_owned());
    }
    Err(format!("{} must be one address, like \"mailto:ops@dns.example\"", node.shown()))
}

fn listen(reader: &mut Reader<'_>, claims: &mut Claims) -> Vec<std::net::SocketAddr> {
    let mut listen = Vec::new();
    for (key, node) in reader.read_items("acme.http_listen") {
        let Some(address) = reader.check(&key, node, kinds::address) else { continue };
        claims.add(Claim { claimant: Claimant::Challenges, address, key, origin: node.origin }, reader.findings);
        listen.push(address);
    }
    listen
}

fn file(reader: &mut Reader<'_>, key: &str) -> Option<PathBuf> {
    let node = reader.values.get(key)?;
    let file = reader.file(node);
    reader.check(key, node, |_| file)
}

fn executable(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let node = reader.values.get("acme.hook")?;
    let path = reader.path(node).and_then(|path| match path.metadata() {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => Err(format!("{} is no program: chmod +x", path.display())),
        Err(error) => Err(format!("{} cannot be run: {error}", path.display())),
    });
    reader.check("acme.hook", node, |_| path)
}

fn external(reader: &mut Reader<'_>) -> Option<External> {
    let (id, key) = (reader.values.get("acme.eab_key_id"), reader.values.get("acme.eab_key_file"));
    let key_file = file(reader, "acme.eab_key_file");
    match (id, key) {
        (Some(id), Some(_)) => {
            let id = reader.check("acme.eab_key_id", id, |node| kinds::text(node).map(str::to_owned));
            Some(External { id: id?, key_file: key_file? })
        }
        (Some(node), None) => {
            reader.findings.error("acme.eab_key_id", node.origin, "needs acme.eab_key_file, too");
            None
        }
        (None, Some(node)) => {
            reader.findings.error("acme.eab_key_file", node.origin, "needs acme.eab_key_id, too");
            None
        }
        (None, None) => None,
    }
}
