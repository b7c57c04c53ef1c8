//! The certificate that answers a TLS-ALPN-01 challenge (RFC 8737 3): self-signed, for one name, with the key authorization's digest.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use super::AcmeError;
use super::challenges::ACME_TLS;

/// TLS that proves control of `name` to whoever knows `digest`.
///
/// # Errors
/// The library does not take the name or what it has made.
pub fn config(name: &str, digest: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<ServerConfig>, AcmeError> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let key = provider.key_provider.load_private_key(PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    // Put together by hand: the library's own check stumbles over the critical extension, which is the point of it.
    let certified = CertifiedKey::new(vec![certificate.into()], key);
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    // The connection ends with its handshake: there is nothing to resume.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::super::Challenges;
    use super::*;
    use crate::identity::profile::provider;
    use crate::identity::scratch::{handshake, presented, trusting_anything};

    #[test]
    fn rfc8737_3_the_certificate_is_for_one_name_and_carries_the_digest_as_a_critical_extension() {
        let config = config("dns.example", &[7; 32], &provider()).unwrap();
        let client = trusting_anything(&[ACME_TLS]);
        let (near, _) = handshake(&client, &config, "dns.example").unwrap();
        assert_eq!(near.alpn_protocol(), Some(ACME_TLS));
        let shown = presented(&near);
        let (_, certificate) = x509_parser::parse_x509_certificate(&shown).unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.len(), 1);
        let found = certificate.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(found.critical);
        // OCTET STRING of 32.
        assert_eq!(found.value, [&[4, 32][..], &[7; 32]].concat());
    }

    #[test]
    fn few_strangers_are_in_at_one_time_and_who_is_silent_keeps_nobody_out() {
        let challenges = Arc::new(Challenges::default());
        let _pending = challenges.raise_tls("a.example", config("a.example", &[1; 32], &provider()).unwrap());
        let mut silent: Vec<_> = (0..16).map(|_| challenges.guest().unwrap()).collect();
        let (last, first) = (silent.pop().unwrap(), silent.remove(0));
        drop(last);
        let validator = challenges.guest().unwrap();
        assert!(at_once(first.outstayed()).is_none(), "there was a place that somebody had left");
        let others: Vec<_> = (0..16).map(|_| challenges.guest().unwrap()).collect();
        assert!(silent.into_iter().all(|guest| at_once(guest.outstayed()).is_some()));
        assert!(at_once(validator.outstayed()).is_some());
        assert!(others.into_iter().all(|guest| at_once(guest.outstayed()).is_none()));
    }

    fn at_once<F: Future>(future: F) -> Option<F::Output> {
        match std::pin::pin!(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn a_challenge_is_pending_until_its_holder_lets_go() {
        let challenges = Arc::new(Challenges::default());
        assert!(!challenges.is_pending() && challenges.guest().is_none());
        let one = challenges.raise_tls("A.example", config("a.example", &[1; 32], &provider()).unwrap());
        let two = challenges.raise_tls("b.example", config("b.example", &[2; 32], &provider()).unwrap());
        drop(one);
        assert!(challenges.is_pending() && challenges.guest().is_some());
        drop(two);
        assert!(!challenges.is_pending() && challenges.guest().is_none());
        let page = challenges.raise_http("token", "token.thumb");
        assert!(!challenges.is_pending(), "doors have nothing to do with it");
        assert_eq!(challenges.key_authorization("token").as_deref(), Some("token.thumb"));
        drop(page);
        assert_eq!(challenges.key_authorization("token"), None);
    }
}
