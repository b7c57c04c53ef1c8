//! The certificates in force, and TLS configurations that always present them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;

use super::acme::Challenges;
use super::authority::Authority;
use super::chooser::{self, Chooser};
use super::credential::{CertificateFacts, Credential, unix};
use super::guest::Asking;
use super::keys::Keys;
use super::pairs::{Looked, Pairs};
use super::profile::{self, Profile};
use super::{Chain, IdentityError, Origin, Settings};

/// The identity of all encrypted doors. What [`Identity::stream_config`] hands out follows later swaps of certificates.
#[derive(Debug)]
pub struct Identity {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) chooser: Arc<Chooser>,
    profile: Profile,
    /// Whether clients are asked for certificates.
    pub(super) asking: Arc<Asking>,
    keys: Arc<Keys>,
    pub(super) source: ArcSwap<Source>,
    /// Held while certificates are put in place of others.
    pub(super) turn: Mutex<()>,
    generation: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    /// What validators of an authority are answered by.
    challenges: Arc<Challenges>,
}

/// What a look at the certificates came to.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// Where those came from that are newly in force.
    pub renewed: Vec<Origin>,
    /// Why others are not: once for each change. What was in force stays so.
    pub faults: Vec<IdentityError>,
}

/// How often certificates were put in place of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// They are in force.
    pub taken: u64,
    /// They could not be used.
    pub refused: u64,
}

#[derive(Debug)]
pub(super) enum Source {
    /// Files: one renewal at a time looks and replaces.
    Files(Mutex<Pairs>),
    /// Our own authority signs for these names.
    Authority {
        authority: Box<Authority>,
        names: Vec<String>,
        /// Did it fail last time? It is told once.
        failed: AtomicBool,
    },
}

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
        let source = Source::of(settings.certificates, settings.names, &settings.state_dir, now)?;
        let chooser = Arc::new(Chooser::new(source.credentials(&provider, now)?, settings.unknown_names));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&chooser) as _;
        let keys = Arc::new(Keys::new(&settings.fleet, now)?);
        let asking = Arc::new(Asking::by(settings.guests));
        let profile = Profile::new(&provider, &resolver, settings.min_version, (&asking, &keys))?;
        let [generation, taken, refused] = std::array::from_fn(|_| AtomicU64::new(0));
        let challenges = Arc::default();
        let (source, turn) = (ArcSwap::from_pointee(source), Mutex::default());
        Ok(Arc::new(Self {
            provider,
            chooser,
            profile,
            asking,
            keys,
            source,
            turn,
            generation,
            taken,
            refused,
            challenges,
        }))
    }

    /// TLS for a TCP door that speaks one of `alpn`, in order of our preference.
    pub fn stream_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        self.profile.stream(alpn)
    }

    /// TLS 1.3 for a QUIC door.
    pub fn quic_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        self.profile.quic(alpn)
    }

    /// The keys of tickets, tokens and cookies.
    pub const fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The certificates in force, the default first.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        let now = SystemTime::now();
        let (current, ordered) = (self.chooser.current(), self.chooser.presented());
        let source = self.source.load();
        let is_stale = |index, credential: &Credential| match &**source {
            // The ordered one comes after those in files, and is none of the pairs.
            Source::Files(pairs) => lock(pairs).is_stale(index),
            Source::Authority { failed, .. } => {
                credential.origin == Origin::PrivateAuthority && failed.load(Ordering::Relaxed)
            }
        };
        let facts = |(index, credential): (usize, &Credential)| CertificateFacts {
            stale: is_stale(index, credential),
            ..credential.facts(now, index == 0)
        };
        chooser::in_order(&current, ordered.as_deref()).enumerate().map(facts).collect()
    }

    /// Is this the server's own certificate of one that is in force?
    pub fn is_in_force(&self, leaf: &CertificateDer<'_>) -> bool {
        let (current, ordered) = (self.chooser.current(), self.chooser.presented());
        chooser::in_order(&current, ordered.as_deref())
            .any(|credential| credential.certified.cert.first() == Some(leaf))
    }

    /// A number that grows with each swap of certificates: what was made from their names is as old as the number read before.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often certificates were put in place of others since the start.
    pub fn reloads(&self) -> Reloads {
        Reloads { taken: self.taken.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }

    /// Puts a certificate that was ordered by ACME in force beside the others, or takes it away; for handshakes that begin after this.
    pub fn present(&self, ordered: Option<Credential>) {
        self.chooser.present(ordered);
        self.generation.fetch_add(1, Ordering::Release);
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
    pub fn authority_path(&self) -> Option<PathBuf> {
        match &**self.source.load() {
            Source::Authority { authority, .. } => Some(authority.path().into()),
            Source::Files(_) => None,
        }
    }

    /// Reads all files again, or signs anew. Handshakes that begin afterwards see the new certificates (TLS-12).
    ///
    /// # Errors
    /// The first file at fault: what it was to replace stays in force; what can be used of the others is.
    pub fn renew(&self) -> Result<(), IdentityError> {
        let now = SystemTime::now();
        let _turn = lock(&self.turn);
        let upkeep = match &**self.source.load() {
            Source::Files(pairs) => self.look(pairs, |pairs| pairs.insist(&self.provider, now)),
            Source::Authority { authority, names, .. } => self.swap(authority.sign(names, &self.provider, now)),
        };
        upkeep.faults.into_iter().next().map_or(Ok(()), Err)
    }

    /// Takes what has changed on disk, or signs anew what has lived two thirds of its life. For the control thread, every few seconds.
    pub fn maintain(&self, now: SystemTime) -> Upkeep {
        let _turn = lock(&self.turn);
        match &**self.source.load() {
            Source::Files(pairs) => self.look(pairs, |pairs| pairs.look(&self.provider, now)),
            Source::Authority { authority, names, failed } => {
                if !self.chooser.current().iter().any(|credential| is_due(credential, now)) {
                    return Upkeep::default();
                }
                let signed = authority.sign(names, &self.provider, now);
                if failed.swap(signed.is_err(), Ordering::Relaxed) && signed.is_err() {
                    return Upkeep::default();
                }
                self.swap(signed)
            }
        }
    }

    fn look(&self, pairs: &Mutex<Pairs>, look: impl FnOnce(&mut Pairs) -> Looked) -> Upkeep {
        // Held until the new ones are in force: one renewal at a time.
        let mut pairs = lock(pairs);
        let Looked { read, faults } = look(&mut pairs);
        let mut credentials = Vec::clone(&self.chooser.current());
        let mut renewed = Vec::new();
        for (index, credential) in read {
            // A file that was only touched is no new certificate.
            let Some(place) = credentials.get_mut(index).filter(|old| old.certified.cert != credential.certified.cert)
            else {
                continue;
            };
            renewed.push(credential.origin.clone());
            *place = credential;
        }
        if !renewed.is_empty() {
            self.put_in_force(credentials);
        }
        self.count(&renewed, &faults);
        Upkeep { renewed, faults }
    }

    /// The same for the one that the private authority signs.
    fn swap(&self, signed: Result<Credential, IdentityError>) -> Upkeep {
        let upkeep = match signed {
            Ok(credential) => {
                self.put_in_force(vec![credential]);
                Upkeep { renewed: vec![Origin::PrivateAuthority], faults: Vec::new() }
            }
            Err(fault) => Upkeep { renewed: Vec::new(), faults: vec![fault] },
        };
        self.count(&upkeep.renewed, &upkeep.faults);
        upkeep
    }

    pub(super) fn put_in_force(&self, credentials: Vec<Credential>) {
        self.chooser.replace(credentials);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn count(&self, renewed: &[Origin], faults: &[IdentityError]) {
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.taken.fetch_add(wide(renewed.len()), Ordering::Relaxed);
        self.refused.fetch_add(wide(faults.len()), Ordering::Relaxed);
    }
}

impl Source {
    /// The files of `chains`, or without any the private authority in `state_dir`, which signs for `names`.
    pub(super) fn of(
        chains: Vec<Chain>,
        names: Vec<String>,
        state_dir: &Path,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        if chains.is_empty() {
            let authority = Box::new(Authority::open(state_dir, now)?);
            return Ok(Self::Authority { authority, names, failed: AtomicBool::new(false) });
        }
        Ok(Self::Files(Mutex::new(Pairs::new(chains))))
    }

    /// Reads or signs them all.
    pub(super) fn credentials(
        &self,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Vec<Credential>, IdentityError> {
        match self {
            Self::Files(pairs) => lock(pairs).read(provider, now),
            Self::Authority { authority, names, .. } => Ok(vec![authority.sign(names, provider, now)?]),
        }
    }
}

/// A look that panicked leaves what the next one looks at again.
pub(super) fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Past two thirds of its life, or not begun: the clock has been set back.
fn is_due(credential: &Credential, now: SystemTime) -> bool {
    let life = credential.not_after - credential.not_before;
    let now = unix(now);
    now >= credential.not_before + life / 3 * 2 || now < credential.not_before
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
        let trust = Arc::new(client(&identity.authority_path().unwrap()));
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
        let trust = || Arc::new(client(&identity.authority_path().unwrap()));
        let shown = || presented(&handshake(&trust(), &server, "localhost").unwrap().0);
        let first = shown();
        // What discovery, RESINFO and profiles were made from at start: names, and the authority to trust.
        let told = || (identity.certificates()[0].names.clone(), fs::read(identity.authority_path().unwrap()).unwrap());
        let told_first = told();
        assert_eq!(looked(&identity), (0, 0));
        assert_eq!((first.clone(), 0), (shown(), identity.generation()));
        let later = SystemTime::now() + Duration::from_hours(24 * 21);
        assert_eq!(identity.maintain(later).renewed, [Origin::PrivateAuthority]);
        assert!(identity.maintain(later).renewed.is_empty());
        assert_eq!(identity.generation(), 1);
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

    /// How many certificates a look put in force, and how many it complained of.
    fn looked(identity: &Identity) -> (usize, usize) {
        let upkeep = identity.maintain(SystemTime::now());
        (upkeep.renewed.len(), upkeep.faults.len())
    }

    #[test]
    fn tls_12_changed_files_are_taken_and_broken_ones_are_reported_once() {
        let scratch = Scratch::new();
        let identity = Identity::load(scratch.settings(vec![scratch.chain("dns", &["a.example"], 0)])).unwrap();
        assert_eq!(looked(&identity), (0, 0));
        scratch.chain("dns", &["much.longer.name.example"], 0);
        assert_eq!(looked(&identity), (1, 0));
        assert_eq!(identity.certificates()[0].names, ["much.longer.name.example"]);
        for broken in ["broken", "broken in another way"] {
            scratch.write("dns.pem", broken);
            // It may be half of a pair.
            assert_eq!([(); 5].map(|()| looked(&identity)), [(0, 0), (0, 0), (0, 1), (0, 0), (0, 0)]);
            let facts = &identity.certificates()[0];
            assert!(facts.stale && facts.names == ["much.longer.name.example"]);
        }
        scratch.chain("dns", &["mended.example"], 0);
        assert_eq!(looked(&identity), (1, 0));
        assert!(!identity.certificates()[0].stale);
        assert_eq!((identity.reloads(), identity.generation()), (Reloads { taken: 2, refused: 2 }, 2));
    }

    #[test]
    fn tls_12_each_pair_is_taken_or_refused_by_itself() {
        let scratch = Scratch::new();
        let files = ["torn", "junk", "old", "early", "piped", "good"];
        let chains: Vec<_> = files.iter().map(|file| scratch.chain(file, &["a.example"], 0)).collect();
        let identity = Identity::load(scratch.settings(chains)).unwrap();
        let before = identity.chooser.current();
        for (file, days) in [("torn", 0), ("old", -10), ("early", 10), ("good", 0)] {
            scratch.chain(file, &["b.example"], days);
        }
        fs::copy(scratch.path().join("good-key.pem"), scratch.path().join("torn-key.pem")).unwrap();
        scratch.write("junk-key.pem", vec![b'-'; (1 << 20) + 1]);
        fs::remove_file(scratch.path().join("piped.pem")).unwrap();
        nix::unistd::mkfifo(&scratch.path().join("piped.pem"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!([(); 4].map(|()| looked(&identity)), [(1, 0), (0, 0), (0, 5), (0, 0)]);
        let current = identity.chooser.current();
        let kept = |index: usize| Arc::ptr_eq(&before[index].certified, &current[index].certified);
        assert_eq!([0, 1, 2, 3, 4, 5].map(kept), [true, true, true, true, true, false]);
        assert_eq!(identity.certificates().iter().filter(|facts| facts.stale).count(), 5);
        // Time alone mends the one that was too early.
        let later = SystemTime::now() + Duration::from_hours(24 * 10);
        assert_eq!(identity.maintain(later).renewed.len(), 1);
        assert_eq!(
            identity.renew().unwrap_err().to_string().matches("torn").count(),
            2,
            "renewal on demand says why at once"
        );
    }

    #[test]
    fn tls_12_half_a_pair_heals_by_itself_and_nobody_hears_of_it() {
        let scratch = Scratch::new();
        let identity = Identity::load(scratch.settings(vec![scratch.chain("dns", &["a.example"], 0)])).unwrap();
        let next = scratch.chain("next", &["b.example"], 0);
        fs::copy(&next.chain, scratch.path().join("dns.pem")).unwrap();
        assert_eq!([looked(&identity), looked(&identity)], [(0, 0), (0, 0)]);
        assert!(!identity.certificates()[0].stale);
        fs::copy(&next.key, scratch.path().join("dns-key.pem")).unwrap();
        assert_eq!(looked(&identity), (1, 0));
        // Touched, not changed.
        fs::copy(&next.key, scratch.path().join("dns-key.pem")).unwrap();
        assert_eq!(looked(&identity), (0, 0));
        assert_eq!(identity.reloads(), Reloads { taken: 1, refused: 0 });
    }

    #[test]
    fn tls_12_a_link_that_leads_elsewhere_by_now_is_a_change() {
        let scratch = Scratch::new();
        for (folder, name) in [("first", "a.example"), ("second", "b.example")] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
            scratch.chain(&format!("{folder}/tls"), &[name], 0);
        }
        // As Kubernetes does it: the files are links through a link that is swapped.
        let link = scratch.path().join("..data");
        std::os::unix::fs::symlink("first", &link).unwrap();
        let files = crate::identity::Chain { chain: link.join("tls.pem"), key: link.join("tls-key.pem") };
        let identity = Identity::load(scratch.settings(vec![files])).unwrap();
        std::os::unix::fs::symlink("second", scratch.path().join("..new")).unwrap();
        fs::rename(scratch.path().join("..new"), &link).unwrap();
        assert_eq!(looked(&identity), (1, 0));
        assert_eq!(identity.certificates()[0].names, ["b.example"]);
    }

    #[test]
    fn dot_07_tickets_outlive_a_swap_of_certificates() {
        let scratch = Scratch::new();
        let files = scratch.chain("dns", &["a.example"], 0);
        let trust = Arc::new(client(&files.chain));
        let identity = Identity::load(scratch.settings(vec![files])).unwrap();
        let server = identity.stream_config(&[]);
        handshake(&trust, &server, "a.example").unwrap();
        scratch.chain("dns", &["a.example"], 0);
        assert_eq!(looked(&identity), (1, 0));
        let (near, _) = handshake(&trust, &server, "a.example").unwrap();
        assert_eq!(near.handshake_kind(), Some(HandshakeKind::Resumed));
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
            let mut trust = client(&identity.authority_path().unwrap());
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
