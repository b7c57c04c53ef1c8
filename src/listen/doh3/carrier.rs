//! What `h3` asks of a QUIC connection, on `quinn`.
//!
//! Beyond what `h3-quinn` does: a request hears when its client stops the response, which is how HTTP/3 cancels (RFC 9114 4.1.1);
//! reading allocates nothing; what `h3` keeps of unfinished frames is bounded, since it bounds neither (RFC 9114 10.5); and the
//! stream that it leaves unread is read (`encoder`).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use quinn::ConnectionError;

use super::close;
use super::encoder::Encoder;
use super::ledger::{Kind, Ledger};
use super::stream::{Bidi, Octets, Receiver, Sender, excess, lost, on_stream};

/// A connection.
pub(super) struct Carrier {
    opener: Opener,
    bidi: Option<Task<(quinn::SendStream, quinn::RecvStream)>>,
    uni: Option<Task<quinn::RecvStream>>,
    unis: usize,
    stops: Stops,
    ledger: Ledger,
    encoder: Encoder,
}

/// Opens streams: the three that HTTP/3 needs.
pub(super) struct Opener {
    connection: quinn::Connection,
    uni: Option<Task<quinn::SendStream>>,
}

type Task<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send + Sync>>;

/// Ready when the client wants no response any more.
pub(super) type Stop = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Where the [`Stop`] of the request last accepted is left for whoever serves it.
#[derive(Clone, Default)]
pub(super) struct Stops(Arc<Mutex<Option<Stop>>>);

impl Stops {
    /// That of the request last accepted.
    pub(super) fn take(&self) -> Stop {
        let stop = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        stop.unwrap_or_else(|| Box::pin(std::future::pending()))
    }

    fn leave(&self, stream: &quinn::SendStream) {
        let stopped = stream.stopped();
        let stop = Box::pin(async move { drop(stopped.await) });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
    }
}

impl Carrier {
    /// A carrier over `connection` that keeps to `ledger`, and where it leaves stops.
    pub(super) fn of(connection: quinn::Connection, ledger: Ledger) -> (Self, Stops) {
        let stops = Stops::default();
        let opener = Opener { connection, uni: None };
        let carrier =
            Self { opener, bidi: None, uni: None, unis: 0, stops: stops.clone(), ledger, encoder: Encoder::default() };
        (carrier, stops)
    }

    fn receiver(&self, stream: quinn::RecvStream, kind: Kind) -> Result<Receiver, ConnectionErrorIncoming> {
        let octets = Octets { stream, account: self.ledger.open(kind) };
        let encoder = match kind {
            Kind::Control => Some(self.encoder.clone()),
            Kind::Request => None,
        };
        Receiver::of(octets, self.opener.connection.clone(), encoder)
    }
}

impl quic::Connection<Bytes> for Carrier {
    type RecvStream = Receiver;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiver, ConnectionErrorIncoming>> {
        let connection = &self.opener.connection;
        if let Poll::Ready(code) = self.encoder.poll(cx) {
            close(connection, code);
            return Poll::Ready(Err(excess()));
        }
        let task = self.uni.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        let accepted = ready!(task.as_mut().poll(cx));
        self.uni = None;
        let stream = accepted.map_err(lost)?;
        self.unis += 1;
        if self.unis > UNI_STREAMS {
            self.ledger.exceed();
            close(&self.opener.connection, Code::H3_EXCESSIVE_LOAD);
            return Poll::Ready(Err(excess()));
        }
        Poll::Ready(self.receiver(stream, Kind::Control))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, ConnectionErrorIncoming>> {
        let connection = &self.opener.connection;
        let task = self.bidi.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        let accepted = ready!(task.as_mut().poll(cx));
        self.bidi = None;
        let (send, receive) = accepted.map_err(lost)?;
        self.stops.leave(&send);
        self.ledger.excuse();
        let send = Sender::of(send)?;
        Poll::Ready(self.receiver(receive, Kind::Request).map(|receive| Bidi { send, receive }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.opener.connection.clone(), uni: None }
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Bidi;
    type SendStream = Sender;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        // HTTP/3 has no requests of servers (RFC 9114 6.1).
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server opens no requests".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sender, StreamErrorIncoming>> {
        let task = self.uni.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(task.as_mut().poll(cx));
        // Also where it failed: `h3` asks for its second and third stream all the same.
        self.uni = None;
        Poll::Ready(opened.map_err(lost).and_then(Sender::of).map_err(on_stream))
    }

    fn close(&mut self, code: Code, _: &[u8]) {
        close(&self.connection, code);
    }
}

impl quic::OpenStreams<Bytes> for Carrier {
    type BidiStream = Bidi;
    type SendStream = Sender;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sender, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::close(&mut self.opener, code, reason);
    }
}

/// Streams without an answer that a client may open in a connection's life: HTTP/3 has three, and a few to ignore.
const UNI_STREAMS: usize = 64;
