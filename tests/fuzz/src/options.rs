//! Any octets as the data of a question's OPT record: options are within it, subnets keep their bounds, and what is asked so is answered.

use hushgate::wire::{Parsed, Subnet};

use crate::pipeline;

/// One input: what chooses transport and settings, and the data.
pub fn run(input: &[u8]) {
    let Some((&mode, data)) = input.split_first() else { return };
    let Ok(length) = u16::try_from(data.len()) else { return };
    let question = b"\0\0\x01\0\0\x01\0\0\0\0\0\x01\x03www\x07example\x03com\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\x80\0";
    let message = [question, &length.to_be_bytes()[..], data].concat();
    if let Some(edns) = Parsed::parse(&message).ok().and_then(|parsed| parsed.edns) {
        for span in [edns.cookie, edns.client_subnet, edns.keepalive].into_iter().flatten() {
            assert!(usize::from(span.start) >= question.len() + 2 && usize::from(span.end) <= message.len());
        }
        if let Some((subnet, scope)) = edns.client_subnet.and_then(|span| Subnet::read(span.of(&message))) {
            check_subnet(subnet, scope);
        }
    }
    if let Some((subnet, scope)) = Subnet::read(data) {
        check_subnet(subnet, scope);
    }
    pipeline::ask(mode, &message, &[]);
}

fn check_subnet(subnet: Subnet, _: u8) {
    for length in [0, 1, 24, 32, 56, 128, 255] {
        let within = subnet.within(length);
        assert!(within.address().len() <= subnet.address().len(), "never more than was told");
        assert!(within.within(length) == within);
    }
    assert!(subnet.hidden().address().is_empty());
    assert!(subnet.public().is_none_or(|public| public.address().len() <= subnet.address().len()));
}
