//! `[[client]]`, `access.identified_only` and `tls.client_ca`: who is known by name, and what becomes of all others.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::kinds::{self, What};
use super::networks::{self, allowed};
use super::node::Node;
use super::reader::Fields;
use super::servers::pin;
use super::{Config, Origin, Reader, keys, plain_file};
use crate::guard::clients::{Client, Credential, LONGEST_TOKEN, SHORTEST_TOKEN, Settings, Strangers, TokenHash, Vouch};
use crate::identity::Guests;
use crate::identity::guest::Authorities;
use crate::listen::DoorKind;
use crate::peer::DoorId;

/// Octets of a token file that are read.
const LONGEST_FILE: u64 = 4096;

/// Tokens of one client: more than any rotation needs.
const MOST_TOKENS: usize = 16;

/// Characters of a client's name.
const LONGEST_NAME: usize = 64;

/// Reads all clients into `config`, whose doors and names are read already.
pub fn read(reader: &mut Reader<'_>, config: &mut Config) {
    let identified_only = reader.read("access.identified_only", kinds::flag);
    let vouch = authorities(reader);
    let mut register = Register { names: label_names(config), taken: HashMap::new(), list: Vec::new() };
    for (key, node) in reader.read_items("client") {
        if let Some(fields) = reader.fields(&key, node, keys::CLIENT, "client") {
            register.add(reader, &fields);
        }
    }
    let Register { names, list, .. } = register;
    let shows = |what: fn(&Credential) -> bool| list.iter().any(|client| client.credentials.iter().any(what));
    if shows(|one| matches!(one, Credential::Key(_) | Credential::CertificateName(_))) {
        config.tls.guests = Guests::Asked;
    }
    if shows(|one| matches!(one, Credential::ServerName(_))) {
        // The private authority's certificate is for all names below: those of clients are nobody's to read in it.
        let below = names.iter().filter(|name| name.contains('.')).map(|name| format!("*.{name}"));
        config.tls.names.extend(below);
    }
    if identified_only {
        check_identified_only(reader, config, &list, shows(|one| matches!(one, Credential::Network(_))));
    }
    let strangers = if identified_only { Strangers::Refused } else { Strangers::Heard };
    if identified_only || !list.is_empty() {
        config.guard.clients = Some(Settings { list, strangers, showing: showing(config), vouch });
    }
}

/// Doors that are encrypted, and clear-text DoH behind a web server: only there can a client show anything.
fn showing(config: &Config) -> Vec<DoorId> {
    let doors = (0..).zip(&config.listen.doors);
    doors.filter(|(_, door)| door.kind != DoorKind::Dns).map(|(index, _)| DoorId(index)).collect()
}

/// The names that labels are put before.
fn label_names(config: &Config) -> Vec<String> {
    let domains = config.tls.names.iter().filter(|name| name.parse::<std::net::IpAddr>().is_err());
    let mut names: Vec<String> =
        domains.chain(&config.advertise.name).map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names
}

fn authorities(reader: &mut Reader<'_>) -> Option<Vouch> {
    let node = reader.values.get("tls.client_ca")?;
    let path = reader.file(node);
    let opened = path.and_then(|path| Authorities::open(&path).map_err(|error| error.to_string()));
    let authorities = reader.check("tls.client_ca", node, |_| opened)?;
    Some(Vouch(std::sync::Arc::new(move |chain| authorities.vouch(chain))))
}

fn check_identified_only(reader: &mut Reader<'_>, config: &Config, list: &[Client], by_network: bool) {
    const KEY: &str = "access.identified_only";
    let origin = reader.values.get(KEY).map_or(Origin::Default, |node| node.origin);
    if list.is_empty() {
        return reader.findings.error(KEY, origin, "true would let nobody ask: there is no [[client]]");
    }
    if !by_network && config.listen.doors.iter().any(|door| door.kind == DoorKind::Dns) {
        let what =
            "true: plain DNS answers nobody, because only `networks` identify a client there and no [[client]] has any";
        reader.findings.warning(KEY, origin, what);
    }
}

/// The clients read so far, and whose each credential is.
struct Register {
    names: Vec<String>,
    taken: HashMap<Credential, String>,
    list: Vec<Client>,
}

impl Register {
    fn add(&mut self, reader: &mut Reader<'_>, fields: &Fields<'_>) {
        reader.require_field(fields, "name");
        let name = reader.field(fields, "name", client_name).unwrap_or_default();
        if let Some(node) = fields.get("name").filter(|_| self.list.iter().any(|other| *other.name == *name)) {
            reader.findings.error(&fields.key("name"), node.origin, format!("\"{name}\" is already another client's"));
        }
        let known_by = ["token_file", "label", "certificate", "certificate_name", "networks"];
        if known_by.iter().all(|field| fields.get(field).is_none()) {
            let what = format!("shows nothing to be known by: give it one of {}", known_by.join(", "));
            reader.findings.error(fields.path(), fields.origin, what);
        }
        let mut credentials = Vec::new();
        for field in known_by {
            let Some(node) = fields.get(field) else { continue };
            let read = match field {
                "token_file" => tokens(reader, fields, node),
                "label" => reader.check(&fields.key(field), node, |node| label(node, &self.names)),
                "certificate" => {
                    reader.check(&fields.key(field), node, |node| pin(node).map(|key| vec![Credential::Key(key)]))
                }
                "certificate_name" => certificate_name(reader, fields, node),
                _ => Some(reader.check_list(&fields.key(field), node, network)),
            };
            for credential in read.into_iter().flatten() {
                if let Err(what) = self.claim(&name, node, &credential) {
                    // A label is as many server names as there are names, and said once.
                    reader.findings.error(&fields.key(field), node.origin, what);
                    break;
                }
                credentials.push(credential);
            }
        }
        let allow = fields.get("allow").map(|node| allowed(reader, &fields.key("allow"), node).networks);
        self.list.push(Client { name: name.as_str().into(), credentials, allow });
    }

    /// Notes whose `credential` is. That of two would be nobody's.
    fn claim(&mut self, name: &str, node: &Node, credential: &Credential) -> Result<(), What> {
        let Some(owner) = self.taken.insert(credential.clone(), name.to_owned()) else { return Ok(()) };
        Err(match credential {
            Credential::Token(_) => format!("{} holds a token that is already \"{owner}\"'s", node.shown()),
            Credential::ServerName(_) | Credential::Key(_) | Credential::CertificateName(_) => {
                format!("{} is already \"{owner}\"'s", node.shown())
            }
            Credential::Network(network) => format!("{network} is already \"{owner}\"'s"),
        })
    }
}

fn client_name(node: &Node) -> Result<String, What> {
    let text = kinds::text(node)?;
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    let fits = (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain);
    let what = || format!("{} must be 1 to {LONGEST_NAME} letters, digits, - _ and .", node.shown());
    fits.then(|| text.to_owned()).ok_or_else(what)
}

fn label(node: &Node, names: &[String]) -> Result<Vec<Credential>, What> {
    let text = kinds::text(node)?.to_ascii_lowercase();
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(plain) || text.starts_with('-') || text.ends_with('-') {
        return Err(format!("{} must be one label of a name: letters, digits and - within, at most 63", node.shown()));
    }
    let below: Vec<String> = names.iter().map(|name| format!("{text}.{name}")).collect();
    if below.is_empty() {
        return Err(format!(
            "{} stands below no name: give the gateway's in tls.names or advertise.name",
            node.shown()
        ));
    }
    if let Some(own) = below.iter().find(|name| names.contains(name)) {
        return Err(format!("{} makes {own}, which is the gateway's own name: all would be this client", node.shown()));
    }
    Ok(below.into_iter().map(Credential::ServerName).collect())
}

fn certificate_name(reader: &mut Reader<'_>, fields: &Fields<'_>, node: &Node) -> Option<Vec<Credential>> {
    let key = fields.key("certificate_name");
    if reader.values.get("tls.client_ca").is_none() {
        let what = "nobody vouches for it: name the authorities in tls.client_ca, or pin its key as `certificate`";
        reader.findings.error(&key, node.origin, what);
        return None;
    }
    let name = reader.check(&key, node, kinds::domain)?;
    Some(vec![Credential::CertificateName(name.trim_end_matches('.').to_ascii_lowercase())])
}

fn network(node: &Node) -> Result<Credential, What> {
    let network = kinds::network(node)?;
    if networks::is_everybody(&network) {
        return Err(format!("{} is everybody: that identifies nobody", node.shown()));
    }
    Ok(Credential::Network(network))
}

fn tokens(reader: &mut Reader<'_>, fields: &Fields<'_>, node: &Node) -> Option<Vec<Credential>> {
    let key = fields.key("token_file");
    let read = reader.path(node).and_then(|path| read_tokens(&path));
    let (tokens, mode) = reader.check(&key, node, |_| read)?;
    if mode & 0o007 != 0 {
        let what = format!("{} can be read by everybody on this machine: chmod 640 or 600", node.shown());
        reader.findings.warning(&key, node.origin, what);
    }
    Some(tokens)
}

/// The hashes of the tokens in the file at `path`, and the file's mode. What stands there is never said.
fn read_tokens(path: &Path) -> Result<(Vec<Credential>, u32), What> {
    let name = path.display();
    let mut text = String::new();
    let mode = plain_file::open(path)
        .and_then(|file| {
            let mode = file.metadata()?.permissions().mode();
            file.take(LONGEST_FILE + 1).read_to_string(&mut text).map(|_| mode)
        })
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let token = |(index, line): (usize, &str)| {
        let plain = line.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        let fits = plain && (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&line.len());
        let what = || {
            let line = index + 1;
            format!("{name} line {line} must be {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters of A-Z a-z 0-9 - _")
        };
        fits.then(|| Credential::Token(TokenHash::of(line.as_bytes()))).ok_or_else(what)
    };
    let tokens: Vec<_> = lines.map(token).collect::<Result<_, _>>()?;
    match tokens.len() {
        0 => {
            Err(format!("{name} holds no token: it must have a line of {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters"))
        }
        count if count > MOST_TOKENS => Err(format!("{name} holds {count} tokens: at most {MOST_TOKENS}")),
        _ => Ok((tokens, mode)),
    }
}
