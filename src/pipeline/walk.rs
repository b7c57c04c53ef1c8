//! A question on its way through the stages: what a reply must fit, and the trail so far. Lives on the stack.

use super::cookie;
use super::ecs::Told;
use crate::cache::{Key, Reach};
use crate::peer::{Peer, Transport};
use crate::query::{Query, Reject, reply_limit};
use crate::trail::Trail;
use crate::upstream::Telling;
use crate::wire::{Edns, FaultKind, Flags, HEADER_LEN, Header};

/// Who asks, what the reply must fit, and what has happened so far.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The header as sent.
    pub header: Header,
    /// QNAME, QTYPE, QCLASS as sent; empty where there is none or it could not be read.
    pub question: &'a [u8],
    /// The OPT record as sent.
    pub edns: Option<Edns>,
    /// The transport.
    pub transport: Transport,
    /// Octets the reply may have.
    pub limit: usize,
    /// The COOKIE option of the reply.
    pub cookie: Option<cookie::Data>,
    /// What is told of the client's subnet, by it or to servers.
    pub told: Option<Told>,
    /// The server's options that pass to this client, in wire form (EDN-14).
    pub brought: &'a [u8],
    /// Is memory so short that clients are asked to hang up once they have their answer (TCP-09)?
    pub is_hurried: bool,
    /// The trail so far.
    pub trail: Trail,
}

impl<'a> Walk<'a> {
    /// Sets out with a query.
    #[must_use]
    pub fn of_query(query: &Query<'a>, transport: Transport, datagram_limit: usize) -> Self {
        let question = query.question().map_or(&[] as &[u8], |question| question.octets(query.message()));
        Self::new(query.header(), question, query.edns(), (transport, datagram_limit))
    }

    /// Sets out with what is no query to answer as asked; `None` where it may not be answered at all (GEN-13, GEN-14).
    #[must_use]
    pub fn of_reject(reject: &Reject<'a>, transport: Transport, datagram_limit: usize) -> Option<Self> {
        let fault = reject.fault;
        let header = fault.header.filter(|_| !matches!(fault.kind, FaultKind::Short | FaultKind::Response))?;
        let question = fault.question.map_or(&[] as &[u8], |question| question.octets(reject.message));
        Some(Self::new(header, question, fault.edns, (transport, datagram_limit)))
    }

    fn new(header: Header, question: &'a [u8], edns: Option<Edns>, (transport, datagram): (Transport, usize)) -> Self {
        let limit = reply_limit(transport, edns, datagram);
        Self {
            header,
            question,
            edns,
            transport,
            limit,
            cookie: None,
            told: None,
            brought: &[],
            is_hurried: false,
            trail: Trail::default(),
        }
    }

    /// A walk without a question.
    #[cfg(test)]
    pub fn bare(header: Header, edns: Option<Edns>, transport: Transport) -> Self {
        Self::new(header, &[], edns, (transport, 1232))
    }

    /// The same walk as it begins at `peer`.
    #[must_use]
    pub fn begun_by(mut self, peer: &Peer) -> Self {
        self.trail.door = peer.door;
        self.trail.transport = Some(peer.transport);
        self
    }

    /// Is the bit set in the query's header?
    #[must_use]
    pub const fn asks(&self, flag: u16) -> bool {
        self.header.flags.has(flag)
    }

    /// DO.
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// What servers are told of the client's subnet at most.
    #[must_use]
    pub fn subnet_sent(&self) -> Option<Telling> {
        self.told.and_then(|told| told.sent)
    }

    /// The reply is what is kept under `key`.
    pub fn reached(&mut self, key: &Key) {
        // Most hits are of clients of whom nothing is told: for them the key is not even read.
        let Some(told) = &mut self.told else { return };
        told.hold(match key.reach() {
            None | Some(Reach::Everyone) => 0,
            Some(Reach::Within(subnet) | Reach::Only(subnet)) => subnet.length(),
        });
    }

    /// The reply holds for `scope` bits of the client's subnet.
    pub fn scoped(&mut self, scope: u8) {
        self.told.iter_mut().for_each(|told| told.hold(scope));
    }

    /// Offset of the first octet after the question of the reply.
    #[must_use]
    pub const fn question_end(&self) -> usize {
        HEADER_LEN + self.question.len()
    }

    /// `flags` as this asker gets them: RD, CD and opcode are its own, AD is for those who asked (GEN-01, SEC-01, SEC-06).
    #[must_use]
    pub fn fit(&self, flags: Flags, rcode: u16) -> Flags {
        const OPCODE: u16 = 0x7800;
        let authentic = flags.has(Flags::AD) && (self.dnssec_ok() || self.asks(Flags::AD));
        Flags((flags.0 & !OPCODE) | (self.header.flags.0 & OPCODE))
            .with(Flags::QR, true)
            .with(Flags::RD, self.asks(Flags::RD))
            .with(Flags::CD, self.asks(Flags::CD))
            .with(Flags::AD, authentic)
            .with_rcode(rcode)
    }
}
