//! How a connection ends, in the numbers of RFC 9250 8.4.

use quinn::VarInt;

/// What a client did that ends its connection (RFC 9250 4.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// More octets than the length counts: a second question on one stream (DOQ-05).
    Trailing,
    /// The stream ended before the octets its length counts (DOQ-09).
    EarlyEnd,
    /// A message without a whole header (DOQ-09).
    Short,
    /// A response.
    Response,
    /// A message id (DOQ-06).
    Id,
    /// The TCP keepalive option (DOQ-11).
    Keepalive,
    /// A unidirectional stream (DOQ-13).
    Unidirectional,
    /// A whole question whose stream did not end in time (DOQ-10).
    Dangling,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It has ended already.
    Lost,
    /// We are stopping, and all is answered.
    Done,
    /// The client broke the protocol.
    Broken(Violation),
    /// The client cancels too much.
    ExcessiveLoad,
    /// We failed.
    Internal,
}

impl Closing {
    /// The code to close with.
    #[must_use]
    pub const fn code(self) -> Option<VarInt> {
        match self {
            Self::Lost => None,
            Self::Done => Some(NO_ERROR),
            Self::Broken(_) => Some(PROTOCOL_ERROR),
            Self::ExcessiveLoad => Some(EXCESSIVE_LOAD),
            Self::Internal => Some(INTERNAL_ERROR),
        }
    }

    /// Is it the client's fault?
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Broken(_) | Self::ExcessiveLoad)
    }

    /// For whoever debugs the client.
    #[must_use]
    pub const fn reason(self) -> &'static [u8] {
        match self {
            Self::Lost | Self::Done | Self::Internal => b"",
            Self::ExcessiveLoad => b"too many cancelled questions",
            Self::Broken(violation) => match violation {
                Violation::Trailing => b"octets after the message",
                Violation::EarlyEnd => b"stream ended inside the message",
                Violation::Short => b"message under twelve octets",
                Violation::Response => b"message is a response",
                Violation::Id => b"message id is not 0",
                Violation::Keepalive => b"edns-tcp-keepalive present",
                Violation::Unidirectional => b"unidirectional stream",
                Violation::Dangling => b"stream not ended after the message",
            },
        }
    }
}

/// `DOQ_NO_ERROR`.
const NO_ERROR: VarInt = VarInt::from_u32(0x0);

/// `DOQ_INTERNAL_ERROR`.
const INTERNAL_ERROR: VarInt = VarInt::from_u32(0x1);

/// `DOQ_PROTOCOL_ERROR`.
pub const PROTOCOL_ERROR: VarInt = VarInt::from_u32(0x2);

/// `DOQ_REQUEST_CANCELLED`.
pub const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x3);

/// `DOQ_EXCESSIVE_LOAD`.
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x4);

/// `DOQ_UNSPECIFIED_ERROR`.
pub const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(0x5);
