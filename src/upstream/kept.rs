//! One connection per server, kept while it is used: opened on the home runtime, asked from any thread, opened anew when it dies.
//!
//! Between the server and its transport. The transports say how a connection is opened and asked ([`Carrier`]); here is decided
//! which connection a question takes, when it is asked again on a fresh one (TCP-15, DOH-29, DOQ-21), and when an idle one ends.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Ask;
use super::commons::Commons;
use super::delivery::{Delivered, Window};
use super::error::Cause;
use super::tally::Tally;

/// How a connection of some transport is opened and asked.
pub trait Carrier: Send + Sync + fmt::Debug + 'static {
    /// A connection that many questions share. Dropping it ends it in the transport's polite way.
    type Connection: Send + Sync + 'static;

    /// Opens one, on the home runtime. No octet of a question leaves before the server has proven itself (DOT-09).
    fn open(&self, until: Instant) -> impl Future<Output = Result<Self::Connection, Cause>> + Send;

    /// May another question go over it?
    fn is_open(&self, connection: &Self::Connection) -> bool;

    /// Asks once. [`Cause::Closed`] means that the connection went away with the question unanswered.
    fn ask(
        &self,
        connection: &Self::Connection,
        ask: &Arc<Ask>,
    ) -> impl Future<Output = Result<Delivered, Cause>> + Send;

    /// How many questions `connection` takes at once, as far as its server has said; more wait inside it.
    fn capacity(&self, _connection: &Self::Connection) -> usize {
        CAPACITY
    }
}

/// Questions that a connection takes at once if its server has not said.
pub const CAPACITY: usize = 1024;

/// Where connections live and how long.
#[derive(Clone, Debug)]
pub struct Home {
    /// What all servers share, the runtime that owns connections among it.
    pub commons: Commons,
    /// How long opening one may take.
    pub patience: Duration,
    /// How long one is kept without a question.
    pub idle: Duration,
}

impl Home {
    /// A home with the usual idle time (RFC 7766 6.2.3: seconds).
    #[must_use]
    pub fn new(commons: &Commons, patience: Duration) -> Self {
        Self { commons: commons.clone(), patience, idle: Duration::from_secs(10) }
    }
}

/// The kept connection of one server.
#[derive(Debug)]
pub struct Kept<C: Carrier> {
    inner: Arc<Inner<C>>,
    home: Home,
}

struct Inner<C: Carrier> {
    carrier: C,
    /// The connection that new questions take, and how the last opening failed.
    state: Mutex<State<C::Connection>>,
    /// One opening at a time: a cold start with many questions makes one connection, not many.
    opening: Arc<Semaphore>,
    flights: Semaphore,
    tally: Arc<Tally>,
}

struct State<T> {
    line: Option<Arc<Line<T>>>,
    failed: Option<(Instant, Cause)>,
}

struct Line<T> {
    connection: T,
    /// When a question was last put on it, and when an answer last came over it.
    used: Mutex<(Instant, Instant)>,
}

/// Questions at one server at once; more are [`Cause::Busy`].
const FLIGHTS: usize = 1024;

impl<C: Carrier> Kept<C> {
    /// No connection yet: the first question opens it.
    pub fn new(carrier: C, home: Home, tally: &Arc<Tally>) -> Self {
        let state = Mutex::new(State { line: None, failed: None });
        let (opening, flights) = (Arc::new(Semaphore::new(1)), Semaphore::new(FLIGHTS));
        let inner = Inner { carrier, state, opening, flights, tally: Arc::clone(tally) };
        Self { inner: Arc::new(inner), home }
    }

    /// How its connections are opened.
    #[must_use]
    pub fn carrier(&self) -> &C {
        &self.inner.carrier
    }

    /// Asks over the kept connection or a new one, and again over a new one if it closes under the question.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn exchange(&self, ask: &Arc<Ask>, window: Window) -> Result<Delivered, Cause> {
        let _flight = self.inner.flights.try_acquire().map_err(|_| Cause::Busy)?;
        let mut left = window.sends;
        loop {
            let opened = timeout_at(window.until, self.line()).await;
            let line = opened.map_err(|_| Cause::Timeout)??;
            left = left.saturating_sub(1);
            let asked = line.use_now();
            match timeout_at(window.until, self.inner.carrier.ask(&line.connection, ask)).await {
                Ok(Ok(delivered)) => {
                    line.hear_now();
                    return Ok(delivered);
                }
                Ok(Err(Cause::Closed)) if left > 0 => {
                    self.inner.forget(&line);
                    self.inner.tally.replayed.add_one();
                }
                Ok(Err(cause)) => {
                    if cause == Cause::Closed {
                        self.inner.forget(&line);
                    }
                    return Err(cause);
                }
                // Nothing at all since it was asked: the path may be dead without our having been told.
                Err(_) => {
                    if !line.heard_since(asked) {
                        self.inner.forget(&line);
                    }
                    return Err(Cause::Timeout);
                }
            }
        }
    }

    async fn line(&self) -> Result<Arc<Line<C::Connection>>, Cause> {
        if let Some(line) = self.inner.open_line() {
            return Ok(line);
        }
        let queued = Instant::now();
        let permit = Arc::clone(&self.inner.opening).acquire_owned().await.map_err(|_| Cause::Closed)?;
        if let Some(line) = self.inner.open_line() {
            return Ok(line);
        }
        if let Some(cause) = self.inner.failed_since(queued) {
            return Err(cause);
        }
        let (tell, told) = oneshot::channel();
        self.home.commons.runtime.spawn(tend(Arc::clone(&self.inner), permit, tell, self.home.clone()));
        told.await.unwrap_or(Err(Cause::Closed))
    }
}

/// The life of one connection: opened, offered to all, let go when it has been idle.
///
/// Those who wait hear of it by `tell`; the opening goes on without them, for the next.
async fn tend<C: Carrier>(
    inner: Arc<Inner<C>>,
    permit: OwnedSemaphorePermit,
    tell: oneshot::Sender<Result<Arc<Line<C::Connection>>, Cause>>,
    home: Home,
) {
    let until = Instant::now() + home.patience;
    let opened = timeout_at(until, inner.carrier.open(until)).await.unwrap_or(Err(Cause::Timeout));
    let outcome = inner.settle(opened);
    drop(permit);
    let watched = outcome.as_ref().ok().map(Arc::downgrade);
    // An asker that has gone needs no answer.
    let _ = tell.send(outcome);
    let Some(watched) = watched else { return };
    let kept = Arc::downgrade(&inner);
    drop(inner);
    while let Some(idle_at) = watched.upgrade().map(|line| line.last_used() + home.idle) {
        if idle_at <= Instant::now() {
            return reap(&kept, &watched);
        }
        sleep_until(idle_at).await;
    }
}

/// Lets an idle line go, unless it has been replaced or everything is gone already.
fn reap<C: Carrier>(kept: &Weak<Inner<C>>, line: &Weak<Line<C::Connection>>) {
    if let (Some(inner), Some(line)) = (kept.upgrade(), line.upgrade()) {
        inner.forget(&line);
    }
}

impl<C: Carrier> Inner<C> {
    fn with_state<R>(&self, act: impl FnOnce(&mut State<C::Connection>) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_line(&self) -> Option<Arc<Line<C::Connection>>> {
        let line = self.with_state(|state| state.line.clone())?;
        if self.carrier.is_open(&line.connection) {
            return Some(line);
        }
        self.forget(&line);
        None
    }

    fn failed_since(&self, queued: Instant) -> Option<Cause> {
        self.with_state(|state| state.failed).filter(|&(at, _)| at >= queued).map(|(_, cause)| cause)
    }

    fn settle(&self, opened: Result<C::Connection, Cause>) -> Result<Arc<Line<C::Connection>>, Cause> {
        let now = Instant::now();
        if opened.is_ok() {
            self.tally.handshakes.add_one();
        } else {
            self.tally.handshakes_failed.add_one();
        }
        let outcome = opened.map(|connection| Arc::new(Line { connection, used: Mutex::new((now, now)) }));
        let old = self.with_state(|state| {
            state.failed = outcome.as_ref().err().map(|&cause| (now, cause));
            std::mem::replace(&mut state.line, outcome.as_ref().ok().cloned())
        });
        drop(old);
        outcome
    }

    /// New questions no longer take `line`; those on it may still be answered.
    fn forget(&self, line: &Arc<Line<C::Connection>>) {
        let old = self.with_state(|state| state.line.take_if(|kept| Arc::ptr_eq(kept, line)));
        drop(old);
    }
}

impl<T> Line<T> {
    fn with_used<R>(&self, act: impl FnOnce(&mut (Instant, Instant)) -> R) -> R {
        act(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn use_now(&self) -> Instant {
        let now = Instant::now();
        self.with_used(|used| used.0 = now);
        now
    }

    fn hear_now(&self) {
        let now = Instant::now();
        self.with_used(|used| *used = (now, now));
    }

    fn last_used(&self) -> Instant {
        self.with_used(|used| used.0)
    }

    fn heard_since(&self, asked: Instant) -> bool {
        self.with_used(|used| used.1 > asked)
    }
}

impl<C: Carrier> fmt::Debug for Inner<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inner").field(&self.carrier).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::JoinSet;

    use super::super::dial::Dialer;
    use super::super::tcp::Tcp;
    use super::super::testing::{
        ask as question, home, label, listener, plain, read_frame, reply, serve_stream, window, write_frame,
    };
    use super::*;

    fn kept(address: std::net::SocketAddr, home: Home) -> Arc<Kept<Tcp>> {
        Arc::new(Kept::new(Tcp::new(Dialer::new(&plain("tcp", address), &home).unwrap()), home, &Arc::default()))
    }

    #[tokio::test]
    async fn tcp_15_questions_left_unanswered_by_a_close_are_asked_again_unnoticed() {
        let (listener, address) = listener().await;
        let accepted = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&accepted);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let mut held = Vec::new();
            while held.len() < 10 {
                held.push(read_frame(&mut stream).await.unwrap());
            }
            for query in held.iter().take(3) {
                write_frame(&mut stream, &reply(query, 0)).await;
            }
            drop(stream);
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve_stream(stream, |query| reply(query, 0)));
            }
        });
        let kept = kept(address, home());
        let mut asking = JoinSet::new();
        for number in 0..10 {
            let kept = Arc::clone(&kept);
            asking.spawn(async move {
                let name = format!("n{number}.example");
                let delivered = kept.exchange(&question(&name), window(10_000, 2)).await.unwrap();
                assert_eq!(label(&delivered.message), format!("n{number}"));
            });
        }
        while let Some(done) = asking.join_next().await {
            done.unwrap();
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn neg_15_a_server_that_always_closes_is_asked_as_often_as_allowed() {
        let (listener, address) = listener().await;
        let heard = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if read_frame(&mut stream).await.is_some() {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let outcome = kept(address, home()).exchange(&question("a.example"), window(10_000, 2)).await;
        assert_eq!(outcome.unwrap_err(), Cause::Closed);
        assert_eq!(heard.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_and_the_next_question_opens_another() {
        let (listener, address) = listener().await;
        let kept = kept(address, Home { idle: Duration::from_millis(20), ..home() });
        for _ in 0..2 {
            let asker = Arc::clone(&kept);
            let asking =
                tokio::spawn(async move { asker.exchange(&question("a.example"), window(10_000, 1)).await.unwrap() });
            let (mut stream, _) = listener.accept().await.unwrap();
            let query = read_frame(&mut stream).await.unwrap();
            write_frame(&mut stream, &reply(&query, 0)).await;
            asking.await.unwrap();
            assert_eq!(read_frame(&mut stream).await, None);
        }
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_not_used_again() {
        let (listener, address) = listener().await;
        let kept = kept(address, home());
        let asker = Arc::clone(&kept);
        let silent = tokio::spawn(async move { asker.exchange(&question("a.example"), window(500, 2)).await });
        let (_held, _) = listener.accept().await.unwrap();
        assert_eq!(silent.await.unwrap().unwrap_err(), Cause::Timeout);
        let asking = tokio::spawn(async move { kept.exchange(&question("a.example"), window(10_000, 1)).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut stream).await.unwrap();
        write_frame(&mut stream, &reply(&query, 0)).await;
        assert!(asking.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_refused_connection_fails_all_who_waited_for_it_at_once() {
        let (listener, address) = listener().await;
        drop(listener);
        let kept = kept(address, home());
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let kept = Arc::clone(&kept);
            asking.spawn(async move { kept.exchange(&question("a.example"), window(10_000, 2)).await });
        }
        while let Some(done) = asking.join_next().await {
            assert_eq!(done.unwrap().unwrap_err(), Cause::Connect);
        }
    }
}
