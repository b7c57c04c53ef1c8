//! The streams of a connection, as `h3` reads and writes them.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::close;
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
    stream: quinn::RecvStream,
    id: StreamId,
    connection: quinn::Connection,
    account: Account,
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
    pub(super) fn of(
        stream: quinn::RecvStream,
        connection: quinn::Connection,
        account: Account,
    ) -> Result<Self, ConnectionErrorIncoming> {
        let id = id(stream.id())?;
        Ok(Self { stream, id, connection, account })
    }
}

impl quic::RecvStream for Receiver {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // Keeps no state of its own: the waker stays with the connection when the future goes.
        let chunk = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx)).map_err(unread)?;
        let Some(chunk) = chunk else { return Poll::Ready(Ok(None)) };
        if let Err(Excess) = self.account.take(chunk.bytes.len()) {
            close(&self.connection, Code::H3_EXCESSIVE_LOAD);
            return Poll::Ready(Err(on_stream(excess())));
        }
        Poll::Ready(Ok(Some(chunk.bytes)))
    }

    fn stop_sending(&mut self, code: u64) {
        // Fails where the stream is over already.
        _ = self.stream.stop(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
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

/// What `h3` hears of a connection that holds too much; it has been closed with the right code before.
pub(super) fn excess() -> ConnectionErrorIncoming {
    ConnectionErrorIncoming::InternalError("excessive load".into())
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
