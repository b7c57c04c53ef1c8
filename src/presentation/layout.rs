//! What the data of a type is made of, and how each part is written (RFC 1035 5.1, 3597 4, 4034, 5155, 6844, 9460 and the types' own).
//!
//! A table and a reader of our own rather than the library's: that one shows IDNs in letters that a resolver cannot be asked with,
//! odd octets in octal, strings without their bounds, and nothing of DNSSEC. What does not fit its layout to the last octet is not
//! shown at all: the generic form stands in.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use super::{push_quoted, service, type_name};
use crate::wire::Record;
use crate::wire::name::{self, Shown};

/// A part of record data.
#[derive(Clone, Copy)]
enum Part {
    V4,
    V6,
    U8,
    U16,
    U32,
    Name,
    /// A record type, by its name.
    Type,
    /// Seconds since 1970 as a date (RFC 4034 3.2).
    Time,
    /// One character string.
    Text,
    /// One character string, without quotes (RFC 8659 4.1.1).
    Tag,
    /// One or more character strings, to the end.
    Texts,
    /// All that is left, as one quoted string.
    Quoted,
    /// All that is left, in base64.
    Base64,
    /// All that is left, in hexadecimal.
    Hex,
    /// Octets behind their length, in hexadecimal (RFC 5155 3.3).
    Salt,
    /// Octets behind their length, in base32hex (RFC 5155 3.3).
    Hash,
    /// A type bit map (RFC 4034 4.1.2).
    Types,
    /// Service parameters (RFC 9460 2.1).
    Parameters,
}

/// The data of `record`; `None` where no layout is known, or the data has another.
pub fn shown(message: &[u8], record: &Record) -> Option<String> {
    let mut reader = Reader { message, at: record.rdata.start.into(), end: record.rdata.end.into() };
    let mut text = String::new();
    for (place, &part) in layout(record.rtype)?.iter().enumerate() {
        if place > 0 && !(reader.is_at_end() && matches!(part, Part::Types | Part::Parameters)) {
            text.push(' ');
        }
        reader.show(part, &mut text)?;
    }
    reader.is_at_end().then_some(text)
}

fn layout(rtype: u16) -> Option<&'static [Part]> {
    use Part::{
        Base64, Hash, Hex, Name, Parameters, Quoted, Salt, Tag, Text, Texts, Time, Type, Types, U8, U16, U32, V4, V6,
    };
    Some(match rtype {
        1 => &[V4],
        28 => &[V6],
        // NS MD MF CNAME MB MG MR PTR DNAME
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => &[Name],
        6 => &[Name, Name, U32, U32, U32, U32, U32],
        13 => &[Text, Text],
        // MINFO RP
        14 | 17 => &[Name, Name],
        // MX AFSDB KX LP
        15 | 18 | 36 | 107 => &[U16, Name],
        // TXT SPF RESINFO
        16 | 99 | 261 => &[Texts],
        33 => &[U16, U16, U16, Name],
        35 => &[U16, U16, Text, Text, Text, Name],
        37 => &[U16, U16, U8, Base64],
        // DS CDS
        43 | 59 => &[U16, U8, U8, Hex],
        44 => &[U8, U8, Hex],
        46 => &[Type, U8, U8, U32, Time, Time, U16, Name, Base64],
        47 => &[Name, Types],
        // DNSKEY CDNSKEY KEY
        25 | 48 | 60 => &[U16, U8, U8, Base64],
        50 => &[U8, U8, U16, Salt, Hash, Types],
        51 => &[U8, U8, U16, Salt],
        // TLSA SMIMEA
        52 | 53 => &[U8, U8, U8, Hex],
        61 => &[Base64],
        62 => &[U32, U16, Types],
        63 => &[U32, U8, U8, Hex],
        // SVCB HTTPS
        64 | 65 => &[U16, Name, Parameters],
        256 => &[U16, U16, Quoted],
        257 => &[U8, Tag, Quoted],
        _ => return None,
    })
}

/// The octets of one record's data; a name in it may lead out of them.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    const fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.end)?;
        let octets = self.message.get(self.at..end)?;
        self.at = end;
        Some(octets)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Octets behind an octet that counts them.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(length.into())
    }

    fn rest(&mut self) -> Option<&'a [u8]> {
        self.take(self.end.checked_sub(self.at)?)
    }

    /// All that is left, if anything is: an empty word would not be seen.
    fn some(&mut self) -> Option<&'a [u8]> {
        self.rest().filter(|octets| !octets.is_empty())
    }

    fn show(&mut self, part: Part, out: &mut String) -> Option<()> {
        match part {
            Part::V4 => write!(out, "{}", Ipv4Addr::from(self.array::<4>()?)).ok()?,
            Part::V6 => write!(out, "{}", Ipv6Addr::from(self.array::<16>()?)).ok()?,
            Part::U8 => write!(out, "{}", u8::from_be_bytes(self.array()?)).ok()?,
            Part::U16 => write!(out, "{}", u16::from_be_bytes(self.array()?)).ok()?,
            Part::U32 => write!(out, "{}", u32::from_be_bytes(self.array()?)).ok()?,
            Part::Name => self.name(out)?,
            Part::Type => out.push_str(&type_name(u16::from_be_bytes(self.array()?))),
            Part::Time => push_time(u32::from_be_bytes(self.array()?), out)?,
            Part::Text => push_quoted(self.counted()?, out),
            Part::Tag => push_tag(self.counted()?, out)?,
            Part::Texts => self.texts(out)?,
            Part::Quoted => push_quoted(self.rest()?, out),
            Part::Base64 => STANDARD.encode_string(self.some()?, out),
            Part::Hex => push_hex(self.some()?, out),
            Part::Salt => match self.counted()? {
                [] => out.push('-'),
                octets => push_hex(octets, out),
            },
            Part::Hash => push_base32(self.counted().filter(|octets| !octets.is_empty())?, out),
            Part::Types => self.types(out)?,
            Part::Parameters => service::parameters(self.rest()?, out)?,
        }
        Some(())
    }

    fn name(&mut self, out: &mut String) -> Option<()> {
        let mut expanded = Vec::new();
        self.at = name::expand(self.message, self.at, &mut expanded).ok().filter(|&after| after <= self.end)?;
        write!(out, "{}", Shown(&expanded)).ok()
    }

    fn texts(&mut self, out: &mut String) -> Option<()> {
        push_quoted(self.counted()?, out);
        while !self.is_at_end() {
            out.push(' ');
            push_quoted(self.counted()?, out);
        }
        Some(())
    }

    fn types(&mut self, out: &mut String) -> Option<()> {
        let mut space = "";
        while !self.is_at_end() {
            let [window] = self.array()?;
            let map = self.counted().filter(|map| (1..=32).contains(&map.len()))?;
            let set = (0_u16..).zip(map).flat_map(|(octet, &bits)| {
                (0..8_u16).filter(move |bit| bits & 0x80 >> bit != 0).map(move |bit| octet * 8 + bit)
            });
            for low in set {
                write!(out, "{space}{}", type_name(u16::from(window) << 8 | low)).ok()?;
                space = " ";
            }
        }
        Some(())
    }
}

fn push_time(seconds: u32, out: &mut String) -> Option<()> {
    let at = OffsetDateTime::from_unix_timestamp(seconds.into()).ok()?;
    let (month, day) = (u8::from(at.month()), at.day());
    write!(out, "{:04}{month:02}{day:02}{:02}{:02}{:02}", at.year(), at.hour(), at.minute(), at.second()).ok()
}

/// Only letters and digits may stand in a tag.
fn push_tag(octets: &[u8], out: &mut String) -> Option<()> {
    let good = !octets.is_empty() && octets.iter().all(u8::is_ascii_alphanumeric);
    good.then(|| out.extend(octets.iter().copied().map(char::from)))
}

/// Two digits for each octet.
pub fn push_hex(octets: &[u8], out: &mut String) {
    for octet in octets {
        // Writing to a String cannot fail.
        let _ = write!(out, "{octet:02x}");
    }
}

/// Base32 in the order of the digits, without padding (RFC 4648 7).
fn push_base32(octets: &[u8], out: &mut String) {
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut digit = |five: u32| out.extend(char::from_digit(five & 31, 32));
    for &octet in octets {
        (bits, held) = (bits << 8 | u32::from(octet), held + 8);
        while held >= 5 {
            held -= 5;
            digit(bits >> held);
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        digit(bits << (5 - held));
    }
}
