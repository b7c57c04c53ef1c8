//! The streams of a connection, as `h3` reads and writes them.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::close;
use super::encoder::{self, Encoder};
use super::ledger::{Account, Excess};

/// A request's stream.
pub(super) struct Bidi {
    pub(super) send: Sender,
    pub(super) receive: Receiver,
}

/// The direction to the client.
pub(super) struct Sender {
    stream: quinn::SendStream,
    id: StreamId,
    writing: Option<WriteBuf<Bytes>>,
    state: State,
}

/// Has anything been written to a stream?
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Untouched,
    Written,
}

/// The direction from the client.
pub(super) struct Receiver {
    /// `None` once it is the encoder's: `h3` asks for nothing more then.
    octets: Option<Octets>,
    id: StreamId,
    connection: quinn::Connection,
    /// Where the stream goes if it is the encoder's; `None` if it is not.
    encoder: Option<Encoder>,
}

/// A stream, and where its octets are booked.
pub(super) struct Octets {
    pub(super) stream: quinn::RecvStream,
    pub(super) account: Account,
}

impl Sender {
    pub(super) fn of(stream: quinn::SendStream) -> Result<Self, ConnectionErrorIncoming> {
        let id = id(stream.id())?;
        Ok(Self { stream, id, writing: None, state: State::Untouched })
    }
}

impl quic::SendStream<Bytes> for Sender {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(unwritten)?;
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(on_stream(ConnectionErrorIncoming::InternalError("written before it was ready".into())));
        }
        self.state = State::Written;
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // Fails where the stream is over already.
        _ = self.stream.reset(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Left alone, quinn would end it in good order, and an empty response is none.
        if self.state == State::Untouched {
            quic::SendStream::reset(self, Code::H3_REQUEST_CANCELLED.value());
        }
    }
}

impl Receiver {
    /// Reads `octets`; a stream that may be the QPACK encoder's is left with `encoder` if it is.
    pub(super) fn of(
        octets: Octets,
        connection: quinn::Connection,
        encoder: Option<Encoder>,
    ) -> Result<Self, ConnectionErrorIncoming> {
        let id = id(octets.stream.id())?;
        Ok(Self { octets: Some(octets), id, connection, encoder })
    }

    /// With the stream's first octets: leaves it with the encoder if it is the encoder's, and judges what has come of it.
    fn sort(&mut self, first: &Bytes, cx: &mut Context<'_>) -> Result<(), Code> {
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let Some(instructions) = first.strip_prefix(&[encoder::TYPE]) else { return Ok(()) };
        let Some(octets) = self.octets.take() else { return Ok(()) };
        encoder.keep(octets, instructions, cx)
    }

    fn broken(&self, code: Code) -> StreamErrorIncoming {
        close(&self.connection, code);
        on_stream(excess())
    }
}

impl quic::RecvStream for Receiver {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let Some(Octets { stream, account }) = &mut self.octets else { return Poll::Pending };
        // Keeps no state of its own: the waker stays with the connection when the future goes.
        let chunk = ready!(pin!(stream.read_chunk(usize::MAX, true)).poll(cx)).map_err(unread)?;
        let Some(chunk) = chunk else { return Poll::Ready(Ok(None)) };
        if let Err(Excess) = account.take(chunk.bytes.len()) {
            return Poll::Ready(Err(self.broken(Code::H3_EXCESSIVE_LOAD)));
        }
        if let Err(code) = self.sort(&chunk.bytes, cx) {
            return Poll::Ready(Err(self.broken(code)));
        }
        Poll::Ready(Ok(Some(chunk.bytes)))
    }

    fn stop_sending(&mut self, code: u64) {
        // Fails where the stream is over already.
        _ = self.octets.as_mut().map(|octets| octets.stream.stop(VarInt::from_u64(code).unwrap_or(VarInt::MAX)));
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A response may come before the end of its request; the rest is not wanted (RFC 9114 4.1).
        quic::RecvStream::stop_sending(self, Code::H3_NO_ERROR.value());
    }
}

impl quic::SendStream<Bytes> for Bidi {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.id
    }
}

impl quic::RecvStream for Bidi {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.id
    }
}

fn id(id: quinn::StreamId) -> Result<StreamId, ConnectionErrorIncoming> {
    let id = u64::from(VarInt::from(id));
    StreamId::try_from(id).map_err(|_| ConnectionErrorIncoming::InternalError("no stream id".into()))
}

/// What `h3` hears of a connection that has been closed with the right code before.
pub(super) fn excess() -> ConnectionErrorIncoming {
    ConnectionErrorIncoming::InternalError("closed".into())
}

/// What `h3` hears of a connection that is lost.
pub(super) fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(std::sync::Arc::new(other)),
    }
}

/// The same, heard on a stream.
pub(super) fn on_stream(connection_error: ConnectionErrorIncoming) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => on_stream(lost(error)),
        other => StreamErrorIncoming::Unknown(other.into()),
    }
}

fn unwritten(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => on_stream(lost(error)),
        other => StreamErrorIncoming::Unknown(other.into()),
    }
}
