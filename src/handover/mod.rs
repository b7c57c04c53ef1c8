//! The doors go from one process to the next without a lost question: a new version, or a change that needs a restart.
//!
//! The running process ([`porter`]) listens at a Unix socket in the state directory. A new one ([`estate`]) asks there, gets the
//! sockets themselves, builds all it needs and serves; only when it says that it does so does the old one take in nothing more. What
//! waits in a socket's queue meanwhile is read by whoever reads next. Connections stay with the process that has them, and
//! datagrams of QUIC connections are carried to it ([`ferry`]) for as long as it lives.

pub mod estate;
pub mod ferry;
mod messages;
pub mod porter;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the doors do not change hands. The process that serves goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Nobody there.
    #[error(
        "no process hands its doors over at {}: {source}; it must run with `process.handover = true` and the same state_dir", path.display()
    )]
    Nobody {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("doors cannot be handed over at {}: {source}", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another language.
    #[error("the other process speaks version {theirs} of the hand-over and this one {VERSION}: restart instead")]
    Version {
        /// Of the other process.
        theirs: u32,
    },
    /// It says no.
    #[error("the running process refuses: {0}")]
    Refused(&'static str),
    /// Only the same user and root may.
    #[error("user {uid} asked for the doors and may not have them")]
    Stranger {
        /// Who asked.
        uid: u32,
    },
    /// What was sent is no part of a hand-over.
    #[error("the other process sent what is no hand-over")]
    Garbled,
    /// It ended, or took too long.
    #[error("the other process did not go through with it: {0}")]
    Broken(#[from] io::Error),
}

/// Where the hand-over is asked for.
#[must_use]
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("handover.sock")
}

/// Of what the two processes say to each other.
const VERSION: u32 = 1;

/// The longest wait for what the other process has at hand.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest a new process may take to be ready.
const PREPARATION: Duration = Duration::from_mins(2);
