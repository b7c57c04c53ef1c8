//! A private authority: made once, trusted by hand on each client, it signs the short-lived certificate of this gateway.
//!
//! Its name and key stay the same when `tls.names` change, so that trust once given lasts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use tracing::{info, warn};

use super::IdentityError;
use super::credential::{Credential, DAY, Validity, day, unix};
use super::error::AuthorityFault;
use super::state_dir::{Lock, StateDir, is_open_to_others, read_if_there};

/// The certificate to trust, in the state directory.
pub const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority-key.pem";

/// Ten years: nobody wants to tell every device again.
const AUTHORITY_LIFE: i64 = 3652 * DAY;
/// A leaf's life; well under the 398 days that Apple's systems allow.
const LEAF_LIFE: i64 = 30 * DAY;
/// Clients' clocks may be behind ours.
const SLACK: i64 = DAY;
/// 2025-01-01: before it, the clock has not been set.
const EARLIEST: i64 = 1_735_689_600;
/// RFC 5280 A.1: ub-common-name.
const MAX_COMMON_NAME: usize = 64;

/// The authority, ready to sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    validity: Validity,
    path: PathBuf,
}

impl Authority {
    /// The authority in `path`, made there on the first start.
    ///
    /// # Errors
    /// A file is damaged, missing beside its pair, or cannot be written.
    pub fn open(path: &Path, now: SystemTime) -> Result<Self, IdentityError> {
        let directory = StateDir::open(path)?;
        if let Some(authority) = Self::load(&directory, now)? {
            return Ok(authority);
        }
        let lock = directory.lock()?;
        // Another instance may have made it while we waited.
        if let Some(authority) = Self::load(&directory, now)? {
            return Ok(authority);
        }
        make(&directory, &lock, now)?;
        let missing =
            || IdentityError::Authority { file: directory.file(CERTIFICATE), why: AuthorityFault::Certificate };
        let authority = Self::load(&directory, now)?.ok_or_else(missing)?;
        info!(file = %authority.path.display(), "private authority made: trust it on your clients, see certs/README.md");
        Ok(authority)
    }

    /// The certificate to trust.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there; `None` where nothing is, or a key whose certificate was not written yet.
    fn load(directory: &StateDir, now: SystemTime) -> Result<Option<Self>, IdentityError> {
        let (path, key_path) = (directory.file(CERTIFICATE), directory.file(KEY));
        let Some(pem) = read_if_there(&path)? else { return Ok(None) };
        let Some(key_pem) = read_if_there(&key_path)? else {
            return Err(IdentityError::Authority { file: key_path, why: AuthorityFault::KeyMissing });
        };
        if is_open_to_others(&key_path) {
            warn!(file = %key_path.display(), "key is open to other users of this machine: chmod 600");
        }
        let key = read_key(&key_path, &key_pem)?;
        let damaged = |why| IdentityError::Authority { file: path.clone(), why };
        let (_, block) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| damaged(AuthorityFault::Certificate))?;
        let certificate = block.parse_x509().map_err(|_| damaged(AuthorityFault::Certificate))?;
        if !certificate.is_ca() {
            return Err(damaged(AuthorityFault::NotAnAuthority));
        }
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(IdentityError::Authority { file: key_path, why: AuthorityFault::Mismatch });
        }
        let validity = Validity::of(&certificate);
        let issuer = Issuer::from_ca_cert_der(&block.contents.as_slice().into(), key)?;
        let authority = Self { issuer, validity, path };
        authority.check(now)?;
        Ok(Some(authority))
    }

    fn check(&self, now: SystemTime) -> Result<(), IdentityError> {
        self.validity.check(&self.path, now).map_err(|error| match error {
            IdentityError::Expired { file, since } => IdentityError::AuthorityExpired { file, since },
            other => other,
        })
    }

    /// A new certificate for `names`, with a key that never touches the disk.
    ///
    /// # Errors
    /// A name that no certificate can carry.
    pub fn sign(
        &self,
        names: &[String],
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Credential, IdentityError> {
        if names.is_empty() {
            return Err(IdentityError::NoNames);
        }
        self.check(now)?;
        let begin = (unix(now) - SLACK).max(self.validity.not_before);
        let end = (unix(now) + LEAF_LIFE).min(self.validity.not_after);
        let mut params = parameters("hushgate", begin, end)?;
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Credential::from_authority(leaf.into(), key.into(), provider)
    }
}

/// Key first, certificate last: the certificate's presence says that both are whole. A key left alone by a crash is used,
/// which also lets a lost certificate come back without clients noticing.
fn make(directory: &StateDir, lock: &Lock, now: SystemTime) -> Result<(), IdentityError> {
    let seconds = unix(now);
    if seconds < EARLIEST {
        return Err(IdentityError::Clock { today: day(seconds) });
    }
    let key_path = directory.file(KEY);
    let key = if let Some(pem) = read_if_there(&key_path)? {
        read_key(&key_path, &pem)?
    } else {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        directory.write(lock, KEY, key.serialize_pem().as_bytes())?;
        key
    };
    let mut params = parameters(&common_name(), seconds - SLACK, seconds + AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    directory.write(lock, CERTIFICATE, certificate.pem().as_bytes())
}

fn read_key(path: &Path, pem: &[u8]) -> Result<KeyPair, IdentityError> {
    let text = std::str::from_utf8(pem).ok();
    text.and_then(|text| KeyPair::from_pem(text).ok())
        .ok_or_else(|| IdentityError::Authority { file: path.into(), why: AuthorityFault::Key })
}

fn parameters(common_name: &str, begin: i64, end: i64) -> Result<CertificateParams, IdentityError> {
    let clock = |_| IdentityError::Clock { today: day(begin) };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::from_unix_timestamp(begin).map_err(clock)?;
    params.not_after = OffsetDateTime::from_unix_timestamp(end).map_err(clock)?;
    // RFC 5280 4.1.2.2: positive, and unlike every other of this issuer.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn common_name() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok()).unwrap_or_default();
    let host = if host.is_empty() { "localhost" } else { &host };
    let frame = "hushgate private authority ()".len();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(MAX_COMMON_NAME - frame).collect();
    format!("hushgate private authority ({host})")
}

fn alternative(name: &str) -> Result<SanType, IdentityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || IdentityError::Name { name: name.into() };
    let domain = name.strip_suffix('.').unwrap_or(name);
    let labels = domain.strip_prefix("*.").unwrap_or(domain);
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if domain.len() > 253 || !labels.split('.').all(fits) {
        return Err(refused());
    }
    Ok(SanType::DnsName(domain.to_ascii_lowercase().try_into().map_err(|_| refused())?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;
    use crate::identity::scratch::Scratch;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn error(directory: &Path) -> String {
        Authority::open(directory, SystemTime::now()).unwrap_err().to_string()
    }

    #[test]
    fn authority_is_made_once_for_its_owner_alone_and_found_again() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("a/state");
        let first = Authority::open(&directory, SystemTime::now()).unwrap();
        let made = fs::read(first.path()).unwrap();
        let second = Authority::open(&directory, SystemTime::now()).unwrap();
        assert_eq!(fs::read(second.path()).unwrap(), made);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join(KEY)), 0o600);
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
    }

    #[test]
    fn instances_that_start_at_once_share_one_authority() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("state");
        let barrier = Barrier::new(8);
        let seen: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                let authority = Authority::open(&directory, SystemTime::now()).unwrap();
                (fs::read(authority.path()).unwrap(), authority.issuer.key().serialize_der())
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn authority_is_a_constrained_ca_that_lasts_ten_years() {
        let scratch = Scratch::new();
        let authority = Authority::open(scratch.path(), SystemTime::now()).unwrap();
        let pem = fs::read(authority.path()).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = block.parse_x509().unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap().value;
        assert!(constraints.ca && constraints.path_len_constraint == Some(0));
        assert!(certificate.key_usage().unwrap().unwrap().value.key_cert_sign());
        assert!(certificate.subject().to_string().starts_with("CN=hushgate private authority ("));
        let days = (authority.validity.not_after - unix(SystemTime::now())) / DAY;
        assert!((3650..3653).contains(&days), "{days}");
    }

    #[test]
    fn leaf_is_short_lived_and_says_what_it_is_for() {
        let scratch = Scratch::new();
        let authority = Authority::open(scratch.path(), SystemTime::now()).unwrap();
        let provider = crate::identity::profile::provider();
        let names = ["*.Home.Arpa.".to_owned(), "192.0.2.1".to_owned()];
        let leaf = authority.sign(&names, &provider, SystemTime::now()).unwrap();
        assert_eq!((leaf.domains, leaf.addresses), (vec!["*.home.arpa".to_owned()], vec!["192.0.2.1".to_owned()]));
        let (_, certificate) = x509_parser::parse_x509_certificate(&leaf.certified.cert[0]).unwrap();
        assert!(!certificate.is_ca());
        assert!(certificate.extended_key_usage().unwrap().unwrap().value.server_auth);
        assert!(certificate.key_usage().unwrap().unwrap().value.digital_signature());
        let oids: Vec<_> = certificate.extensions().iter().map(|extension| extension.oid.to_id_string()).collect();
        for needed in ["2.5.29.14", "2.5.29.35"] {
            assert!(oids.iter().any(|oid| oid == needed), "{needed} is not among {oids:?}");
        }
        assert!((leaf.not_after - leaf.not_before) / DAY < 398);
    }

    #[test]
    fn damaged_authority_is_an_error_that_names_the_file_and_is_left_alone() {
        let scratch = Scratch::new();
        Authority::open(scratch.path(), SystemTime::now()).unwrap();
        let good = fs::read(scratch.path().join(CERTIFICATE)).unwrap();
        scratch.write(CERTIFICATE, "rubbish");
        let message = error(scratch.path());
        assert!(message.contains("authority.pem") && message.contains("have a new one made"), "{message}");
        assert_eq!(fs::read(scratch.path().join(CERTIFICATE)).unwrap(), b"rubbish");

        scratch.write(CERTIFICATE, &good);
        scratch.write(KEY, KeyPair::generate().unwrap().serialize_pem());
        assert!(error(scratch.path()).contains("does not belong"));
        scratch.write(KEY, "rubbish");
        assert!(error(scratch.path()).contains("authority-key.pem"));
        fs::remove_file(scratch.path().join(KEY)).unwrap();
        assert!(error(scratch.path()).contains("missing"));
    }

    #[test]
    fn lost_certificate_comes_back_from_its_key() {
        let scratch = Scratch::new();
        let first = Authority::open(scratch.path(), SystemTime::now()).unwrap();
        let old = scratch.path().join("old.pem");
        fs::rename(first.path(), &old).unwrap();
        let second = Authority::open(scratch.path(), SystemTime::now()).unwrap();
        assert_eq!(first.issuer.key().serialize_der(), second.issuer.key().serialize_der());
    }

    #[test]
    fn clock_that_was_never_set_makes_no_authority() {
        let scratch = Scratch::new();
        let unset = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let message = Authority::open(scratch.path(), unset).unwrap_err().to_string();
        assert!(message.contains("1970-01-01"), "{message}");
        assert!(!scratch.path().join(CERTIFICATE).exists());
    }

    #[test]
    fn names_that_no_certificate_can_carry_are_refused() {
        for name in ["", "a b", "*.", "a..b", "dns.*.example", "münchen.example", "*"] {
            assert!(matches!(alternative(name), Err(IdentityError::Name { .. })), "{name}");
        }
    }
}
