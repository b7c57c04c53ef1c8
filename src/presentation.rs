//! A record in presentation form: what the library can show, it shows; the rest is RFC 3597's generic form.
//!
//! Beside the path: for people and for those who ask in text.

use std::fmt::Write as _;

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};

use crate::wire::name::{self, Shown};
use crate::wire::registry::rtype;
use crate::wire::{Record, WireError};

/// The types of the registry that the library has no name for.
const EXTRA: [(&str, u16); 6] =
    [("DNAME", 39), ("LOC", 29), ("RP", 17), ("URI", 256), ("RESINFO", 261), ("ZONEMD", 63)];

/// The number of a type that only we know by `name`.
#[must_use]
pub fn extra_type(name: &str) -> Option<u16> {
    EXTRA.into_iter().find(|&(known, _)| known == name).map(|(_, number)| number)
}

/// The name of type `number`, `TYPE…` where it has none.
#[must_use]
pub fn type_name(number: u16) -> String {
    if let Some((name, _)) = EXTRA.into_iter().find(|&(_, known)| known == number) {
        return name.into();
    }
    match RecordType::from(number) {
        RecordType::Unknown(_) | RecordType::ZERO => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// The name of class `number`.
#[must_use]
pub fn class_name(number: u16) -> String {
    match number {
        1 => "IN".into(),
        3 => "CH".into(),
        4 => "HS".into(),
        255 => "ANY".into(),
        other => format!("CLASS{other}"),
    }
}

/// The registry's name of an extended error (RFC 8914 4).
#[must_use]
pub fn extended_error(code: u16) -> &'static str {
    let names = [
        "Other",
        "Unsupported DNSKEY Algorithm",
        "Unsupported DS Digest Type",
        "Stale Answer",
        "Forged Answer",
        "DNSSEC Indeterminate",
        "DNSSEC Bogus",
        "Signature Expired",
        "Signature Not Yet Valid",
        "DNSKEY Missing",
        "RRSIGs Missing",
        "No Zone Key Bit Set",
        "NSEC Missing",
        "Cached Error",
        "Not Ready",
        "Blocked",
        "Censored",
        "Filtered",
        "Prohibited",
        "Stale NXDOMAIN Answer",
        "Not Authoritative",
        "Not Supported",
        "No Reachable Authority",
        "Network Error",
        "Invalid Data",
        "Signature Expired before Valid",
        "Too Early",
        "Unsupported NSEC3 Iterations Value",
        "Unable to conform to policy",
        "Synthesized",
        "Invalid Query Type",
    ];
    names.get(usize::from(code)).copied().unwrap_or("Unknown")
}

/// The name at `at` of `message`.
///
/// # Errors
/// As [`name::expand`].
pub fn owner(message: &[u8], at: u16) -> Result<String, WireError> {
    let mut expanded = Vec::new();
    name::expand(message, at.into(), &mut expanded)?;
    Ok(Shown(&expanded).to_string())
}

/// All of `record`, with this TTL, as a zone file would have it.
#[must_use]
pub fn line(message: &[u8], record: &Record, ttl: u32) -> String {
    let owner = owner(message, record.owner).unwrap_or_else(|_| "?".to_owned());
    let (class, rtype) = (class_name(record.class), type_name(record.rtype));
    format!("{owner} {ttl} {class} {rtype} {}", data(message, record))
}

/// The data of `record`.
#[must_use]
pub fn data(message: &[u8], record: &Record) -> String {
    let octets = record.rdata.of(message);
    match record.rtype {
        rtype::TXT | rtype::RESINFO => strings(octets).unwrap_or_else(|| generic(octets)),
        _ => library(message, record).unwrap_or_else(|| generic(octets)),
    }
}

fn library(message: &[u8], record: &Record) -> Option<String> {
    let length = record.rdata.end.checked_sub(record.rdata.start).filter(|&length| length > 0)?;
    let mut decoder = BinDecoder::new(message).clone(record.rdata.start);
    let read = RData::read(&mut decoder, RecordType::from(record.rtype), Restrict::new(length)).ok()?;
    if matches!(read, RData::Unknown { .. } | RData::NULL(_) | RData::OPT(_))
        || decoder.index() != usize::from(record.rdata.end)
    {
        return None;
    }
    let mut shown = String::new();
    write!(shown, "{read}").ok()?;
    Some(printable(&shown))
}

/// Character strings, quoted (RFC 1035 5.1).
fn strings(octets: &[u8]) -> Option<String> {
    let mut shown = String::new();
    let mut rest = octets;
    while let Some((&length, tail)) = rest.split_first() {
        let (string, after) = tail.split_at_checked(length.into())?;
        let space = if shown.is_empty() { "" } else { " " };
        write!(shown, "{space}\"{}\"", string.iter().map(|&octet| quoted(octet)).collect::<String>()).ok()?;
        rest = after;
    }
    Some(shown)
}

fn quoted(octet: u8) -> String {
    match octet {
        b'"' | b'\\' => format!("\\{}", char::from(octet)),
        b' '..=b'~' => char::from(octet).to_string(),
        other => format!("\\{other:03}"),
    }
}

/// `\# length hex` (RFC 3597 5).
fn generic(octets: &[u8]) -> String {
    let mut shown = format!("\\# {}", octets.len());
    if !octets.is_empty() {
        shown.push(' ');
    }
    for octet in octets {
        // Writing to a String cannot fail.
        let _ = write!(shown, "{octet:02x}");
    }
    shown
}

/// Text from the network without anything that a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Header, Records};

    fn shown(rtype: u16, rdata: &[u8]) -> String {
        let mut message = Header { answers: 1, ..Header::default() }.to_octets().to_vec();
        message.push(0);
        message.extend(rtype.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
        message.extend(rdata);
        let header = Header::parse(&message).unwrap();
        let record = Records::new(&message, &header).unwrap().next().unwrap().unwrap();
        data(&message, &record)
    }

    #[test]
    fn known_types_read_as_in_a_zone_file() {
        assert_eq!(shown(1, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(shown(15, &[0, 10, 1, b'm', 0]), "10 m.");
        assert_eq!(shown(16, b"\x03a\"b\x02\x1b["), "\"a\\\"b\" \"\\027[\"");
    }

    #[test]
    fn unknown_and_broken_data_reads_as_rfc_3597_says() {
        assert_eq!(shown(65_400, &[1, 0xab]), "\\# 2 01ab");
        assert_eq!(shown(1, &[192, 0, 2]), "\\# 3 c00002");
        assert_eq!(shown(1, &[192, 0, 2, 1, 9]), "\\# 5 c000020109");
        assert_eq!(shown(16, &[9, b'x']), "\\# 2 0978");
        assert_eq!(shown(65_400, &[]), "\\# 0");
        assert_eq!((type_name(65_400), type_name(46)), ("TYPE65400".into(), "RRSIG".into()));
    }

    #[test]
    fn nothing_from_the_network_steers_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}"), "a\\u{1b}[2Jb\\u{9b}");
    }
}
