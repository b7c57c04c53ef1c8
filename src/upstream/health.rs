//! How one server does: its usual speed, what it owes, and whether it is asked at all.
//!
//! Shared by all workers and fed by every attempt ([`super::server`]); read by those who choose ([`super::choice`]) and who show.
//! Passive: the questions themselves are the evidence. Only a server that is not asked is probed ([`super::probe`]).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Cause;
use super::ledger::{Ledger, UNKNOWN};

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is.
    #[default]
    Closed,
    /// It has failed too often: only probes go there.
    Open,
    /// It owes many answers and gives none: asked only if there is nobody else.
    Suspect,
}

impl State {
    /// For metrics and people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "up",
            Self::Open => "down",
            Self::Suspect => "suspect",
        }
    }
}

/// How willingly a server is asked, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Up,
    /// It answers, but has had nothing but SERVFAIL and REFUSED to say lately.
    Refusing,
    /// See [`State::Suspect`].
    Suspect,
    /// See [`State::Open`].
    Open,
}

/// What changed, for whoever must say so and have the server probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The breaker opened.
    Opened {
        /// The failure that was too much.
        cause: Cause,
        /// Nobody probes it yet.
        unwatched: bool,
    },
    /// It has fallen silent.
    Suspected {
        /// Nobody probes it yet.
        unwatched: bool,
    },
    /// It answers again.
    Closed,
}

/// How an attempt ended, as far as the server's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer that settled the question.
    Answered,
    /// With an answer that another server may better: the server lives.
    Failed,
    /// Without one.
    Lost(Cause),
    /// Nobody waited for the end.
    Overtaken,
}

/// Facts for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether it is asked.
    pub state: State,
    /// How long it has not been asked, or been suspect.
    pub since: Option<Duration>,
    /// When it is probed next.
    pub next_probe: Option<Duration>,
    /// Half of its answers come within this.
    pub p50: Option<Duration>,
    /// Nineteen of twenty do.
    pub p95: Option<Duration>,
    /// Questions it owes an answer.
    pub outstanding: u32,
    /// How it failed last.
    pub last_failure: Option<Cause>,
}

/// What makes a server worth choosing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merit {
    /// What another question there may take, in microseconds, the queue before it included. Less is better.
    pub cost: f32,
    /// When it was last asked, if ever.
    pub asked: Option<Instant>,
}

/// The health of one server.
#[derive(Debug, Default)]
pub struct Health {
    /// Everything below; held for a few additions, never over an await.
    ledger: Mutex<Ledger>,
}

/// Questions it must owe before silence makes it suspect.
const OWED: u32 = 8;
/// A server alone is not asked for another handshake this soon after one failed.
const BREATH: Duration = Duration::from_secs(1);

impl Health {
    fn with<R>(&self, act: impl FnOnce(&mut Ledger) -> R) -> R {
        act(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says whether there are other servers to ask: failures of trust then open the breaker at once and for long.
    pub fn has_others(&self, has_others: bool) {
        self.with(|ledger| ledger.has_others = has_others);
    }

    /// Whether it is asked.
    #[must_use]
    pub fn state(&self) -> State {
        self.with(|ledger| ledger.state)
    }

    /// How often it has answered a question again after it was not [`State::Closed`]. Probes are not questions.
    #[must_use]
    pub fn comebacks(&self) -> u32 {
        self.with(|ledger| ledger.comebacks)
    }

    /// How willingly it is asked.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        self.with(|ledger| match ledger.state {
            State::Closed if ledger.is_refusing(now) => Standing::Refusing,
            State::Closed => Standing::Up,
            State::Suspect => Standing::Suspect,
            State::Open => Standing::Open,
        })
    }

    /// The time after which an answer is late: the usual, within reason, or a guess before it is known.
    #[must_use]
    pub fn usual(&self) -> Duration {
        self.with(|ledger| ledger.usual())
    }

    /// All of it, for people.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        self.with(|ledger| Report {
            state: ledger.state,
            since: ledger.changed.filter(|_| ledger.state != State::Closed).map(|at| now.saturating_duration_since(at)),
            next_probe: ledger.probe.map(|at| at.saturating_duration_since(now)),
            p50: ledger.latency.percentile(50),
            p95: ledger.latency.percentile(95),
            outstanding: ledger.outstanding,
            last_failure: ledger.failed.map(|(cause, _)| cause),
        })
    }

    /// What makes it worth choosing.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn merit(&self) -> Merit {
        self.with(|ledger| {
            let estimate =
                ledger.latency.estimate().map_or(UNKNOWN, |estimate| estimate.max(Duration::from_micros(100)));
            let untried = ledger.asked.is_none();
            let cost = estimate.as_secs_f32() * 1e6 * (ledger.outstanding + 1) as f32;
            Merit { cost: if untried { 0.0 } else { cost }, asked: ledger.asked }
        })
    }

    /// Has trust failed so lately that another handshake would only repeat it (DOT-14)?
    #[must_use]
    pub fn needs_breath(&self, now: Instant) -> bool {
        self.with(|ledger| {
            let lately = ledger.failed.is_some_and(|(cause, at)| cause == Cause::Tls && now < at + BREATH);
            lately && ledger.state == State::Open
        })
    }

    /// A question leaves for it.
    pub fn depart(&self, now: Instant) {
        self.with(|ledger| {
            ledger.outstanding += 1;
            ledger.owing.get_or_insert(now);
            ledger.asked = Some(now);
        });
    }

    /// The question that left at `asked` has come to its end.
    #[must_use]
    pub fn land(&self, asked: Instant, outcome: Outcome, now: Instant) -> Change {
        self.with(|ledger| {
            ledger.outstanding = ledger.outstanding.saturating_sub(1);
            if ledger.outstanding == 0 {
                ledger.owing = None;
            }
            ledger.settle(asked, outcome, now)
        })
    }

    /// When to ask whether it has been [silent](Self::silent), for a question that leaves now.
    #[must_use]
    pub fn look(&self, now: Instant) -> Instant {
        self.with(|ledger| (ledger.owing.unwrap_or(now) + ledger.patience()).max(now))
    }

    /// Has it been silent for too long? Else when that may be the case.
    ///
    /// # Errors
    /// The next time to look.
    pub fn silent(&self, now: Instant) -> Result<Change, Instant> {
        self.with(|ledger| {
            if ledger.state != State::Closed {
                return Ok(Change::None);
            }
            let limit = ledger.patience();
            match ledger.owing.map(|since| since + limit) {
                Some(due) if due > now => Err(due),
                Some(_) if ledger.outstanding >= OWED => Ok(ledger.suspect(now)),
                Some(_) | None => Err(now + limit),
            }
        })
    }

    /// A probe has come to its end.
    #[must_use]
    pub fn probed(&self, answered: Result<(), Cause>, now: Instant) -> Change {
        self.with(|ledger| match answered {
            Ok(()) => ledger.admit(now),
            Err(cause) => {
                ledger.failed = Some((cause, now));
                match ledger.state {
                    State::Closed => Change::None,
                    State::Suspect => ledger.open(cause, now),
                    State::Open => {
                        ledger.strikes = ledger.strikes.saturating_add(1);
                        ledger.schedule(cause, now);
                        Change::None
                    }
                }
            }
        })
    }

    /// When it is to be probed; None: no more, and whoever watches it is done.
    #[must_use]
    pub fn next_probe(&self) -> Option<Instant> {
        self.with(|ledger| {
            ledger.watched = ledger.state != State::Closed;
            ledger.probe
        })
    }
}
