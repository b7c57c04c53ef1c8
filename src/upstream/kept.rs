//! The connections of one server, kept while they are used: asked from any thread, opened anew when they die.
//!
//! Between the server and its transport. The transports say how a connection is opened and asked ([`Carrier`]); here is decided
//! when a question is asked again on a fresh one (TCP-15, DOH-29, DOQ-21) and when another is opened. [`super::lines`] says which
//! one a question takes, [`super::rest`] how long an idle one stays.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Ask;
use super::commons::Commons;
use super::delivery::{Delivered, Facts, Window};
use super::error::Cause;
use super::lines::{Boarding, Flight, Line, Lines};
use super::rest::{self, Rest};
use super::tally::Tally;

/// How a connection of some transport is opened and asked.
pub trait Carrier: Send + Sync + fmt::Debug + 'static {
    /// A connection that many questions share. Dropping it ends it in the transport's polite way.
    type Connection: Send + Sync + 'static;

    /// Opens one, on the current runtime. No octet of a question leaves before the server has proven itself (DOT-09).
    fn open(&self, until: Instant) -> impl Future<Output = Result<Self::Connection, Cause>> + Send;

    /// May another question go over it? Not once it has ended, nor once its server has announced the end (GOAWAY).
    fn is_open(&self, connection: &Self::Connection) -> bool;

    /// Facts about it.
    fn facts(connection: &Self::Connection) -> &Facts;

    /// What its server has said about it so far.
    fn terms(_: &Self::Connection) -> Terms {
        Terms::default()
    }

    /// Ends when it has ended: the server's habit of closing idle connections is learned from this. A transport that cannot tell
    /// never ends.
    fn closed(_: &Self::Connection) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Its path is dead: ends it at once, so that the questions on it hear [`Cause::Closed`] rather than wait.
    fn cut(_: &Self::Connection) {}

    /// Asks once. [`Cause::Closed`] means that the connection went away with the question unanswered.
    fn ask(
        &self,
        connection: &Self::Connection,
        ask: &Arc<Ask>,
    ) -> impl Future<Output = Result<Delivered, Cause>> + Send;
}

/// What a server has said about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long it keeps the connection without a question.
    pub rest: Option<Duration>,
    /// Questions that it takes at once.
    pub flights: Option<usize>,
}

/// Where connections live and how long.
#[derive(Clone, Debug)]
pub struct Home {
    /// What all servers share, the runtime that owns connections among it.
    pub commons: Commons,
    /// How long opening one may take.
    pub patience: Duration,
    /// How long one is kept without a question where the server has not taught otherwise.
    pub idle: Duration,
}

impl Home {
    /// A home with the usual idle time.
    #[must_use]
    pub fn new(commons: &Commons, patience: Duration) -> Self {
        Self { commons: commons.clone(), patience, idle: rest::USUAL }
    }
}

/// The kept connections of one server.
#[derive(Debug)]
pub struct Kept<C: Carrier> {
    inner: Arc<Inner<C>>,
    home: Home,
}

struct Inner<C: Carrier> {
    carrier: C,
    /// The connections that new questions take. Held for a look over them, sixteen at most.
    lines: Mutex<Lines<C>>,
    /// One opening at a time: a cold start with many questions makes one connection, not many.
    opening: Arc<Semaphore>,
    flights: Semaphore,
    rest: Rest,
    tally: Arc<Tally>,
}

/// Questions at one server at once, over all connections; more are [`Cause::Busy`].
const FLIGHTS: usize = 4096;

/// A question that gives up sooner says nothing about the connection it was on.
const SILENCE: Duration = Duration::from_millis(200);

/// A connection that owed an answer and brought nothing at all for this long is taken to be dead.
const DEATH: Duration = Duration::from_secs(1);

/// How often a worker's own connection must have earned its place.
const REVIEW: Duration = Duration::from_secs(10);

impl<C: Carrier> Kept<C> {
    /// No connection yet: the first question opens it.
    pub fn new(carrier: C, home: Home, tally: &Arc<Tally>) -> Self {
        let inner = Inner {
            carrier,
            lines: Mutex::new(Lines::new(home.commons.runtime.id())),
            opening: Arc::new(Semaphore::new(1)),
            flights: Semaphore::new(FLIGHTS),
            rest: Rest::new(home.idle),
            tally: Arc::clone(tally),
        };
        Self { inner: Arc::new(inner), home }
    }

    /// How its connections are opened.
    #[must_use]
    pub fn carrier(&self) -> &C {
        &self.inner.carrier
    }

    /// Asks over a kept connection or a new one, and again over a new one if it closes under the question.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn exchange(&self, ask: &Arc<Ask>, window: Window) -> Result<Delivered, Cause> {
        let worker = Handle::try_current().unwrap_or_else(|_| self.home.commons.runtime.clone());
        self.exchange_from(&worker, ask, window).await
    }

    /// Asks on behalf of `worker`, which has a connection of its own if it needs one.
    async fn exchange_from(&self, worker: &Handle, ask: &Arc<Ask>, window: Window) -> Result<Delivered, Cause> {
        let _place = self.inner.flights.try_acquire().map_err(|_| Cause::Busy)?;
        let mut left = window.sends;
        loop {
            let flight = self.board(worker, window.until).await?;
            left = left.saturating_sub(1);
            let asked = flight.take_off();
            match timeout_at(window.until, self.inner.carrier.ask(flight.connection(), ask)).await {
                Ok(Ok(delivered)) => {
                    flight.land(C::terms(flight.connection()).rest);
                    return Ok(delivered);
                }
                // Over a connection that is open still, it was the question's own stream that ended.
                Ok(Err(Cause::Closed)) if left > 0 => {
                    self.inner.forget_if_dead(flight.line());
                    self.inner.tally.replayed.add_one();
                }
                Ok(Err(cause)) => {
                    if cause == Cause::Closed {
                        self.inner.forget_if_dead(flight.line());
                    }
                    return Err(cause);
                }
                Err(_) => {
                    self.inner.judge(flight.line(), asked);
                    return Err(Cause::Timeout);
                }
            }
        }
    }

    /// A place on a connection, by `until`.
    async fn board(&self, worker: &Handle, until: Instant) -> Result<Flight<C::Connection>, Cause> {
        match self.inner.board(worker) {
            Boarding::Aboard(flight) => Ok(flight),
            Boarding::Pressed(flight) => {
                self.grow(worker);
                Ok(flight)
            }
            Boarding::Full => Err(Cause::Busy),
            Boarding::Open => timeout_at(until, self.open(worker)).await.map_err(|_| Cause::Timeout)?,
        }
    }

    /// Waits for a connection to be opened, by this question or by another.
    async fn open(&self, worker: &Handle) -> Result<Flight<C::Connection>, Cause> {
        let queued = Instant::now();
        let permit = Arc::clone(&self.inner.opening).acquire_owned().await.map_err(|_| Cause::Closed)?;
        match self.inner.board(worker) {
            Boarding::Aboard(flight) | Boarding::Pressed(flight) => return Ok(flight),
            Boarding::Full => return Err(Cause::Busy),
            Boarding::Open => {}
        }
        if let Some(cause) = self.inner.with_lines(|lines| lines.failed_since(queued)) {
            return Err(cause);
        }
        let (tell, told) = oneshot::channel();
        // The first lives at home, where all workers find it; one for want of room with the worker that wants it.
        let first = self.inner.with_lines(|lines| lines.is_empty());
        self.tend(if first { &self.home.commons.runtime } else { worker }, permit, Some(tell));
        told.await.unwrap_or(Err(Cause::Closed)).map(Flight::on)
    }

    /// Opens a connection that belongs to `worker`, while questions go on over those there are.
    fn grow(&self, worker: &Handle) {
        if let Ok(permit) = Arc::clone(&self.inner.opening).try_acquire_owned() {
            self.tend(worker, permit, None);
        }
    }

    fn tend(&self, worker: &Handle, permit: OwnedSemaphorePermit, tell: Option<Tell<C>>) {
        worker.spawn(tend(Arc::clone(&self.inner), worker.clone(), permit, tell, self.home.patience));
    }
}

/// Where those hear who wait for a connection.
type Tell<C> = oneshot::Sender<Result<Arc<Line<<C as Carrier>::Connection>>, Cause>>;

/// The life of one connection: opened, offered to all, let go when it has rested for long enough.
///
/// Those who wait hear of it by `tell`; the opening goes on without them, for the next.
async fn tend<C: Carrier>(
    inner: Arc<Inner<C>>,
    worker: Handle,
    permit: OwnedSemaphorePermit,
    tell: Option<Tell<C>>,
    patience: Duration,
) {
    let until = Instant::now() + patience;
    let opened = timeout_at(until, inner.carrier.open(until)).await.unwrap_or(Err(Cause::Timeout));
    let outcome = inner.settle(opened, &worker);
    drop(permit);
    let line = outcome.as_ref().ok().cloned();
    // An asker that has gone needs no answer.
    let _ = tell.map(|tell| tell.send(outcome));
    let kept = Arc::downgrade(&inner);
    drop(inner);
    if let Some(line) = line {
        watch(&kept, &line).await;
    }
}

/// Stays with `line` until it is to take no more questions.
async fn watch<C: Carrier>(kept: &Weak<Inner<C>>, line: &Arc<Line<C::Connection>>) {
    let mut review = Instant::now() + REVIEW;
    while let Some(wake) = kept.upgrade().and_then(|inner| inner.next_look(line)) {
        tokio::select! {
            () = C::closed(&line.connection) => {
                if let Some(inner) = kept.upgrade() {
                    inner.note_close(line);
                }
                return;
            }
            () = line.changed() => {}
            () = sleep_until(wake.min(review)) => {
                let now = Instant::now();
                if now >= review {
                    review = now + REVIEW;
                    kept.upgrade().inspect(|inner| inner.review(line));
                }
            }
        }
    }
}

impl<C: Carrier> Inner<C> {
    fn with_lines<R>(&self, act: impl FnOnce(&mut Lines<C>) -> R) -> R {
        act(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn board(&self, worker: &Handle) -> Boarding<C::Connection> {
        // Connections that have ended are dropped after the lock is.
        let (boarding, _dead) = self.with_lines(|lines| {
            let dead = lines.take_dead(&self.carrier);
            (lines.board(worker.id(), Instant::now()), dead)
        });
        boarding
    }

    fn settle(&self, opened: Result<C::Connection, Cause>, worker: &Handle) -> Result<Arc<Line<C::Connection>>, Cause> {
        let resumed = |connection| C::facts(connection).secured.and_then(|secured| secured.resumed) == Some(true);
        match opened {
            Ok(connection) => {
                self.tally.handshakes.add_one();
                if resumed(&connection) {
                    self.tally.resumed.add_one();
                }
                let line = Arc::new(Line::new(connection, worker.id()));
                self.with_lines(|lines| lines.add(&line));
                Ok(line)
            }
            Err(cause) => {
                self.tally.handshakes_failed.add_one();
                self.with_lines(|lines| lines.fail(cause));
                Err(cause)
            }
        }
    }

    /// New questions no longer take `line`; those on it may still be answered.
    fn forget(&self, line: &Arc<Line<C::Connection>>) {
        let _old = self.with_lines(|lines| lines.remove(line));
    }

    fn forget_if_dead(&self, line: &Arc<Line<C::Connection>>) {
        if !self.carrier.is_open(&line.connection) {
            self.forget(line);
        }
    }

    /// A question put on `line` at `asked` has had its time. Nothing at all since then: the path may be dead without our having
    /// been told, and then its fellows are told too. Silence after some answers may be that of a server which answers in the order
    /// asked and is held up: whoever asks again must not queue behind the same question.
    fn judge(&self, line: &Arc<Line<C::Connection>>, asked: Instant) {
        let heard = line.heard_since(asked);
        let silence = heard.unwrap_or(asked).elapsed();
        if silence < heard.map_or(SILENCE, |_| DEATH) {
            return;
        }
        self.forget(line);
        if heard.is_none() && silence >= DEATH {
            C::cut(&line.connection);
        }
    }

    /// When `line` is to be looked at again; None when it takes no more questions. One that has rested for long enough is let go.
    fn next_look(&self, line: &Arc<Line<C::Connection>>) -> Option<Instant> {
        if !self.with_lines(|lines| lines.has(line)) {
            return None;
        }
        let limit = self.rest.limit(C::terms(&line.connection).rest);
        let now = Instant::now();
        if line.flights() > 0 {
            return Some(now + limit.max(SILENCE));
        }
        let end = line.last_used() + limit;
        if end > now {
            return Some(end);
        }
        self.rest.outlived();
        self.forget(line);
        None
    }

    /// `line` has ended. One that had been given up before was ended by us, which says nothing about its server.
    fn note_close(&self, line: &Arc<Line<C::Connection>>) {
        let rested = line.last_used().elapsed();
        let is_offered = !self.with_lines(|lines| lines.remove(line)).is_empty();
        if is_offered && line.flights() == 0 {
            self.rest.closed_after(rested);
        }
    }

    /// A worker's own connection that serves few questions has had its day, if there is another.
    fn review(&self, line: &Arc<Line<C::Connection>>) {
        let _old = self.with_lines(|lines| lines.remove_if_spare(line));
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

    use tokio::io::{AsyncRead, AsyncWrite, duplex};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::super::dial::Dialer;
    use super::super::mux::{Mux, Streams};
    use super::super::tcp::Tcp;
    use super::super::testing::{
        ask as question, home, label, listener, plain, read_frame, refusing, reply, serve_stream, window, write_frame,
    };
    use super::*;
    use crate::peer::Transport;
    use crate::wire::registry::option;
    use crate::wire::{OptWriter, patch};

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
        let (_held, address) = refusing();
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

    /// A server in memory, so that the clock can be paused.
    #[derive(Debug)]
    struct Server {
        behaviour: Behaviour,
        opened: AtomicU32,
        /// Hears how long each connection lived.
        lives: mpsc::UnboundedSender<Duration>,
    }

    #[derive(Clone, Copy, Debug)]
    enum Behaviour {
        /// Closes what has rested for this long.
        Closes(Duration),
        /// Announces this TIMEOUT, in units of 100 ms, and answers after a second; never closes.
        Announces(u16),
        /// The first connection brings nothing, those that follow do.
        SilentAtFirst,
        /// Answers in the order asked, `late.` after 300 ms and `stuck.` after a minute.
        InOrder,
    }

    impl Server {
        fn new(behaviour: Behaviour) -> (Arc<Kept<Self>>, Arc<Tally>, mpsc::UnboundedReceiver<Duration>) {
            let ((lives, ends), tally) = (mpsc::unbounded_channel(), Arc::default());
            (Arc::new(Kept::new(Self { behaviour, opened: AtomicU32::new(0), lives }, home(), &tally)), tally, ends)
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, behaviour: Behaviour, is_first: bool) {
        match behaviour {
            Behaviour::Closes(rest) => {
                while let Ok(Some(query)) = timeout(rest, read_frame(&mut stream)).await {
                    write_frame(&mut stream, &reply(&query, 0)).await;
                }
            }
            Behaviour::Announces(units) => {
                while let Some(query) = read_frame(&mut stream).await {
                    sleep(Duration::from_secs(1)).await;
                    let mut answer = bytes::BytesMut::from(&reply(&query, 0)[..]);
                    let mut writer = OptWriter::start(&mut answer, 1232, 0, false);
                    writer.option(option::KEEPALIVE, &[&units.to_be_bytes()]);
                    writer.finish();
                    patch::add_additional(&mut answer);
                    write_frame(&mut stream, &answer).await;
                }
            }
            Behaviour::InOrder => {
                while let Some(query) = read_frame(&mut stream).await {
                    match label(&query).as_str() {
                        "late" => sleep(Duration::from_millis(300)).await,
                        "stuck" => sleep(Duration::from_mins(1)).await,
                        _ => {}
                    }
                    write_frame(&mut stream, &reply(&query, 0)).await;
                }
            }
            Behaviour::SilentAtFirst => {
                while let Some(query) = read_frame(&mut stream).await {
                    if !is_first {
                        write_frame(&mut stream, &reply(&query, 0)).await;
                    }
                }
            }
        }
    }

    impl Streams for Server {
        async fn connect(&self, _: Instant) -> Result<Mux, Cause> {
            let (ours, theirs) = duplex(64 * 1024);
            let (behaviour, lives) = (self.behaviour, self.lives.clone());
            let is_first = self.opened.fetch_add(1, Ordering::SeqCst) == 0;
            tokio::spawn(async move {
                let opened = Instant::now();
                serve(theirs, behaviour, is_first).await;
                let _ = lives.send(opened.elapsed());
            });
            let facts = Facts { address: "127.0.0.1:53".parse().unwrap(), transport: Transport::Tcp, secured: None };
            Ok(Mux::start(ours, facts))
        }
    }

    /// Connections opened for a question every `pause`, by `workers` in turn, with a server that closes after 10 s.
    async fn opened(workers: usize, pause: Duration) -> u64 {
        let (kept, tally, _ends) = Server::new(Behaviour::Closes(Duration::from_secs(10)));
        let runtimes: Vec<_> =
            (0..workers).map(|_| tokio::runtime::Builder::new_current_thread().build().unwrap()).collect();
        for runtime in runtimes.iter().cycle().take(240) {
            let asked = kept.exchange_from(runtime.handle(), &question("a.example"), window(1000, 1)).await;
            assert!(asked.is_ok(), "{asked:?}");
            sleep(pause).await;
        }
        runtimes.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
        tally.handshakes.value()
    }

    #[tokio::test(start_paused = true)]
    async fn tcp_14_a_question_every_five_seconds_from_eight_workers_costs_no_more_handshakes_than_from_one() {
        let pause = Duration::from_secs(5);
        assert_eq!((opened(1, pause).await, opened(8, pause).await), (1, 1));
        assert_eq!(opened(8, Duration::from_millis(10)).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_question_is_sent_into_a_connection_that_is_about_to_be_closed() {
        let (kept, tally, mut ends) = Server::new(Behaviour::Closes(Duration::from_secs(10)));
        let mut lives = Vec::new();
        for _ in 0..3 {
            kept.exchange(&question("a.example"), window(1000, 1)).await.unwrap();
            lives.push(ends.recv().await.unwrap().as_secs_f32().round());
        }
        assert_eq!(lives, [10.0, 10.0, 9.0], "the third is let go before the server does");
        assert_eq!((tally.handshakes.value(), tally.replayed.value()), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_we_cut_ourselves_teach_nothing_of_rest() {
        let (kept, _, _ends) = Server::new(Behaviour::Announces(100));
        for _ in 0..3 {
            kept.exchange(&question("a.example"), window(1500, 1)).await.unwrap();
            let Boarding::Aboard(flight) = kept.inner.board(&Handle::current()) else { panic!("no connection") };
            let line = Arc::clone(flight.line());
            drop(flight);
            sleep(Duration::from_secs(2)).await;
            kept.inner.forget(&line);
            kept.inner.note_close(&line);
        }
        assert_eq!(kept.inner.rest.limit(None), rest::USUAL);
    }

    #[tokio::test(start_paused = true)]
    async fn kal_06_a_connection_is_let_go_before_the_time_its_server_announced() {
        let (kept, _, mut ends) = Server::new(Behaviour::Announces(40));
        kept.exchange(&question("a.example"), window(5000, 1)).await.unwrap();
        let life = ends.recv().await.unwrap();
        assert!((Duration::from_secs(4)..Duration::from_secs(5)).contains(&life), "{life:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn kal_06_after_a_timeout_of_nought_what_is_in_flight_is_answered_and_nothing_new_is_sent() {
        let (kept, tally, mut ends) = Server::new(Behaviour::Announces(0));
        let (first, second) = (question("a.example"), question("b.example"));
        let both = tokio::join!(kept.exchange(&first, window(5000, 1)), kept.exchange(&second, window(5000, 1)));
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        assert_eq!(tally.handshakes.value(), 1);
        assert!(ends.recv().await.unwrap() < Duration::from_secs(4));
        assert!(kept.exchange(&first, window(5000, 1)).await.is_ok());
        assert_eq!((tally.handshakes.value(), tally.replayed.value()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_fellows_of_a_question_on_a_dead_path_are_asked_again_at_once() {
        let (kept, tally, _ends) = Server::new(Behaviour::SilentAtFirst);
        let (first, second) = (question("a.example"), question("b.example"));
        let began = Instant::now();
        let late = async {
            sleep(Duration::from_millis(500)).await;
            kept.exchange(&second, window(60_000, 2)).await
        };
        let (lost, saved) = tokio::join!(kept.exchange(&first, window(1500, 2)), late);
        assert_eq!(lost.unwrap_err(), Cause::Timeout);
        assert!(saved.is_ok() && began.elapsed() < Duration::from_secs(2), "{saved:?}");
        assert_eq!((tally.handshakes.value(), tally.replayed.value()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_does_not_queue_behind_the_question_that_holds_up_an_orderly_server() {
        let (kept, tally, _ends) = Server::new(Behaviour::InOrder);
        let ask = |name: &str, millis| {
            let (kept, ask) = (Arc::clone(&kept), question(name));
            async move { kept.exchange(&ask, window(millis, 2)).await }
        };
        assert!(ask("quick.example", 1500).await.is_ok());
        let late = tokio::spawn(ask("late.example", 1500));
        sleep(Duration::from_millis(50)).await;
        let stuck = tokio::spawn(ask("stuck.example", 90_000));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(ask("quick.example", 1500).await.unwrap_err(), Cause::Timeout);
        assert!(ask("quick.example", 1500).await.is_ok());
        assert!(late.await.unwrap().is_ok());
        assert!(stuck.await.unwrap().is_ok(), "what holds up the others is answered in the end");
        assert_eq!(tally.handshakes.value(), 2);
    }

    /// Takes `held` questions on its first connection and closes it; answers on all others.
    async fn dying_server(held: usize) -> std::net::SocketAddr {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..held {
                read_frame(&mut stream).await.unwrap();
            }
            drop(stream);
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_stream(stream, |query| reply(query, 0)));
            }
        });
        address
    }

    #[tokio::test]
    async fn tcp_15_a_burst_on_a_dying_connection_opens_one_other_and_every_replay_is_counted() {
        let home = home();
        let tally = Arc::default();
        let tcp = Tcp::new(Dialer::new(&plain("tcp", dying_server(200).await), &home).unwrap());
        let kept = Arc::new(Kept::new(tcp, home, &tally));
        let mut asking = JoinSet::new();
        for _ in 0..200 {
            let kept = Arc::clone(&kept);
            asking.spawn(async move { kept.exchange(&question("a.example"), window(20_000, 2)).await });
        }
        while let Some(done) = asking.join_next().await {
            assert!(done.unwrap().is_ok());
        }
        assert_eq!((tally.handshakes.value(), tally.replayed.value()), (2, 200));
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_closes_costs_a_question_two_connections_and_no_more() {
        let (listener, address) = listener().await;
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let (home, tally) = (home(), Arc::default());
        let kept = Kept::new(Tcp::new(Dialer::new(&plain("tcp", address), &home).unwrap()), home, &tally);
        let outcome = kept.exchange(&question("a.example"), window(20_000, 2)).await;
        assert_eq!(outcome.unwrap_err(), Cause::Closed);
        assert_eq!(tally.handshakes.value(), 2);
    }

    #[tokio::test]
    async fn a_busy_worker_gets_a_connection_of_its_own_on_its_own_runtime() {
        let (listener, address) = listener().await;
        let (home, tally): (_, Arc<Tally>) = (home(), Arc::default());
        let kept = Arc::new(Kept::new(Tcp::new(Dialer::new(&plain("tcp", address), &home).unwrap()), home, &tally));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (worker, (_stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        // Ends with this test, which holds the sender.
        std::thread::spawn(move || runtime.block_on(stopped));
        // The first connection is never answered, so it fills up.
        let (asker, handle) = (Arc::clone(&kept), worker.clone());
        let asking = tokio::spawn(async move {
            let mut asking = JoinSet::new();
            loop {
                let asker = Arc::clone(&asker);
                asking
                    .spawn_on(async move { asker.exchange(&question("a.example"), window(60_000, 1)).await }, &handle);
                sleep(Duration::from_millis(1)).await;
            }
        });
        let (_silent, _) = listener.accept().await.unwrap();
        let (stream, _) = timeout(Duration::from_secs(30), listener.accept()).await.expect("no growth").unwrap();
        asking.abort();
        while kept.inner.with_lines(|lines| lines.count()) < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        tokio::spawn(serve_stream(stream, |query| reply(query, 0)));
        let own = worker.spawn(async move { kept.exchange(&question("b.example"), window(30_000, 1)).await });
        assert!(own.await.unwrap().is_ok(), "the worker's own connection is not the one it takes");
    }
}
