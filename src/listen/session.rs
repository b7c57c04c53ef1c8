//! What the accept loop hands to a protocol beside the stream.

use crate::guard::Permit;
use crate::peer::Peer;

/// One admitted connection.
#[derive(Debug)]
pub struct Session {
    /// Who it is.
    pub peer: Peer,
    /// The right to be here; given back when the connection ends.
    pub permit: Permit,
    /// What the TLS handshake agreed on; `None` without TLS or without ALPN.
    pub alpn: Option<Vec<u8>>,
}
