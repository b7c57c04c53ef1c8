//! One connection's way to the pipeline: judges a message by RFC 9250, then asks it.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard as Loaded};
use bytes::{Bytes, BytesMut};
use quinn::Connection;

use super::closing::Violation;
use crate::clock::Moment;
use crate::guard::Purse;
use crate::listen::Context;
use crate::listen::quic::whereabouts;
use crate::listen::unread::Unread;
use crate::peer::Peer;
use crate::query::Query;
use crate::reply::{Now, Out, Pending, Reply};
use crate::wire::{Edns, Flags, HEADER_LEN, Header};

/// Asks on behalf of one client.
pub struct Asker {
    context: Context,
    connection: Connection,
    /// Another when the client has moved.
    peer: ArcSwap<Peer>,
    /// Replies that the client has made no room for.
    pub unread: Unread,
}

/// The immediate outcome of a question.
pub enum Asked {
    /// The reply, behind its length.
    Reply(Bytes),
    /// There will be none.
    Silence,
    /// It must wait.
    Later(Pending),
}

impl Asker {
    /// An asker for `peer`, whose connection this is.
    #[must_use]
    pub fn new(context: Context, connection: Connection, peer: Peer, purse: Purse) -> Self {
        Self { context, connection, peer: ArcSwap::from_pointee(peer), unread: Unread::of(purse) }
    }

    /// Looks where the client is, for the questions that follow.
    pub fn follow(&self) {
        whereabouts::follow(&self.connection, &self.peer);
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> Loaded<Arc<Peer>> {
        self.peer.load()
    }

    /// The moment to stamp on arriving questions.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.context.terms().answer.moment()
    }

    /// Asks `message`; `replies` is where replies are made, empty before and after.
    ///
    /// # Errors
    /// The [`Violation`] that ends the connection instead.
    pub fn ask(&self, message: &[u8], arrival: Moment, replies: &mut BytesMut) -> Result<Asked, Violation> {
        let peer = self.peer.load();
        let asked = Query::parse(message, &peer, arrival);
        match &asked {
            Ok(query) => judge(message, Some(query.header()), query.edns())?,
            Err(reject) => judge(message, reject.fault.header, reject.fault.edns)?,
        }
        if replies.capacity() < COMMON_REPLY {
            replies.reserve(REPLIES);
        }
        Ok(match self.context.terms().answer.now(asked, &peer, &mut Out::framed(replies)) {
            Now::Sent(_) => Asked::Reply(replies.split().freeze()),
            Now::Dropped(_) => Asked::Silence,
            Now::Later(pending) => Asked::Later(pending),
        })
    }
}

/// `reply` behind its length.
#[must_use]
pub fn framed(reply: &Reply) -> Bytes {
    let mut octets = BytesMut::with_capacity(2 + reply.message.len());
    let mut out = Out::framed(&mut octets);
    out.begin();
    out.tail().extend_from_slice(&reply.message);
    out.end();
    octets.freeze()
}

/// What RFC 9250 forbids in a query, whatever else is wrong with it.
fn judge(message: &[u8], header: Option<Header>, edns: Option<Edns>) -> Result<(), Violation> {
    let Some(header) = header.filter(|_| message.len() >= HEADER_LEN) else { return Err(Violation::Short) };
    if header.flags.has(Flags::QR) {
        return Err(Violation::Response);
    }
    if header.id != 0 {
        return Err(Violation::Id);
    }
    if edns.is_some_and(|edns| edns.keepalive.is_some()) {
        return Err(Violation::Keepalive);
    }
    Ok(())
}

/// With less room than this, new room is made first: growing in the middle of a message would copy it.
const COMMON_REPLY: usize = 512;

/// Room for replies, made at once.
const REPLIES: usize = 2048;
