//! What a stream connection has to write, and the buffer it is gathered in.

use std::cell::Cell;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context as Waking, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;

use super::deadlines::Deadlines;

thread_local! {
    /// The buffer that the connections of this worker answer into, in turn: it has grown once, and idle connections hold none.
    static SHARED: Cell<BytesMut> = Cell::default();
}

/// Octets to write.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    octets: BytesMut,
    /// Have octets been written that the stream below may still hold?
    unflushed: bool,
}

impl Outbox {
    /// A turn begins: borrows the worker's buffer, unless there is something of our own to write still.
    pub fn open(&mut self) {
        if self.octets.is_empty() {
            self.octets = SHARED.take();
        }
    }

    /// A turn ends: gives the buffer back, unless the client has not read everything.
    pub fn close(&mut self) {
        if self.octets.is_empty() {
            let octets = mem::take(&mut self.octets);
            if octets.capacity() <= MOST_KEPT {
                SHARED.set(octets);
            }
        }
    }

    /// Where answers are appended.
    pub const fn tail(&mut self) -> &mut BytesMut {
        &mut self.octets
    }

    /// Octets not written yet.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Is everything written, as far as is known here?
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Has everything left, the stream below included?
    pub fn is_settled(&self) -> bool {
        self.octets.is_empty() && !self.unflushed
    }

    /// Writes what can be written now. Where something stays, the stream wakes us and `deadlines` has the debt.
    ///
    /// # Errors
    /// The stream's: the client is gone.
    pub fn flush(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        deadlines: &mut Deadlines,
        cx: &mut Waking<'_>,
    ) -> io::Result<()> {
        while !self.octets.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut *io).poll_write(cx, &self.octets) else {
                deadlines.owe(self.octets.len());
                return Ok(());
            };
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.octets.advance(written);
            self.unflushed = true;
            deadlines.wrote(written);
        }
        if self.unflushed {
            match Pin::new(&mut *io).poll_flush(cx) {
                Poll::Pending => deadlines.owe(1),
                Poll::Ready(flushed) => {
                    flushed?;
                    self.unflushed = false;
                    deadlines.settle();
                }
            }
        }
        Ok(())
    }
}

/// Octets of a shared buffer that is kept.
const MOST_KEPT: usize = 64 << 10;
