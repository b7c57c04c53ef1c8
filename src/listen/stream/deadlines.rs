//! How long a stream connection may take over what: a whole question, silence between questions, reading our answers.
//!
//! One timer serves all three. It is set earlier when a deadline comes nearer; when it fires for one that has moved away it is set
//! again, so that a busy connection does not touch it for every question.

use std::pin::Pin;
use std::task::{Context as Waking, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A question did not become whole, or none came.
    Read,
    /// The client did not read what it is owed.
    Write,
    /// Nothing has come of the questions that wait, as many as may.
    Move,
}

/// A debt: so many octets, until when.
#[derive(Clone, Copy, Debug)]
struct Debt {
    octets: usize,
    until: Instant,
}

/// The deadlines of one connection.
pub(super) struct Deadlines {
    idle: Duration,
    now: Instant,
    /// When the last whole question came or the last answer was done with (TCP-08, TCP-10).
    active: Instant,
    /// When the question that is not whole yet began.
    begun: Option<Instant>,
    debt: Option<Debt>,
    /// When as many came to wait as may, or the last of them was answered.
    moved: Instant,
    state: State,
    due: Option<(Instant, Due)>,
    timer: Pin<Box<Sleep>>,
}

impl Deadlines {
    /// The deadlines of a connection that begins now.
    pub fn new(idle: Duration) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now + idle));
        Self { idle, now, active: now, begun: None, debt: None, moved: now, state: State::Idle, due: None, timer }
    }

    /// Reads the clock, once a turn.
    pub fn begin(&mut self) {
        self.now = Instant::now();
    }

    /// A question that waited has been answered.
    pub const fn moved(&mut self) {
        self.moved = self.now;
    }

    /// A whole question has come.
    pub const fn heard(&mut self) {
        self.active = self.now;
    }

    /// A new question begins, or what was there has been used up.
    pub fn expect(&mut self, more: bool) {
        self.begun = more.then_some(self.now);
    }

    /// `octets` cannot be written now. They must all be gone when the time is over: one octet now and then is not reading.
    pub fn owe(&mut self, octets: usize) {
        self.debt.get_or_insert(Debt { octets, until: self.now + WRITE });
    }

    /// `octets` have been written.
    pub const fn wrote(&mut self, octets: usize) {
        if let Some(debt) = &mut self.debt {
            debt.octets = debt.octets.saturating_sub(octets);
            if debt.octets == 0 {
                self.debt = None;
            }
        }
    }

    /// Nothing is owed any more.
    pub const fn settle(&mut self) {
        self.debt = None;
    }

    /// The turn is over, and left the connection in `state`. Sets what is due next.
    pub fn note(&mut self, state: State) {
        let read = self.idle.min(READ);
        // The turn that ends the last answer begins the silence.
        if state != State::Idle || self.state != State::Idle {
            self.active = self.now;
        }
        // The client is not to blame while it is we who do not read.
        if matches!(self.state, State::Full | State::Crowded) {
            self.begun = self.begun.map(|_| self.now);
        }
        if state == State::Crowded && self.state != State::Crowded {
            self.moved = self.now;
        }
        self.state = state;
        let question = self
            .begun
            .filter(|_| !matches!(state, State::Full | State::Crowded))
            .map(|begun| (begun + read, Due::Read));
        let silence = (state == State::Idle).then(|| (self.active + self.idle, Due::Read));
        let debt = self.debt.map(|debt| (debt.until, Due::Write));
        let stuck = (state == State::Crowded).then(|| (self.moved + PATIENCE, Due::Move));
        self.due = [question, silence, debt, stuck].into_iter().flatten().min_by_key(|(at, _)| *at);
    }

    /// Waits for the deadline that is due next.
    pub fn poll(&mut self, cx: &mut Waking<'_>) -> Poll<Due> {
        let Some((at, due)) = self.due else { return Poll::Pending };
        if at < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(at);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer.deadline() >= at {
                return Poll::Ready(due);
            }
            self.timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}

/// What a connection is about when a turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is asked or owed.
    Idle,
    /// Answers are being made or written; more questions are read.
    Busy,
    /// The same, and no more are read: the client leaves too much unread.
    Full,
    /// The same: as many questions wait as may.
    Crowded,
}

/// The longest a question may take to become whole, unless the idle time is shorter.
const READ: Duration = Duration::from_secs(5);

/// How long a connection on which as many questions wait as may reads nothing while none of them is answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// The longest a client may take to read what could not be written.
const WRITE: Duration = Duration::from_secs(10);
