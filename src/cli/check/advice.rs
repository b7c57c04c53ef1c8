//! What a configuration that can be used leaves to be wished: advice that takes the certificate, too, to give.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::config::{Config, Loaded};
use crate::discovery;
use crate::gateway::outside;
use crate::identity::acme::{self, Method};
use crate::identity::{CertificateFacts, IdentityError};
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
    found.chain(ordered.and_then(|acme| unreached(config, acme))).collect()
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
