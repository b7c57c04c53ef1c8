//! The road one question took: a small `Copy` record, one outcome a stage, filled on the stack by every question.
//!
//! Metrics, the query log and `explain` all read it. It names things by index; who shows it looks the names up.

mod attempts;

pub use attempts::{Attempt, AttemptEnd, Attempts, Told, Why};

use crate::peer::{DoorId, Transport};

/// What the access list said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Not asked: the question came from inside.
    #[default]
    Unasked,
    /// The client's network may ask here.
    Allowed,
    /// It may not.
    Denied,
}

/// What the cookie stage found (RFC 7873, RFC 9018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cookie {
    /// No cookie option, or a transport where none matters.
    #[default]
    Absent,
    /// A client cookie without a server cookie.
    ClientOnly,
    /// A server cookie that verifies.
    Valid,
    /// A server cookie that does not.
    Invalid,
}

/// What the limiter said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// Not asked, or the client is exempt.
    #[default]
    Unasked,
    /// Within its rate.
    Pass,
    /// Over it: answered with TC so that a real client comes back over TCP.
    Truncate,
    /// Over it: answered REFUSED.
    Refuse,
    /// Over it: not answered.
    Drop,
}

/// What `decide` chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// The message was no query to decide about.
    #[default]
    Rejected,
    /// Answered here.
    Local(Here),
    /// Looked up and, where needed, asked upstream.
    Forward,
}

/// Why a question is answered here, whatever an upstream would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Here {
    /// It has no question section: a cookie is asked for (RFC 7873 5.4).
    NoQuestion,
    /// It asks for what is not served: a zone transfer, or over a datagram all there is (RFC 8482 4.4).
    Type,
    /// It asks what the gateway says of itself (RFC 9462, RFC 9606).
    Own,
    /// It asks how addresses are synthesised: ipv4only.arpa (RFC 7050).
    Dns64,
    /// Its name is special (RFC 6761, RFC 6303), or one that the operator denies.
    Special,
}

impl Here {
    /// All, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::NoQuestion, Self::Type, Self::Own, Self::Dns64, Self::Special];

    /// For metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoQuestion => "no_question",
            Self::Type => "type",
            Self::Own => "discovery",
            Self::Dns64 => "ipv4only",
            Self::Special => "special",
        }
    }
}

/// What the cache had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recall {
    /// Not asked.
    #[default]
    Unasked,
    /// Nothing, or nothing fresh.
    Miss,
    /// An answer.
    Hit {
        /// Seconds since it was received.
        age: u32,
        /// Seconds it is still fresh.
        left: u32,
        /// Who supplied it.
        supplier: UpstreamId,
    },
    /// A failure that is not tried again yet (RFC 9520).
    Failure {
        /// Seconds until it is.
        left: u32,
    },
    /// An answer that has expired, and stood in because no fresh one was to be had (RFC 8767).
    Stale {
        /// Seconds since it was received.
        age: u32,
        /// Seconds since it expired.
        since: u32,
        /// Who supplied it.
        supplier: UpstreamId,
        /// Why no fresh one was to be had.
        why: Stale,
    },
}

/// Why a stale answer stood in for a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stale {
    /// The upstream took longer than `cache.stale_after`.
    Slow,
    /// It was asked, and did not answer or answered with a failure.
    Failed,
    /// It failed so lately that it is not asked again yet.
    Lately,
    /// All servers that could be asked are known to be down.
    Down,
    /// Too many questions were in flight to ask one more.
    Full,
}

impl Stale {
    /// All, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Slow, Self::Failed, Self::Lately, Self::Down, Self::Full];

    /// For metrics and people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Failed => "failed",
            Self::Lately => "failed_lately",
            Self::Down => "down",
            Self::Full => "overload",
        }
    }
}

/// What became of an answer that it was time to ask for again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// It was not time, or somebody else had seen to it.
    #[default]
    Unasked,
    /// It will be asked for.
    Queued,
    /// Too many were to be asked for.
    Dropped,
}

/// What became of a question that had to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// It did not have to be.
    #[default]
    Unasked,
    /// It was asked for this client.
    Led,
    /// An equal question was in flight already.
    Followed,
    /// The table was full.
    Full,
    /// As many questions about its domain were in flight as may be.
    Crowded,
}

/// The index of an upstream server in the roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub u16);

impl UpstreamId {
    /// Stands for a server that supplied an answer before a restart, and that the configuration names no longer.
    pub const FORMER: Self = Self(u16::MAX);
}

/// Was data denied (NXDOMAIN, or no data of the type) that the cache had a moment ago, and what was made of it?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sudden {
    /// No.
    #[default]
    No,
    /// The denial in the cache was sudden when it came.
    Earlier,
    /// Believed as it came: the name is not under guard.
    Unchecked {
        /// Seconds since the data was received.
        ago: u32,
    },
    /// Believed: no other server could be asked, or none answered.
    Alone {
        /// Likewise.
        ago: u32,
    },
    /// Believed: another server says so too.
    Confirmed {
        /// Likewise.
        ago: u32,
    },
    /// Not believed: another server has data.
    Contradicted {
        /// Likewise.
        ago: u32,
    },
}

impl Sudden {
    /// Those that are counted when they come, in the order of their counters.
    pub const OUTCOMES: [&str; 4] = ["unchecked", "alone", "confirmed", "contradicted"];

    /// For logs and people; `None` where nothing was sudden.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        let [unchecked, alone, confirmed, contradicted] = Self::OUTCOMES;
        match self {
            Self::No => None,
            Self::Earlier => Some("earlier"),
            Self::Unchecked { .. } => Some(unchecked),
            Self::Alone { .. } => Some(alone),
            Self::Confirmed { .. } => Some(confirmed),
            Self::Contradicted { .. } => Some(contradicted),
        }
    }
}

/// What `finish` and the legs added, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added(pub u16);

impl Added {
    /// Our OPT record.
    pub const OPT: u16 = 1;
    /// A server cookie.
    pub const COOKIE: u16 = 2;
    /// The idle time (RFC 7828).
    pub const KEEPALIVE: u16 = 4;
    /// An extended error (RFC 8914).
    pub const EDE: u16 = 8;
    /// Padding (RFC 7830).
    pub const PADDING: u16 = 16;
    /// The client's subnet, and for how much of it the reply holds (RFC 7871).
    pub const ECS: u16 = 32;
    /// The gateway's name (RFC 5001).
    pub const NSID: u16 = 64;
    /// Options of the server's that pass from end to end.
    pub const PASSED: u16 = 128;
    /// Options of the client's that pass from end to end, to the question.
    pub const SENT_ON: u16 = 256;

    /// Is `bit` set?
    #[must_use]
    pub const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

/// What was cut on either way, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut(pub u8);

impl Cut {
    /// The client's subnet option did not go upstream.
    pub const ECS: u8 = 1;
    /// Options meant for another hop, or unknown.
    pub const OPTIONS: u8 = 2;
    /// Additional records that did not fit.
    pub const ADDITIONAL: u8 = 4;
    /// The whole answer, TC set.
    pub const TRUNCATED: u8 = 8;

    /// Is `bit` set?
    #[must_use]
    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The road. `Default` is a question that has not walked yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    /// The door.
    pub door: DoorId,
    /// The transport; `None` for questions from inside.
    pub transport: Option<Transport>,
    /// The access list.
    pub access: Access,
    /// The cookie.
    pub cookie: Cookie,
    /// The limiter.
    pub limit: Limit,
    /// The decision.
    pub decision: Decision,
    /// The cache.
    pub recall: Recall,
    /// The answer's refresh.
    pub refresh: Refresh,
    /// The join table.
    pub join: Join,
    /// The upstreams.
    pub attempts: Attempts,
    /// A sudden denial.
    pub sudden: Sudden,
    /// What was added.
    pub added: Added,
    /// What was cut.
    pub cut: Cut,
    /// The extended error that was (or would have been) sent, RFC 8914.
    pub ede: Option<u16>,
}
