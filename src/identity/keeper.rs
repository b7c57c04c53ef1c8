//! The certificates in force, and TLS configurations that always present them.

use std::sync::Arc;

use super::Settings;

/// The identity of all encrypted doors. What [`Identity::stream_config`] hands out follows later swaps of certificates.
#[derive(Debug)]
pub struct Identity {
    _settings: Settings,
}

/// Why there is no identity: names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A placeholder variant list is filled by the implementation.
    #[error("unreadable")]
    Unreadable,
}

impl Identity {
    /// Loads certificates, or makes the private authority and a certificate signed by it.
    ///
    /// # Errors
    /// The file at fault.
    pub fn load(settings: Settings) -> Result<Arc<Self>, IdentityError> {
        Ok(Arc::new(Self { _settings: settings }))
    }

    /// TLS for a TCP door that speaks one of `alpn`, in order of our preference.
    pub fn stream_config(&self, _alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        unreachable!()
    }

    /// TLS 1.3 for a QUIC door.
    pub fn quic_config(&self, _alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        unreachable!()
    }
}
