//! What outlives a restart: the account, the certificate with its key, and how badly it went last. One folder an authority.
//!
//! Certificate and key are one file, so that there is never half a pair; every file is 0600 and written by a rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::AcmeError;
use crate::identity::IdentityError;
use crate::identity::credential::{Credential, Origin, Validity, leaf_facts};
use crate::identity::state_dir::{StateDir, read_if_there};

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
const TROUBLE: &str = "trouble.json";

/// The folder of one authority.
#[derive(Debug)]
pub struct Store {
    folder: StateDir,
    /// The authority's host, for people.
    host: String,
}

/// Failures in a row: a gateway that is started again and again must not ask again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What could not be had; for other names it counts for nothing.
    pub domains: Vec<String>,
    /// How often.
    pub failures: u32,
    /// When to try again, in seconds since 1970.
    pub retry_at: i64,
}

impl Store {
    /// The folder of the authority at `directory`, made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(state_dir: &Path, directory: &str) -> Result<Self, IdentityError> {
        let state = StateDir::open(state_dir)?;
        let all = StateDir::open(&state.file("acme"))?;
        let host = host(directory).to_owned();
        // The host is for people; the hash tells directories of one host apart.
        let folder =
            StateDir::open(&all.file(&format!("{host}-{:016x}", SipHasher13::new().hash(directory.as_bytes()))))?;
        Ok(Self { folder, host })
    }

    /// Where the certificate is.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.file(CERTIFICATE)
    }

    /// The account, as the library wrote it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn account(&self) -> Result<Option<Vec<u8>>, IdentityError> {
        read_if_there(&self.folder.file(ACCOUNT))
    }

    /// Keeps the account; an empty one is none.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_account(&self, account: &[u8]) -> Result<(), IdentityError> {
        self.folder.write(&self.folder.lock()?, ACCOUNT, account)
    }

    /// Keeps a certificate and its key, both PEM.
    ///
    /// # Errors
    /// It cannot be written; the one before stays.
    pub fn keep_certificate(&self, key: &str, chain: &str) -> Result<(), IdentityError> {
        self.folder.write(&self.folder.lock()?, CERTIFICATE, format!("{key}{chain}").as_bytes())
    }

    /// The certificate, if there is one that holds at `now`.
    ///
    /// # Errors
    /// What is there cannot be used.
    pub fn certificate(&self, provider: &CryptoProvider, now: SystemTime) -> Result<Option<Credential>, AcmeError> {
        let path = self.certificate_path();
        let Some(pem) = read_if_there(&path)? else { return Ok(None) };
        let (credential, validity) = self.credential(&pem, provider)?;
        validity.check(&path, now)?;
        Ok(Some(credential))
    }

    /// The certificate and key in `pem`, which belong together.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn credential(&self, pem: &[u8], provider: &CryptoProvider) -> Result<(Credential, Validity), AcmeError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| AcmeError::Certificate("it is not PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| AcmeError::Certificate("its key is not PEM"))?;
        let unreadable = AcmeError::Certificate("it cannot be read");
        let (domains, addresses, validity) = chain.first().and_then(leaf_facts).ok_or(unreadable)?;
        let certified = Arc::new(CertifiedKey::from_der(chain, key, provider)?);
        let Validity { not_before, not_after } = validity;
        let origin = Origin::Acme(self.host.clone());
        Ok((Credential { certified, domains, addresses, not_before, not_after, origin }, validity))
    }

    /// How badly it went last for `domains`. What cannot be read is nothing.
    #[must_use]
    pub fn trouble(&self, domains: &[String]) -> Trouble {
        let content = read_if_there(&self.folder.file(TROUBLE)).ok().flatten();
        let trouble = content.and_then(|content| serde_json::from_slice(&content).ok());
        trouble.filter(|trouble: &Trouble| trouble.domains == domains).unwrap_or_default()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_trouble(&self, trouble: &Trouble) -> Result<(), IdentityError> {
        let content = serde_json::to_vec(trouble).unwrap_or_default();
        self.folder.write(&self.folder.lock()?, TROUBLE, &content)
    }
}

/// The host of an https URL, in letters that a file's name may have.
pub(super) fn host(directory: &str) -> &str {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
    let host = rest.split(|character| !plain(character)).next().unwrap_or_default();
    host.get(..host.len().min(100)).unwrap_or_default().trim_start_matches('.')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::identity::profile::provider;
    use crate::identity::scratch::Scratch;

    const DIRECTORY: &str = "https://acme.example:14000/dir";

    fn store(scratch: &Scratch) -> Store {
        Store::open(&scratch.path().join("state"), DIRECTORY).unwrap()
    }

    fn walk(folder: &Path, seen: &mut Vec<(PathBuf, u32)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            seen.push((path.clone(), fs::metadata(&path).unwrap().permissions().mode() & 0o777));
            if path.is_dir() {
                walk(&path, seen);
            }
        }
    }

    fn pair(scratch: &Scratch, names: &[&str], days: i64) -> (String, String) {
        let chain = scratch.chain("made", names, days);
        (fs::read_to_string(chain.key).unwrap(), fs::read_to_string(chain.chain).unwrap())
    }

    #[test]
    fn what_is_kept_is_for_its_owner_alone_and_found_again() {
        let scratch = Scratch::new();
        let kept = store(&scratch);
        assert!(kept.account().unwrap().is_none());
        assert!(kept.certificate(&provider(), SystemTime::now()).unwrap().is_none());
        let (key, chain) = pair(&scratch, &["dns.example"], 0);
        kept.keep_account(b"{}").unwrap();
        kept.keep_certificate(&key, &chain).unwrap();
        kept.keep_trouble(&Trouble { domains: vec!["dns.example".into()], failures: 2, retry_at: 7 }).unwrap();
        let again = store(&scratch);
        assert_eq!(again.account().unwrap().as_deref(), Some(&b"{}"[..]));
        let found = again.certificate(&provider(), SystemTime::now()).unwrap().unwrap();
        assert_eq!(
            (found.domains, found.origin.to_string()),
            (vec!["dns.example".into()], "acme (acme.example)".into())
        );
        assert_eq!(again.trouble(&["dns.example".into()]).failures, 2);
        assert_eq!(again.trouble(&["other.example".into()]), Trouble::default());
        let mut seen = Vec::new();
        walk(&scratch.path().join("state"), &mut seen);
        for (path, mode) in seen {
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
            assert!(path.extension().is_none_or(|extension| extension != "new"), "{}", path.display());
        }
    }

    #[test]
    fn half_a_pair_an_expired_one_and_damage_are_not_taken() {
        let scratch = Scratch::new();
        let kept = store(&scratch);
        let read = || kept.certificate(&provider(), SystemTime::now()).map(|found| found.is_some());
        let (key, chain) = pair(&scratch, &["dns.example"], 0);
        let (other, expired) = pair(&scratch, &["dns.example"], -9);
        kept.keep_certificate(&other, &chain).unwrap();
        assert!(read().is_err(), "a key of another certificate");
        kept.keep_certificate(&other, &expired).unwrap();
        assert!(read().unwrap_err().to_string().contains("expired"));
        kept.keep_certificate("", &chain).unwrap();
        assert!(read().is_err());
        kept.keep_certificate("rubbish", "").unwrap();
        assert!(read().is_err());
        kept.keep_certificate(&key, &chain).unwrap();
        assert!(read().unwrap());
    }

    #[test]
    fn each_authority_has_a_folder_of_its_own() {
        let scratch = Scratch::new();
        let folders = [DIRECTORY, "https://acme.example:14000/other", "https://../../etc/dir", "https://[::1]/d"];
        let paths = folders.map(|url| Store::open(scratch.path(), url).unwrap().certificate_path());
        for (index, path) in paths.iter().enumerate() {
            assert!(path.starts_with(scratch.path().join("acme")), "{}", path.display());
            assert!(paths.iter().skip(index + 1).all(|other| other != path));
        }
    }
}
