//! Records in presentation form: by the layout of their type, else in RFC 3597's generic form.
//!
//! Beside the path: for people, and for clients that ask in text.

use std::fmt::Write as _;

use hickory_proto::rr::RecordType;

use self::layout::push_hex;
use crate::wire::name::{self, Shown};
use crate::wire::{Record, WireError};

mod layout;
mod service;

/// The types of the registry that the library has no name for.
const EXTRA: [(&str, u16); 6] =
    [("DNAME", 39), ("LOC", 29), ("RP", 17), ("URI", 256), ("RESINFO", 261), ("ZONEMD", 63)];

/// The number of the type that `text` names: `AAAA`, `aaaa` or `TYPE28`.
#[must_use]
pub fn type_number(text: &str) -> Option<u16> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_prefix("TYPE").filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    let extra = || EXTRA.into_iter().find(|&(known, _)| known == upper).map(|(_, number)| number);
    number.or_else(|| upper.parse::<RecordType>().ok().map(u16::from)).or_else(extra)
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

/// The data of `record`, in printable ASCII.
#[must_use]
pub fn data(message: &[u8], record: &Record) -> String {
    layout::shown(message, record).unwrap_or_else(|| generic(record.rdata.of(message)))
}

/// Appends a character string in quotes (RFC 1035 5.1).
fn push_quoted(octets: &[u8], out: &mut String) {
    out.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => out.extend(['\\', char::from(octet)]),
            b' '..=b'~' => out.push(char::from(octet)),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{other:03}");
            }
        }
    }
    out.push('"');
}

/// Appends a character string, in quotes where it needs them.
fn push_text(octets: &[u8], out: &mut String) {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._/,{}?=:+".contains(octet);
    if !octets.is_empty() && octets.iter().all(plain) {
        out.extend(octets.iter().copied().map(char::from));
    } else {
        push_quoted(octets, out);
    }
}

/// `\# length hex` (RFC 3597 5).
fn generic(octets: &[u8]) -> String {
    let mut shown = format!("\\# {}", octets.len());
    if !octets.is_empty() {
        shown.push(' ');
    }
    push_hex(octets, &mut shown);
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
    fn a_number_of_a_type_is_digits_and_nothing_else() {
        let numbers = ["TYPE28", "type065", "TYPE+28", "TYPE-1", "TYPE", "TYPE 1", "TYPE65536"].map(type_number);
        assert_eq!(numbers, [Some(28), Some(65), None, None, None, None, None]);
    }

    #[test]
    fn known_types_read_as_in_a_zone_file() {
        assert_eq!(shown(1, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(shown(15, &[0, 10, 1, b'm', 0]), "10 m.");
        assert_eq!(shown(16, b"\x03a\"b\x02\x1b["), "\"a\\\"b\" \"\\027[\"");
    }

    #[test]
    fn each_layout_reads_as_the_standard_of_its_type_has_it() {
        let soa =
            [b"\x02ns\x00\x05root.\x00".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5]];
        assert_eq!(shown(6, &soa.concat()), r"ns. root\.. 1 2 3 4 5");
        assert_eq!(shown(5, b"\x0dxn--bcher-kva\x01\xff\x00"), r"xn--bcher-kva.\255.");
        assert_eq!(shown(33, b"\0\x01\0\x02\x03\x55\x01t\0"), "1 2 853 t.");
        let naptr = shown(35, b"\0\x64\0\x0a\x01u\x07E2U+sip\x08!^.*$!\\1\0");
        assert_eq!(naptr, r#"100 10 "u" "E2U+sip" "!^.*$!\\1" ."#);
        assert_eq!(shown(257, b"\x80\x05issueca.example; a=\"b\""), r#"128 issue "ca.example; a=\"b\"""#);
        assert_eq!(shown(256, b"\0\x0a\0\x01https://a/"), r#"10 1 "https://a/""#);
        assert_eq!(shown(43, &[0x12, 0x34, 13, 2, 0xab, 0xcd]), "4660 13 2 abcd");
        assert_eq!(shown(48, &[1, 1, 3, 13, 1, 2, 3]), "257 3 13 AQID");
        // The times of RFC 4034 3.3.
        let signature = [
            &[0, 1, 5, 3, 0, 1, 0x51, 0x80, 0x3e, 0x7c, 0x9d, 0xd7, 0x3e, 0x55, 0x10, 0xd7, 0x0a, 0x52][..],
            b"\x01s\0",
            &[7; 3],
        ];
        assert_eq!(shown(46, &signature.concat()), "A 5 3 86400 20030322173103 20030220173103 2642 s. BwcH");
        // RFC 4034 4.3.
        let nsec = [b"\x04host\0".as_slice(), &[0, 6, 0x40, 1, 0, 0, 0, 3, 4, 0x1b], &[0; 26], &[0x20]].concat();
        assert_eq!(shown(47, &nsec), "host. A MX RRSIG NSEC TYPE1234");
        // RFC 5155 appendix A.
        let hash = [
            0x17, 0x4e, 0xb2, 0x40, 0x9f, 0xe2, 0x8b, 0xcb, 0x48, 0x87, 0xa1, 0x83, 0x6f, 0x95, 0x7f, 0x0a, 0x84, 0x25,
            0xe2, 0x7b,
        ];
        let nsec3 = [&[1, 1, 0, 12, 4, 0xaa, 0xbb, 0xcc, 0xdd, 20][..], &hash, &[0, 1, 0x40]].concat();
        assert_eq!(shown(50, &nsec3), "1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A");
        assert_eq!(shown(51, &[1, 0, 0, 0, 0]), "1 0 0 -");
    }

    #[test]
    fn service_parameters_read_as_rfc_9460_has_them() {
        let all = [
            &b"\0\x01\0"[..],
            b"\0\0\0\x02\0\x01",
            b"\0\x01\0\x06\x02h2\x02h3",
            b"\0\x02\0\0",
            b"\0\x03\0\x02\x01\xbb",
            &[0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 2],
            b"\0\x05\0\x03abc",
            &[0, 6, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            b"\0\x07\0\x10/dns-query{?dns}",
            b"\x02\x9b\0\x05he\"\xd2\x07",
        ];
        let text = r#"1 . mandatory=alpn alpn=h2,h3 no-default-alpn port=443 ipv4hint=192.0.2.1,192.0.2.2 ech=YWJj ipv6hint=2001:db8::1 dohpath=/dns-query{?dns} key667="he\"\210\007""#;
        assert_eq!(shown(65, &all.concat()), text);
        assert_eq!(shown(64, b"\0\0\x01t\0"), "0 t.");
        // RFC 9460 appendix D.2, figure 10.
        let commas = b"\0\x10\0\0\x01\0\x0c\x08f\\oo,bar\x02h2";
        assert_eq!(shown(64, commas), r#"16 . alpn="f\\\\oo\\,bar,h2""#);
        assert_eq!(shown(64, b"\0\x10\0\0\x03\0\x01\x01"), "\\# 8 0010000003000101", "half a port");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_data_is_it_is_shown_in_printable_ascii(
            rtype in 0_u16..300, octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)
        ) {
            proptest::prop_assert!(shown(rtype, &octets).bytes().all(|octet| matches!(octet, b' '..=b'~')));
        }
    }

    #[test]
    fn types_are_read_by_name_and_number() {
        for (text, number) in [("A", 1), ("aaaa", 28), ("TYPE65", 65), ("any", 255), ("resinfo", 261), ("TYPE65536", 0)]
        {
            assert_eq!(type_number(text).unwrap_or(0), number, "{text}");
        }
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
