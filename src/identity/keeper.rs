//! The certificates in force, and TLS configurations that always present them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;

use super::acme::Challenges;
use super::authority::Authority;
use super::chooser::{self, Chooser};
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
    /// What validators of an authority are answered by.
    challenges: Arc<Challenges>,
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
        Self::load_at(settings, SystemTime::now())
    }

    /// The same at `now`, for a machine whose clock is not to be believed.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn load_at(settings: Settings, now: SystemTime) -> Result<Arc<Self>, IdentityError> {
        let provider = profile::provider();
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
        Ok(Arc::new(Self { provider, chooser, profile, source, challenges: Arc::default() }))
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
        let (current, ordered) = (self.chooser.current(), self.chooser.presented());
        chooser::in_order(&current, ordered.as_deref())
            .enumerate()
            .map(|(index, credential)| credential.facts(now, index == 0))
            .collect()
    }

    /// Puts a certificate that was ordered by ACME in force beside the others, or takes it away; for handshakes that begin after this.
    pub fn present(&self, ordered: Option<Credential>) {
        self.chooser.present(ordered);
    }

    /// The certificate that was ordered by ACME.
    pub fn presented(&self) -> Option<Arc<Credential>> {
        self.chooser.presented()
    }

    /// The challenges of an authority that are pending.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use rustls::{HandshakeKind, ProtocolVersion};

    use super::*;
    use crate::identity::scratch::{Scratch, client, handshake, presented};
    use crate::identity::{MinVersion, Origin};

    fn private(scratch: &Scratch) -> (Arc<Identity>, Arc<rustls::ClientConfig>) {
        let identity = Identity::load(scratch.settings(Vec::new())).unwrap();
        let trust = Arc::new(client(identity.authority_path().unwrap()));
        (identity, trust)
    }

    #[test]
    fn private_certificate_verifies_for_every_name_and_address_and_no_other() {
        let scratch = Scratch::new();
        let (identity, trust) = private(&scratch);
        let server = identity.stream_config(&[]);
        for name in ["localhost", "dns.home.arpa", "127.0.0.1", "::1"] {
            handshake(&trust, &server, name).unwrap();
        }
        handshake(&trust, &server, "elsewhere.example").unwrap_err();
        handshake(&trust, &server, "127.0.0.2").unwrap_err();
    }

    #[test]
    fn trust_given_once_outlives_restarts_and_new_names() {
        let scratch = Scratch::new();
        let (_, trust) = private(&scratch);
        let mut settings = scratch.settings(Vec::new());
        settings.names = vec!["renamed.example".into()];
        let again = Identity::load(settings).unwrap();
        handshake(&trust, &again.stream_config(&[]), "renamed.example").unwrap();
    }

    #[test]
    fn lost_authority_certificate_comes_back_under_the_trust_given_to_the_first() {
        let scratch = Scratch::new();
        let (identity, trust) = private(&scratch);
        fs::remove_file(identity.authority_path().unwrap()).unwrap();
        let again = Identity::load(scratch.settings(Vec::new())).unwrap();
        handshake(&trust, &again.stream_config(&[]), "localhost").unwrap();
    }

    #[test]
    fn renewal_shows_under_a_configuration_handed_out_before() {
        let scratch = Scratch::new();
        let (identity, _) = private(&scratch);
        let server = identity.stream_config(&[]);
        // A new client each time: one that resumes is shown no certificate.
        let trust = || Arc::new(client(identity.authority_path().unwrap()));
        let shown = || presented(&handshake(&trust(), &server, "localhost").unwrap().0);
        let first = shown();
        // What discovery, RESINFO and profiles were made from at start: names, and the authority to trust.
        let told = || (identity.certificates()[0].names.clone(), fs::read(identity.authority_path().unwrap()).unwrap());
        let told_first = told();
        assert_eq!(identity.maintain(SystemTime::now()).unwrap(), Upkeep::Unchanged);
        assert_eq!(first, shown());
        let later = SystemTime::now() + Duration::from_hours(24 * 21);
        assert_eq!(identity.maintain(later).unwrap(), Upkeep::Renewed);
        assert_eq!(identity.maintain(later).unwrap(), Upkeep::Unchanged);
        assert!(identity.certificates()[0].days_left > 48);
        // Made for that later day, it still begins a day before it: back to the real day to look at it.
        identity.renew().unwrap();
        assert_ne!(first, shown());
        assert_eq!(told_first, told());
    }

    #[test]
    fn dot_17_server_name_chooses_and_the_first_certificate_is_the_default() {
        let scratch = Scratch::new();
        let chains = vec![
            scratch.chain("one", &["one.example", "127.0.0.1"], 0),
            scratch.chain("wild", &["*.two.example"], 0),
            scratch.chain("exact", &["dns.two.example"], 0),
        ];
        let trust = scratch.path().join("all.pem");
        let all: String = chains.iter().map(|files| fs::read_to_string(&files.chain).unwrap()).collect();
        fs::write(&trust, all).unwrap();
        let trust = Arc::new(client(&trust));
        let identity = Identity::load(scratch.settings(chains)).unwrap();
        let server = identity.stream_config(&[]);
        for name in ["ONE.example", "a.two.example", "dns.two.example", "127.0.0.1"] {
            handshake(&trust, &server, name).unwrap();
        }
        let names = |name: Option<&str>| {
            let certified = identity.chooser.choose(name, &[]).unwrap();
            let current = identity.chooser.current();
            let found = current.iter().find(|credential| Arc::ptr_eq(&credential.certified, &certified));
            found.unwrap().domains.clone()
        };
        assert_eq!(names(Some("dns.two.example")), ["dns.two.example"]);
        for unknown in [None, Some("two.example"), Some("a.b.two.example"), Some(".two.example"), Some("x")] {
            assert_eq!(names(unknown), ["one.example"], "{unknown:?}");
        }
        let facts = identity.certificates();
        assert!(facts[0].default && !facts[1].default && facts.len() == 3);
        assert!(matches!(&facts[2].source, Origin::File(file) if file.ends_with("exact.pem")));
        assert!(identity.authority_path().is_none());
    }

    #[test]
    fn tls_12_changed_files_are_taken_and_broken_ones_are_reported_once() {
        let scratch = Scratch::new();
        let identity = Identity::load(scratch.settings(vec![scratch.chain("dns", &["a.example"], 0)])).unwrap();
        assert_eq!(identity.maintain(SystemTime::now()).unwrap(), Upkeep::Unchanged);
        scratch.chain("dns", &["much.longer.name.example"], 0);
        assert_eq!(identity.maintain(SystemTime::now()).unwrap(), Upkeep::Renewed);
        assert_eq!(identity.certificates()[0].names, ["much.longer.name.example"]);
        scratch.write("dns.pem", "broken");
        assert!(identity.maintain(SystemTime::now()).is_err());
        assert_eq!(identity.maintain(SystemTime::now()).unwrap(), Upkeep::Unchanged);
        assert_eq!(identity.certificates()[0].names, ["much.longer.name.example"]);
    }

    #[test]
    fn dot_07_clients_resume_by_one_ticket_and_dot_08_never_with_early_data() {
        let scratch = Scratch::new();
        let (identity, trust) = private(&scratch);
        let server = identity.stream_config(&[b"dot"]);
        let (near, _) = handshake(&trust, &server, "localhost").unwrap();
        assert_eq!(near.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(near.tls13_tickets_received(), 1);
        // Another worker, another configuration, the same tickets.
        let (near, _) = handshake(&trust, &identity.stream_config(&[b"dot"]), "localhost").unwrap();
        assert_eq!(near.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(server.max_early_data_size, 0);
        assert_eq!(identity.quic_config(&[b"doq"]).max_early_data_size, 0);
    }

    #[test]
    fn tls_10_alpn_is_chosen_optional_and_fatal_without_overlap() {
        let scratch = Scratch::new();
        let (identity, _) = private(&scratch);
        let server = identity.stream_config(&[b"h2", b"http/1.1"]);
        let offering = |alpn: &[&[u8]]| {
            let mut trust = client(identity.authority_path().unwrap());
            trust.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            handshake(&Arc::new(trust), &server, "localhost").map(|(near, _)| near.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(offering(&[b"http/1.1", b"h2"]).unwrap().unwrap(), b"h2");
        assert_eq!(offering(&[]).unwrap(), None);
        offering(&[b"dot"]).unwrap_err();
    }

    #[test]
    fn tls_02_versions_follow_the_lowest_allowed_and_tls_11_quic_takes_1_3_alone() {
        let scratch = Scratch::new();
        let (identity, trust) = private(&scratch);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let old = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls::pki_types::pem::PemObject::pem_file_iter(identity.authority_path().unwrap()).unwrap()
        {
            roots.add(certificate.unwrap()).unwrap();
        }
        let old = Arc::new(old.with_root_certificates(roots).with_no_client_auth());
        let stream = identity.stream_config(&[]);
        let (near, _) = handshake(&trust, &stream, "localhost").unwrap();
        assert_eq!(near.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let (near, _) = handshake(&old, &stream, "localhost").unwrap();
        assert_eq!(near.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        let mut strict = scratch.settings(Vec::new());
        strict.min_version = MinVersion::Tls13;
        let strict = Identity::load(strict).unwrap();
        for server in [strict.stream_config(&[]), identity.quic_config(&[])] {
            handshake(&old, &server, "localhost").unwrap_err();
        }
    }

    #[test]
    fn quinn_takes_the_quic_configuration() {
        let scratch = Scratch::new();
        let (identity, _) = private(&scratch);
        let config = identity.quic_config(&[b"doq"]);
        assert!(quinn::crypto::rustls::QuicServerConfig::try_from(config).is_ok());
    }
}
