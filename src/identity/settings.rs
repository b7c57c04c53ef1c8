//! What the identity is told.

use std::path::PathBuf;

use super::keys::Fleet;

/// A certificate chain and its key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Leaf first.
    pub chain: PathBuf,
    /// PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
}

/// The lowest TLS version on TCP doors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

/// What a client gets that asks for a server name no certificate is for. One that asks for none gets the default certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownNames {
    /// The default certificate: the client is to judge it (DDR, TLS-09).
    #[default]
    Served,
    /// The alert `unrecognized_name`.
    Refused,
}

/// Whether clients are asked for certificates. None has to have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guests {
    /// They are not.
    #[default]
    Unasked,
    /// They are, and whoever has one proves that it is its own.
    Asked,
}

/// The one identity of all encrypted doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the private authority lives (0700).
    pub state_dir: PathBuf,
    /// Certificates, chosen by server name; the first is the default. None: the private authority signs one for `names`.
    pub certificates: Vec<Chain>,
    /// Names and addresses the private authority certifies.
    pub names: Vec<String>,
    /// The lowest TLS version.
    pub min_version: MinVersion,
    /// What becomes of clients that ask for another name. Default: they are served.
    pub unknown_names: UnknownNames,
    /// Keys of tickets and tokens, shared by instances or not.
    pub fleet: Fleet,
    /// Are clients asked for certificates of their own?
    pub guests: Guests,
}
