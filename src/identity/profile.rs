//! The TLS profile of every encrypted door: RFC 9325's suites and groups, resumption by tickets, never early data.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig};
use rustls::version::{TLS12, TLS13};

use super::MinVersion;
use super::guest::{self, Asking};
use super::keys::Keys;
use super::keys::tickets::{Doors, Tickets};

/// AEAD and ephemeral elliptic-curve suites alone (TLS-03). A client's own order decides, so that a device without AES
/// instructions gets the suite it asks for first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite as suite, kx_group};
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    Arc::new(provider)
}

/// What all doors share, so that a client resumes at whichever worker it meets.
#[derive(Debug)]
pub struct Profile {
    stream: ServerConfig,
    quic: ServerConfig,
}

impl Profile {
    /// The configurations, without ALPN.
    ///
    /// # Errors
    /// The library does not speak these versions with these suites.
    pub fn new(
        provider: &Arc<CryptoProvider>,
        certificates: &Arc<dyn ResolvesServerCert>,
        lowest: MinVersion,
        (asking, keys): (&Arc<Asking>, &Arc<Keys>),
    ) -> Result<Self, rustls::Error> {
        let config = |versions: &[&'static rustls::SupportedProtocolVersion], doors| {
            let config = ServerConfig::builder_with_provider(Arc::clone(provider))
                .with_protocol_versions(versions)?
                .with_client_cert_verifier(guest::verifier(asking, provider))
                .with_cert_resolver(Arc::clone(certificates));
            Ok::<_, rustls::Error>(hardened(config, Arc::new(Tickets::new(Arc::clone(keys), doors))))
        };
        let stream = match lowest {
            MinVersion::Tls12 => config(&[&TLS13, &TLS12], Doors::Stream)?,
            MinVersion::Tls13 => config(&[&TLS13], Doors::Stream)?,
        };
        Ok(Self { stream, quic: config(&[&TLS13], Doors::Quic)? })
    }

    /// For a TCP door.
    #[must_use]
    pub fn stream(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        speaking(&self.stream, alpn)
    }

    /// For a QUIC door (TLS-11).
    #[must_use]
    pub fn quic(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        speaking(&self.quic, alpn)
    }
}

fn hardened(mut config: ServerConfig, tickets: Arc<dyn ProducesTickets>) -> ServerConfig {
    config.ticketer = tickets;
    // Tickets hold the state; a table of sessions would be one more thing to bound.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    // DOT-08: a replayed question is a question answered twice, and there is no profile for it.
    config.max_early_data_size = 0;
    config
}

fn speaking(config: &ServerConfig, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}
