//! Any text as the query string of a DoH GET: what is taken out is a message's octets, spelt in one way, and leaves no trace of a failure.

use bytes::BytesMut;
use hushgate::listen::http::{QueryStringError, decode_query_string};
use hushgate::wire::MAX_MESSAGE;

/// One input.
pub fn run(input: &[u8]) {
    let Ok(query) = std::str::from_utf8(input) else { return };
    let mut out = BytesMut::from(&b"kept"[..]);
    let outcome = decode_query_string(query, &mut out);
    let (kept, octets) = out.split_at(4);
    assert_eq!(kept, b"kept");
    match outcome {
        Ok(()) => check(octets),
        Err(QueryStringError::Missing | QueryStringError::Encoding | QueryStringError::Long) => {
            assert!(octets.is_empty())
        }
    }
    // What stands before the variable, and what comes after it, changes nothing.
    let mut again = BytesMut::new();
    let around = decode_query_string(&format!("ct=x&{query}&dns=AA"), &mut again);
    match outcome {
        Ok(()) => assert_eq!((around, &again[..]), (Ok(()), octets)),
        Err(QueryStringError::Missing) => assert_eq!((around, &again[..]), (Ok(()), &[0][..])),
        Err(other) => assert_eq!(around, Err(other)),
    }
}

/// The octets are within a message's bounds, and their one plain spelling reads back as them.
fn check(octets: &[u8]) {
    assert!(octets.len() <= MAX_MESSAGE);
    let mut again = BytesMut::new();
    assert_eq!(decode_query_string(&format!("dns={}", spelt(octets)), &mut again), Ok(()));
    assert_eq!(&again[..], octets);
}

/// base64url without padding (RFC 4648 5).
fn spelt(octets: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().enumerate().fold(0_u32, |bits, (at, &octet)| bits | u32::from(octet) << (16 - 8 * at));
        let spell = move |at: usize| char::from(alphabet[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..=chunk.len()).map(spell).collect::<String>()
    };
    octets.chunks(3).map(group).collect()
}
