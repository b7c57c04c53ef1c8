//! An HTTP/2 connection to a server: a question a stream, and never more streams than the server allows (RFC 9113 5.1.2).
//!
//! Under [`doh`](super::doh). Who finds no stream free waits in line for one; a question that the server refused unseen is put
//! again once, when its limit is known. Everything else that goes wrong with the connection is [`Cause::Closed`].

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::error::Cause;
use super::http::check_head;
use crate::wire::MAX_MESSAGE;

/// A connection on which requests can be made.
pub struct Session {
    sender: SendRequest<Bytes>,
    streams: Arc<Streams>,
    /// The server's settings precede its first response.
    greeted: AtomicBool,
}

/// Moves the octets of a [`Session`]; ends when the connection has ended or nobody can ask any more.
pub struct Driver<S> {
    connection: client::Connection<S, Bytes>,
    streams: Arc<Streams>,
}

/// The streams that the server lets us have.
struct Streams {
    /// Closed with the connection.
    room: Semaphore,
    /// Permits in being, free or in use.
    known: Mutex<usize>,
}

/// Requests on a connection, whatever its server allows.
const CAPACITY: usize = 1024;

/// A stream's window: any answer fits.
const STREAM_WINDOW: u32 = 128 * 1024;

/// All streams' window.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The longest header block that we read.
const HEADER_LIMIT: u32 = 16 * 1024;

/// Streams before the server has said how many: a burst at the start does not overrun a small server by much.
const AT_FIRST: usize = 16;

impl Session {
    /// Greets the server; its own greeting is not waited for.
    ///
    /// # Errors
    /// [`Cause::Connect`] where the stream fails at once.
    pub async fn start<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> Result<(Self, Driver<S>), Cause> {
        let (sender, connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIMIT)
            .initial_max_send_streams(AT_FIRST)
            .handshake(io)
            .await
            .map_err(|_| Cause::Connect)?;
        let streams = Arc::new(Streams { room: Semaphore::new(AT_FIRST), known: Mutex::new(AT_FIRST) });
        let session = Self { sender, streams: Arc::clone(&streams), greeted: AtomicBool::new(false) };
        Ok((session, Driver { connection, streams }))
    }

    /// May another request go over it? Not after GOAWAY (RFC 9113 6.8).
    pub fn is_open(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !matches!(self.sender.clone().poll_ready(&mut context), Poll::Ready(Err(_)))
    }

    /// How many questions the server takes at once, once it has said.
    pub fn capacity(&self) -> Option<usize> {
        let limit = self.sender.current_max_send_streams().min(CAPACITY);
        self.greeted.load(Ordering::Relaxed).then_some(limit)
    }

    /// Makes one request; answers the seconds that the response has aged in caches, and its body. Dropped before its end, it
    /// resets the stream.
    ///
    /// # Errors
    /// [`Cause::Closed`] where the server did not answer this request but may answer it again, [`Cause::Malformed`].
    pub async fn exchange(&self, request: &Request<()>, body: &Bytes) -> Result<(u32, Bytes), Cause> {
        let mut again = true;
        loop {
            let stream = self.streams.room.acquire().await.map_err(|_| Cause::Closed)?;
            match self.exchange_once(request, body).await {
                Err(Fault::Refused) if again && self.is_open() => again = false,
                outcome => return Ok(outcome?),
            }
            drop(stream);
        }
    }

    async fn exchange_once(&self, request: &Request<()>, body: &Bytes) -> Result<(u32, Bytes), Fault> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut sending) = sender.send_request(request.clone(), body.is_empty())?;
        drop(sender);
        if !body.is_empty() {
            sending.send_data(body.clone(), true)?;
        }
        let (head, body) = response.await?.into_parts();
        self.greeted.store(true, Ordering::Relaxed);
        let age = check_head(head.status, &head.headers)?;
        Ok((age, read(body).await?))
    }
}

/// The body, which may be as long as a message.
async fn read(mut body: RecvStream) -> Result<Bytes, Fault> {
    let mut message = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        if message.len() + part.len() > MAX_MESSAGE {
            return Err(Fault::Final(Cause::Malformed));
        }
        message.put(part);
    }
    Ok(message.freeze())
}

/// What may go wrong with a request.
enum Fault {
    /// The server has not looked at it.
    Refused,
    Final(Cause),
}

impl From<h2::Error> for Fault {
    /// What the library finds wrong with one stream is in the response; everything else happened to the connection, or is the
    /// server's wish to answer no more there, under whatever code.
    fn from(error: h2::Error) -> Self {
        if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            Self::Refused
        } else if error.is_reset() && error.is_library() {
            Self::Final(Cause::Malformed)
        } else {
            Self::Final(Cause::Closed)
        }
    }
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self::Final(cause)
    }
}

impl From<Fault> for Cause {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused => Self::Closed,
            Fault::Final(cause) => cause,
        }
    }
}

impl Streams {
    /// Follows the server's limit, which may change at any time.
    fn fit(&self, limit: usize) {
        let limit = limit.min(CAPACITY);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if limit > *known {
            self.room.add_permits(limit - *known);
            *known = limit;
        } else if limit < *known {
            // Those in use are taken back as they come free.
            *known -= self.room.forget_permits(*known - limit);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ended = Pin::new(&mut self.connection).poll(context).is_ready();
        self.streams.fit(self.connection.max_concurrent_send_streams());
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.streams.room.close();
    }
}
