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
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::address::Host;
use super::delivery::Secured;
use super::error::Cause;
use super::proof::{Proof, TlsFault};
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
    /// One of the file's certificates is no authority.
    #[error("certificate {number} in {} cannot be an authority: {source}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Which, counted from 1.
        number: usize,
        /// Why.
        source: rustls::Error,
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
    times: Arc<Timekeeper>,
    proof: Arc<Proof>,
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
        let (times, proof) = (Arc::clone(times), Proof::new(&text));
        let judge = Judge { chain, pins: server.pins.clone(), times: Arc::clone(&times), proof: Arc::clone(&proof) };
        Ok(Self { name, verifier: Arc::new(judge), provider, times, proof })
    }

    /// What becomes known of the server's proof.
    #[must_use]
    pub const fn proof(&self) -> &Arc<Proof> {
        &self.proof
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
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), Arc::clone(&self.times) as _)
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
    for (number, certificate) in (1..).zip(CertificateDer::pem_file_iter(file).map_err(unreadable)?) {
        let unusable = |source| TlsError::Unusable { file: file.into(), number, source };
        roots.add(certificate.map_err(unreadable)?).map_err(unusable)?;
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
    agreement: Agreement,
    proof: Arc<Proof>,
}

/// Must a server name the protocol that we offer (ALPN)? Another than that it cannot name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// One that says nothing is not spoken to.
    Needed,
    /// It may be silent.
    Welcome,
}

impl Tls {
    /// TLS 1.2 or later that offers `alpn`.
    ///
    /// # Errors
    /// As [`Trust::config`].
    pub fn new(trust: &Trust, alpn: &[u8], agreement: Agreement) -> Result<Self, TlsError> {
        let config = trust.config(alpn, rustls::ALL_VERSIONS)?;
        let (name, proof) = (trust.name.clone(), Arc::clone(&trust.proof));
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, agreement, proof })
    }

    /// What is known of the server's proof.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Shakes hands: when this succeeds the server has proven itself.
    ///
    /// # Errors
    /// [`Cause::Tls`].
    pub async fn secure(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Secured), Cause> {
        let stream = self.connector.connect(self.name.clone(), stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                // The judge has said more of it already.
                Some(rustls::Error::InvalidCertificate(_)) => {}
                Some(error) => self.proof.fail(error.into()),
                None => self.proof.fail(TlsFault::Closed),
            }
            Cause::Tls
        })?;
        let (_, session) = stream.get_ref();
        if self.agreement == Agreement::Needed && session.alpn_protocol().is_none() {
            self.proof.fail(TlsFault::Protocol);
            return Err(Cause::Tls);
        }
        self.proof.succeed();
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
    proof: Arc<Proof>,
}

impl Judge {
    fn check_pins(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let unreadable = CertificateError::BadEncoding;
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| unreadable)?;
        match sha256(certificate.public_key().raw) {
            Some(found) if self.pins.contains(&found) => Ok(()),
            found => {
                self.proof.fail(TlsFault::Pin { found: found.unwrap_or_default() });
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    /// What has been signed shows who holds the key; only then is the certificate the server's own.
    fn note(
        &self,
        signed: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &signed {
            Ok(_) => self.times.witness(),
            Err(_) => self.proof.fail(TlsFault::Key),
        }
        signed
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
        let now = self.times.judge(now);
        let verified = self
            .chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .inspect_err(|error| self.proof.fail(error.into()))?;
        self.check_pins(end_entity)?;
        self.proof.present(end_entity);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note(self.chain.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note(self.chain.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime};

    use tokio::runtime::Handle;

    use super::super::commons::Commons;
    use super::super::kept::Home;
    use super::super::server::Upstream;
    use super::super::testing::{
        Authority, Respond, ask, quic_server, reply, serve_doq, serve_stream, tls_server, window,
    };
    use super::super::timekeeper::{WallClock, built};
    use super::*;
    use crate::trail::{Attempts, UpstreamId};

    const ANSWER: Respond = |query| reply(query, 0);
    const ADDRESS: &str = "127.0.0.1";

    /// Asks `server` under `times`: how that ended, and what became known of its proof.
    async fn try_under(server: &Server, times: &Arc<Timekeeper>) -> (Option<Cause>, Option<TlsFault>) {
        let commons = Commons::new(Handle::current()).with_times(Arc::clone(times));
        let upstream = Upstream::new(server, UpstreamId(0), &Home::new(&commons, Duration::from_secs(5))).unwrap();
        let result = upstream.attempt(&ask("a.example"), window(10_000, 2), &mut Attempts::default()).await;
        (result.err().map(|error| error.cause), upstream.proof().unwrap().fault())
    }

    async fn tried(server: &Server) -> (Option<Cause>, Option<TlsFault>) {
        try_under(server, &Arc::default()).await
    }

    /// One server over DoT and one over DoQ, with a certificate of `life` that `authority` has signed for `name`.
    async fn both(authority: &Authority, name: &str, life: (i64, i64)) -> [Server; 2] {
        let identity = |alpn: &str| authority.identity_for(&[name], &[alpn], life).0;
        let dot = tls_server(identity("dot"), |stream| serve_stream(stream, ANSWER)).await;
        let doq = quic_server(identity("doq"), |connection| serve_doq(connection, ANSWER));
        [authority.server("tls", dot), authority.server("quic", doq)]
    }

    /// A timekeeper whose clock says `seconds`, and the hand of that clock.
    fn times_at(seconds: u64) -> (Arc<Timekeeper>, Arc<AtomicU64>) {
        let hand = Arc::new(AtomicU64::new(seconds));
        let read = Arc::clone(&hand);
        let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(read.load(Ordering::SeqCst)));
        (Arc::new(Timekeeper::new(clock, None)), hand)
    }

    #[tokio::test]
    async fn a_clock_in_1970_does_not_keep_tls_from_working_and_is_not_called_right() {
        let (authority, now) = (Authority::new(), i64::try_from(built()).unwrap());
        for server in both(&authority, ADDRESS, (now - 86_400, now + 86_400)).await {
            let (times, hand) = times_at(0);
            assert_eq!(try_under(&server, &times).await, (None, None), "{}", server.url);
            assert!(!times.is_right() && times.adjusted() > 0);
            hand.store(built() + 60, Ordering::SeqCst);
            assert_eq!(try_under(&server, &times).await, (None, None), "{}", server.url);
            assert!(times.is_right());
        }
    }

    #[tokio::test]
    async fn a_certificate_that_ended_before_the_build_is_refused_whatever_the_clock_says() {
        let (authority, now) = (Authority::new(), i64::try_from(built()).unwrap());
        for server in both(&authority, ADDRESS, (0, now - 86_400)).await {
            let (times, _) = times_at(86_400);
            let (cause, fault) = try_under(&server, &times).await;
            let expired = TlsFault::Expired { ended: now - 86_400, judged_by: now };
            assert_eq!((cause, fault), (Some(Cause::Tls), Some(expired)), "{}", server.url);
            assert!(!times.is_right());
        }
    }

    #[tokio::test]
    async fn why_a_server_has_not_proven_itself_is_known_over_streams_and_quic() {
        let (authority, stranger, always) = (Authority::new(), Authority::new(), (0, 4_000_000_000));
        for mut server in both(&stranger, ADDRESS, always).await {
            server.ca = Some(authority.file.clone());
            assert_eq!(tried(&server).await, (Some(Cause::Tls), Some(TlsFault::UnknownAuthority)), "{}", server.url);
        }
        for server in both(&authority, "dns.example", always).await {
            let names = TlsFault::Name { expected: ADDRESS.into(), presented: vec!["dns.example".into()] };
            assert_eq!(tried(&server).await, (Some(Cause::Tls), Some(names)), "{}", server.url);
        }
        for server in both(&authority, ADDRESS, (3_900_000_000, 4_000_000_000)).await {
            let (_, fault) = tried(&server).await;
            assert!(matches!(fault, Some(TlsFault::NotYetValid { begins: 3_900_000_000, .. })), "{fault:?}");
        }
        for mut server in both(&authority, ADDRESS, always).await {
            server.pins = vec![[7; 32]];
            let (_, fault) = tried(&server).await;
            assert!(matches!(fault, Some(TlsFault::Pin { found }) if found != [0; 32]), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_server_of_another_protocol_and_one_without_tls_are_told_apart() {
        let authority = Authority::new();
        let other = |scheme, address: SocketAddr| authority.server(scheme, address);
        let dot = tls_server(authority.identity(&[ADDRESS], &["h2"]).0, |stream| serve_stream(stream, ANSWER)).await;
        assert_eq!(tried(&other("tls", dot)).await, (Some(Cause::Tls), Some(TlsFault::Protocol)));
        let doq = quic_server(authority.identity(&[ADDRESS], &["h3"]).0, |connection| serve_doq(connection, ANSWER));
        assert_eq!(tried(&other("quic", doq)).await, (Some(Cause::Tls), Some(TlsFault::Protocol)));
        let (listener, address) = super::super::testing::listener().await;
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(tried(&other("tls", address)).await, (Some(Cause::Tls), Some(TlsFault::NotTls)));
        let closing = super::super::testing::listener().await;
        tokio::spawn(async move { while closing.0.accept().await.is_ok() {} });
        let (cause, fault) = tried(&other("tls", closing.1)).await;
        assert_eq!((cause, fault), (Some(Cause::Tls), Some(TlsFault::Closed)));
    }

    #[test]
    fn a_certificate_that_cannot_be_an_authority_is_named_with_its_file() {
        use base64::Engine as _;
        let authority = Authority::new();
        let good = std::fs::read_to_string(&authority.file).unwrap();
        let junk = base64::engine::general_purpose::STANDARD.encode(b"not a certificate");
        let text = format!("{good}-----BEGIN CERTIFICATE-----\n{junk}\n-----END CERTIFICATE-----\n");
        std::fs::write(&authority.file, text).unwrap();
        let mut server = Server::new("tls://dns.example".parse().unwrap());
        server.ca = Some(authority.file.clone());
        let error = Trust::new(&server, &Arc::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("certificate 2 in {}", authority.file.display())), "{error}");
    }

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
