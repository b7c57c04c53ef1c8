//! What a configuration that can be used leaves to be wished: advice that takes the certificate, too, to give.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::config::{Config, Loaded};
use crate::discovery::{self, Covered};
use crate::gateway::outside;
use crate::guard::clients::Credential;
use crate::identity::{CertificateFacts, IdentityError};

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
    let subjects = match credentials.first() {
        None => None,
        Some(Ok(facts)) => Some(facts.names.as_slice()),
        // What is wrong with it is said already.
        Some(Err(_)) => return Vec::new(),
    };
    let found = discovery::problems(&outside::configured(config, subjects));
    let found = found.into_iter().map(|problem| Advice { key: problem.key(), what: problem.to_string() });
    found.chain(uncovered(config, credentials)).collect()
}

/// Clients with a label that no certificate is for. The private authority's is for all of them.
fn uncovered<'a>(
    config: &'a Config,
    credentials: &'a [Result<CertificateFacts, IdentityError>],
) -> impl Iterator<Item = Advice> + 'a {
    let subjects = credentials.iter().flatten().flat_map(|facts| facts.names.iter().map(String::as_str));
    let covered = Covered::of(subjects);
    let clients = config.guard.clients.iter().flat_map(|clients| &clients.list).filter(|_| !credentials.is_empty());
    clients.filter_map(move |client| {
        let names: Vec<&str> = client.credentials.iter().filter_map(server_name).collect();
        let first = names.first()?;
        let what = || {
            format!("\"{}\": no certificate is for {first}: its label needs one for all names there (*)", client.name)
        };
        (!names.iter().any(|name| covered.has_name(name))).then(|| Advice { key: "client", what: what() })
    })
}

const fn server_name(credential: &Credential) -> Option<&str> {
    match credential {
        Credential::ServerName(name) => Some(name.as_str()),
        Credential::Token(_) | Credential::Key(_) | Credential::CertificateName(_) | Credential::Network(_) => None,
    }
}
