//! What comes back: a stored answer, the place a reply is written to, and the facts a front-end needs beside the bytes.

use std::future::Future;
use std::pin::Pin;

use bytes::{BufMut as _, BytesMut};

use crate::clock::Moment;
use crate::trail::{Trail, UpstreamId};
use crate::wire::{Flags, patch};

/// What kind of answer a stored message is; decides its lifetime and its freshness over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Records that answer the question.
    Positive,
    /// NOERROR without an answer, with an SOA (RFC 2308 2.2).
    NoData,
    /// NXDOMAIN with an SOA (RFC 2308 2.1).
    NxDomain,
    /// To be relayed, never kept: TTL 0, no SOA, an odd RCODE.
    #[default]
    Fleeting,
}

/// The facts of a stored answer that are not in its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// When it was received.
    pub received: Moment,
    /// Seconds it is fresh after that: the smallest TTL of all its records, capped (TTL-02).
    pub lifetime: u32,
    /// Seconds after that in which it may stand in while no fresh one is to be had (RFC 8767); 0: never.
    pub stale: u32,
    /// Seconds HTTP caches may keep it after that: smallest answer TTL, or min(SOA TTL, MINIMUM) (RFC 8484 5.1).
    pub http_lifetime: u32,
    /// The RCODE, extended bits included.
    pub rcode: u16,
    /// Header flags as they go out before RD, CD, AD are fitted to the asker: QR, RA and AD as judged; AA and TC clear.
    pub flags: Flags,
    /// What it is.
    pub kind: Kind,
    /// Is QNAME an alias, a CNAME being the first of the answer (STL-09)?
    pub is_alias: bool,
    /// Does it deny what was there a moment before it came?
    pub is_sudden: bool,
    /// Where the additional section begins, and how many records it has (OPT is not stored).
    pub additional_at: u16,
    /// Records from there on.
    pub additionals: u16,
    /// Who supplied it.
    pub supplier: UpstreamId,
    /// The extended error that came with it, relayed to clients with EDNS (RFC 8914).
    pub ede: Option<u16>,
}

/// An answer as it is kept: the upstream's message without OPT, and where its TTLs are.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its facts.
    pub meta: Meta,
    /// Header, question and records. Id and question case are whoever asked first's.
    pub message: &'a [u8],
    /// Packed big-endian 16-bit offsets of the TTL fields in `message`.
    pub ttls: &'a [u8],
}

/// A stored answer that owns its bytes: made once by `digest`, shared by everyone who waited.
#[derive(Clone, Debug)]
pub struct StoredBuf {
    /// Its facts.
    pub meta: Meta,
    /// As [`Stored::message`].
    pub message: Box<[u8]>,
    /// As [`Stored::ttls`].
    pub ttls: Box<[u8]>,
    /// The first bits of the subnet told to the server that it is for; 0: it is for everyone (RFC 7871 7.3.1).
    pub scope: u8,
    /// The server's options for whoever sent some that passed, in wire form (EDN-14). Never kept.
    pub options: Box<[u8]>,
}

impl StoredBuf {
    /// The same, borrowed.
    #[must_use]
    pub fn view(&self) -> Stored<'_> {
        Stored { meta: self.meta, message: &self.message, ttls: &self.ttls }
    }
}

/// Where a reply is written: the tail of a growing buffer. Untouched unless the verdict is `Sent`.
///
/// `begin` opens a message at the tail (after a two-octet place for its length on streams), `end` closes it, `cancel` takes it back.
#[derive(Debug)]
pub struct Out<'a> {
    buffer: &'a mut BytesMut,
    framed: bool,
    before: usize,
    body: usize,
}

impl<'a> Out<'a> {
    /// A bare message: a datagram slot or an HTTP body.
    pub fn bare(buffer: &'a mut BytesMut) -> Self {
        let before = buffer.len();
        Self { buffer, framed: false, before, body: before }
    }

    /// A message behind its length (RFC 1035 4.2.2).
    pub fn framed(buffer: &'a mut BytesMut) -> Self {
        let before = buffer.len();
        Self { buffer, framed: true, before, body: before }
    }

    /// Opens the message, dropping what an earlier `begin` wrote.
    pub fn begin(&mut self) {
        self.buffer.truncate(self.before);
        if self.framed {
            self.buffer.put_u16(0);
        }
        self.body = self.buffer.len();
    }

    /// The message so far.
    pub fn message(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.body..).unwrap_or_default()
    }

    /// Its length so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.body
    }

    /// Is it empty so far?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts the message to `length` octets.
    pub fn truncate(&mut self, length: usize) {
        self.buffer.truncate(self.body + length);
    }

    /// The buffer whose end is the message's end: append only.
    pub const fn tail(&mut self) -> &mut BytesMut {
        self.buffer
    }

    /// Closes the message: writes its length on streams.
    pub fn end(&mut self) {
        if self.framed {
            let length = u16::try_from(self.len()).unwrap_or(u16::MAX);
            patch::put_u16(self.buffer, self.before, length);
        }
    }

    /// Takes the message back.
    pub fn cancel(&mut self) {
        self.buffer.truncate(self.before);
        self.body = self.before;
    }
}

/// How long and for whom an HTTP cache may keep a reply (RFC 8484 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Seconds, already aged.
    pub max_age: u32,
    /// For whom.
    pub scope: Scope,
}

/// Who may keep a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any cache.
    Public,
    /// The asker's own.
    Private,
    /// Nobody.
    NoStore,
}

impl Freshness {
    /// Nobody may keep it.
    pub const NO_STORE: Self = Self { max_age: 0, scope: Scope::NoStore };
}

/// Where an answer came from, for counters and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The cache.
    Cache,
    /// The cache, past its time: no fresh answer was to be had (RFC 8767).
    Stale,
    /// An upstream.
    Upstream,
    /// This gateway itself: special names.
    Local,
    /// An error or refusal made here.
    Error,
}

impl Source {
    /// All, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Cache, Self::Stale, Self::Upstream, Self::Local, Self::Error];

    /// The name in metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Local => "local",
            Self::Error => "error",
        }
    }
}

/// What a front-end learns of a reply beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Where it came from.
    pub source: Source,
    /// The RCODE, extended bits included.
    pub rcode: u16,
    /// For HTTP.
    pub freshness: Freshness,
    /// The road.
    pub trail: Trail,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The message was under twelve octets, or a response.
    NotAQuery,
    /// The client's network may not ask here, and refusals are silent, or it has had its share of them.
    Access,
    /// The client asks too much.
    Limit,
}

/// A whole reply, made later.
#[derive(Debug)]
pub struct Reply {
    /// The message, without a stream's length prefix.
    pub message: BytesMut,
    /// Its facts.
    pub facts: Facts,
}

/// How a question that had to wait ended.
#[derive(Debug)]
pub enum Verdict {
    /// With a reply.
    Sent(Reply),
    /// With silence, and why.
    Dropped(Why),
}

/// A question that has to wait. Owns all it needs; dropping it abandons the client, never the exchange.
pub type Pending = Pin<Box<dyn Future<Output = Verdict> + Send + 'static>>;

/// The immediate outcome of a question.
pub enum Now {
    /// The reply stands in the [`Out`].
    Sent(Facts),
    /// There is none.
    Dropped(Why),
    /// It must wait.
    Later(Pending),
}
