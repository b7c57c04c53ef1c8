//! The parameters of SVCB and HTTPS records (RFC 9460 2.1, appendix A; RFC 9461 5, RFC 9540 4).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::push_text;

/// Appends the parameters in `octets`; `None` where they are not whole.
pub fn parameters(octets: &[u8], out: &mut String) -> Option<()> {
    let mut rest = octets;
    let mut space = "";
    while !rest.is_empty() {
        let (key, tail) = rest.split_first_chunk::<2>()?;
        let (length, tail) = tail.split_first_chunk::<2>()?;
        let (value, tail) = tail.split_at_checked(u16::from_be_bytes(*length).into())?;
        out.push_str(space);
        parameter(u16::from_be_bytes(*key), value, out)?;
        (rest, space) = (tail, " ");
    }
    Some(())
}

fn parameter(key: u16, value: &[u8], out: &mut String) -> Option<()> {
    push_key(key, out);
    match key {
        // Flags: the key says it all.
        2 | 8 if value.is_empty() => return Some(()),
        _ if value.is_empty() => return (key > 7).then_some(()),
        _ => out.push('='),
    }
    match key {
        0 => list(value, |&key: &[u8; 2], out| push_key(u16::from_be_bytes(key), out), out),
        1 => protocols(value, out),
        3 => write!(out, "{}", u16::from_be_bytes(value.try_into().ok()?)).ok(),
        4 => list(value, |&octets: &[u8; 4], out| push_shown(Ipv4Addr::from(octets), out), out),
        5 => {
            STANDARD.encode_string(value, out);
            Some(())
        }
        6 => list(value, |&octets: &[u8; 16], out| push_shown(Ipv6Addr::from(octets), out), out),
        _ => {
            push_text(value, out);
            Some(())
        }
    }
}

fn push_key(key: u16, out: &mut String) {
    let known = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath", "ohttp"];
    match known.get(usize::from(key)) {
        Some(name) => out.push_str(name),
        None => push_shown(format_args!("key{key}"), out),
    }
}

fn push_shown(what: impl std::fmt::Display, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{what}");
}

/// Values of `N` octets each, with commas between.
fn list<const N: usize>(value: &[u8], show: impl Fn(&[u8; N], &mut String), out: &mut String) -> Option<()> {
    let (values, rest) = value.as_chunks::<N>();
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        show(value, out);
    }
    rest.is_empty().then_some(())
}

/// Character strings with commas between; a comma in one is escaped before the whole is (RFC 9460 appendix A.1).
fn protocols(value: &[u8], out: &mut String) -> Option<()> {
    let (mut rest, mut joined) = (value, Vec::new());
    while let Some((&length, tail)) = rest.split_first() {
        let (id, tail) = tail.split_at_checked(length.into()).filter(|(id, _)| !id.is_empty())?;
        if !joined.is_empty() {
            joined.push(b',');
        }
        for &octet in id {
            if matches!(octet, b',' | b'\\') {
                joined.push(b'\\');
            }
            joined.push(octet);
        }
        rest = tail;
    }
    push_text(&joined, out);
    Some(())
}
