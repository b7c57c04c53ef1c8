//! The two-octet length that precedes a message on a stream (RFC 1035 4.2.2, RFC 7766 8, RFC 9250 4.2).

/// What the front of a read buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole message; `used` octets of the buffer, prefix included, belong to it.
    Whole {
        /// The message without its prefix.
        message: &'a [u8],
        /// Octets to drop from the buffer afterwards.
        used: usize,
    },
    /// More octets must come; the frame needs `wanted` in all, as far as is known.
    Partial {
        /// Octets the frame needs, prefix included; 2 while the prefix itself is incomplete.
        wanted: usize,
    },
}

/// Reads the frame at the front of `buffer`.
#[must_use]
pub fn next(buffer: &[u8]) -> Frame<'_> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<2>() else { return Frame::Partial { wanted: 2 } };
    let length = usize::from(u16::from_be_bytes(*prefix));
    match rest.get(..length) {
        Some(message) => Frame::Whole { message, used: 2 + length },
        None => Frame::Partial { wanted: 2 + length },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_02_frames_are_found_whatever_the_segments() {
        let stream = [0, 3, b'a', b'b', b'c', 0, 0, 0, 1, b'd'];
        for cut in 0..5 {
            let wanted = if cut < 2 { 2 } else { 5 };
            assert_eq!(next(&stream[..cut]), Frame::Partial { wanted });
        }
        let mut rest = &stream[..];
        for expected in [&b"abc"[..], b"", b"d"] {
            let Frame::Whole { message, used } = next(rest) else { panic!("a frame is there") };
            assert_eq!(message, expected);
            rest = &rest[used..];
        }
        assert_eq!(next(rest), Frame::Partial { wanted: 2 });
    }

    #[test]
    fn tcp_17_the_longest_message_is_65535_octets() {
        let stream = vec![0xff; 2 + 65_535];
        assert!(matches!(next(&stream), Frame::Whole { message, used: 65_537 } if message.len() == 65_535));
        assert_eq!(next(&stream[..65_536]), Frame::Partial { wanted: 65_537 });
    }
}
