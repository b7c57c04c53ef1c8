//! The twelve octets that open every message (RFC 1035 4.1.1).

use super::WireError;

/// Length of the header in octets.
pub const HEADER_LEN: usize = 12;

/// The second 16-bit word of the header: QR, opcode, AA, TC, RD, RA, Z, AD, CD, RCODE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Response.
    pub const QR: u16 = 0x8000;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Authentic data (RFC 4035 3.2.3).
    pub const AD: u16 = 0x0020;
    /// Checking disabled (RFC 4035 3.2.2).
    pub const CD: u16 = 0x0010;

    /// Are all bits of `mask` set?
    #[must_use]
    pub const fn has(self, mask: u16) -> bool {
        self.0 & mask == mask
    }

    /// These flags with the bits of `mask` set where `on`, else cleared.
    #[must_use]
    pub const fn with(self, mask: u16, on: bool) -> Self {
        if on { Self(self.0 | mask) } else { Self(self.0 & !mask) }
    }

    /// The opcode, 0 to 15.
    #[must_use]
    pub const fn opcode(self) -> u8 {
        ((self.0 >> 11) & 0xf) as u8
    }

    /// The four header bits of the RCODE.
    #[must_use]
    pub const fn rcode(self) -> u16 {
        self.0 & 0xf
    }

    /// These flags with the low four bits of `rcode`.
    #[must_use]
    pub const fn with_rcode(self, rcode: u16) -> Self {
        Self((self.0 & !0xf) | (rcode & 0xf))
    }
}

/// A parsed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Message id.
    pub id: u16,
    /// Flags, opcode and the header part of the RCODE.
    pub flags: Flags,
    /// QDCOUNT.
    pub questions: u16,
    /// ANCOUNT.
    pub answers: u16,
    /// NSCOUNT.
    pub authorities: u16,
    /// ARCOUNT.
    pub additionals: u16,
}

impl Header {
    /// Reads the first twelve octets of `message`.
    ///
    /// # Errors
    /// [`WireError::Short`] under twelve octets.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let octets = message.first_chunk::<HEADER_LEN>().ok_or(WireError::Short)?;
        let word = |i: usize| match (octets.get(i), octets.get(i + 1)) {
            (Some(&high), Some(&low)) => u16::from_be_bytes([high, low]),
            _ => 0,
        };
        Ok(Self {
            id: word(0),
            flags: Flags(word(2)),
            questions: word(4),
            answers: word(6),
            authorities: word(8),
            additionals: word(10),
        })
    }

    /// The twelve octets of this header.
    #[must_use]
    pub fn to_octets(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let words = [self.id, self.flags.0, self.questions, self.answers, self.authorities, self.additionals];
        for (pair, word) in out.chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_written() {
        let octets = [0xbe, 0xef, 0x81, 0xa3, 0, 1, 0, 2, 0, 3, 0, 4];
        let header = Header::parse(&octets).unwrap();
        assert_eq!((header.id, header.questions, header.answers), (0xbeef, 1, 2));
        assert_eq!((header.authorities, header.additionals), (3, 4));
        assert_eq!(header.to_octets(), octets);
        assert_eq!(Header::parse(&octets[..11]), Err(WireError::Short));
    }

    #[test]
    fn flags_are_told_apart() {
        let flags = Flags(0xaa93);
        assert!(flags.has(Flags::QR | Flags::TC | Flags::RA | Flags::CD));
        assert!(!flags.has(Flags::QR | Flags::AA) && !flags.has(Flags::RD) && !flags.has(Flags::AD));
        assert_eq!((flags.opcode(), flags.rcode()), (5, 3));
        assert_eq!(flags.with_rcode(0x12), Flags(0xaa92));
        assert_eq!(flags.with(Flags::AD, true).with(Flags::QR, false), Flags(0x2ab3));
    }
}
