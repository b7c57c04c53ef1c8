//! Any octets as a PROXY header: what is found lies within them, and comes out the same when it is read in pieces.

use hushgate::listen::proxy::header::{Carrier, Header, parse};

/// One input: what it goes before, in one octet, and the octets.
pub fn run(input: &[u8]) {
    let Some((&choice, octets)) = input.split_first() else { return };
    let carrier = if choice & 1 == 0 { Carrier::Stream } else { Carrier::Datagram };
    let whole = parse(octets, carrier);
    match whole {
        Ok(Header::Whole { length, .. }) => assert!(length <= octets.len()),
        Ok(Header::Partial { wanted }) => assert!(wanted > octets.len() && wanted <= 16 + 65_535),
        Err(_) => {}
    }
    let mut have = 0;
    let pieces = loop {
        match parse(&octets[..have], carrier) {
            Ok(Header::Partial { wanted }) if wanted <= octets.len() => {
                assert!(wanted > have);
                have = wanted;
            }
            end => break end,
        }
    };
    match (pieces, whole) {
        // A front may promise what the next octet breaks.
        (Ok(Header::Partial { .. }), Ok(Header::Partial { .. }) | Err(_)) => {}
        (pieces, whole) => assert_eq!(pieces, whole),
    }
}
