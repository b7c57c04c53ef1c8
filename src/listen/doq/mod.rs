//! DNS over QUIC (RFC 9250): one question a stream, its reply on the same stream.
//!
//! Between the QUIC loop and `Answer`. What can be done without waiting is done in place, by the one task of the connection; a
//! stream gets a task of its own only if its question is not all there, has to wait for its answer, or is taken slowly.

mod asker;
mod closing;
mod intake;
mod stream;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use self::asker::Asker;
use self::closing::{Closing, Violation};
use self::stream::{Begun, End, Stream};
use super::Context;
use super::presence::Presence;
use super::quic::transport::{FIRST_CREDIT, credit};
use super::rate::Rate;
use super::session::Session;
use super::turn::{TURN, at_once};
use crate::clock::Moment;

/// Serves `connection` until either side closes it.
pub async fn serve(connection: Connection, session: Session, context: Context) {
    let _presence = Presence::of(&context.counters, session.peer.transport);
    let Session { peer, permit, .. } = session;
    let asker = Arc::new(Asker::new(context.clone(), connection.clone(), peer, permit.purse()));
    let mut desk = Desk {
        asker,
        streams: context.limits().streams_per_connection.max(1),
        connection,
        context,
        slow: JoinSet::new(),
        replies: BytesMut::new(),
        recent: Vec::new(),
        cancelled: Rate::default(),
        raised: Credit::First,
    };
    let closing = desk.run().await;
    desk.close(closing);
    drop(permit);
}

/// The streams a peer may have open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Credit {
    /// As many as every connection begins with.
    First,
    /// As many as any may have.
    Full,
}

/// One connection.
struct Desk {
    asker: Arc<Asker>,
    streams: usize,
    connection: Connection,
    context: Context,
    /// Streams that could not be served in place; at most `streams`.
    slow: JoinSet<End>,
    replies: BytesMut,
    /// Streams of the latest replies: a close must wait until these have arrived.
    recent: Vec<SendStream>,
    cancelled: Rate,
    raised: Credit,
}

impl Desk {
    async fn run(&mut self) -> Closing {
        let mut drain = self.context.drain.clone();
        let mut drained = pin!(drain.wanted());
        let connection = self.connection.clone();
        loop {
            let room = self.has_room();
            let round = tokio::select! {
                biased;
                () = &mut drained => return self.settle().await,
                opened = connection.accept_bi(), if room => self.turn(opened),
                Some(ended) = self.slow.join_next() => self.conclude(ended),
                opened = connection.accept_uni() => Err(unwanted(opened)),
            };
            match round {
                Ok(Turn::Over) => {}
                Ok(Turn::Used) => tokio::task::yield_now().await,
                Err(closing) => return closing,
            }
        }
    }

    /// Serves the streams that are there, up to a bound, and looks at the clock once for all of them.
    fn turn(&mut self, opened: Opened) -> Result<Turn, Closing> {
        self.recent.clear();
        self.asker.follow();
        let arrival = self.asker.moment();
        let mut opened = opened;
        for taken in 1..=TURN {
            let (send, recv) = opened.map_err(|_| Closing::Lost)?;
            self.receive(send, recv, arrival)?;
            if taken + self.slow.len() > FIRST_CREDIT / 2 {
                self.raise_credit();
            }
            if !self.has_room() {
                return Ok(Turn::Over);
            }
            if taken == TURN {
                break;
            }
            opened = match at_once(self.connection.accept_bi()) {
                Some(next) => next,
                None => return Ok(Turn::Over),
            };
        }
        Ok(Turn::Used)
    }

    /// May another stream be taken? Without room they wait in QUIC, which gives the client no more of them.
    fn has_room(&self) -> bool {
        self.slow.len() < self.streams && !self.asker.unread.is_enough()
    }

    fn raise_credit(&mut self) {
        if self.raised == Credit::First {
            self.raised = Credit::Full;
            self.connection.set_max_concurrent_bi_streams(credit(self.streams));
        }
    }

    /// Serves one stream as far as that goes without waiting; the rest is a task's.
    fn receive(&mut self, send: SendStream, recv: RecvStream, arrival: Moment) -> Result<(), Closing> {
        match Stream::new(send, recv).begin(&self.asker, arrival, &mut self.replies) {
            Begun::Ended(end) => self.note(end),
            Begun::Waits(stream) => {
                self.slow.spawn(stream.attend(Arc::clone(&self.asker)));
                Ok(())
            }
        }
    }

    fn note(&mut self, end: End) -> Result<(), Closing> {
        match end {
            End::Replied(send) => {
                if self.recent.len() < TURN {
                    self.recent.push(send);
                }
                Ok(())
            }
            End::Cancelled
                if self.cancelled.count() > MOST_CANCELLED || !self.context.bears_reset_by(&self.asker.peer()) =>
            {
                Err(Closing::ExcessiveLoad)
            }
            End::Abandoned | End::Cancelled => Ok(()),
            End::Dropped => {
                self.context.dropped_for(&self.asker.peer());
                Ok(())
            }
            End::Broken(violation) => Err(Closing::Broken(violation)),
        }
    }

    fn conclude(&mut self, ended: Result<End, JoinError>) -> Result<Turn, Closing> {
        match ended {
            Ok(end) => {
                if self.recent.len() >= TURN {
                    self.recent.clear();
                }
                self.note(end).map(|()| Turn::Over)
            }
            Err(error) if error.is_panic() => {
                self.context.counters.panics.add_one();
                tracing::error!("a DNS over QUIC stream ended by a panic");
                Err(Closing::Internal)
            }
            Err(_) => Ok(Turn::Over),
        }
    }

    /// Finishes what has been asked, takes nothing new, and sees the last replies home.
    async fn settle(&mut self) -> Closing {
        self.recent.clear();
        self.asker.follow();
        let arrival = self.asker.moment();
        for _ in self.slow.len()..self.streams {
            let Some(Ok((send, recv))) = at_once(self.connection.accept_bi()) else { break };
            if let Err(closing) = self.receive(send, recv, arrival) {
                return closing;
            }
        }
        while let Some(ended) = self.slow.join_next().await {
            if let Err(closing) = self.conclude(ended) {
                return closing;
            }
        }
        let deadline = Instant::now() + FAREWELL;
        for send in self.recent.drain(..) {
            if tokio::time::timeout_at(deadline, send.stopped()).await.is_err() {
                break;
            }
        }
        Closing::Done
    }

    fn close(&self, closing: Closing) {
        if closing.is_fault() {
            self.context.broken_by(&self.asker.peer());
        }
        if let Some(code) = closing.code() {
            self.connection.close(code, closing.reason());
        }
    }
}

type Opened = Result<(SendStream, RecvStream), ConnectionError>;

/// How a round of the connection ended.
enum Turn {
    /// With nothing more to do at once.
    Over,
    /// With more to do, but others come first.
    Used,
}

/// A unidirectional stream has no meaning here (RFC 9250 4.2).
fn unwanted(opened: Result<RecvStream, ConnectionError>) -> Closing {
    opened.map_or(Closing::Lost, |_| Closing::Broken(Violation::Unidirectional))
}

/// Questions that a client may cancel in a second: each costs us work and it nothing (RFC 9250 4.3.1).
const MOST_CANCELLED: u32 = 1000;

/// How long the last replies may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
