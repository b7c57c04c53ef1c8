//! What a configuration that can be used leaves to be wished: advice that takes the certificate, too, to give.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::config::Loaded;
use crate::discovery;
use crate::gateway::outside;
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
    found.into_iter().map(|problem| Advice { key: problem.key(), what: problem.to_string() }).collect()
}
