//! Why there is no certificate from the authority: what failed, and where.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::identity::IdentityError;

/// Why there is no certificate from the authority.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority said no, or could not be spoken with.
    #[error("{0}")]
    Protocol(#[from] instant_acme::Error),
    /// The authority does not offer the challenge that is configured.
    #[error("the authority offers no {method} challenge for {name}")]
    NotOffered {
        /// As configured.
        method: &'static str,
        /// The name.
        name: String,
    },
    /// An authorization or the order is past saving.
    #[error("the authority does not let us have {0}: its authorization is no longer valid")]
    Refused(String),
    /// It wants a name proven that was never ordered.
    #[error("the authority asks for proof of {0:?}, which was not ordered")]
    Foreign(String),
    /// The order took too long.
    #[error("the order did not come to an end in time")]
    Timeout,
    /// The hook did not do its work.
    #[error("{} {verb} {name}: {why}", hook.display())]
    Hook {
        /// The program.
        hook: PathBuf,
        /// `present` or `cleanup`.
        verb: &'static str,
        /// The record's name.
        name: String,
        /// What became of it.
        why: HookFault,
    },
    /// What the authority gave is not what was ordered.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(&'static str),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// The listener for HTTP-01.
    #[error("acme.http_listen = \"{address}\": {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The key of the external account.
    #[error("{} holds no key in base64url", .0.display())]
    ExternalKey(PathBuf),
    /// A key or a certificate could not be made.
    #[error("a key or certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What became of a hook.
#[derive(Debug, thiserror::Error)]
pub enum HookFault {
    /// It cannot be run.
    #[error("cannot be run: {0}")]
    Start(#[from] io::Error),
    /// It said that it failed; the beginning of what it wrote.
    #[error("{status}: {output}")]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// It was killed.
    #[error("still running after 2 min, and killed")]
    Timeout,
}

impl AcmeError {
    /// Does the authority no longer know our account?
    #[must_use]
    pub fn is_unknown_account(&self) -> bool {
        let kind = match self {
            Self::Protocol(instant_acme::Error::Api(problem)) => problem.r#type.as_deref(),
            _ => None,
        };
        kind == Some("urn:ietf:params:acme:error:accountDoesNotExist")
    }
}
