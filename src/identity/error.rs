//! Why there is no identity: every message names the file and says what to do.

use std::io;
use std::path::PathBuf;

use super::keys::NoKeys;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}. Check the path, and that the user hushgate runs as may read it", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A chain file holds no certificate.
    #[error("{} holds no readable certificate. It must hold the chain as PEM blocks \"BEGIN CERTIFICATE\", the server's own first", file.display())]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// A file of authorities to trust holds none.
    #[error("{} holds no authority's certificate that can be used. It must hold those to trust as PEM blocks \"BEGIN CERTIFICATE\"", file.display())]
    NoAuthority {
        /// Which.
        file: PathBuf,
    },
    /// A key file holds no key.
    #[error("{} holds no private key that can be used: {why}", file.display())]
    NoKey {
        /// Which.
        file: PathBuf,
        /// What is there instead.
        why: KeyFault,
    },
    /// Chain and key are not a pair.
    #[error(
        "the key in {} does not belong to the first certificate in {}. Give the key the certificate was requested with, \
         and put the server's own certificate before its issuers",
        key.display(), chain.display()
    )]
    Mismatch {
        /// The chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate is past its time.
    #[error("the certificate in {} expired on {since}. Renew it, then start hushgate again", file.display())]
    Expired {
        /// Which.
        file: PathBuf,
        /// The day.
        since: time::Date,
    },
    /// The certificate is ahead of its time.
    #[error("the certificate in {} is not valid before {from}. Check this machine's clock, or use another certificate", file.display())]
    NotYetValid {
        /// Which.
        file: PathBuf,
        /// The day.
        from: time::Date,
    },
    /// A file of the private authority is damaged or missing. It is never replaced silently: clients trust it by hand.
    #[error(
        "the private authority in {} is damaged: {why}. Restore it from a backup; or remove authority.pem and \
         authority-key.pem beside it to have a new one made, which every client must then be told to trust",
        file.display()
    )]
    Authority {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        why: AuthorityFault,
    },
    /// The private authority is past its time.
    #[error(
        "the private authority in {} expired on {since}. Remove authority.pem and authority-key.pem there to have a new \
         one made, which every client must then be told to trust",
        file.display()
    )]
    AuthorityExpired {
        /// Which file.
        file: PathBuf,
        /// The day.
        since: time::Date,
    },
    /// A file or directory cannot be made.
    #[error("cannot write {}: {source}. Check that the user hushgate runs as may write to state_dir, or set another one", file.display())]
    Unwritable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that no certificate can carry.
    #[error("tls.names: \"{name}\" is neither a domain name (in ASCII) nor an IP address")]
    Name {
        /// Which.
        name: String,
    },
    /// No name at all.
    #[error("tls.names is empty: name at least one domain or address that clients use, or give certificates")]
    NoNames,
    /// The clock is plainly wrong, and a certificate made now would be too.
    #[error("this machine's clock says {today}: set it before hushgate makes certificates")]
    Clock {
        /// What it says.
        today: time::Date,
    },
    /// The cryptographic library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The same, of the keys of tickets.
    #[error("TLS cannot be set up: {0}")]
    Keys(#[from] NoKeys),
    /// A certificate could not be made.
    #[error("the private authority cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

/// What is wrong with a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No PEM block of a key.
    #[error("it must be PEM (PKCS#8, SEC1 or PKCS#1)")]
    Absent,
    /// Behind a pass phrase.
    #[error("it is encrypted; take the pass phrase off with `openssl pkey -in … -out …`")]
    Encrypted,
    /// Of a kind we cannot sign with.
    #[error("it must be ECDSA (P-256, P-384, P-521), Ed25519 or RSA of 2048 bits and more")]
    Kind,
}

/// What is wrong with the private authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityFault {
    /// The certificate cannot be read.
    #[error("it holds no readable certificate")]
    Certificate,
    /// The certificate may not sign others.
    #[error("its certificate is not an authority's")]
    NotAnAuthority,
    /// The key cannot be read.
    #[error("it holds no readable private key")]
    Key,
    /// The key is gone.
    #[error("its key file is missing")]
    KeyMissing,
    /// Not a pair.
    #[error("its key does not belong to the certificate in authority.pem")]
    Mismatch,
}
