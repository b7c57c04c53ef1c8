//! The stream on which a client's QPACK encoder speaks, which `h3` accepts and then leaves unread (RFC 9204 4.2, 4.3).
//!
//! The dynamic table here holds nothing, as our settings say: all that may be said about it is that its capacity is zero. Whoever
//! reads the stream's first octet leaves it here; the carrier reads on.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use h3::error::Code;

use super::ledger::Excess;
use super::stream::Octets;

/// Where a connection keeps this stream, once it has come.
#[derive(Clone, Default)]
pub(super) struct Encoder(Arc<Mutex<Option<Octets>>>);

impl Encoder {
    /// Keeps the stream, of which `instructions` have been read, and has `cx` woken when there is more.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub(super) fn keep(&self, octets: Octets, instructions: &[u8], cx: &mut Context<'_>) -> Result<(), Code> {
        if !are_allowed(instructions) {
            octets.account.exceed();
            return Err(Code::QPACK_ENCODER_STREAM_ERROR);
        }
        *self.kept() = Some(octets);
        match self.poll(cx) {
            Poll::Ready(code) => Err(code),
            Poll::Pending => Ok(()),
        }
    }

    /// Ready with the code to close the connection with, when the client has said what it must not.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Code> {
        let mut kept = self.kept();
        let Some(octets) = &mut *kept else { return Poll::Pending };
        let code = ready!(wrong(octets, cx));
        octets.account.exceed();
        Poll::Ready(code)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Octets>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(Octets { stream, account }: &mut Octets, cx: &mut Context<'_>) -> Poll<Code> {
    loop {
        let code = match ready!(pin!(stream.read_chunk(usize::MAX, true)).poll(cx)) {
            Ok(Some(chunk)) => match account.take(chunk.bytes.len()) {
                Ok(()) if are_allowed(&chunk.bytes) => continue,
                Ok(()) => Code::QPACK_ENCODER_STREAM_ERROR,
                Err(Excess) => Code::H3_EXCESSIVE_LOAD,
            },
            Ok(None) | Err(quinn::ReadError::Reset(_)) => Code::H3_CLOSED_CRITICAL_STREAM,
            // The connection is gone, as whoever accepts requests hears.
            Err(_) => return Poll::Pending,
        };
        return Poll::Ready(code);
    }
}

fn are_allowed(instructions: &[u8]) -> bool {
    instructions.iter().all(|&octet| octet == CAPACITY_ZERO)
}

/// The type of the stream, and its first octet: nobody has reason to write it in more.
pub(super) const TYPE: u8 = 2;

/// "Set Dynamic Table Capacity" to zero (RFC 9204 4.3.1). All else sets more than there may be, or inserts where there is no room.
const CAPACITY_ZERO: u8 = 0x20;
