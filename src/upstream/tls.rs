//! TLS toward servers: always authenticated, never below 1.2, never replaced by anything weaker (RFC 8310 5, 6).
//!
//! A configuration is built once per server, so that sessions resume. Trust is the system's, or one file's alone; pins come on
//! top of the chain, not instead of it (DOT-10, DOT-11).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::address::Host;
use super::delivery::Secured;
use super::error::Cause;
use super::settings::Server;
use super::timekeeper::Timekeeper;

/// Why a server's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of authorities cannot be read.
    #[error("cannot read authorities from {}: {source}", file.display())]
    Authorities {
        /// Which.
        file: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The file holds no usable certificate.
    #[error("{} holds no certificate that can be an authority", file.display())]
    NoAuthority {
        /// Which.
        file: PathBuf,
    },
    /// The name to verify is neither a domain name nor an address.
    #[error("{0} is no name that a certificate can carry")]
    Name(Box<str>),
    /// The system has no authorities to trust, or the library refuses the combination.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}

/// Who a server must prove to be, and how TLS is spoken with it.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The name or address in its certificate; SNI is sent for names only (DOT-17).
    pub name: ServerName<'static>,
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// The trust that `server`'s settings ask for.
    ///
    /// # Errors
    /// The file or name at fault.
    pub fn new(server: &Server, times: &Arc<Timekeeper>) -> Result<Self, TlsError> {
        let text = match (&server.tls_name, &server.url.host) {
            (Some(name), _) => name.clone(),
            (None, Host::Name(name)) => name.to_string(),
            (None, Host::Address(address)) => address.to_string(),
        };
        let name = ServerName::try_from(text.as_str()).map_err(|_| TlsError::Name(text.as_str().into()))?.to_owned();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain: Arc<dyn ServerCertVerifier> = match &server.ca {
            Some(file) => file_verifier(file, &provider)?,
            None => Arc::new(rustls_platform_verifier::Verifier::new(Arc::clone(&provider))?),
        };
        let verifier = Arc::new(Judge { chain, pins: server.pins.clone(), times: Arc::clone(times) });
        Ok(Self { name, verifier, provider })
    }

    /// A configuration that offers `alpn`. 0-RTT stays off: it could be replayed (DOT-08, DOQ-22).
    ///
    /// # Errors
    /// What the library refuses.
    pub fn config(
        &self,
        alpn: &[u8],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

fn file_verifier(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let unreadable = |source| TlsError::Authorities { file: file.into(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|_| TlsError::NoAuthority { file: file.into() })
}

/// The TLS of a stream to one server.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// TLS 1.2 or later that offers `alpn`.
    ///
    /// # Errors
    /// As [`Trust::config`].
    pub fn new(trust: &Trust, alpn: &[u8]) -> Result<Self, TlsError> {
        let config = trust.config(alpn, rustls::ALL_VERSIONS)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name: trust.name.clone() })
    }

    /// Shakes hands: when this succeeds the server has proven itself.
    ///
    /// # Errors
    /// [`Cause::Tls`].
    pub async fn secure(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Secured), Cause> {
        let stream = self.connector.connect(self.name.clone(), stream).await.map_err(|error| {
            debug!(name = ?self.name, %error, "TLS handshake with an upstream failed");
            Cause::Tls
        })?;
        let (_, session) = stream.get_ref();
        let secured = Secured {
            version: session.protocol_version().ok_or(Cause::Tls)?,
            cipher: session.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: session.alpn_protocol().and_then(alpn_name),
            resumed: session.handshake_kind().map(|kind| kind == HandshakeKind::Resumed),
        };
        Ok((stream, secured))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

/// The ALPN names that we offer.
#[must_use]
pub fn alpn_name(protocol: &[u8]) -> Option<&'static str> {
    ["dot", "h2", "http/1.1", "h3", "doq"].into_iter().find(|name| name.as_bytes() == protocol)
}

/// A chain that must hold at the time it is, with a leaf whose public key is one of `pins`, if there are any.
#[derive(Debug)]
struct Judge {
    chain: Arc<dyn ServerCertVerifier>,
    pins: Vec<[u8; 32]>,
    times: Arc<Timekeeper>,
}

impl Judge {
    fn is_pinned(&self, leaf: &CertificateDer<'_>) -> bool {
        if self.pins.is_empty() {
            return true;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
        let digest = sha256(certificate.public_key().raw);
        digest.is_some_and(|digest| self.pins.contains(&digest))
    }
}

/// SHA-256, from the cipher suite that is defined with it.
pub(super) fn sha256(data: &[u8]) -> Option<[u8; 32]> {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    suite.common.hash_provider.hash(data).as_ref().try_into().ok()
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            self.times.judge(now),
        )?;
        if self.is_pinned(end_entity) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256() {
        let empty = sha256(b"").unwrap();
        assert_eq!(empty[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }

    #[test]
    fn an_unreadable_or_empty_authority_file_is_named() {
        let mut server = Server::new("tls://dns.example".parse().unwrap());
        server.ca = Some("/nonexistent/authority.pem".into());
        let error = Trust::new(&server, &Arc::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/authority.pem"), "{error}");
        server.ca = Some("/dev/null".into());
        assert!(matches!(Trust::new(&server, &Arc::default()), Err(TlsError::NoAuthority { .. })));
    }
}
