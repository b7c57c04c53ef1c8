//! A stream's question as far as it has come: a two-octet length, the message, the end of the stream (RFC 9250 4.2).

use bytes::{Bytes, BytesMut};
use quinn::ReadError;

use super::closing::Violation;
use crate::wire::framing::{self, Frame};

/// The octets of one stream. A question in one piece, the common case, is never copied.
#[derive(Debug, Default)]
pub struct Intake {
    octets: Octets,
    ended: bool,
}

#[derive(Debug, Default)]
enum Octets {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

/// How much of a question is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Some of it.
    Partial,
    /// All of it, but not the end of the stream.
    Whole,
    /// All.
    Ended,
}

/// Why a stream is read no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The client broke the protocol.
    Broken(Violation),
    /// The client cancelled.
    Cancelled,
    /// It took too long.
    Late,
    /// It gets no reply.
    Silent,
    /// It leaves too many replies unread.
    Crowded,
    /// The connection is gone.
    Lost,
}

impl Intake {
    /// Adds what a read brought.
    ///
    /// # Errors
    /// The [`Halt`].
    pub fn add(&mut self, read: &Result<Option<usize>, ReadError>, pieces: &mut [Bytes]) -> Result<Stage, Halt> {
        match read {
            Ok(Some(count)) => {
                for piece in pieces.iter_mut().take(*count) {
                    self.push(std::mem::take(piece));
                }
            }
            Ok(None) => self.ended = true,
            Err(ReadError::Reset(_)) => return Err(Halt::Cancelled),
            Err(_) => return Err(Halt::Lost),
        }
        self.stage()
    }

    /// How much is there?
    ///
    /// # Errors
    /// [`Halt::Broken`] where there is too much, or the end came too early.
    pub fn stage(&self) -> Result<Stage, Halt> {
        let octets = self.octets();
        match (framing::next(octets), self.ended) {
            (Frame::Whole { used, .. }, _) if used < octets.len() => Err(Halt::Broken(Violation::Trailing)),
            (Frame::Whole { .. }, true) => Ok(Stage::Ended),
            (Frame::Whole { .. }, false) => Ok(Stage::Whole),
            (Frame::Partial { .. }, true) => Err(Halt::Broken(Violation::EarlyEnd)),
            (Frame::Partial { .. }, false) => Ok(Stage::Partial),
        }
    }

    /// The message; empty while it is not all there.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        match framing::next(self.octets()) {
            Frame::Whole { message, .. } => message,
            Frame::Partial { .. } => &[],
        }
    }

    fn octets(&self) -> &[u8] {
        match &self.octets {
            Octets::None => &[],
            Octets::One(octets) => octets,
            Octets::Many(octets) => octets,
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.octets = match std::mem::take(&mut self.octets) {
            Octets::None => Octets::One(piece),
            Octets::One(first) => {
                let mut joined = BytesMut::with_capacity(first.len() + piece.len());
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&piece);
                Octets::Many(joined)
            }
            Octets::Many(mut joined) => {
                joined.extend_from_slice(&piece);
                Octets::Many(joined)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(intake: &mut Intake, octets: &'static [u8]) -> Result<Stage, Halt> {
        intake.add(&Ok(Some(1)), &mut [Bytes::from_static(octets)])
    }

    #[test]
    fn doq_03_octets_come_in_any_pieces() {
        let mut intake = Intake::default();
        for piece in [&b"\0"[..], b"\x03", b"a", b"b"] {
            assert_eq!(add(&mut intake, piece), Ok(Stage::Partial));
        }
        assert_eq!(add(&mut intake, b"c"), Ok(Stage::Whole));
        assert_eq!(intake.add(&Ok(None), &mut []), Ok(Stage::Ended));
        assert_eq!(intake.message(), b"abc");
    }

    #[test]
    fn doq_05_an_octet_too_many_is_fatal() {
        let mut intake = Intake::default();
        assert_eq!(add(&mut intake, b"\0\x01ab"), Err(Halt::Broken(Violation::Trailing)));
    }

    #[test]
    fn doq_09_an_end_too_early_is_fatal() {
        for octets in [&b""[..], b"\0", b"\0\x02a"] {
            let mut intake = Intake::default();
            assert_eq!(add(&mut intake, octets), Ok(Stage::Partial));
            assert_eq!(intake.add(&Ok(None), &mut []), Err(Halt::Broken(Violation::EarlyEnd)));
        }
    }
}
