//! DNS over HTTP/3: questions of one QUIC connection side by side, on the `h3` crate (RFC 8484, RFC 9114).
//!
//! The QUIC loop hands over a connection whose handshake is done. A turn takes the requests that have arrived and answers each in
//! place; only one that has to wait for its body, its answer or room to write becomes a task.

mod carrier;
mod encoder;
mod ledger;
mod patience;
mod request;
mod stream;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h3::error::{Code, ConnectionError, LocalError};
use h3::quic::SendStream as _;
use h3::server::{self, Connection};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::carrier::{Carrier, Stops};
use self::ledger::Ledger;
use self::patience::{Patience, Spent};
use self::request::{End, Resolver};
use super::Context;
use super::http::{Desk, MAX_HEADER_LIST};
use super::presence::Presence;
use super::quic::whereabouts;
use super::session::Session;
use super::turn::{TURN, at_once};
use super::unread::Unread;
use crate::guard::Permit;

/// Serves one connection until either side ends it.
pub async fn serve(connection: quinn::Connection, session: Session, context: Context) {
    let Session { peer, permit, alpn: _ } = session;
    connection.set_max_concurrent_bi_streams(credit(context.limits().streams_per_connection.min(FIRST_CREDIT)));
    let presence = Presence::of(&context.counters, peer.transport);
    let ledger = Ledger::default();
    let (carrier, stops) = Carrier::of(connection.clone(), ledger.clone());
    let mut builder = server::builder();
    builder.max_field_section_size(MAX_HEADER_LIST.into()).send_grease(false);
    // Waits for the client to allow our control stream.
    let Ok(Ok(http)) = timeout(context.limits().handshake_timeout, builder.build(carrier)).await else {
        context.broken_by(&peer);
        return close(&connection, Code::H3_GENERAL_PROTOCOL_ERROR);
    };
    let visit = Visit {
        desk: Desk::new(&context, peer, None),
        replies: Mutex::default(),
        unread: Unread::of(permit.purse()),
        connection: connection.clone(),
        context,
        _presence: presence,
        _permit: permit,
    };
    let talk = Talk {
        http,
        connection,
        stops,
        ledger,
        visit: Arc::new(visit),
        waiting: JoinSet::new(),
        patience: Patience::new(),
        active: Instant::now(),
        stage: Stage::New,
    };
    talk.run().await;
}

/// One connection's surroundings: shared by its loop and the requests that wait.
struct Visit {
    desk: Desk,
    /// Where replies are made; empty between them. Locked while one is made, never across a wait.
    replies: Mutex<BytesMut>,
    unread: Unread,
    connection: quinn::Connection,
    context: Context,
    _presence: Presence,
    _permit: Permit,
}

impl Visit {
    /// Looks where the client is, for the questions that follow.
    fn follow(&self) {
        whereabouts::follow(&self.connection, self.desk.whereabouts());
    }
}

/// How far a connection is on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has little credit for streams.
    New,
    /// It uses what credit it had, and has been given all there is.
    Busy,
    /// The client has been told to go.
    Leaving,
    /// There is nothing left to do.
    Over,
}

/// One connection. Dropping it closes the connection, with `H3_NO_ERROR` unless it was closed before.
struct Talk {
    http: Connection<Carrier, Bytes>,
    connection: quinn::Connection,
    /// How the request last accepted will be told that its client wants no answer.
    stops: Stops,
    ledger: Ledger,
    visit: Arc<Visit>,
    /// Requests that wait for their body, their answer, or room to write it.
    waiting: JoinSet<End>,
    patience: Patience,
    /// When the client last asked or was answered.
    active: Instant,
    stage: Stage,
}

impl Talk {
    async fn run(mut self) {
        let mut drain = self.visit.context.drain.clone();
        let idle_timeout = self.visit.context.limits().idle_timeout;
        let mut idle = pin!(sleep_until(self.idle_from() + idle_timeout));
        while self.stage != Stage::Over {
            let (room, leaving) = (self.has_room(), self.stage == Stage::Leaving);
            tokio::select! {
                accepted = self.http.accept(), if room => match accepted {
                    Ok(Some(resolver)) => self.turn(resolver).await,
                    // The client has said that it goes, and has all its answers.
                    Ok(None) => self.stage = Stage::Over,
                    Err(error) => return self.broken(&error),
                },
                Some(ended) = self.waiting.join_next() => self.joined(ended),
                () = drain.wanted(), if !leaving => self.leave().await,
                () = idle.as_mut() => {
                    let until = self.idle_from() + idle_timeout;
                    idle.as_mut().reset(until.max(Instant::now() + idle_timeout / 8));
                    if until <= Instant::now() && !leaving {
                        self.leave().await;
                    }
                }
            }
            if self.stage == Stage::Leaving && self.waiting.is_empty() {
                self.stage = Stage::Over;
            }
        }
        self.part().await;
    }

    /// Since when nothing has been going on.
    fn idle_from(&self) -> Instant {
        if self.waiting.is_empty() { self.active } else { Instant::now() }
    }

    /// Without room, requests wait in QUIC, which lets the client have no more streams than fit.
    fn has_room(&self) -> bool {
        self.waiting.len() < self.visit.context.limits().streams_per_connection && !self.visit.unread.is_enough()
    }

    /// Answers `first` and what else has arrived, up to a turn's worth.
    async fn turn(&mut self, first: Resolver) {
        self.active = Instant::now();
        self.visit.follow();
        self.take(first);
        let mut taken = 1;
        while taken < TURN
            && self.has_room()
            && let Some(Ok(Some(next))) = at_once(self.http.accept())
        {
            self.take(next);
            taken += 1;
        }
        if self.stage == Stage::New && taken + self.waiting.len() >= FIRST_CREDIT / 2 {
            self.stage = Stage::Busy;
            self.connection.set_max_concurrent_bi_streams(credit(self.visit.context.limits().streams_per_connection));
        }
        if taken == TURN {
            tokio::task::yield_now().await;
        }
    }

    /// Answers a request in place, or leaves it to a task where it has to wait.
    fn take(&mut self, mut resolver: Resolver) {
        let stop = self.stops.take();
        if self.stage == Stage::Leaving {
            // It has been told in GOAWAY that this one will not be served (RFC 9114 5.2).
            return resolver.frame_stream.reset(Code::H3_REQUEST_REJECTED.value());
        }
        let mut request = Box::pin(request::serve(resolver, stop, Arc::clone(&self.visit)));
        match at_once(request.as_mut()) {
            Some(end) => self.ended(end),
            None => drop(self.waiting.spawn(request)),
        }
    }

    fn joined(&mut self, joined: Result<End, JoinError>) {
        self.active = Instant::now();
        match joined {
            Ok(end) => self.ended(end),
            Err(error) if error.is_panic() => self.visit.context.counters.panics.add_one(),
            Err(_) => {}
        }
    }

    fn ended(&mut self, end: End) {
        let borne = match end {
            End::Answered => true,
            End::Abandoned | End::Headless => self.visit.context.bears_reset_by(&self.visit.desk.peer()),
        };
        if self.patience.judge(end, Instant::now().into_std()) == Err(Spent) || !borne {
            self.visit.context.broken_by(&self.visit.desk.peer());
            close(&self.connection, Code::H3_EXCESSIVE_LOAD);
            self.stage = Stage::Over;
        }
    }

    /// Tells the client to go: what it has asked is answered, what it asks from now on is rejected.
    async fn leave(&mut self) {
        let told = timeout(self.visit.context.limits().handshake_timeout, self.http.shutdown(1)).await;
        self.stage = if matches!(told, Ok(Ok(()))) { Stage::Leaving } else { Stage::Over };
    }

    /// Lets the last answers arrive: closing would take them back.
    async fn part(mut self) {
        self.waiting.abort_all();
        _ = timeout(PARTING, self.connection.closed()).await;
    }

    /// Counts what the client did wrong; h3 has closed the connection with the code for it, the carrier with its own.
    fn broken(&self, error: &ConnectionError) {
        let ours = matches!(error, ConnectionError::Local { error: LocalError::Application { .. }, .. });
        if (ours && !error.is_h3_no_error()) || self.ledger.is_exceeded() {
            self.visit.context.broken_by(&self.visit.desk.peer());
        }
    }
}

fn close(connection: &quinn::Connection, code: Code) {
    connection.close(quinn::VarInt::from_u64(code.value()).unwrap_or_default(), b"");
}

fn credit(streams: usize) -> quinn::VarInt {
    u32::try_from(streams).unwrap_or(u32::MAX).into()
}

/// Streams a client may open before it has shown that it uses them: QUIC keeps memory for each.
const FIRST_CREDIT: usize = 32;

/// How long a client that has been told to go may take to close the connection itself.
const PARTING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
