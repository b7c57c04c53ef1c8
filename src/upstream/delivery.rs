//! What a leg hands back, and what it may spend to get it.

use std::net::SocketAddr;

use bytes::Bytes;
use rustls::{CipherSuite, ProtocolVersion};
use tokio::time::Instant;

use super::error::Cause;
use crate::peer::Transport;
use crate::wire::{Flags, Header};

/// What one attempt at one server may spend.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When it ends.
    pub until: Instant,
    /// How often the question may be sent to one address over one transport (RFC 9520 3.1 allows three in all).
    pub sends: u8,
}

/// How a conversation was secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secured {
    /// The version of TLS.
    pub version: ProtocolVersion,
    /// The cipher suite, where the QUIC layer does not hide it.
    pub cipher: Option<CipherSuite>,
    /// The protocol agreed on by ALPN, if any was.
    pub alpn: Option<&'static str>,
    /// Was a session resumed, where the QUIC layer does not hide it?
    pub resumed: Option<bool>,
}

/// Facts about the connection an answer came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The server's address; the proxy's, where there is one between.
    pub address: SocketAddr,
    /// The transport in the end: TCP where a datagram was truncated.
    pub transport: Transport,
    /// TLS, where there was any.
    pub secured: Option<Secured>,
}

/// An answer that has passed the leg's checks.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The message, without a stream's length prefix.
    pub message: Bytes,
    /// Seconds it spent in HTTP caches.
    pub age: u32,
    /// How it came.
    pub facts: Facts,
}

/// Is TC set in `message`?
#[must_use]
pub fn is_truncated(message: &[u8]) -> bool {
    Header::parse(message).is_ok_and(|header| header.flags.has(Flags::TC))
}

/// Checks an answer from a stream against its question: nothing else can come over it, so a mismatch is the server's fault,
/// and TC has no meaning there (TCF-06).
///
/// # Errors
/// What is wrong with it.
pub fn check_stream(ask: &super::Ask, message: &[u8], id: u16) -> Result<(), Cause> {
    use super::ask::Mismatch;
    match ask.check(message, id) {
        Ok(()) if is_truncated(message) => Err(Cause::Truncated),
        Ok(()) => Ok(()),
        Err(Mismatch::NotAResponse) => Err(Cause::Malformed),
        Err(Mismatch::Id | Mismatch::Question | Mismatch::Subnet) => Err(Cause::Mismatched),
    }
}
