//! One order from its beginning to the certificate (RFC 8555 7.4): every name proven, the request signed by a fresh key.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::CryptoProvider;

use super::challenges::Pending;
use super::client::Client;
use super::store::Store;
use super::{AcmeError, Challenges, Method, Settings, hook, proof};
use crate::identity::state_dir::read;

/// For the authority to validate, and then to sign: looks begin early and grow apart.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_mins(3));

/// What orders are made with.
pub struct Desk<'a> {
    pub settings: &'a Settings,
    pub store: &'a Store,
    pub client: &'a Client,
    pub challenges: &'a Arc<Challenges>,
    pub provider: &'a Arc<CryptoProvider>,
}

/// A certificate as it was issued, and its key; both PEM.
pub struct Issued {
    pub chain: String,
    pub key: String,
}

/// What stands somewhere for validators to see, and must not stay.
enum Shown {
    Here(#[allow(dead_code, reason = "held until it is dropped")] Pending),
    Record { name: String, value: String },
}

impl Desk<'_> {
    /// The account at the authority, made there on the first order.
    ///
    /// # Errors
    /// The authority does not want us, or cannot be reached.
    pub async fn account(&self) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        if let Some(kept) = self.store.account()?.and_then(|kept| serde_json::from_slice(&kept).ok()) {
            return Ok(builder.from_credentials(kept).await?);
        }
        let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.external()?;
        let directory = self.settings.directory.clone();
        let (account, credentials) = builder.create(&wanted, directory, external.as_ref()).await?;
        let credentials = serde_json::to_vec(&credentials).map_err(instant_acme::Error::from)?;
        self.store.keep_account(&credentials)?;
        Ok(account)
    }

    fn external(&self) -> Result<Option<ExternalAccountKey>, AcmeError> {
        let Some(external) = &self.settings.external else { return Ok(None) };
        let text = String::from_utf8(read(&external.key_file)?).unwrap_or_default();
        let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).ok().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| AcmeError::ExternalKey(external.key_file.clone()))?;
        Ok(Some(ExternalAccountKey::new(external.id.clone(), &key)))
    }

    /// Orders a certificate, in place of the one that `replaced` names if the authority knows of such things (RFC 9773 5).
    ///
    /// # Errors
    /// Whatever kept it from being issued. Nothing is left for validators to see.
    pub async fn order(&self, replaced: Option<CertificateIdentifier<'_>>) -> Result<Issued, AcmeError> {
        let account = self.account().await?;
        let wanted: Vec<_> = self.settings.domains.iter().map(|name| Identifier::Dns(name.clone())).collect();
        let mut order = match replaced {
            // What was replaced already, or is not known there, is no reason to go without.
            Some(replaced) => match account.new_order(&NewOrder::new(&wanted).replaces(replaced)).await {
                Ok(order) => order,
                Err(_) => account.new_order(&NewOrder::new(&wanted)).await?,
            },
            None => account.new_order(&NewOrder::new(&wanted)).await?,
        };
        let mut shown = Vec::new();
        let proven = self.prove(&mut order, &mut shown).await;
        self.clear(shown).await;
        proven?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut request = CertificateParams::new(self.settings.domains.clone())?;
        request.distinguished_name = DistinguishedName::new();
        order.finalize_csr(request.serialize_request(&key)?.der()).await?;
        let chain = order.poll_certificate(&POLLS).await?;
        Ok(Issued { chain, key: key.serialize_pem() })
    }

    /// Has every name of `order` validated; what is shown for that is in `shown`, also after a failure.
    async fn prove(&self, order: &mut Order, shown: &mut Vec<Shown>) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let name = authorization.identifier().to_string();
            if !is_among(&self.settings.domains, &name) {
                return Err(AcmeError::Foreign(name));
            }
            match authorization.status {
                // Proven for an earlier order, and still believed.
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => return Err(AcmeError::Refused(name)),
            }
            let (method, kind) = (self.settings.method.name(), self.kind());
            let challenge = authorization.challenge(kind);
            let mut challenge = challenge.ok_or_else(|| AcmeError::NotOffered { method, name: name.clone() })?;
            self.show(&name, &challenge, shown).await?;
            challenge.set_ready().await?;
        }
        match order.poll_ready(&POLLS).await? {
            OrderStatus::Ready => Ok(()),
            _ => Err(self.why_invalid(order).await),
        }
    }

    /// The authority's word on the first name that it could not validate: the order itself only says that it is invalid.
    async fn why_invalid(&self, order: &mut Order) -> AcmeError {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                continue;
            }
            let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.clone());
            if let Some(problem) = problem {
                return AcmeError::Protocol(problem.into());
            }
        }
        AcmeError::Refused(self.settings.domains.join(", "))
    }

    const fn kind(&self) -> ChallengeType {
        match self.settings.method {
            Method::TlsAlpn => ChallengeType::TlsAlpn01,
            Method::Http(_) => ChallengeType::Http01,
            Method::Dns(_) => ChallengeType::Dns01,
        }
    }

    async fn show(&self, name: &str, challenge: &ChallengeHandle<'_>, shown: &mut Vec<Shown>) -> Result<(), AcmeError> {
        let key = challenge.key_authorization();
        match &self.settings.method {
            Method::TlsAlpn => {
                let config = proof::config(name, key.digest().as_ref(), self.provider)?;
                shown.push(Shown::Here(self.challenges.raise_tls(name, config)));
            }
            Method::Http(_) => shown.push(Shown::Here(self.challenges.raise_http(&challenge.token, key.as_str()))),
            Method::Dns(program) => {
                let name = format!("_acme-challenge.{}", name.trim_start_matches("*."));
                let value = key.dns_value();
                // Before it is run: a hook that failed half-way has something to clean up, too.
                shown.push(Shown::Record { name: name.clone(), value: value.clone() });
                hook::run(program, "present", &name, &value).await?;
            }
        }
        Ok(())
    }

    async fn clear(&self, shown: Vec<Shown>) {
        for one in shown {
            let (Shown::Record { name, value }, Method::Dns(program)) = (one, &self.settings.method) else { continue };
            if let Err(error) = hook::run(program, "cleanup", &name, &value).await {
                tracing::warn!(%error, "acme: a record is left behind");
            }
        }
    }
}

/// Is `name` one of `domains`? What the authority writes here is given to the hook, and doors would prove it.
fn is_among(domains: &[String], name: &str) -> bool {
    let base = |name: &str| name.trim_start_matches("*.").to_ascii_lowercase();
    domains.iter().any(|domain| base(domain) == base(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_ordered_is_proven_whatever_the_authority_asks_for() {
        let domains = ["dns.example".to_owned(), "*.Home.example".to_owned()];
        for ours in ["dns.example", "DNS.example", "*.home.example", "home.example"] {
            assert!(is_among(&domains, ours), "{ours}");
        }
        for other in
            ["", "example", "x.dns.example", "dns.example.", "dns.example;id", "dns.example\n", "../x", "$(id)"]
        {
            assert!(!is_among(&domains, other), "{other:?}");
        }
    }
}
