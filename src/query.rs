//! A question as the pipeline takes it: bytes plus what the edge parsed, once.
//!
//! The only constructor parses, so a `Query` is always well formed. What cannot be answered as asked is a [`Reject`], which
//! walks the same road (access, cookie, limit, finish).

use crate::clock::Moment;
use crate::peer::{Peer, Transport};
use crate::wire::{Edns, Fault, FaultKind, Header, Parsed, Question};

/// On whose behalf a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's.
    Client,
    /// Our own: prefetch, refresh, synthesis.
    Internal,
}

/// A well-formed query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    message: &'a [u8],
    parsed: Parsed,
    arrival: Moment,
    origin: Origin,
}

/// A message that is refused as it stands, with as much as is needed to say so.
#[derive(Clone, Copy, Debug)]
pub struct Reject<'a> {
    /// The bytes as received.
    pub message: &'a [u8],
    /// What is wrong.
    pub fault: Fault,
    /// When it arrived.
    pub arrival: Moment,
}

impl<'a> Query<'a> {
    /// Parses `message`, which arrived from `peer` at `arrival`. Octets past the last counted record are cut off (GEN-15).
    ///
    /// # Errors
    /// The [`Reject`] that the pipeline answers instead.
    pub fn parse(message: &'a [u8], peer: &Peer, arrival: Moment) -> Result<Self, Reject<'a>> {
        let reject = |fault| Reject { message, fault, arrival };
        let parsed = Parsed::parse(message).map_err(reject)?;
        let message = message.get(..parsed.end.into()).unwrap_or(message);
        // RFC 7828 3.1: over TCP and TLS the option is empty in a query; over UDP it is ignored (3.3.1).
        let keepalive = parsed.edns.and_then(|edns| edns.keepalive);
        if peer.transport.keeps_alive() && keepalive.is_some_and(|data| data.start != data.end) {
            let Parsed { header, question, edns, .. } = parsed;
            return Err(reject(Fault { kind: FaultKind::OptionContent, header: Some(header), question, edns }));
        }
        Ok(Self { message, parsed, arrival, origin: Origin::Client })
    }

    /// The same question asked on our own behalf.
    #[must_use]
    pub const fn internal(self) -> Self {
        Self { origin: Origin::Internal, ..self }
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.parsed.header
    }

    /// The question; `None` only where a client asks for a cookie alone (RFC 7873 5.4).
    #[must_use]
    pub const fn question(&self) -> Option<Question> {
        self.parsed.question
    }

    /// The OPT record.
    #[must_use]
    pub const fn edns(&self) -> Option<Edns> {
        self.parsed.edns
    }

    /// When it arrived.
    #[must_use]
    pub const fn arrival(&self) -> Moment {
        self.arrival
    }

    /// On whose behalf it is asked.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// A copy that lives on while the answer is fetched.
    #[must_use]
    pub fn to_kept(&self) -> Kept {
        Kept { message: self.message.into(), parsed: self.parsed, arrival: self.arrival, origin: self.origin }
    }
}

/// A query that owns its bytes.
#[derive(Clone, Debug)]
pub struct Kept {
    message: Box<[u8]>,
    parsed: Parsed,
    arrival: Moment,
    origin: Origin,
}

impl Kept {
    /// The query, borrowed.
    #[must_use]
    pub fn query(&self) -> Query<'_> {
        Query { message: &self.message, parsed: self.parsed, arrival: self.arrival, origin: self.origin }
    }
}

/// The octets a UDP reply to this OPT may have, our own limit aside: at least 512 (RFC 6891 6.2.3), 512 without OPT (RFC 1035 4.2.1).
#[must_use]
pub fn datagram_limit(edns: Option<Edns>) -> usize {
    edns.map_or(512, |edns| usize::from(edns.udp_size.max(512)))
}

/// The octets a reply may have over `transport`: `ours` bounds a datagram, 65 535 a stream (EDN-10, EDN-12).
#[must_use]
pub fn reply_limit(transport: Transport, edns: Option<Edns>, ours: usize) -> usize {
    if transport.is_datagram() { datagram_limit(edns).min(ours) } else { crate::wire::MAX_MESSAGE }
}
