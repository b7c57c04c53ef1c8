//! The query in a GET: the variable `dns`, base64url without padding (RFC 8484 4.1, RFC 4648 5).
//!
//! Strict: padding, the standard alphabet and set bits past the last octet are refused, so each query has one spelling and
//! HTTP caches keep it once. The percent-encoding of unreserved characters means the same as none (RFC 3986 2.3).

use bytes::{BufMut as _, BytesMut};

use crate::wire::MAX_MESSAGE;

/// Why there is no query in a query string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryStringError {
    /// There is no `dns`.
    #[error("the variable dns is missing")]
    Missing,
    /// It is not base64url without padding.
    #[error("the variable dns is not base64url without padding")]
    Encoding,
    /// It holds more than a DNS message can.
    #[error("the variable dns is longer than a DNS message")]
    Long,
}

/// Appends the octets of the first `dns` in `query`, the part of a URI after `?`, to `out`.
///
/// # Errors
/// See [`QueryStringError`]; `out` then holds what it held.
pub fn decode_query_string(query: &str, out: &mut BytesMut) -> Result<(), QueryStringError> {
    let before = out.len();
    let outcome = query.split('&').find_map(dns_value).ok_or(QueryStringError::Missing);
    let outcome = outcome.and_then(|value| decode(value, out));
    if outcome.is_err() {
        out.truncate(before);
    }
    outcome
}

/// The value of `pair` if its name is `dns`.
fn dns_value(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name == "dns" || Unreserved(name.bytes()).eq(b"dns".iter().copied().map(Some))).then_some(value)
}

fn decode(value: &str, out: &mut BytesMut) -> Result<(), QueryStringError> {
    let before = out.len();
    out.reserve(value.len().min(MAX_MESSAGE));
    let (mut bits, mut held) = (0_u32, 0_u32);
    for octet in Unreserved(value.bytes()) {
        let sextet = octet.and_then(sextet).ok_or(QueryStringError::Encoding)?;
        (bits, held) = (bits << 6 | u32::from(sextet), held + 6);
        if held >= 8 {
            held -= 8;
            out.put_u8(u8::try_from(bits >> held).map_err(|_| QueryStringError::Encoding)?);
            bits &= (1 << held) - 1;
        }
        if out.len() - before > MAX_MESSAGE {
            return Err(QueryStringError::Long);
        }
    }
    // One character too many, or bits set past the last octet (RFC 4648 3.5).
    if held == 6 || bits != 0 { Err(QueryStringError::Encoding) } else { Ok(()) }
}

const fn sextet(octet: u8) -> Option<u8> {
    match octet {
        b'A'..=b'Z' => Some(octet - b'A'),
        b'a'..=b'z' => Some(octet - b'a' + 26),
        b'0'..=b'9' => Some(octet - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

/// Octets with the percent-encoding of unreserved characters undone; `None` for any other percent-encoding.
struct Unreserved<'a>(std::str::Bytes<'a>);

impl Iterator for Unreserved<'_> {
    type Item = Option<u8>;

    fn next(&mut self) -> Option<Self::Item> {
        let octet = self.0.next()?;
        if octet != b'%' {
            return Some(Some(octet));
        }
        let mut digit = || self.0.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit(), digit());
        let decoded = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        Some(decoded.filter(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len() / 3, Some(self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn decoded(query: &str) -> Result<Vec<u8>, QueryStringError> {
        let mut out = BytesMut::from(&b"kept"[..]);
        let outcome = decode_query_string(query, &mut out);
        let (kept, octets) = out.split_at(4);
        assert_eq!(kept, b"kept");
        assert!(outcome.is_ok() || octets.is_empty(), "an error leaves nothing behind");
        outcome.map(|()| octets.to_vec())
    }

    /// RFC 8484 4.1.1, first example.
    const WWW: &str = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";

    /// RFC 8484 4.1.1, second example, whose name has a label of 62 octets.
    const LONG_LABEL: &str = "AAABAAABAAAAAAAAAWE-NjJjaGFyYWN0ZXJsYWJlbC1tYWtlcy1iYXNlNjR1cmwtZGlzdGluY3QtZnJvbS1zdGFuZGFyZC1iYXNlNjQHZXhhbXBsZQNjb20AAAEAAQ";

    #[test]
    fn doh_01_the_vectors_of_rfc_8484_decode() {
        let www = decoded(&format!("dns={WWW}")).unwrap();
        assert_eq!(www.len(), 33);
        assert_eq!(&www[12..], b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        let long = decoded(&format!("dns={LONG_LABEL}")).unwrap();
        assert_eq!(long.len(), 94);
        assert_eq!(&long[12..77], b"\x01a\x3e62characterlabel-makes-base64url-distinct-from-standard-base64");
    }

    #[test]
    fn doh_02_padding_the_standard_alphabet_and_spare_bits_are_refused() {
        for value in [
            "AA==", "AA%3D%3D", "AAA=", "+AAA", "/AAA", "AAAAA", "AB", "AAB", "A", "A A", "%2BAAA", "AA%", "AA%4",
            "%zzAA", "é",
        ] {
            assert_eq!(decoded(&format!("dns={value}")), Err(QueryStringError::Encoding), "{value}");
        }
        assert_eq!(decoded("dns=-_8"), Ok(vec![0xfb, 0xff]));
    }

    #[test]
    fn doh_22_other_variables_and_their_order_are_tolerated_and_the_first_dns_wins() {
        let www = decoded(&format!("dns={WWW}"));
        assert_eq!(decoded(&format!("ct=x&dns={WWW}&y=1")), www);
        assert_eq!(decoded(&format!("&&x&dns={WWW}&dns=AA==")), www);
        assert_eq!(decoded("dns=AA&dns=AQ"), Ok(vec![0]));
        assert_eq!(decoded("d%6Es=AA"), Ok(vec![0]));
        assert_eq!(decoded("dns=%2D%5F8"), Ok(vec![0xfb, 0xff]));
        assert_eq!(decoded("xdns=AA&dnsx=AA&DNS=AA&"), Err(QueryStringError::Missing));
        assert_eq!(decoded("dns"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn what_an_independent_encoder_writes_is_read_back(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(decoded(&format!("dns={}", URL_SAFE_NO_PAD.encode(&octets))), Ok(octets));
        }

        #[test]
        fn it_accepts_exactly_what_an_independent_decoder_accepts(value in "[A-Za-z0-9_=+/-]{0,40}") {
            prop_assert_eq!(decoded(&format!("dns={value}")).ok(), URL_SAFE_NO_PAD.decode(&value).ok());
        }
    }
}
