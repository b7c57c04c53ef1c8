//! What a stream connection brings to the protocol that is spoken on it: who is there, and the right to be.

use crate::guard::Permit;
use crate::peer::Peer;

/// An admitted connection, its handshake done.
#[derive(Debug)]
pub struct Session {
    /// The two ends, and the transport as far as the door and ALPN tell.
    pub peer: Peer,
    /// The right to hold this connection, given back when it is dropped.
    pub permit: Permit,
    /// The protocol that ALPN chose; `None` in clear text and for clients that offered nothing.
    pub alpn: Option<Vec<u8>>,
}
