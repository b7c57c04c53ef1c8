//! Where the client of a connection is now: its address may change without a handshake, and with it what it may do.
//!
//! The questions of a connection are judged by the address that it has when they are asked: access, rate and the network that
//! upstream servers are told of follow the client. Its permit stays what it was given for.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use quinn::Connection;

use crate::peer::{Peer, canonical};

/// Brings `peer` up to date with `connection`: once a turn, and before a question that came in pieces.
pub fn follow(connection: &Connection, peer: &ArcSwap<Peer>) {
    let remote = canonical(connection.remote_address());
    let known = peer.load();
    // The address of a client behind a proxy is what the proxy said.
    if known.remote != remote && known.via.is_none() {
        let moved = Peer { remote, ..Peer::clone(&known) };
        drop::<Guard<_>>(known);
        peer.store(Arc::new(moved));
    }
}
