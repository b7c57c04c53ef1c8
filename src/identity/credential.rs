//! One certificate with its key, ready to be presented, and the facts about it that people ask for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::error::KeyFault;
use super::state_dir::read;
use super::{Chain, IdentityError};

/// Where a certificate came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This chain file.
    File(PathBuf),
    /// The private authority signed it.
    PrivateAuthority,
    /// The authority at this host issued it by ACME.
    Acme(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::PrivateAuthority => f.write_str("private authority"),
            Self::Acme(host) => write!(f, "acme ({host})"),
        }
    }
}

/// What is known of a certificate in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names and addresses it is for, lower case.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
    /// Whole days until then; negative once it is past.
    pub days_left: i64,
    /// Where it came from.
    pub source: Origin,
    /// Is it presented to clients that name no known server?
    pub default: bool,
    /// Are its files newer than it is, and cannot be used?
    pub stale: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// As TLS takes it.
    pub certified: Arc<CertifiedKey>,
    /// Its dNSName entries, lower case.
    pub domains: Vec<String>,
    /// Its iPAddress entries.
    pub addresses: Vec<String>,
    /// When it begins, in seconds since 1970.
    pub not_before: i64,
    /// When it ends.
    pub not_after: i64,
    /// Where it came from.
    pub origin: Origin,
}

impl Credential {
    /// Reads chain and key from files, and refuses what clients would refuse.
    ///
    /// # Errors
    /// The file at fault.
    pub fn from_files(files: &Chain, provider: &CryptoProvider, now: SystemTime) -> Result<Self, IdentityError> {
        let no_certificate = || IdentityError::NoCertificate { file: files.chain.clone() };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&files.chain)?)
            .collect::<Result<_, _>>()
            .map_err(|_| no_certificate())?;
        let key = private_key(&files.key, &read(&files.key)?)?;
        let (domains, addresses, validity) = chain.first().and_then(leaf_facts).ok_or_else(no_certificate)?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                IdentityError::Mismatch { chain: files.chain.clone(), key: files.key.clone() }
            }
            rustls::Error::InvalidCertificate(_) => no_certificate(),
            _ => IdentityError::NoKey { file: files.key.clone(), why: KeyFault::Kind },
        })?;
        validity.check(&files.chain, now)?;
        let Validity { not_before, not_after } = validity;
        let origin = Origin::File(files.chain.clone());
        Ok(Self { certified: Arc::new(certified), domains, addresses, not_before, not_after, origin })
    }

    /// A certificate that the private authority has just signed.
    ///
    /// # Errors
    /// The library does not take what it made.
    pub fn from_authority(
        leaf: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, IdentityError> {
        let unreadable = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let (domains, addresses, Validity { not_before, not_after }) = leaf_facts(&leaf).ok_or(unreadable)?;
        let certified = Arc::new(CertifiedKey::from_der(vec![leaf], key, provider)?);
        Ok(Self { certified, domains, addresses, not_before, not_after, origin: Origin::PrivateAuthority })
    }

    /// The facts at `now`.
    #[must_use]
    pub fn facts(&self, now: SystemTime, default: bool) -> CertificateFacts {
        CertificateFacts {
            names: self.domains.iter().chain(&self.addresses).cloned().collect(),
            not_after: self.not_after,
            days_left: (self.not_after - unix(now)).div_euclid(DAY),
            source: self.origin.clone(),
            default,
            stale: false,
        }
    }
}

/// The time a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: i64,
    /// Until.
    pub not_after: i64,
}

impl Validity {
    /// Of this certificate.
    #[must_use]
    pub fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
    }

    /// Is it valid at `now`?
    #[must_use]
    pub fn holds(self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&unix(now))
    }

    /// Is it valid at `now`?
    ///
    /// # Errors
    /// It is not, and `file` is named.
    pub fn check(self, file: &Path, now: SystemTime) -> Result<(), IdentityError> {
        let now = unix(now);
        if now > self.not_after {
            return Err(IdentityError::Expired { file: file.into(), since: day(self.not_after) });
        }
        if now < self.not_before {
            return Err(IdentityError::NotYetValid { file: file.into(), from: day(self.not_before) });
        }
        Ok(())
    }
}

/// Seconds since 1970.
#[must_use]
pub fn unix(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The day of a time in seconds since 1970, as messages tell it.
#[must_use]
pub fn day(unix: i64) -> time::Date {
    OffsetDateTime::from_unix_timestamp(unix).map_or(time::Date::MAX, OffsetDateTime::date)
}

/// Seconds in a day.
pub const DAY: i64 = 86_400;

fn private_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let text = String::from_utf8_lossy(pem);
        let encrypted = text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
        let why = if encrypted { KeyFault::Encrypted } else { KeyFault::Absent };
        IdentityError::NoKey { file: file.into(), why }
    })
}

/// dNSName entries in lower case, iPAddress entries, and the life.
pub type Facts = (Vec<String>, Vec<String>, Validity);

/// The names, addresses and life of a certificate; None where it cannot be read.
#[must_use]
pub fn leaf_facts(leaf: &CertificateDer<'_>) -> Option<Facts> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let (mut domains, mut addresses) = (Vec::new(), Vec::new());
    for name in certificate.subject_alternative_name().ok().flatten().iter().flat_map(|san| &san.value.general_names) {
        match name {
            GeneralName::DNSName(domain) => domains.push(domain.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => addresses.extend(address(octets)),
            _ => {}
        }
    }
    Some((domains, addresses, Validity::of(&certificate)))
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from)).ok().map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;
    use crate::identity::profile::provider;
    use crate::identity::scratch::Scratch;

    fn load(files: &Chain) -> Result<Credential, IdentityError> {
        Credential::from_files(files, &provider(), SystemTime::now())
    }

    fn message(files: &Chain) -> String {
        load(files).unwrap_err().to_string()
    }

    #[test]
    fn certificate_in_files_is_read_with_its_names() {
        let scratch = Scratch::new();
        let credential = load(&scratch.chain("dns", &["DNS.example", "192.0.2.1", "2001:db8::1"], 0)).unwrap();
        let facts = credential.facts(SystemTime::now(), true);
        assert_eq!(facts.names, ["dns.example", "192.0.2.1", "2001:db8::1"]);
        assert!((0..=1).contains(&facts.days_left));
        assert!(facts.source.to_string().ends_with("dns.pem"));
    }

    #[test]
    fn expired_and_future_certificates_are_named_with_their_day() {
        let scratch = Scratch::new();
        let expired = message(&scratch.chain("old", &["dns.example"], -10));
        assert!(
            expired.contains("old.pem") && expired.contains("expired on 2") && expired.contains("Renew"),
            "{expired}"
        );
        let future = message(&scratch.chain("new", &["dns.example"], 10));
        assert!(future.contains("new.pem") && future.contains("clock"), "{future}");
    }

    #[test]
    fn key_of_another_certificate_is_refused_with_both_files_named() {
        let scratch = Scratch::new();
        let (one, two) = (scratch.chain("one", &["a.example"], 0), scratch.chain("two", &["b.example"], 0));
        let crossed = message(&Chain { chain: one.chain, key: two.key });
        assert!(crossed.contains("one.pem") && crossed.contains("two-key.pem"), "{crossed}");
    }

    #[test]
    fn missing_and_senseless_files_are_named() {
        let scratch = Scratch::new();
        let good = scratch.chain("good", &["a.example"], 0);
        let absent = scratch.path().join("absent.pem");
        assert!(message(&Chain { chain: absent.clone(), ..good.clone() }).contains("absent.pem"));
        assert!(message(&Chain { key: absent, ..good.clone() }).contains("absent.pem"));
        let rubbish = scratch.write("rubbish.pem", "rubbish");
        assert!(message(&Chain { chain: rubbish.clone(), ..good.clone() }).contains("rubbish.pem"));
        assert!(message(&Chain { key: rubbish, ..good.clone() }).contains("PKCS#8, SEC1 or PKCS#1"));
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let locked = scratch.write("locked.pem", locked);
        assert!(message(&Chain { key: locked, ..good.clone() }).contains("pass phrase"));
        let huge = scratch.write("huge.pem", vec![b'-'; (1 << 20) + 1]);
        assert!(message(&Chain { chain: huge, ..good }).contains("larger than any certificate"));
    }

    #[test]
    fn keys_in_sec1_are_read_too() {
        let scratch = Scratch::new();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
        // The ECPrivateKey of RFC 5915 is the octet string at the end of PKCS#8.
        let pkcs8 = key.serialize_der();
        let at = pkcs8.windows(2).rposition(|pair| pair == [0x30, 0x81]).unwrap();
        let sec1 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &pkcs8[at..]);
        let pem = format!("-----BEGIN EC PRIVATE KEY-----\n{sec1}\n-----END EC PRIVATE KEY-----\n");
        let files = Chain { chain: scratch.write("c.pem", certificate.pem()), key: scratch.write("k.pem", pem) };
        assert!(fs::metadata(&files.chain).is_ok());
        load(&files).unwrap();
    }
}
