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
