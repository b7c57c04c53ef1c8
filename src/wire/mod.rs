//! A DNS message as bytes: a zero-copy view, a record walker, and the few edits a gateway makes.
//!
//! First on the path after the socket and last before it. Pure: no clock, no tokio, nothing of ours.
//! Nothing here builds a tree of records; offsets into the message are the only product.
//! Every function accepts arbitrary bytes and answers with an error instead of a panic.

pub mod edns;
pub mod framing;
pub mod header;
pub mod name;
pub mod opt;
pub mod parsed;
pub mod patch;
pub mod question;
pub mod records;
pub mod registry;
pub mod subnet;
pub mod suffixes;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
pub(crate) mod shapes;

pub use edns::{Edns, Options};
pub use header::{Flags, HEADER_LEN, Header};
pub use opt::OptWriter;
pub use parsed::{Fault, FaultKind, Parsed};
pub use question::Question;
pub use records::{Record, Records, Section};
pub use subnet::Subnet;
pub use suffixes::Suffixes;

/// The largest DNS message on any transport, in octets (RFC 1035 4.2.2: a 16-bit length).
pub const MAX_MESSAGE: usize = 65_535;

/// Why bytes are not the DNS structure they were read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends inside a field.
    #[error("the message ends inside a field")]
    Short,
    /// A label type other than a plain label or a pointer, a label past the end, or a name over 255 octets (RFC 1035 2.3.4).
    #[error("a label or name is longer than RFC 1035 allows")]
    BadName,
    /// A compression pointer that does not lead back to a whole name in the message body (RFC 1035 4.1.4).
    #[error("a compression pointer does not lead back to a whole name")]
    BadPointer,
}

/// Octets `start..end` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First octet.
    pub start: u16,
    /// One past the last octet.
    pub end: u16,
}

impl Span {
    /// The bytes that this span covers, empty where `message` is shorter than it.
    #[must_use]
    pub fn of(self, message: &[u8]) -> &[u8] {
        message.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// Two octets at `at`, big-endian.
pub(crate) fn u16_at(message: &[u8], at: usize) -> Result<u16, WireError> {
    let octets = message.get(at..).and_then(<[u8]>::first_chunk::<2>).ok_or(WireError::Short)?;
    Ok(u16::from_be_bytes(*octets))
}

/// Four octets at `at`, big-endian.
pub(crate) fn u32_at(message: &[u8], at: usize) -> Result<u32, WireError> {
    let octets = message.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(WireError::Short)?;
    Ok(u32::from_be_bytes(*octets))
}
