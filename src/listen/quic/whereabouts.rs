//! Where the client of a connection is now: its address may change without a handshake, and with it what it may do.
//!
//! An address that datagrams come from is proven by nothing: the owner of a connection can write that of a victim on some of them,
//! and fetch the answers once it is back at its own. So a client that seems to have moved may ask if both addresses may, and is
//! counted by the one that its handshake has shown, as its permit is; upstream servers are told of the network that it is in now.

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
        let moved = Peer::clone(&known).seen_at(remote);
        drop::<Guard<_>>(known);
        peer.store(Arc::new(moved));
    }
}
