//! Any octets as a stream: the frames found are the stream, whole and in order, however it arrives.

use hushgate::wire::framing::{Frame, next};

/// One input: where to cut, in two octets, and the stream.
pub fn run(input: &[u8]) {
    let Some((cut, stream)) = input.split_first_chunk() else { return };
    let cut = u16::from_le_bytes(*cut);
    let mut rest = stream;
    while let Frame::Whole { message, used } = next(rest) {
        assert_eq!(used, 2 + message.len());
        let (frame, tail) = rest.split_at(used);
        assert_eq!(frame[..2], u16::try_from(message.len()).expect("16 bits").to_be_bytes());
        assert_eq!(&frame[2..], message);
        rest = tail;
    }
    let Frame::Partial { wanted } = next(rest) else { unreachable!("the loop ended") };
    assert!(wanted > rest.len(), "or it would be whole");

    // A front of the stream holds the same first frame, or wants no more than the whole does.
    let front = &stream[..usize::from(cut).min(stream.len())];
    match (next(front), next(stream)) {
        (Frame::Whole { message, used }, whole) => assert_eq!(whole, Frame::Whole { message, used }),
        (Frame::Partial { wanted }, Frame::Whole { used, .. }) => assert!(wanted > front.len() && wanted <= used),
        (Frame::Partial { wanted }, Frame::Partial { wanted: more }) => assert!(wanted > front.len() && wanted <= more),
    }
}
