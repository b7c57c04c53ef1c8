//! HTTP/2: questions of one connection side by side, on the `h2` crate driven directly (RFC 9113).
//!
//! Taking a request from `h2` also writes what is due. So a turn first takes all requests that have arrived, then answers them in
//! place, and they leave together, in one TLS record, when the next turn begins.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use ::h2::server::{Builder, Connection, SendResponse};
use ::h2::{Reason, RecvStream};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::guest::{Guest, Halt, gather};
use self::reply::Begun;
use super::Visit;
use super::line::Line;
use crate::clock::Moment;
use crate::listen::Limits;
use crate::listen::http::{Ended, MAX_HEADER_LIST, Outcome, Read, Shape};
use crate::listen::rate::Rate;
use crate::listen::turn::{TURN, at_once};
use crate::listen::unread::Unread;

mod guest;
mod reply;

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(line: Line<S>, visit: Arc<Visit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = visit.context.limits();
    let handshake = builder(limits).handshake(line);
    let Ok(Ok(connection)) = timeout(limits.handshake_timeout, handshake).await else {
        visit.context.broken_by(&visit.desk.peer());
        return;
    };
    let talk = Talk {
        connection,
        visit,
        arrived: VecDeque::new(),
        question: BytesMut::new(),
        replies: BytesMut::new(),
        waiting: JoinSet::new(),
        active: Instant::now(),
        abandoned: Rate::default(),
    };
    talk.run().await;
}

fn builder(limits: Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX))
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .max_concurrent_reset_streams(20);
    builder
}

/// One connection.
struct Talk<S> {
    connection: Connection<Line<S>, Bytes>,
    visit: Arc<Visit>,
    /// The requests of this turn; between turns, those of a client that leaves its answers unread.
    arrived: VecDeque<Arrived>,
    /// Where a question is put together; empty between requests.
    question: BytesMut,
    /// Where replies are made; empty between requests.
    replies: BytesMut,
    /// Requests that wait for their body, their answer, or room to write it.
    waiting: JoinSet<Ended>,
    /// When the client last asked or was answered.
    active: Instant,
    abandoned: Rate,
}

/// How far a connection is from its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client has been told to go.
    Leaving,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn run(mut self) {
        let mut drain = self.visit.context.drain.clone();
        let limits = self.visit.context.limits();
        let mut stage = Stage::Open;
        let mut idle = pin!(sleep_until(self.idle_from() + limits.idle_timeout));
        loop {
            tokio::select! {
                request = next(&mut self.connection, &self.visit.unread) => match request {
                    Some(Ok(request)) => self.turn(request).await,
                    Some(Err(error)) => return self.broken(&error),
                    None => return,
                },
                Some(ended) = self.waiting.join_next() => self.ended(ended),
                () = drain.wanted(), if stage == Stage::Open => {
                    stage = self.leave();
                    idle.as_mut().reset(self.active + limits.handshake_timeout);
                }
                () = idle.as_mut() => {
                    let patience = match stage {
                        Stage::Open => self.visit.context.limits().idle_timeout,
                        Stage::Leaving => limits.handshake_timeout,
                    };
                    let until = self.idle_from() + patience;
                    match stage {
                        _ if until > Instant::now() => idle.as_mut().reset(until),
                        Stage::Open => {
                            stage = self.leave();
                            idle.as_mut().reset(self.active + limits.handshake_timeout);
                        }
                        Stage::Leaving => return,
                    }
                }
            }
        }
    }

    /// Since when nothing has been going on.
    fn idle_from(&self) -> Instant {
        if self.waiting.is_empty() { self.active } else { Instant::now() }
    }

    /// Tells the client to go. From now on it has the time of a handshake to hear that and to say so.
    fn leave(&mut self) -> Stage {
        self.active = Instant::now();
        self.connection.graceful_shutdown();
        Stage::Leaving
    }

    fn broken(&self, error: &::h2::Error) {
        if error.is_library() {
            self.visit.context.broken_by(&self.visit.desk.peer());
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        self.active = Instant::now();
        self.answer_arrived();
        match ended {
            Ok(Ended::Abandoned) => {
                let limit = self.visit.context.limits().streams_per_connection.saturating_mul(2);
                let peer = self.visit.desk.peer();
                if self.abandoned.count() as usize > limit || !self.visit.context.bears_reset_by(&peer) {
                    // Asking only to take it back costs the client little and us a question (CVE-2023-44487).
                    self.visit.context.broken_by(&peer);
                    self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
            Err(error) if error.is_panic() => self.visit.context.counters.panics.add_one(),
            Ok(Ended::Answered | Ended::TakenBackByOther) | Err(_) => {}
        }
    }

    /// Answers `first` and what else has arrived, up to a turn's worth.
    async fn turn(&mut self, first: Arrived) {
        self.active = Instant::now();
        self.arrived.push_back(first);
        while self.arrived.len() < TURN
            && let Some(Some(Ok(next))) = at_once(self.connection.accept())
        {
            self.arrived.push_back(next);
        }
        let full = self.arrived.len() == TURN;
        self.answer_arrived();
        if full {
            tokio::task::yield_now().await;
        }
    }

    /// Answers what has arrived, as long as the client takes its answers.
    fn answer_arrived(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let moment = self.visit.desk.moment();
        while !self.visit.unread.is_enough()
            && let Some((request, respond)) = self.arrived.pop_front()
        {
            self.take(request, respond, moment);
        }
    }

    fn take(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>, moment: Moment) {
        let shape = match self.visit.desk.read(&request, &mut self.question) {
            Read::Answered(response) => return self.send(respond, response),
            Read::Question(shape) => shape,
            Read::InBody(shape, _) => {
                let mut body = request.into_body();
                match at_once(gather(&mut body, &mut self.question)) {
                    Some(Ok(())) => shape,
                    Some(Err(Halt::Gone)) => return,
                    Some(Err(Halt::Refused(refusal))) => return self.send(respond, refusal.response(shape)),
                    None => {
                        let question = self.question.split();
                        return self.wait(respond, shape, |guest| guest.read_on(body, question));
                    }
                }
            }
        };
        match self.visit.desk.answer(&self.question, moment, shape, &mut self.replies) {
            Outcome::Ready(response) => self.send(respond, response),
            Outcome::Later(pending) => self.wait(respond, shape, |guest| guest.wait(pending)),
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.visit.context.limits().streams_per_connection
    }

    fn send(&mut self, respond: SendResponse<Bytes>, response: Response<Bytes>) {
        match reply::begin(respond, response, &self.visit.unread) {
            Begun::Done => {}
            Begun::Waits(rest) if !self.is_full() => _ = self.waiting.spawn(rest.deliver()),
            // Dropping the rest resets the stream.
            Begun::Waits(_) | Begun::Dropped => self.visit.context.dropped_for(&self.visit.desk.peer()),
        }
    }

    /// Serves a request in a task of its own, if there is room for one.
    fn wait<F>(&mut self, mut respond: SendResponse<Bytes>, shape: Shape, task: impl FnOnce(Guest) -> F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        if self.is_full() {
            self.visit.context.counters.overflow.add_one();
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        self.waiting.spawn(task(Guest { respond, shape, visit: Arc::clone(&self.visit) }));
    }
}

/// The next request. A client that leaves its answers unread is only written to, until it has taken some.
async fn next<S>(connection: &mut Connection<Line<S>, Bytes>, unread: &Unread) -> Option<Result<Arrived, ::h2::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if unread.is_enough() {
        return poll_fn(|cx| connection.poll_closed(cx)).await.err().map(Err);
    }
    connection.accept().await
}

/// A request, and where its response goes.
type Arrived = (Request<RecvStream>, SendResponse<Bytes>);

/// Octets of one unfinished request body; a DNS message fits.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Octets of all unfinished request bodies together.
const CONNECTION_WINDOW: u32 = 256 * 1024;
