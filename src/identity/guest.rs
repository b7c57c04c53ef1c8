//! Certificates of clients: asked for where somebody is known by one, never required, and taken only from who holds their key.
//!
//! The handshake lets in whoever signs with the key of the certificate it shows; who that is, if anybody, is looked up afterwards.
//! A certificate that means nothing here is as good as none, so that a device with one for another purpose is not shut out. Tickets
//! carry the certificate, and each connection that resumes is looked up anew: who is struck off does not come back with a ticket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::credential::leaf_facts;
use super::profile::provider;
use super::state_dir::read;
use super::{Guests, IdentityError};

/// Whether doors ask their clients for certificates now: each handshake looks, so that it may change while they are open.
#[derive(Debug, Default)]
pub struct Asking(AtomicBool);

impl Asking {
    /// As `guests` has it.
    #[must_use]
    pub fn by(guests: Guests) -> Self {
        Self(AtomicBool::new(guests == Guests::Asked))
    }

    /// The same, for handshakes that begin after this. A session from before is resumed as the client was known then.
    pub fn follow(&self, guests: Guests) {
        self.0.store(guests == Guests::Asked, Ordering::Relaxed);
    }
}

/// What a door asks of its clients.
#[must_use]
pub fn verifier(asking: &Arc<Asking>, provider: &Arc<CryptoProvider>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Holder { provider: Arc::clone(provider), asking: Arc::clone(asking) })
}

/// SHA-256 of the public key (SPKI) in `certificate`; None where there is none to be read.
#[must_use]
pub fn key_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    suite.common.hash_provider.hash(certificate.public_key().raw).as_ref().try_into().ok()
}

/// Octets of a client's certificates: a few of them, with keys of any kind. The library would take 64 KiB.
const LARGEST_CHAIN: usize = 16 * 1024;

/// Takes any certificate from who holds its key, and none as well.
#[derive(Debug)]
struct Holder {
    provider: Arc<CryptoProvider>,
    asking: Arc<Asking>,
}

impl ClientCertVerifier for Holder {
    fn offer_client_auth(&self) -> bool {
        self.asking.0.load(Ordering::Relaxed)
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // What is taken is kept as long as the connection, and sealed into each of its tickets.
        let octets: usize = above.iter().chain([own]).map(|certificate| certificate.len()).sum();
        if octets > LARGEST_CHAIN {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Authorities that vouch for names of clients.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// Those in a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or holds none.
    pub fn open(file: &Path) -> Result<Self, IdentityError> {
        let none = || IdentityError::NoAuthority { file: file.into() };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&read(file)?) {
            roots.add(certificate.map_err(|_| none())?).map_err(|_| none())?;
        }
        let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        built.map(Self).map_err(|_| none())
    }

    /// The DNS names, lower case, in the first certificate of `chain` (DER), if one of the authorities vouches for it now.
    #[must_use]
    pub fn vouch(&self, chain: &[&[u8]]) -> Vec<String> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
        let Some((leaf, above)) = chain.split_first() else { return Vec::new() };
        if self.0.verify_client_cert(leaf, above, UnixTime::now()).is_err() {
            return Vec::new();
        }
        leaf_facts(leaf).map(|(names, _, _)| names).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_larger_than_any_client_needs_is_not_kept() {
        let holder = Holder { provider: provider(), asking: Arc::default() };
        let judged = |lengths: &[usize]| {
            let chain: Vec<_> = lengths.iter().map(|&length| CertificateDer::from(vec![0x30; length])).collect();
            let (own, above) = chain.split_first().unwrap();
            holder.verify_client_cert(own, above, UnixTime::now()).is_ok()
        };
        assert!(judged(&[1000]) && judged(&[4000, 4000, 8384]));
        for large in [&[16_385][..], &[1000, 60_000], &[1000; 17]] {
            assert!(!judged(large), "{large:?}");
        }
    }
}
