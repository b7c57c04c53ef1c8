//! What tests of files and certificates need: a directory that goes away, certificates for a day, a handshake in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme,
};

use super::{Chain, Fleet, MinVersion, Settings, UnknownNames};

/// A directory of its own for one test, removed with it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hushgate-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A self-signed certificate for `names`, valid from yesterday to tomorrow, shifted by `days`.
    pub(crate) fn chain(&self, file: &str, names: &[&str], days: i64) -> Chain {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let now = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        params.not_before = now - time::Duration::days(1);
        params.not_after = now + time::Duration::days(1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Chain {
            chain: self.write(&format!("{file}.pem"), certificate.pem()),
            key: self.write(&format!("{file}-key.pem"), key.serialize_pem()),
        }
    }

    pub(crate) fn settings(&self, certificates: Vec<Chain>) -> Settings {
        Settings {
            state_dir: self.0.join("state"),
            certificates,
            names: vec!["localhost".into(), "dns.home.arpa".into(), "127.0.0.1".into(), "::1".into()],
            guests: crate::identity::Guests::default(),
            min_version: MinVersion::Tls12,
            unknown_names: UnknownNames::Served,
            fleet: Fleet::default(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client that trusts the certificates in `authority` and nothing else.
pub(crate) fn client(authority: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// A whole handshake and what the server sends after it.
pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut near = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut far = ServerConnection::new(Arc::clone(server)).unwrap();
    while near.wants_write() || far.wants_write() {
        let mut flight = Vec::new();
        while near.wants_write() {
            near.write_tls(&mut flight).unwrap();
        }
        let mut flight = flight.as_slice();
        while !flight.is_empty() {
            far.read_tls(&mut flight).unwrap();
            far.process_new_packets()?;
        }
        let mut flight = Vec::new();
        while far.wants_write() {
            far.write_tls(&mut flight).unwrap();
        }
        let mut flight = flight.as_slice();
        while !flight.is_empty() {
            near.read_tls(&mut flight).unwrap();
            near.process_new_packets()?;
        }
    }
    assert!(!near.is_handshaking() && !far.is_handshaking());
    Ok((near, far))
}

/// The certificate that the server presented.
pub(crate) fn presented(client: &ClientConnection) -> Vec<u8> {
    client.peer_certificates().unwrap()[0].to_vec()
}

/// A client that takes whatever certificate it is shown, and offers `alpn`.
pub(crate) fn trusting_anything(alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = super::profile::provider();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous)).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
