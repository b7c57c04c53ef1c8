//! The certificates in force, and TLS configurations that always present them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;

use super::authority::Authority;
use super::chooser::Chooser;
use super::credential::{CertificateFacts, Credential, unix};
use super::profile::{self, Profile};
use super::{Chain, IdentityError, Settings};

/// The identity of all encrypted doors. What [`Identity::stream_config`] hands out follows later swaps of certificates.
#[derive(Debug)]
pub struct Identity {
    provider: Arc<CryptoProvider>,
    chooser: Arc<Chooser>,
    profile: Profile,
    source: Source,
}

/// What a look at the certificates came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// They are as they were.
    Unchanged,
    /// New ones are in force.
    Renewed,
}

#[derive(Debug)]
enum Source {
    /// Files, and when each was last seen to change: one renewal at a time looks and replaces.
    Files { chains: Vec<Chain>, seen: Mutex<Vec<Stamp>> },
    /// Our own authority signs for these names.
    Authority { authority: Box<Authority>, names: Vec<String> },
}

/// What tells one version of a file from another.
type Stamp = Option<(SystemTime, u64)>;

impl Identity {
    /// Loads certificates, or makes the private authority and a certificate signed by it.
    ///
    /// # Errors
    /// The file at fault.
    pub fn load(settings: Settings) -> Result<Arc<Self>, IdentityError> {
        let provider = profile::provider();
        let now = SystemTime::now();
        let source = if settings.certificates.is_empty() {
            let authority = Box::new(Authority::open(&settings.state_dir, now)?);
            Source::Authority { authority, names: settings.names }
        } else {
            let seen = Mutex::new(stamps(&settings.certificates));
            Source::Files { chains: settings.certificates, seen }
        };
        let chooser = Arc::new(Chooser::new(source.credentials(&provider, now)?));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&chooser) as _;
        let profile = Profile::new(&provider, &resolver, settings.min_version)?;
        Ok(Arc::new(Self { provider, chooser, profile, source }))
    }

    /// TLS for a TCP door that speaks one of `alpn`, in order of our preference.
    pub fn stream_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        self.profile.stream(alpn)
    }

    /// TLS 1.3 for a QUIC door.
    pub fn quic_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        self.profile.quic(alpn)
    }

    /// The certificates in force, the default first.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        let now = SystemTime::now();
        let current = self.chooser.current();
        current.iter().enumerate().map(|(index, credential)| credential.facts(now, index == 0)).collect()
    }

    /// The private authority's certificate, for clients to trust; `None` with certificates from files.
    pub fn authority_path(&self) -> Option<&Path> {
        match &self.source {
            Source::Authority { authority, .. } => Some(authority.path()),
            Source::Files { .. } => None,
        }
    }

    /// Reads the files again, or signs anew. Handshakes that begin afterwards see the new certificates (TLS-12).
    ///
    /// # Errors
    /// The file at fault; what was in force stays so.
    pub fn renew(&self) -> Result<(), IdentityError> {
        self.renew_at(SystemTime::now())
    }

    /// Renews what has changed on disk or has lived two thirds of its life. For the control thread, about once a minute.
    ///
    /// # Errors
    /// As [`Identity::renew`]; a broken file is reported once for each time it changes.
    pub fn maintain(&self, now: SystemTime) -> Result<Upkeep, IdentityError> {
        let due = match &self.source {
            Source::Files { chains, seen } => *seen.lock().unwrap_or_else(PoisonError::into_inner) != stamps(chains),
            Source::Authority { .. } => self.chooser.current().iter().any(|credential| is_due(credential, now)),
        };
        if !due {
            return Ok(Upkeep::Unchanged);
        }
        self.renew_at(now).map(|()| Upkeep::Renewed)
    }

    fn renew_at(&self, now: SystemTime) -> Result<(), IdentityError> {
        if let Source::Files { chains, seen } = &self.source {
            // Before the files are read: a change while they are is seen next time.
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(chains);
        }
        self.chooser.replace(self.source.credentials(&self.provider, now)?);
        Ok(())
    }
}

impl Source {
    fn credentials(&self, provider: &CryptoProvider, now: SystemTime) -> Result<Vec<Credential>, IdentityError> {
        match self {
            Self::Files { chains, .. } => {
                chains.iter().map(|files| Credential::from_files(files, provider, now)).collect()
            }
            Self::Authority { authority, names } => Ok(vec![authority.sign(names, provider, now)?]),
        }
    }
}

/// Past two thirds of its life, or not begun: the clock has been set back.
fn is_due(credential: &Credential, now: SystemTime) -> bool {
    let life = credential.not_after - credential.not_before;
    let now = unix(now);
    now >= credential.not_before + life / 3 * 2 || now < credential.not_before
}

fn stamps(chains: &[Chain]) -> Vec<Stamp> {
    let files = chains.iter().flat_map(|files| [&files.chain, &files.key]);
    files.map(|file| std::fs::metadata(file).ok().and_then(|data| Some((data.modified().ok()?, data.len())))).collect()
}
