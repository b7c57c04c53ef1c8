//! What a configuration that can be used leaves to be wished: advice that takes the certificates, too, to give.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Value as Json, json};

use crate::config::{Config, Loaded, Origin};
use crate::confine;
use crate::discovery::{self, Covered};
use crate::gateway::outside;
use crate::guard::clients;
use crate::identity::acme::{self, Method};
use crate::identity::chooser::covers;
use crate::identity::credential::Credential;
use crate::identity::profile::provider;
use crate::identity::review::{is_open_to_all, review};
use crate::identity::{CertificateFacts, Chain, IdentityError};
use crate::listen::{Door, DoorKind};

/// A warning that names no line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    key: &'static str,
    what: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}: {}", self.key, self.what)
    }
}

impl Advice {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        json!({ "severity": "warning", "key": self.key, "message": self.to_string() })
    }
}

/// What keeps clients from finding the doors by themselves, where the configuration and its certificates stand.
#[must_use]
pub fn of(loaded: &Loaded, credentials: &[Result<CertificateFacts, IdentityError>]) -> Vec<Advice> {
    let Some(config) = &loaded.config else { return Vec::new() };
    let ordered = config.acme.as_ref();
    let subjects = match credentials.first() {
        None => ordered.map(|acme| acme.domains.as_slice()),
        Some(Ok(facts)) => Some(facts.names.as_slice()),
        // What is wrong with it is said already.
        Some(Err(_)) => return Vec::new(),
    };
    let found = discovery::problems(&outside::configured(config, subjects));
    let found = found.into_iter().map(|problem| Advice { key: problem.key(), what: problem.to_string() });
    let found = found.chain(uncovered(config, credentials));
    let found = found.chain(ordered.and_then(|acme| unreached(config, acme)));
    let found = found.chain(missing(loaded, config, credentials)).chain(reviewed(config));
    found.chain(exposed(config)).chain(nobody(config)).collect()
}

/// The names that somebody asked for in `tls.names` and no certificate is for: where there are certificates, nothing makes one.
fn missing(loaded: &Loaded, config: &Config, credentials: &[Result<CertificateFacts, IdentityError>]) -> Vec<Advice> {
    let is_given =
        loaded.effective.iter().any(|row| row.key == "tls.names" && !matches!(row.origin(), Origin::Default));
    if !is_given || credentials.is_empty() {
        return Vec::new();
    }
    let ordered = config.acme.iter().map(|acme| &acme.domains);
    let all: Vec<&Vec<String>> = credentials.iter().flatten().map(|facts| &facts.names).chain(ordered).collect();
    let is_covered = |name: &String| all.iter().any(|names| covers(names, name));
    // All names below one were added for clients with a label, and are told of with those.
    let is_added = |name: &String| config.guard.clients.is_some() && name.starts_with("*.");
    let names = config.tls.names.iter().filter(|name| !is_covered(name) && !is_added(name));
    let what = |name: &String| {
        format!("no certificate in tls.certificates is for {name}: clients that use it are turned away")
    };
    names.map(|name| Advice { key: "tls.names", what: what(name) }).collect()
}

/// What may be wished of each certificate by itself.
fn reviewed(config: &Config) -> Vec<Advice> {
    let (provider, now) = (provider(), SystemTime::now());
    let review = |files: &Chain| {
        let credential = Credential::from_files(files, &provider, now);
        credential.map_or_else(|_| Vec::new(), |credential| review(&credential, files, now))
    };
    let concerns = config.tls.certificates.iter().flat_map(review);
    concerns.map(|concern| Advice { key: super::KEY, what: concern.to_string() }).collect()
}

/// Files of secrets that are no secret on this machine.
fn exposed(config: &Config) -> impl Iterator<Item = Advice> + '_ {
    let files = [("fleet.secret_file", &config.tls.fleet.file), ("cookies.secrets_file", &config.secrets_file)];
    let files = files.into_iter().filter_map(|(key, file)| Some((key, file.as_deref()?)));
    files.filter(|(_, file)| is_open_to_all(file)).map(|(key, file)| {
        let name = file.display();
        let what = format!(
            "{name} may be read or written by every user of this machine: take that right away (chmod o-rwx), and change the secret"
        );
        Advice { key, what }
    })
}

/// A user that this machine does not have. The configuration may be for another, so that this is no mistake.
fn nobody(config: &Config) -> Option<Advice> {
    let missing = confine::missing_account(&config.process)?;
    Some(Advice { key: "process", what: missing.to_string() })
}

/// Clients with a label that no certificate is for, in a file or by ACME. The private authority's is for all of them.
fn uncovered<'a>(
    config: &'a Config,
    credentials: &'a [Result<CertificateFacts, IdentityError>],
) -> impl Iterator<Item = Advice> + 'a {
    let ordered = config.acme.iter().flat_map(|acme| &acme.domains);
    let subjects = credentials.iter().flatten().flat_map(|facts| &facts.names).chain(ordered).map(String::as_str);
    let covered = Covered::of(subjects);
    let is_private = credentials.is_empty() && config.acme.is_none();
    let clients = config.guard.clients.iter().flat_map(|clients| &clients.list).filter(move |_| !is_private);
    clients.filter_map(move |client| {
        let names: Vec<&str> = client.credentials.iter().filter_map(server_name).collect();
        let first = names.first()?;
        let what = || {
            format!("\"{}\": no certificate is for {first}: its label needs one for all names there (*)", client.name)
        };
        (!names.iter().any(|name| covered.has_name(name))).then(|| Advice { key: "client", what: what() })
    })
}

const fn server_name(credential: &clients::Credential) -> Option<&str> {
    match credential {
        clients::Credential::ServerName(name) => Some(name.as_str()),
        clients::Credential::Token(_)
        | clients::Credential::Key(_)
        | clients::Credential::CertificateName(_)
        | clients::Credential::Network(_) => None,
    }
}

/// A challenge comes to one port of the outside's, wherever that leads.
fn unreached(config: &Config, acme: &acme::Settings) -> Option<Advice> {
    let (key, port, name) = match &acme.method {
        Method::TlsAlpn => ("acme.challenge", 443, "a doh or dot door"),
        Method::Http(_) => ("acme.http_listen", 80, "it"),
        Method::Dns(_) => return None,
    };
    let has_port = match &acme.method {
        Method::Http(addresses) => addresses.iter().any(|address| address.port() == port),
        Method::TlsAlpn | Method::Dns(_) => {
            let proves = |door: &&Door| matches!(door.kind, DoorKind::Dot | DoorKind::Doh);
            config.listen.doors.iter().filter(proves).any(|door| door.address.port() == port)
        }
    };
    let what = format!("the authority comes to port {port}: see to it that this leads to {name}");
    (!has_port).then_some(Advice { key, what })
}
