//! The question section of a standard query: exactly one entry, uncompressed (RFC 1035 4.1.2, RFC 9619).

use super::{HEADER_LEN, Span, WireError, name, u16_at};

/// Where the question lies, and what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Length of QNAME in octets, its root label included; it starts at octet 12.
    pub name_len: u8,
    /// QTYPE.
    pub rtype: u16,
    /// QCLASS.
    pub class: u16,
}

impl Question {
    /// Reads the question that follows the header.
    ///
    /// # Errors
    /// As [`name::skip_plain`].
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let after = name::skip_plain(message, HEADER_LEN)?;
        let name_len = u8::try_from(after - HEADER_LEN).map_err(|_| WireError::BadName)?;
        Ok(Self { name_len, rtype: u16_at(message, after)?, class: u16_at(message, after + 2)? })
    }

    /// Offset of the first octet after the question.
    #[must_use]
    pub const fn end(self) -> usize {
        HEADER_LEN + self.name_len as usize + 4
    }

    /// QNAME as sent, its letter case kept.
    #[must_use]
    pub fn name(self, message: &[u8]) -> &[u8] {
        message.get(HEADER_LEN..HEADER_LEN + usize::from(self.name_len)).unwrap_or_default()
    }

    /// QNAME, QTYPE and QCLASS as sent.
    #[must_use]
    pub fn octets(self, message: &[u8]) -> &[u8] {
        message.get(HEADER_LEN..self.end()).unwrap_or_default()
    }

    /// The octets of the question.
    #[must_use]
    pub const fn span(self) -> Span {
        Span { start: 12, end: 16 + self.name_len as u16 }
    }
}
