//! What `h3` reads of a server, bounded: it waits for whole frames, however long they say they are (RFC 9114 10.5).
//!
//! Under [`doh3`](super), around the streams of `h3-quinn`. A response that is longer than any answer is a failure of its question
//! alone; a server that talks on and on beside its responses loses the connection, with `H3_EXCESSIVE_LOAD`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use h3_quinn::BidiStream;
use quinn::VarInt;

/// A connection.
pub struct Carrier {
    inner: h3_quinn::Connection,
    quic: quinn::Connection,
    /// What control streams may still bring, all together.
    control: Allowance,
}

/// Opens streams.
#[derive(Clone)]
pub struct Opener(h3_quinn::OpenStreams);

/// A request and its response.
pub struct Exchange {
    stream: BidiStream<Bytes>,
    left: usize,
}

/// Control, QPACK, or something unknown that is ignored.
pub struct Control {
    stream: h3_quinn::RecvStream,
    quic: quinn::Connection,
    allowance: Allowance,
}

/// Octets that may still be read; shared by the streams of a connection.
type Allowance = Arc<AtomicUsize>;

/// More was read than may be held.
#[derive(Debug, thiserror::Error)]
#[error("excessive load")]
pub struct Excess;

/// Of one response: the longest message, headers, and frames to ignore.
const RESPONSE: usize = 160 * 1024;

/// Of everything else in a connection's life: settings, a GOAWAY or two, and frames to ignore. No table of QPACK is kept.
const CONTROL: usize = 64 * 1024;

/// `H3_EXCESSIVE_LOAD`.
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

impl Carrier {
    /// Over `quic`.
    #[must_use]
    pub fn new(quic: &quinn::Connection) -> Self {
        let inner = h3_quinn::Connection::new(quic.clone());
        Self { inner, quic: quic.clone(), control: Allowance::new(CONTROL.into()) }
    }
}

const fn exchange(stream: BidiStream<Bytes>) -> Exchange {
    Exchange { stream, left: RESPONSE }
}

impl quic::Connection<Bytes> for Carrier {
    type RecvStream = Control;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Control, ConnectionErrorIncoming>> {
        let stream = ready!(quic::Connection::<Bytes>::poll_accept_recv(&mut self.inner, cx))?;
        Poll::Ready(Ok(Control { stream, quic: self.quic.clone(), allowance: Arc::clone(&self.control) }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Exchange, ConnectionErrorIncoming>> {
        quic::Connection::<Bytes>::poll_accept_bidi(&mut self.inner, cx).map_ok(exchange)
    }

    fn opener(&self) -> Opener {
        Opener(quic::Connection::<Bytes>::opener(&self.inner))
    }
}

impl quic::OpenStreams<Bytes> for Carrier {
    type BidiStream = Exchange;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Exchange, StreamErrorIncoming>> {
        quic::OpenStreams::<Bytes>::poll_open_bidi(&mut self.inner, cx).map_ok(exchange)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.inner.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.inner, code, reason);
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Exchange;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Exchange, StreamErrorIncoming>> {
        quic::OpenStreams::<Bytes>::poll_open_bidi(&mut self.0, cx).map_ok(exchange)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.0.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.0, code, reason);
    }
}

impl quic::RecvStream for Exchange {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let part = ready!(self.stream.poll_data(cx))?;
        let length = part.as_ref().map_or(0, Bytes::len);
        let Some(left) = self.left.checked_sub(length) else {
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(Excess.into())));
        };
        self.left = left;
        Poll::Ready(Ok(part))
    }

    fn stop_sending(&mut self, code: u64) {
        self.stream.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl quic::SendStream<Bytes> for Exchange {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.stream.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.stream.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.stream.send_id()
    }
}

impl quic::RecvStream for Control {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let part = ready!(self.stream.poll_data(cx))?;
        let length = part.as_ref().map_or(0, Bytes::len);
        if self.allowance.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(length)).is_err() {
            self.quic.close(EXCESSIVE_LOAD, b"");
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(Excess.into())));
        }
        Poll::Ready(Ok(part))
    }

    fn stop_sending(&mut self, code: u64) {
        self.stream.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}
