//! The header of the PROXY protocol, versions 1 and 2 (`HAProxy`, 2020): octets in, the two ends of a client's connection out.
//!
//! Only proxies that are named send one, but over UDP anybody can claim to be such a proxy: nothing here trusts a length, and no
//! work grows faster than the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// What the header goes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A stream: one header at its beginning.
    Stream,
    /// A datagram: one header in each.
    Datagram,
}

/// For whom the proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// For a client, whose two addresses these are.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it sent to.
        destination: SocketAddr,
    },
    /// For itself, as a check of our health does, or for somebody whose address it cannot tell: the addresses of the socket count.
    Nobody,
}

/// What has come of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// All of it.
    Whole {
        /// What it says.
        said: Said,
        /// Its octets; what follows is not its own.
        length: usize,
    },
    /// A part. It has this many octets at least, so that reading up to them takes nothing of what follows.
    Partial {
        /// More than there are.
        wanted: usize,
    },
}

/// Why octets are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They begin as no header does.
    #[error("no PROXY header")]
    Missing,
    /// They begin as one, and go on as none that may stand here.
    #[error("a malformed PROXY header")]
    Malformed,
}

/// Reads the header at the beginning of `octets`.
///
/// # Errors
/// The [`HeaderError`], as soon as it can be told.
pub fn parse(octets: &[u8], carrier: Carrier) -> Result<Header, HeaderError> {
    if octets.is_empty() {
        return Ok(Header::Partial { wanted: SHORTEST_LINE });
    }
    if begins(octets, &SIGNATURE) {
        return binary(octets, carrier);
    }
    // The text is of streams alone.
    if begins(octets, WORD) && carrier == Carrier::Stream {
        return line(octets);
    }
    Err(HeaderError::Missing)
}

/// Is `octets` a front of `mark`, or `mark` one of `octets`?
fn begins(octets: &[u8], mark: &[u8]) -> bool {
    let length = octets.len().min(mark.len());
    octets.get(..length) == mark.get(..length)
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 4711 853` and CRLF.
fn line(octets: &[u8]) -> Result<Header, HeaderError> {
    let Some(end) = octets.iter().take(LONGEST_LINE).position(|octet| *octet == b'\n') else {
        if octets.len() >= LONGEST_LINE {
            return Err(HeaderError::Malformed);
        }
        return Ok(Header::Partial { wanted: (octets.len() + 1).max(SHORTEST_LINE) });
    };
    let text = octets.get(WORD.len()..end).and_then(|text| std::str::from_utf8(text.strip_suffix(b"\r")?).ok());
    let said = text.and_then(read_line).ok_or(HeaderError::Malformed)?;
    Ok(Header::Whole { said, length: end + 1 })
}

fn read_line(text: &str) -> Option<Said> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // What it says beyond that is to be ignored.
        return Some(Said::Nobody);
    }
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let said = Said::Client { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) };
    words.next().is_none().then_some(said)
}

/// Decimal, without sign and leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|octet| octet.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

/// Version 2: the signature, version and command, family, length, addresses, and records of type, length and value (TLVs).
fn binary(octets: &[u8], carrier: Carrier) -> Result<Header, HeaderError> {
    let Some(&[command, family, high, low]) = octets.get(SIGNATURE.len()..FIXED) else {
        return Ok(Header::Partial { wanted: FIXED });
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    let family = match command {
        LOCAL => Family::Unspecified,
        PROXY => Family::of(family, carrier).ok_or(HeaderError::Malformed)?,
        _ => return Err(HeaderError::Malformed),
    };
    if length < FIXED + family.octets() {
        return Err(HeaderError::Malformed);
    }
    let Some(header) = octets.get(..length) else { return Ok(Header::Partial { wanted: length }) };
    let said = match family {
        // Without a family nobody knows where the records begin.
        Family::Unspecified => Said::Nobody,
        Family::V4 | Family::V6 => {
            check_records(header, FIXED + family.octets()).ok_or(HeaderError::Malformed)?;
            addresses(header, family).ok_or(HeaderError::Malformed)?
        }
    };
    Ok(Header::Whole { said, length })
}

/// The addresses in a header of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Unspecified,
    V4,
    V6,
}

impl Family {
    /// Family and protocol as the header has them; `None` for those that nobody comes to `carrier` by, such as Unix sockets.
    const fn of(octet: u8, carrier: Carrier) -> Option<Self> {
        match (octet, carrier) {
            (0x00, _) => Some(Self::Unspecified),
            (0x11, Carrier::Stream) | (0x12, Carrier::Datagram) => Some(Self::V4),
            (0x21, Carrier::Stream) | (0x22, Carrier::Datagram) => Some(Self::V6),
            _ => None,
        }
    }

    /// Two addresses and two ports.
    const fn octets(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 12,
            Self::V6 => 36,
        }
    }
}

fn addresses(header: &[u8], family: Family) -> Option<Said> {
    let mut rest = header.get(FIXED..)?;
    let mut address = || -> Option<IpAddr> {
        let (address, after) = match family {
            Family::Unspecified => return None,
            Family::V4 => rest.split_first_chunk::<4>().map(|(octets, after)| (IpAddr::from(*octets), after))?,
            Family::V6 => rest.split_first_chunk::<16>().map(|(octets, after)| (IpAddr::from(*octets), after))?,
        };
        rest = after;
        Some(address)
    };
    let (source, destination) = (address()?, address()?);
    let &[a, b, c, d] = rest.first_chunk::<4>()?;
    Some(Said::Client {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    })
}

/// Are the records from `start` on whole, and the checksum right if there is one? All others are passed over.
fn check_records(header: &[u8], start: usize) -> Option<()> {
    let mut at = start;
    let mut checked = false;
    while at < header.len() {
        let &[kind, high, low] = header.get(at..)?.first_chunk::<3>()?;
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        at = value.end;
        let octets = header.get(value.clone())?;
        if kind == CRC32C {
            // A second one could only cost time.
            let claimed = u32::from_be_bytes(octets.try_into().ok()?);
            if checked || claimed != crc32c(header, &value) {
                return None;
            }
            checked = true;
        }
    }
    Some(())
}

/// The CRC32C of `octets` (RFC 9260 appendix A), with zeros in place of those in `hole`.
fn crc32c(octets: &[u8], hole: &Range<usize>) -> u32 {
    let filled = octets.iter().enumerate().map(|(at, octet)| if hole.contains(&at) { 0 } else { u32::from(*octet) });
    let shift = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !filled.fold(u32::MAX, |sum, octet| (0..8).fold(sum ^ octet, |sum, _| shift(sum)))
}

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";

/// Octets before the addresses of version 2.
const FIXED: usize = 16;

/// Version 2, for the proxy itself.
const LOCAL: u8 = 0x20;

/// Version 2, for a client.
const PROXY: u8 = 0x21;

/// The record that holds a checksum of the header.
const CRC32C: u8 = 0x03;

/// Octets of `PROXY UNKNOWN` and CRLF.
const SHORTEST_LINE: usize = 15;

/// Octets of the longest line of version 1, CRLF among them.
const LONGEST_LINE: usize = 107;

#[cfg(test)]
mod tests;
