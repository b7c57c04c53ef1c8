//! Which of a server's connections a question takes, and when there should be another.
//!
//! The first belongs to the home runtime and serves every worker: a quiet gateway keeps one warm connection, not one a core. When
//! that one has had many questions in flight for a while, a busy worker gets its own, on its own runtime, where asking costs no
//! wake-up of another thread. A connection that its server allows few questions at once is joined by others when it is full.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Id;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::Cause;
use super::kept::Carrier;

/// The connections of one server that take questions.
pub struct Lines<C: Carrier> {
    home: Id,
    /// At most [`MOST`].
    offered: Vec<Offered<C::Connection>>,
    /// How the last opening failed.
    failed: Option<(Instant, Cause)>,
    /// How crowded workers have found another's connection lately, 1 where it is too much, and when one last looked.
    pressure: (f32, Option<Instant>),
}

/// A connection.
#[derive(Debug)]
pub struct Line<T> {
    /// The transport's.
    pub connection: T,
    /// The runtime that it lives on.
    worker: Id,
    flights: AtomicUsize,
    /// Questions since the last review.
    questions: AtomicU64,
    /// When a question was last put on it, and when an answer last came over it.
    used: Mutex<(Instant, Instant)>,
    /// The rest its server announced last, in milliseconds.
    rest: AtomicU64,
    change: Notify,
}

/// A line's place in [`Lines`]: whoever watches the line hears when it is given up. Dropped outside the lock of [`Lines`].
#[derive(Debug)]
pub struct Offered<T>(Arc<Line<T>>);

/// A question's place on a connection.
#[derive(Debug)]
pub struct Flight<T>(Arc<Line<T>>);

/// What a question does.
#[derive(Debug)]
pub enum Boarding<T> {
    /// It takes this place.
    Aboard(Flight<T>),
    /// It takes this place, and its worker should have a connection of its own.
    Pressed(Flight<T>),
    /// It waits for a connection to be opened.
    Open,
    /// There is no place, and there are as many connections as there may be.
    Full,
}

/// Connections of one server.
pub const MOST: usize = 16;

/// Questions on one connection whose server has not said how many it takes.
const FLIGHTS: usize = 1024;

/// Questions in flight on another worker's connection that make it crowded.
const CROWD: usize = 32;

/// Over how long it must be crowded on average: a burst may pass.
const PATIENCE: Duration = Duration::from_millis(100);

/// After an opening has failed there is no growth for this long.
const PAUSE: Duration = Duration::from_secs(10);

/// Questions between two reviews that justify a worker's own connection.
const WORTH: u64 = 100;

impl<C: Carrier> Lines<C> {
    /// None yet; the first will live on `home`.
    #[must_use]
    pub const fn new(home: Id) -> Self {
        Self { home, offered: Vec::new(), failed: None, pressure: (0.0, None) }
    }

    /// Is there none?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.offered.is_empty()
    }

    /// How many there are.
    #[cfg(test)]
    pub const fn count(&self) -> usize {
        self.offered.len()
    }

    /// Does `line` take questions?
    #[must_use]
    pub fn has(&self, line: &Arc<Line<C::Connection>>) -> bool {
        self.offered.iter().any(|place| Arc::ptr_eq(&place.0, line))
    }

    /// Takes out those that can take no question any more.
    pub fn take_dead(&mut self, carrier: &C) -> Vec<Offered<C::Connection>> {
        self.offered.extract_if(.., |line| !carrier.is_open(&line.connection)).collect()
    }

    /// A place for a question of `worker`: on its own connection, else on the home one, else on any.
    pub fn board(&mut self, worker: Id, now: Instant) -> Boarding<C::Connection> {
        let limit = |line: &Line<C::Connection>| C::terms(&line.connection).flights.unwrap_or(FLIGHTS);
        let has_room = |line: &&Offered<C::Connection>| line.flights() < limit(line);
        let rank = |line: &&Offered<C::Connection>| (line.worker != worker, line.worker != self.home, line.flights());
        let Some(line) = self.offered.iter().filter(has_room).min_by_key(rank).map(|line| Arc::clone(&line.0)) else {
            return if self.offered.len() < MOST { Boarding::Open } else { Boarding::Full };
        };
        let is_own = line.worker == worker;
        let crowd = if is_own { limit(&line) / 4 * 3 } else { CROWD.min(limit(&line) / 2) };
        let is_pressed = self.is_pressed(share(line.flights(), crowd), is_own, now);
        let flight = Flight::on(line);
        if is_pressed { Boarding::Pressed(flight) } else { Boarding::Aboard(flight) }
    }

    /// Has it been crowded on average for a while, now by `share`, and may there be another connection?
    fn is_pressed(&mut self, share: f32, is_own: bool, now: Instant) -> bool {
        // A worker with a connection of its own knows nothing of the crowd elsewhere.
        if is_own && share < 1.0 {
            return false;
        }
        let (load, looked) = self.pressure;
        let since = looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        let part = (since.as_secs_f32() / PATIENCE.as_secs_f32()).min(1.0);
        let load = load + (share.min(2.0) - load) * part;
        self.pressure = (load, Some(now));
        let failed = self.failed.is_some_and(|(at, _)| now < at + PAUSE);
        if failed || self.offered.len() >= MOST || load < 1.0 {
            return false;
        }
        self.pressure = (0.0, Some(now));
        true
    }

    /// Offers `line`.
    pub fn add(&mut self, line: &Arc<Line<C::Connection>>) {
        self.failed = None;
        self.offered.push(Offered(Arc::clone(line)));
    }

    /// An opening has failed.
    pub fn fail(&mut self, cause: Cause) {
        self.failed = Some((Instant::now(), cause));
    }

    /// How an opening failed that ended after `queued`.
    #[must_use]
    pub fn failed_since(&self, queued: Instant) -> Option<Cause> {
        self.failed.filter(|&(at, _)| at >= queued).map(|(_, cause)| cause)
    }

    /// Takes `line` out.
    pub fn remove(&mut self, line: &Arc<Line<C::Connection>>) -> Vec<Offered<C::Connection>> {
        self.offered.extract_if(.., |place| Arc::ptr_eq(&place.0, line)).collect()
    }

    /// Takes `line` out if it is a worker's own, has had few questions since this was last asked, and is not the only one.
    pub fn remove_if_spare(&mut self, line: &Arc<Line<C::Connection>>) -> Vec<Offered<C::Connection>> {
        let questions = line.questions.swap(0, Ordering::Relaxed);
        let is_spare = line.worker != self.home && questions < WORTH && self.offered.len() > 1;
        self.offered.extract_if(.., |place| is_spare && Arc::ptr_eq(&place.0, line)).collect()
    }
}

impl<T> Line<T> {
    /// A connection just opened on `worker`.
    #[must_use]
    pub fn new(connection: T, worker: Id) -> Self {
        let now = Instant::now();
        Self {
            connection,
            worker,
            flights: AtomicUsize::new(0),
            questions: AtomicU64::new(0),
            used: Mutex::new((now, now)),
            rest: AtomicU64::new(u64::MAX),
            change: Notify::new(),
        }
    }

    fn with_used<R>(&self, act: impl FnOnce(&mut (Instant, Instant)) -> R) -> R {
        act(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Questions on it.
    #[must_use]
    pub fn flights(&self) -> usize {
        self.flights.load(Ordering::Relaxed)
    }

    /// When a message last went over it.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.with_used(|&mut (asked, heard)| asked.max(heard))
    }

    /// When it last brought anything, if that was after `asked`.
    #[must_use]
    pub fn heard_since(&self, asked: Instant) -> Option<Instant> {
        self.with_used(|used| Some(used.1).filter(|&heard| heard > asked))
    }

    /// Ends when it has been taken out of the offer, or its server has announced another rest.
    pub async fn changed(&self) {
        self.change.notified().await;
    }
}

impl<T> Flight<T> {
    /// A place on `line`.
    #[must_use]
    pub fn on(line: Arc<Line<T>>) -> Self {
        line.flights.fetch_add(1, Ordering::Relaxed);
        Self(line)
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &T {
        &self.0.connection
    }

    /// Its line.
    #[must_use]
    pub const fn line(&self) -> &Arc<Line<T>> {
        &self.0
    }

    /// The question is put on the connection, now.
    pub fn take_off(&self) -> Instant {
        let now = Instant::now();
        self.0.questions.fetch_add(1, Ordering::Relaxed);
        self.0.with_used(|used| used.0 = now);
        now
    }

    /// The answer has come; by now the server has `announced` how long the connection may rest.
    pub fn land(&self, announced: Option<Duration>) {
        let now = Instant::now();
        self.0.with_used(|used| used.1 = now);
        let rest = announced.map_or(u64::MAX, |rest| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX));
        if self.0.rest.load(Ordering::Relaxed) != rest {
            self.0.rest.store(rest, Ordering::Relaxed);
            self.0.change.notify_one();
        }
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.0.flights.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `flights` as a share of `crowd`.
fn share(flights: usize, crowd: usize) -> f32 {
    let narrow = |count: usize| f32::from(u16::try_from(count).unwrap_or(u16::MAX));
    narrow(flights) / narrow(crowd.max(1))
}

impl<T> Deref for Offered<T> {
    type Target = Line<T>;

    fn deref(&self) -> &Line<T> {
        &self.0
    }
}

impl<T> Drop for Offered<T> {
    fn drop(&mut self) {
        self.0.change.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::runtime::{Builder, Runtime};

    use super::super::Ask;
    use super::super::delivery::{Delivered, Facts};
    use super::super::kept::Terms;
    use super::*;

    /// A connection that is what it is told to be: open or not, with room for so many.
    #[derive(Debug)]
    struct Fake;

    impl Carrier for Fake {
        type Connection = (AtomicBool, Option<usize>);

        async fn open(&self, _: Instant) -> Result<Self::Connection, Cause> {
            Err(Cause::Connect)
        }

        fn is_open(&self, connection: &Self::Connection) -> bool {
            connection.0.load(Ordering::SeqCst)
        }

        fn facts(_: &Self::Connection) -> &Facts {
            unreachable!("nobody asks")
        }

        fn terms(connection: &Self::Connection) -> Terms {
            Terms { rest: None, flights: connection.1 }
        }

        async fn ask(&self, _: &Self::Connection, _: &Arc<Ask>) -> Result<Delivered, Cause> {
            Err(Cause::Closed)
        }
    }

    type FakeLine = Arc<Line<<Fake as Carrier>::Connection>>;

    fn runtimes(count: usize) -> Vec<Runtime> {
        (0..count).map(|_| Builder::new_current_thread().build().unwrap()).collect()
    }

    fn line(lines: &mut Lines<Fake>, worker: Id, room: Option<usize>) -> FakeLine {
        let line = Arc::new(Line::new((AtomicBool::new(true), room), worker));
        lines.add(&line);
        line
    }

    /// Takes `count` places on `line` and keeps them.
    fn crowd(line: &FakeLine, count: usize) -> Vec<Flight<<Fake as Carrier>::Connection>> {
        (0..count).map(|_| Flight::on(Arc::clone(line))).collect()
    }

    fn taken(boarding: &Boarding<<Fake as Carrier>::Connection>) -> &FakeLine {
        match boarding {
            Boarding::Aboard(flight) | Boarding::Pressed(flight) => flight.line(),
            Boarding::Open | Boarding::Full => panic!("{boarding:?}"),
        }
    }

    #[test]
    fn a_worker_takes_its_own_connection_then_the_home_one_then_any() {
        let runtimes = runtimes(3);
        let [home, own, other] = [&runtimes[0], &runtimes[1], &runtimes[2]].map(|runtime| runtime.handle().id());
        let now = Instant::now();
        let mut lines = Lines::new(home);
        assert!(matches!(lines.board(own, now), Boarding::Open));
        let foreign = line(&mut lines, other, None);
        assert!(Arc::ptr_eq(taken(&lines.board(own, now)), &foreign));
        let at_home = line(&mut lines, home, None);
        assert!(Arc::ptr_eq(taken(&lines.board(own, now)), &at_home));
        let mine = line(&mut lines, own, None);
        assert!(Arc::ptr_eq(taken(&lines.board(own, now)), &mine));
        mine.connection.0.store(false, Ordering::SeqCst);
        assert_eq!(lines.take_dead(&Fake).len(), 1);
        assert!(Arc::ptr_eq(taken(&lines.board(own, now)), &at_home));
    }

    #[test]
    fn another_is_opened_when_the_home_one_stays_crowded_and_not_for_one_burst() {
        let runtimes = runtimes(2);
        let [home, own] = [&runtimes[0], &runtimes[1]].map(|runtime| runtime.handle().id());
        let (mut lines, now) = (Lines::new(home), Instant::now());
        let at_home = line(&mut lines, home, None);
        let burst = crowd(&at_home, CROWD);
        assert!(matches!(lines.board(own, now), Boarding::Aboard(_)), "a burst may pass");
        drop(burst);
        assert!(matches!(lines.board(own, now + PATIENCE), Boarding::Aboard(_)), "it has passed");
        // Full and empty by turns is crowded too, where it is full enough.
        for turn in 1..=4 {
            let _crowd = crowd(&at_home, if turn % 2 == 0 { 3 * CROWD } else { 0 });
            let at = now + PATIENCE + turn * PATIENCE / 4;
            assert!(matches!(lines.board(own, at), Boarding::Aboard(_)), "not yet at {turn}");
        }
        let _crowd = crowd(&at_home, CROWD);
        assert!(
            matches!(lines.board(home, now + 3 * PATIENCE), Boarding::Aboard(_)),
            "to its own worker it is not crowded"
        );
        assert!(matches!(lines.board(own, now + 3 * PATIENCE), Boarding::Pressed(_)));
        lines.fail(Cause::Connect);
        for _ in 0..2 {
            assert!(matches!(lines.board(own, now + 5 * PATIENCE), Boarding::Aboard(_)), "no growth after a failure");
        }
    }

    #[test]
    fn full_connections_are_joined_by_others_up_to_a_bound() {
        let runtimes = runtimes(1);
        let home = runtimes[0].handle().id();
        let (mut lines, now) = (Lines::new(home), Instant::now());
        let mut held = Vec::new();
        for _ in 0..MOST {
            assert!(matches!(lines.board(home, now), Boarding::Open));
            held.extend(crowd(&line(&mut lines, home, Some(4)), 4));
        }
        assert!(matches!(lines.board(home, now), Boarding::Full));
        held.pop();
        assert!(matches!(lines.board(home, now), Boarding::Aboard(_)));
    }

    #[test]
    fn spf_08_a_stream_takes_far_fewer_questions_than_there_are_ids() {
        let runtimes = runtimes(1);
        let home = runtimes[0].handle().id();
        let mut lines = Lines::new(home);
        let full = line(&mut lines, home, None);
        let _held = crowd(&full, FLIGHTS);
        assert!(matches!(lines.board(home, Instant::now()), Boarding::Open), "another connection, not an id twice");
        assert!(FLIGHTS < usize::from(u16::MAX) / 2);
    }

    #[test]
    fn a_workers_own_connection_that_serves_few_is_given_up_and_the_last_never() {
        let runtimes = runtimes(2);
        let [home, own] = [&runtimes[0], &runtimes[1]].map(|runtime| runtime.handle().id());
        let mut lines = Lines::new(home);
        let mine = line(&mut lines, own, None);
        assert!(lines.remove_if_spare(&mine).is_empty(), "it is the only one");
        let at_home = line(&mut lines, home, None);
        assert!(lines.remove_if_spare(&at_home).is_empty(), "home is home");
        for _ in 0..WORTH {
            Flight::on(Arc::clone(&mine)).take_off();
        }
        assert!(lines.remove_if_spare(&mine).is_empty(), "it serves many");
        assert_eq!(lines.remove_if_spare(&mine).len(), 1);
        assert!(lines.has(&at_home) && !lines.has(&mine));
    }
}
