//! DNS on a stream: TCP and DoT alike, messages behind their length (RFC 1035 4.2.2, RFC 7766, RFC 7858).
//!
//! One poll is one turn: take up answers that are ready, read, answer in place what memory can answer, write it all together.
//! Questions that wait are tasks, answered as they finish, in whatever order (RFC 7766 7). An idle connection holds no buffer:
//! octets are read to the stack and answered into a buffer that the worker's connections share; only what is left over is kept.

use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Context as Waking, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::{JoinError, JoinSet};

use super::{Context, Session};
use crate::clock::Moment;
use crate::guard::Purse;
use crate::peer::Peer;
use crate::query::Query;
use crate::reply::{Now, Out, Verdict, Why};
use crate::telemetry::Limited;
use crate::wire::framing::{self, Frame};
use crate::wire::{HEADER_LEN, MAX_MESSAGE};

mod charge;
mod deadlines;
mod outbox;

use charge::Charge;
use deadlines::{Deadlines, Due, State};
use outbox::Outbox;

/// Serves one connection to its end: the client's, a deadline, or the gateway's.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, session: Session, context: Context) {
    let Session { peer, permit, .. } = session;
    let mut drain = context.drain.clone();
    // On the heap: the future of a task is moved about, and has room for each place that holds a copy.
    let mut connection = Box::new(Connection::new(stream, peer, permit.purse(), context));
    let ended = tokio::select! {
        biased;
        ending = poll_fn(|cx| connection.poll(cx)) => Some(ending),
        () = drain.wanted() => None,
    };
    let ending = if let Some(ending) = ended {
        ending
    } else {
        connection.input.stop();
        poll_fn(|cx| connection.poll(cx)).await
    };
    match ending {
        Ending::Done => connection.close().await,
        Ending::Gone => {}
    }
    drop(permit);
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Everything owed has been written.
    Done,
    /// The client is gone, or does not read: nothing more can be written.
    Gone,
}

/// Whether there are questions to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// There may be.
    Open,
    /// We read no more, and may still be sent some.
    Stopped,
    /// The client has said that there are none; it may still be waiting for answers (TCP-12).
    Ended,
}

impl Input {
    fn stop(&mut self) {
        if *self == Self::Open {
            *self = Self::Stopped;
        }
    }
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Something was read; there may be more.
    Some,
    /// There is nothing to read, now or ever.
    None,
    /// The turn's bound is reached.
    Spent,
}

/// What one turn may still do.
#[derive(Clone, Copy, Debug)]
struct Left {
    questions: usize,
    octets: usize,
}

impl Left {
    const fn is_spent(self) -> bool {
        self.questions == 0 || self.octets == 0
    }
}

/// One connection.
struct Connection<S> {
    io: S,
    peer: Peer,
    context: Context,
    /// Octets read and not answered yet: a message that is not whole, or messages past a turn's bound.
    inbox: BytesMut,
    outbox: Outbox,
    waiting: JoinSet<Verdict>,
    input: Input,
    /// Has nothing come of what waits for so long that the rest is not to wait for it?
    stuck: bool,
    questions: u32,
    /// What is left over between turns is charged to the client.
    charge: Charge,
    deadlines: Deadlines,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(io: S, peer: Peer, purse: Purse, context: Context) -> Self {
        Self {
            io,
            peer,
            inbox: BytesMut::new(),
            outbox: Outbox::default(),
            waiting: JoinSet::new(),
            input: Input::Open,
            stuck: false,
            questions: 0,
            charge: Charge::to(purse),
            deadlines: Deadlines::new(context.limits().tcp_idle_timeout),
            context,
        }
    }

    /// One turn.
    fn poll(&mut self, cx: &mut Waking<'_>) -> Poll<Ending> {
        self.outbox.open();
        let polled = self.turn(cx);
        self.outbox.close();
        if self.charge.with(self.inbox.len() + self.outbox.len()).is_none() {
            self.context.dropped_for(&self.peer);
            return Poll::Ready(Ending::Gone);
        }
        polled
    }

    fn turn(&mut self, cx: &mut Waking<'_>) -> Poll<Ending> {
        self.deadlines.begin();
        let mut left = Left { questions: TURN_QUESTIONS, octets: TURN_OCTETS };
        loop {
            let gathered = self.gather(cx);
            if self.flush(cx).is_err() {
                return Poll::Ready(Ending::Gone);
            }
            if !gathered && self.outbox.is_empty() {
                continue;
            }
            match self.take_in(cx, &mut left) {
                Ok(Progress::Some) => {}
                Ok(Progress::None) => break,
                Ok(Progress::Spent) => {
                    if self.flush(cx).is_err() {
                        return Poll::Ready(Ending::Gone);
                    }
                    // Others run first; what is left over is next.
                    cx.waker().wake_by_ref();
                    break;
                }
                Err(_) => return Poll::Ready(Ending::Gone),
            }
        }
        self.rest(cx)
    }

    /// The end of a turn: is the connection over, and until when may it be left alone?
    fn rest(&mut self, cx: &mut Waking<'_>) -> Poll<Ending> {
        let idle = self.waiting.is_empty() && self.outbox.is_settled();
        if idle && self.input != Input::Open {
            return Poll::Ready(Ending::Done);
        }
        self.deadlines.note(match (idle, self.may_read()) {
            (true, _) => State::Idle,
            (false, true) => State::Busy,
            (false, false) if self.has_room_to_write() && self.input == Input::Open => State::Crowded,
            (false, false) => State::Full,
        });
        match self.deadlines.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Due::Write) => Poll::Ready(Ending::Gone),
            Poll::Ready(Due::Move) => {
                self.stuck = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Due::Read) if idle => Poll::Ready(Ending::Done),
            Poll::Ready(Due::Read) => {
                // Too slow with a question, yet others are owed an answer.
                self.input.stop();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// May more be read, by the bounds of this connection?
    fn may_read(&self) -> bool {
        self.input == Input::Open && self.has_room_to_write() && (self.has_room_to_wait() || self.stuck)
    }

    fn has_room_to_write(&self) -> bool {
        self.outbox.len() <= MOST_UNWRITTEN
    }

    fn has_room_to_wait(&self) -> bool {
        self.waiting.len() < self.context.limits().streams_per_connection
    }

    /// Takes up answers that have become ready; answers whether there are no more for now.
    fn gather(&mut self, cx: &mut Waking<'_>) -> bool {
        while self.outbox.len() <= MOST_UNWRITTEN {
            match self.waiting.poll_join_next(cx) {
                Poll::Ready(Some(ended)) => self.end(ended),
                Poll::Ready(None) | Poll::Pending => return true,
            }
        }
        false
    }

    fn end(&mut self, ended: Result<Verdict, JoinError>) {
        self.stuck = false;
        self.deadlines.moved();
        match ended {
            Ok(Verdict::Sent(reply)) => {
                let message = reply.message.get(..reply.message.len().min(MAX_MESSAGE)).unwrap_or_default();
                self.outbox.tail().put_u16(u16::try_from(message.len()).unwrap_or(u16::MAX));
                self.outbox.tail().put_slice(message);
            }
            Ok(Verdict::Dropped(Why::NotAQuery)) => self.refuse(),
            Err(error) if error.is_panic() => self.context.counters.panics.add_one(),
            Ok(Verdict::Dropped(Why::Access | Why::Limit)) | Err(_) => {}
        }
    }

    fn flush(&mut self, cx: &mut Waking<'_>) -> io::Result<()> {
        self.outbox.flush(&mut self.io, &mut self.deadlines, cx)
    }

    /// Reads once and answers what is whole; first what an earlier turn has left over.
    fn take_in(&mut self, cx: &mut Waking<'_>, left: &mut Left) -> io::Result<Progress> {
        if !self.may_read() {
            return Ok(Progress::None);
        }
        if left.is_spent() {
            return Ok(Progress::Spent);
        }
        if matches!(framing::next(&self.inbox), Frame::Whole { .. }) {
            return Ok(self.answer_inbox(left));
        }
        let mut octets = [MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut octets);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(Progress::None),
            Poll::Ready(Ok(())) => {}
            // TLS without close_notify: whatever is not whole is lost, and nothing else.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(error)) => return Err(error),
        }
        if read.filled().is_empty() {
            self.input = Input::Ended;
            return Ok(Progress::None);
        }
        if !self.inbox.is_empty() {
            self.inbox.extend_from_slice(read.filled());
            return Ok(self.answer_inbox(left));
        }
        let (used, progress) = self.answer(read.filled(), left);
        let rest = read.filled().get(used..).unwrap_or_default();
        self.inbox.extend_from_slice(rest);
        self.deadlines.expect(!rest.is_empty());
        Ok(progress)
    }

    fn answer_inbox(&mut self, left: &mut Left) -> Progress {
        let mut inbox = mem::take(&mut self.inbox);
        let (used, progress) = self.answer(&inbox, left);
        inbox.advance(used);
        if used > 0 {
            self.deadlines.expect(!inbox.is_empty());
        }
        if !inbox.is_empty() {
            self.inbox = inbox;
        }
        progress
    }

    /// Answers the whole messages at the front of `octets` within the bounds of the turn; says how many octets that used up.
    fn answer(&mut self, octets: &[u8], left: &mut Left) -> (usize, Progress) {
        let arrival = self.context.terms().answer.moment();
        let mut used = 0;
        while self.may_read() {
            let Frame::Whole { message, used: octets } = framing::next(octets.get(used..).unwrap_or_default()) else {
                return (used, Progress::Some);
            };
            if left.is_spent() {
                return (used, Progress::Spent);
            }
            used += octets;
            let before = self.outbox.len();
            self.ask(message, arrival);
            left.questions -= 1;
            left.octets = left.octets.saturating_sub(self.outbox.len() - before);
        }
        (used, Progress::Some)
    }

    fn ask(&mut self, message: &[u8], arrival: Moment) {
        if message.len() < HEADER_LEN {
            return self.refuse();
        }
        self.deadlines.heard();
        let asked = Query::parse(message, &self.peer, arrival);
        match self.context.terms().answer.now(asked, &self.peer, &mut Out::framed(self.outbox.tail())) {
            Now::Sent(_) | Now::Dropped(Why::Access | Why::Limit) => {}
            Now::Dropped(Why::NotAQuery) => self.refuse(),
            Now::Later(pending) if self.has_room_to_wait() => _ = self.waiting.spawn(pending),
            Now::Later(_) => self.decline(message, arrival),
        }
        self.questions += 1;
        if self.questions >= MOST_QUESTIONS {
            self.input.stop();
        }
    }

    /// Says that too many questions wait already. They are answered by nobody for now: what memory holds must not wait with them.
    fn decline(&mut self, message: &[u8], arrival: Moment) {
        self.context.counters.overflow.add_one();
        self.context.counters.limit(Limited::Waiting, self.peer.transport);
        let asked = Query::parse(message, &self.peer, arrival);
        self.context.terms().answer.decline(asked, &self.peer, &mut Out::framed(self.outbox.tail()));
    }

    /// The client does not speak DNS: read no more, finish what it is owed.
    fn refuse(&mut self) {
        self.context.broken_by(&self.peer);
        self.input.stop();
    }

    /// Says goodbye (`close_notify` under TLS, then FIN) and waits a moment for the client's: unread octets would turn our FIN into a
    /// reset, which may overtake the last answers.
    async fn close(&mut self) {
        let farewell = async {
            self.io.shutdown().await?;
            if self.input != Input::Ended {
                tokio::io::copy(&mut (&mut self.io).take(LINGER_OCTETS), &mut tokio::io::sink()).await?;
            }
            io::Result::Ok(())
        };
        // Nothing is owed any more: a failure here is the client's own.
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
}

/// Octets read at once.
const READ: usize = 4096;

/// Questions answered in one turn.
const TURN_QUESTIONS: usize = 32;

/// Octets answered in one turn.
const TURN_OCTETS: usize = 16 << 10;

/// Octets that may be unwritten before reading stops.
const MOST_UNWRITTEN: usize = 64 << 10;

/// Questions of one connection; then it is closed, and a client that means well opens another.
const MOST_QUESTIONS: u32 = 100_000;

/// The longest a closed connection waits for the client to close.
const LINGER: Duration = Duration::from_secs(1);

/// Octets that a closed connection throws away.
const LINGER_OCTETS: u64 = 64 << 10;

#[cfg(test)]
mod tests;
