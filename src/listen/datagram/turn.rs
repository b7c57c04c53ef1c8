//! What every system's datagram path has in common: questions in, answers into one buffer, and the set of those that wait.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut as _, BytesMut};
use tokio::task::{JoinError, JoinSet};

use super::{BATCH, Route};
use crate::clock::Moment;
use crate::listen::{Context, proxy};
use crate::peer::{DoorId, Peer, Transport};
use crate::query::Query;
use crate::reply::{Now, Out, Pending, Verdict, Why};
use crate::wire::registry::rtype;
use crate::wire::{Flags, Header, Question, Records};

/// A reply that stands in the turn's buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    start: usize,
    end: usize,
    /// Its way back.
    pub route: Route,
    shortened: bool,
}

/// One socket's questions and answers.
pub(super) struct Turn {
    context: Context,
    door: DoorId,
    out: BytesMut,
    replies: Vec<Outgoing>,
    waiting: JoinSet<Waited>,
    most_waiting: usize,
    draining: bool,
}

/// What a task of the waiting set ended with.
#[allow(
    clippy::large_enum_variant,
    reason = "the small one is one of all: a box would cost each of the others an allocation"
)]
enum Waited {
    /// The word to stop: the first task does nothing but listen for it, so that no turn has to look at a word all cores share.
    Drain,
    /// A question's end.
    Answered(Route, Verdict),
}

impl Turn {
    /// The turns of one socket.
    pub fn new(door: DoorId, context: Context) -> Self {
        let mut waiting = JoinSet::new();
        let mut drain = context.drain.clone();
        waiting.spawn(async move {
            drain.leaving().await;
            Waited::Drain
        });
        Self {
            context,
            door,
            out: BytesMut::with_capacity(BATCH * REPLY),
            replies: Vec::with_capacity(BATCH),
            waiting,
            most_waiting: MOST_WAITING,
            draining: false,
        }
    }

    /// The same with another bound on waiting questions.
    #[cfg(test)]
    pub fn with_most_waiting(self, most_waiting: usize) -> Self {
        Self { most_waiting, ..self }
    }

    /// Is there anything left to do?
    pub fn is_open(&self) -> bool {
        !self.draining || !self.waiting.is_empty()
    }

    /// Are new questions wanted?
    pub const fn is_reading(&self) -> bool {
        !self.draining
    }

    /// Now, read once a batch.
    pub fn moment(&self) -> Moment {
        self.context.terms().answer.moment()
    }

    /// Answers one datagram into the buffer, or sets it waiting.
    pub fn take(&mut self, datagram: &[u8], route: Route, arrival: Moment) {
        // Nothing can be sent to port 0, and only a forger has it.
        if route.remote.port() == 0 {
            return self.oversized();
        }
        let before = self.out.len();
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let peer = Peer::new(route.remote, route.local, self.door, Transport::Udp);
            let terms = self.context.terms();
            let Some((peer, message)) = proxy::opened(peer, datagram, &terms.guard, &self.context.counters) else {
                return Now::Dropped(Why::Access);
            };
            let asked = Query::parse(message, &peer, arrival);
            terms.answer.now(asked, &peer, &mut Out::bare(&mut self.out))
        }));
        match answered {
            Ok(Now::Sent(_)) => self.push(before, route),
            Ok(Now::Dropped(_)) => self.out.truncate(before),
            Ok(Now::Later(pending)) => {
                self.out.truncate(before);
                self.wait(pending, route);
            }
            Err(_) => {
                self.out.truncate(before);
                self.context.counters.panics.add_one();
            }
        }
    }

    /// Counts a datagram that is longer than any query.
    pub fn oversized(&self) {
        if let Some(counter) = self.context.counters.dropped.get(Why::NotAQuery as usize) {
            counter.add_one();
        }
    }

    fn wait(&mut self, pending: Pending, route: Route) {
        if self.waiting.len() > self.most_waiting {
            self.context.counters.overflow.add_one();
            return;
        }
        self.waiting.spawn(async move { Waited::Answered(route, pending.await) });
    }

    /// Waits until a question that waited has ended, or the word to stop has come.
    pub async fn waited(&mut self) {
        match self.waiting.join_next().await {
            Some(ended) => self.end(ended),
            // The set is empty only when the turn is over.
            None => std::future::pending().await,
        }
    }

    /// Takes up the answers that are ready, up to a batch.
    pub fn gather(&mut self) {
        while self.replies.len() < BATCH {
            let Some(ended) = self.waiting.try_join_next() else { break };
            self.end(ended);
        }
    }

    fn end(&mut self, ended: Result<Waited, JoinError>) {
        match ended {
            Ok(Waited::Drain) => self.draining = true,
            Ok(Waited::Answered(route, Verdict::Sent(reply))) => {
                let before = self.out.len();
                self.out.put_slice(&reply.message);
                self.push(before, route);
            }
            Err(error) if error.is_panic() => self.context.counters.panics.add_one(),
            Ok(Waited::Answered(_, Verdict::Dropped(_))) | Err(_) => {}
        }
    }

    fn push(&mut self, start: usize, route: Route) {
        self.replies.push(Outgoing { start, end: self.out.len(), route, shortened: false });
    }

    /// The replies to send.
    pub fn replies(&self) -> &[Outgoing] {
        &self.replies
    }

    /// The octets of one of them.
    pub fn octets(&self, reply: &Outgoing) -> &[u8] {
        self.out.get(reply.start..reply.end).unwrap_or_default()
    }

    /// Brings replies that leave from one address together.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub fn group(&mut self) {
        self.replies.sort_unstable_by_key(|reply| (reply.route.local.ip(), reply.route.interface));
    }

    /// The reply at `index` is more than the path takes: puts in its place one that is truncated to nothing, so that the client
    /// comes back over TCP (RFC 9715 R4). Answers whether there is now a shorter one to send.
    pub fn shorten(&mut self, index: usize) -> bool {
        let Some(reply) = self.replies.get_mut(index) else { return false };
        let start = self.out.len();
        if reply.shortened || !truncated(&mut self.out, reply.start, reply.end) {
            return false;
        }
        *reply = Outgoing { start, end: self.out.len(), shortened: true, ..*reply };
        true
    }

    /// Counts `count` replies that could not be sent.
    pub fn unsent(&self, count: usize) {
        self.context.counters.send_failed.add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Forgets the replies; keeps the buffer, unless an unusual burst has swollen it.
    pub fn clear(&mut self) {
        self.replies.clear();
        self.out.clear();
        if self.out.capacity() > MOST_KEPT {
            self.out = BytesMut::with_capacity(BATCH * REPLY);
        }
    }
}

/// Appends the reply at `start..end` of `out` without its records but OPT, TC set. Answers false where it cannot be read.
fn truncated(out: &mut BytesMut, start: usize, end: usize) -> bool {
    let Some(reply) = out.get(start..end) else { return false };
    let Ok(header) = Header::parse(reply) else { return false };
    let question = Question::parse(reply).ok().filter(|_| header.questions == 1);
    let opt = Records::new(reply, &header).ok().and_then(|records| {
        let record = records.flatten().find(|record| record.rtype == rtype::OPT)?;
        let (from, to) = (usize::from(record.owner), usize::from(record.rdata.end));
        (to - from <= MOST_OPT).then_some((start + from, start + to))
    });
    let asked = question.map(|question| (start + 12, start + question.end()));
    let short = Header {
        flags: header.flags.with(Flags::TC, true),
        questions: u16::from(asked.is_some()),
        additionals: u16::from(opt.is_some()),
        answers: 0,
        authorities: 0,
        ..header
    };
    out.put_slice(&short.to_octets());
    for (from, to) in [asked, opt].into_iter().flatten() {
        out.extend_from_within(from..to);
    }
    true
}

/// Questions of one socket that may wait at once.
const MOST_WAITING: usize = 10_000;

/// Octets set aside for a reply.
const REPLY: usize = 1232;

/// Octets of an OPT record that a truncated reply keeps: with any question it goes over every path.
const MOST_OPT: usize = 200;

/// Octets of a buffer that is kept.
const MOST_KEPT: usize = 1 << 18;
