//! What clients were held back from, by kind: the labels of `hushgate_limited_total`.

/// A limit that somebody reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Limited {
    /// Questions a second.
    Questions,
    /// Questions that wait for upstreams.
    Waiting,
    /// Connections a second.
    Connections,
    /// Connections open, of one client or of all.
    Open,
    /// Handshakes a second.
    Handshakes,
    /// Octets kept: answers not read, questions not whole.
    Octets,
    /// Questions taken back, a second.
    Resets,
    /// Breaches of protocol, a second.
    Errors,
    /// Connections of who has reset or broken too much a moment ago.
    ShutOut,
    /// The memory of this process.
    Memory,
}

impl Limited {
    /// All, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Questions,
        Self::Waiting,
        Self::Connections,
        Self::Open,
        Self::Handshakes,
        Self::Octets,
        Self::Resets,
        Self::Errors,
        Self::ShutOut,
        Self::Memory,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Questions => "questions",
            Self::Waiting => "waiting",
            Self::Connections => "connections",
            Self::Open => "open",
            Self::Handshakes => "handshakes",
            Self::Octets => "octets",
            Self::Resets => "resets",
            Self::Errors => "errors",
            Self::ShutOut => "shut_out",
            Self::Memory => "memory",
        }
    }
}
