//! Headers of both versions, whole, cut, changed and forged.

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(source: &str, destination: &str) -> Said {
    Said::Client { source: address(source), destination: address(destination) }
}

/// A header of version 2: command, family, and what follows the length.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 3, 85];

fn v6() -> Vec<u8> {
    let [from, to] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
    [&from[..], &to, &[0x12, 0x67, 3, 85]].concat()
}

fn said(octets: &[u8], carrier: Carrier) -> Result<Said, HeaderError> {
    match parse(octets, carrier)? {
        Header::Whole { said, length } => {
            assert!(length <= octets.len());
            Ok(said)
        }
        Header::Partial { wanted } => panic!("{wanted} octets wanted of {octets:?}"),
    }
}

/// `body` with a checksum of the header it will have.
fn checked(family: u8, body: &[u8], error: u32) -> Vec<u8> {
    let mut header = v2(PROXY, family, &[body, &[CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    let end = header.len();
    // Sums to the same as the field in use: RFC 9260 takes it as zero.
    let sum = crc32c(&header, &(0..0)) ^ error;
    header[end - 4..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn ppx_01_both_families_and_both_carriers_are_read() {
    let v4 = client("192.0.2.1:4711", "198.51.100.1:853");
    let v6_client = client("[2001:db8::1]:4711", "[2001:db8::2]:853");
    for (family, body, carrier, expected) in [
        (0x11, V4.to_vec(), Carrier::Stream, v4),
        (0x12, V4.to_vec(), Carrier::Datagram, v4),
        (0x21, v6(), Carrier::Stream, v6_client),
        (0x22, v6(), Carrier::Datagram, v6_client),
    ] {
        let header = v2(PROXY, family, &body);
        assert_eq!(said(&header, carrier), Ok(expected), "{family:#x}");
        let followed = [&header[..], b"\x16\x03\x01"].concat();
        let whole = Header::Whole { said: expected, length: header.len() };
        assert_eq!(parse(&followed, carrier), Ok(whole), "what follows is not the header's");
    }
}

#[test]
fn ppx_06_local_and_unknown_clients_leave_the_addresses_of_the_socket() {
    for carrier in [Carrier::Stream, Carrier::Datagram] {
        for header in [
            v2(LOCAL, 0x00, b""),
            v2(LOCAL, 0x11, &V4),
            v2(LOCAL, 0x31, b"whatever"),
            v2(LOCAL, 0x00, &[4, 0, 2, 7, 7]),
            v2(PROXY, 0x00, b""),
            v2(PROXY, 0x00, &[4, 0, 9]),
        ] {
            let whole = Header::Whole { said: Said::Nobody, length: header.len() };
            assert_eq!(parse(&header, carrier), Ok(whole), "{header:?}");
        }
    }
}

#[test]
fn ppx_07_what_no_header_may_say_is_malformed_as_soon_as_it_is_said() {
    for header in [
        v2(0x11, 0x11, &V4),
        v2(0x31, 0x11, &V4),
        v2(0x22, 0x11, &V4),
        v2(0x2f, 0x11, &V4),
        v2(PROXY, 0x12, &V4),
        v2(PROXY, 0x22, &v6()),
        v2(PROXY, 0x31, &[0; 216]),
        v2(PROXY, 0x10, &V4),
        v2(PROXY, 0x13, &V4),
        v2(PROXY, 0x11, &V4[..11]),
        v2(PROXY, 0x21, &v6()[..35]),
        v2(PROXY, 0x11, b""),
    ] {
        assert_eq!(parse(&header[..FIXED], Carrier::Stream), Err(HeaderError::Malformed), "{header:?}");
        assert_eq!(parse(&header, Carrier::Stream), Err(HeaderError::Malformed), "{header:?}");
    }
    assert_eq!(said(&v2(PROXY, 0x11, &V4), Carrier::Datagram), Err(HeaderError::Malformed));
}

#[test]
fn ppx_08_unknown_records_are_passed_over_and_broken_ones_are_not() {
    let body = [&V4[..], &[2, 0, 4], b"name", &[0x20, 0, 0], &[0xee, 0, 3, 1, 2, 3]].concat();
    assert!(said(&v2(PROXY, 0x11, &body), Carrier::Stream).is_ok());
    let longest = [&V4[..], &[4, 0xff, 0xf0], &vec![0; 0xfff0]].concat();
    assert_eq!(longest.len(), 65_535);
    assert!(said(&v2(PROXY, 0x11, &longest), Carrier::Stream).is_ok());
    for broken in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 9, 1, 2], &[4, 0, 1, 7, 4]] {
        let header = v2(PROXY, 0x11, &[&V4[..], broken].concat());
        assert_eq!(said(&header, Carrier::Stream), Err(HeaderError::Malformed), "{broken:?}");
    }
}

#[test]
fn ppx_08_a_checksum_that_is_there_must_be_right() {
    assert_eq!(crc32c(b"123456789", &(0..0)), 0xe306_9283, "the check value of CRC32C");
    for (family, body) in [(0x11, V4.to_vec()), (0x21, v6()), (0x11, [&V4[..], &[4, 0, 1, 9]].concat())] {
        assert!(said(&checked(family, &body, 0), Carrier::Stream).is_ok());
        assert_eq!(said(&checked(family, &body, 1), Carrier::Stream), Err(HeaderError::Malformed));
    }
    let mut changed = checked(0x11, &V4, 0);
    changed[FIXED] ^= 1;
    assert_eq!(said(&changed, Carrier::Stream), Err(HeaderError::Malformed));
    let short = v2(PROXY, 0x11, &[&V4[..], &[CRC32C, 0, 3, 0, 0, 0]].concat());
    assert_eq!(said(&short, Carrier::Stream), Err(HeaderError::Malformed));
    let twice = checked(0x11, &[&V4[..], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat(), 0);
    assert_eq!(said(&twice, Carrier::Stream), Err(HeaderError::Malformed));
}

#[test]
fn ppx_10_lines_of_version_1_are_read_to_their_end() {
    for (text, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 853\r\n", client("192.0.2.1:4711", "198.51.100.1:853")),
        ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", client("[2001:db8::1]:0", "[::1]:65535")),
        ("PROXY UNKNOWN\r\n", Said::Nobody),
        ("PROXY UNKNOWN ffff::f ffff::f 65535 65535 what not\r\n", Said::Nobody),
    ] {
        let followed = format!("{text}more\r\n");
        let whole = Header::Whole { said: expected, length: text.len() };
        assert_eq!(parse(followed.as_bytes(), Carrier::Stream), Ok(whole), "{text}");
        assert_eq!(parse(text.as_bytes(), Carrier::Datagram), Err(HeaderError::Missing), "{text}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
    assert_eq!(longest.len(), LONGEST_LINE);
    assert_eq!(said(longest.as_bytes(), Carrier::Stream), Ok(Said::Nobody));
}

#[test]
fn ppx_10_a_line_that_is_none_is_malformed() {
    for text in [
        "PROXY \r\nxxxxxxxxx",
        "PROXY TCP4\r\n    ",
        "PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 4711 853 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 4711 853\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +4711 853\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 04711 853\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 853\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.1 4711 853\r\n",
        "PROXY TCP4 2001:db8::1 ::1 4711 853\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 4711 853\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 4711 853\r\n",
        "PROXY UNKNOWNS 1 2\r\n",
        "PROXY TCP4 192.0.2.1\u{e9} 198.51.100.1 4711 853\r\n",
    ] {
        assert_eq!(parse(text.as_bytes(), Carrier::Stream), Err(HeaderError::Malformed), "{text}");
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert!(matches!(parse(&endless[..106], Carrier::Stream), Ok(Header::Partial { wanted: 107 })));
    assert_eq!(parse(&endless[..107], Carrier::Stream), Err(HeaderError::Malformed));
}

#[test]
fn ppx_02_what_begins_as_no_header_is_told_at_its_first_octet() {
    for octets in [&b"\x16\x03\x01"[..], b"GET /", b"PRI *", b"\0\x1d", b"PROXZ", b"\r\n\r\n\0\r\nQUIT\r"] {
        assert_eq!(parse(octets, Carrier::Stream), Err(HeaderError::Missing), "{octets:?}");
    }
    assert_eq!(parse(b"\x16", Carrier::Stream), Err(HeaderError::Missing));
}

/// Reading up to what is wanted, in whatever pieces, ends with the header and never goes past it.
#[test]
fn ppx_08_every_front_of_a_header_wants_more_and_never_too_much() {
    let headers = [
        v2(PROXY, 0x11, &V4),
        v2(PROXY, 0x21, &[&v6()[..], &[4, 0, 3, 1, 2, 3]].concat()),
        v2(LOCAL, 0, b""),
        checked(0x11, &V4, 0),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 853\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ];
    for header in headers {
        for length in 0..header.len() {
            match parse(&header[..length], Carrier::Stream) {
                Ok(Header::Partial { wanted }) => assert!((length + 1..=header.len()).contains(&wanted), "{length}"),
                other => panic!("{length} octets of {header:?}: {other:?}"),
            }
        }
        let whole = parse(&header, Carrier::Stream);
        assert!(matches!(whole, Ok(Header::Whole { length, .. }) if length == header.len()), "{whole:?}");
    }
}

#[test]
fn mutations_are_read_without_harm_and_alike_in_pieces() {
    let seeds = [
        v2(PROXY, 0x11, &[&V4[..], &[4, 0, 2, 1, 2]].concat()),
        v2(PROXY, 0x22, &v6()),
        checked(0x21, &v6(), 0),
        b"PROXY TCP6 2001:db8::1 ::1 4711 853\r\n".to_vec(),
    ];
    let mut state = 7_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..20_000 {
        let mut octets = seeds[below(seeds.len())].clone();
        for _ in 0..=below(3) {
            let at = below(octets.len());
            octets[at] = u8::try_from(below(256)).unwrap();
        }
        octets.truncate(1 + below(octets.len() + 8));
        for carrier in [Carrier::Stream, Carrier::Datagram] {
            let mut wanted = 0;
            let pieces = loop {
                match parse(&octets[..wanted], carrier) {
                    Ok(Header::Partial { wanted: more }) if more <= octets.len() => {
                        assert!(more > wanted);
                        wanted = more;
                    }
                    end => break end,
                }
            };
            match (pieces, parse(&octets, carrier)) {
                (Ok(Header::Partial { .. }), Ok(Header::Partial { .. }) | Err(_)) => {}
                (pieces, whole) => assert_eq!(pieces, whole, "{octets:?}"),
            }
        }
    }
}
