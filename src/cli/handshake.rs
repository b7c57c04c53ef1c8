//! A handshake for people: whose certificate it was, why there was none, and what to do about it. For `query` and `check --live`.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use serde_json::{Value as Json, json};

use crate::identity::credential::{DAY, leaf_facts, unix};
use crate::upstream::error::Cause;
use crate::upstream::proof::{TlsFault, listed};

/// What a server's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The names and addresses it is for.
    pub names: Vec<String>,
    /// Who signed it, as it names itself.
    pub authority: String,
    /// Whole days until it ends.
    pub days_left: i64,
}

impl Shown {
    /// Of this certificate; None where it cannot be read.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (domains, addresses, validity) = leaf_facts(certificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let issuer = parsed.issuer();
        let attribute = issuer.iter_organization().chain(issuer.iter_common_name()).find_map(|name| name.as_str().ok());
        Some(Self {
            names: domains.into_iter().chain(addresses).collect(),
            authority: attribute.unwrap_or("an authority without a name").replace(char::is_control, "?"),
            days_left: (validity.not_after - unix(SystemTime::now())).div_euclid(DAY),
        })
    }

    /// In a line.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { names, authority, days_left } = self;
        let days = if *days_left == 1 { "day" } else { "days" };
        format!("certificate for {}; {days_left} {days} left; signed by {authority}", listed(names))
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        json!({ "names": self.names, "authority": self.authority, "days_left": self.days_left })
    }
}

/// How settings are called where the reader can change them.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Authorities to trust.
    pub ca: &'static str,
    /// The name to verify.
    pub tls_name: &'static str,
    /// How long to wait.
    pub timeout: &'static str,
    /// How to find a server.
    pub find: &'static str,
}

/// On the command line.
pub const FLAGS: Words = Words { ca: "--ca", tls_name: "--tls-name", timeout: "--timeout", find: "the name" };

/// In the configuration.
pub const KEYS: Words = Words {
    ca: "`ca`",
    tls_name: "`tls_name`",
    timeout: "`attempt_timeout`",
    find: "the name, and `bootstrap` or `addresses`",
};

/// What went wrong, and what to do next.
#[must_use]
pub fn explain(cause: Cause, fault: Option<&TlsFault>, words: Words) -> String {
    let Words { timeout, find, .. } = words;
    let text = match (cause, fault) {
        (Cause::Tls, Some(fault)) => return format!("{fault}. {}", advice(fault, words)),
        (Cause::Tls, None) => "the TLS handshake failed",
        (Cause::Timeout, _) => return format!("no answer in time ({timeout} says how long to wait)"),
        (Cause::Connect, _) => "cannot connect: nothing listens there, or a firewall is between",
        (Cause::Closed, _) => "the connection was closed without an answer",
        (Cause::Malformed, _) => "the answer is no DNS message, or an HTTP error. Check port and path of the URL",
        (Cause::Mismatched, _) => "the answer belongs to another question",
        (Cause::Truncated, _) => "the answer is truncated and cannot be had over TCP",
        (Cause::Busy, _) => "too many questions at once",
        (Cause::Unknown, _) => return format!("the server's address cannot be found. Check {find}"),
    };
    text.to_owned()
}

/// What to do about `fault`.
fn advice(fault: &TlsFault, Words { ca, tls_name, .. }: Words) -> String {
    match fault {
        TlsFault::Expired { .. } => {
            "Its operator must renew it; if the date of today is wrong, set the clock".to_owned()
        }
        TlsFault::NotYetValid { .. } => "Set the clock, if that is wrong".to_owned(),
        TlsFault::UnknownAuthority => {
            format!("Name that authority with {ca} if it is a private one; otherwise somebody stands in between")
        }
        TlsFault::Name { .. } => format!("Say with {tls_name} which of its names to verify, if it is the right server"),
        TlsFault::Pin { .. } => {
            "Ask its operator whether the key has changed, and do not trust the new one before".to_owned()
        }
        TlsFault::Revoked | TlsFault::Certificate(_) | TlsFault::Key => {
            "Its operator must mend that, unless somebody stands in between".to_owned()
        }
        TlsFault::Protocol | TlsFault::NotTls => "Check scheme and port of the URL".to_owned(),
        TlsFault::Alert(_) | TlsFault::Closed | TlsFault::Other(_) => {
            format!("Check scheme and port of the URL, and {tls_name} where it serves several names")
        }
    }
}
