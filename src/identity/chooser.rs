//! Which certificate a client hello gets: by the server it names, else the first (RFC 8310 9, DOT-17), unless
//! strangers are to be refused (TLS-09).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::UnknownNames;
use super::credential::{Credential, Origin};

/// The certificates in force. What has been handed to TLS follows a [`Chooser::replace`].
#[derive(Debug)]
pub struct Chooser {
    current: ArcSwap<Vec<Credential>>,
    /// Is [`UnknownNames::Refused`] in force?
    refuses: AtomicBool,
    /// The one that was ordered by ACME, beside them.
    ordered: ArcSwapOption<Credential>,
}

impl Chooser {
    /// A chooser among `credentials`; the first is the default.
    #[must_use]
    pub fn new(credentials: Vec<Credential>, unknown: UnknownNames) -> Self {
        Self {
            current: ArcSwap::from_pointee(credentials),
            ordered: ArcSwapOption::empty(),
            refuses: AtomicBool::new(unknown == UnknownNames::Refused),
        }
    }

    /// Puts others in their place, for handshakes that begin after this.
    pub fn replace(&self, credentials: Vec<Credential>) {
        self.current.store(Arc::new(credentials));
    }

    /// What becomes of clients that name nobody known, for handshakes that begin after this.
    pub fn treat(&self, unknown: UnknownNames) {
        self.refuses.store(unknown == UnknownNames::Refused, Ordering::Relaxed);
    }

    /// Puts the one that was ordered by ACME in force, or takes it away.
    pub fn present(&self, ordered: Option<Credential>) {
        self.ordered.store(ordered.map(Arc::new));
    }

    /// The one that was ordered by ACME.
    #[must_use]
    pub fn presented(&self) -> Option<Arc<Credential>> {
        self.ordered.load_full()
    }

    /// Those in force.
    #[must_use]
    pub fn current(&self) -> Arc<Vec<Credential>> {
        self.current.load_full()
    }

    /// The one for a client that names `server` and verifies `schemes`; None where such a client is refused.
    #[must_use]
    pub fn choose(&self, server: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let (current, ordered) = (self.current.load(), self.ordered.load());
        let all = in_order(&current, ordered.as_deref());
        let rank = |credential: &Credential| server.map_or(Fit::None, |server| fit(&credential.domains, server));
        let best = all.clone().map(rank).max()?;
        if best == Fit::None && server.is_some() && self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        let fitting = || all.clone().filter(|credential| rank(credential) == best);
        // One name may have an ECDSA and an RSA certificate.
        let verifiable = |credential: &&Credential| credential.certified.key.choose_scheme(schemes).is_some();
        fitting().find(verifiable).or_else(|| fitting().next()).map(|credential| Arc::clone(&credential.certified))
    }
}

/// All of them, the default first: certificates in files come before the ordered one, and that before the private authority's.
pub(super) fn in_order<'a>(
    current: &'a [Credential],
    ordered: Option<&'a Credential>,
) -> impl Iterator<Item = &'a Credential> + Clone {
    let is_private = current.first().is_none_or(|first| first.origin == Origin::PrivateAuthority);
    let (before, after) = if is_private { (ordered, None) } else { (None, ordered) };
    before.into_iter().chain(current).chain(after)
}

/// How well a certificate fits a server name, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    None,
    Wildcard,
    Exact,
}

/// Would a client that knows the gateway as `name` verify a certificate for `names`? A domain may be covered by a wildcard.
#[must_use]
pub fn covers(names: &[String], name: &str) -> bool {
    fit(names, name.trim_end_matches('.')) != Fit::None
}

fn fit(domains: &[String], server: &str) -> Fit {
    // RFC 6125 6.4.3: a wildcard stands for exactly one label.
    let parent = server.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
    let best = domains.iter().map(|domain| match domain.strip_prefix("*.") {
        Some(suffix) if parent.is_some_and(|parent| parent.eq_ignore_ascii_case(suffix)) => Fit::Wildcard,
        None if domain.eq_ignore_ascii_case(server) => Fit::Exact,
        Some(_) | None => Fit::None,
    });
    best.max().unwrap_or(Fit::None)
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};

    use super::*;
    use crate::identity::Chain;
    use crate::identity::profile::provider;
    use crate::identity::scratch::Scratch;

    #[test]
    fn two_certificates_of_one_name_are_chosen_between_by_what_the_client_verifies() {
        let scratch = Scratch::new();
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let rsa = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
        // PKCS#1 is the octet string at the end of PKCS#8: both ways to write the key must load.
        let pkcs8 = key.serialize_der();
        let at = pkcs8.windows(2).position(|pair| pair == [0x04, 0x82]).unwrap() + 4;
        let pkcs1 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &pkcs8[at..]);
        let pkcs1 = format!("-----BEGIN RSA PRIVATE KEY-----\n{pkcs1}\n-----END RSA PRIVATE KEY-----\n");
        let rsa = Chain { chain: scratch.write("rsa.pem", rsa.pem()), key: scratch.write("rsa-key.pem", pkcs1) };
        let chains = [scratch.chain("other", &["b.example"], 0), scratch.chain("ecdsa", &["a.example"], 0), rsa];
        let load = |files| Credential::from_files(files, &provider(), SystemTime::now()).unwrap();
        let chooser = Chooser::new(chains.iter().map(load).collect(), UnknownNames::Served);
        let chosen = |scheme| {
            let certified = chooser.choose(Some("a.example"), &[scheme]).unwrap();
            chooser.current().iter().position(|one| Arc::ptr_eq(&one.certified, &certified)).unwrap()
        };
        assert_eq!(chosen(SignatureScheme::ECDSA_NISTP256_SHA256), 1);
        assert_eq!(chosen(SignatureScheme::RSA_PSS_SHA256), 2);
        // Nothing fits: the first of that name, and the client says why it will not have it.
        assert_eq!(chosen(SignatureScheme::ED25519), 1);
    }
}
