//! What is written down of one server, and what follows from it: when it is suspected, left alone, probed, asked again.
//!
//! Held by [`super::health`] under its lock. Pure: `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Cause;
use super::health::{Change, Outcome, State};
use super::latency::Latency;

/// The record; whoever holds it has the lock of [`super::health::Health`].
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) state: State,
    pub(super) latency: Latency,
    pub(super) outstanding: u32,
    /// Since when it has owed an answer and given none.
    pub(super) owing: Option<Instant>,
    pub(super) heard: Option<Instant>,
    pub(super) asked: Option<Instant>,
    pub(super) failures: u32,
    pub(super) failed: Option<(Cause, Instant)>,
    /// When the state last changed.
    pub(super) changed: Option<Instant>,
    pub(super) probe: Option<Instant>,
    /// Probes that failed, or openings that came soon after one another: doubles the pause.
    pub(super) strikes: u32,
    pub(super) watched: bool,
    pub(super) has_others: bool,
    /// Only a probe has been answered since it was last in trouble: it may know `. NS` by heart and nothing else.
    pub(super) on_probation: bool,
    /// It has been in trouble, and has answered no question since.
    pub(super) is_missed: bool,
    /// How often it has answered again after that.
    pub(super) comebacks: u32,
    /// SERVFAIL and REFUSED in a row, one at most of those asked at the same time, and when the last came.
    refusals: (u32, Option<Instant>),
}

/// Failures in a row that open the breaker.
const FAILURES: u32 = 3;
/// Answers in a row that helped nobody, after which others are asked first.
const REFUSALS: u32 = 8;
/// Silence that is never suspicious.
const SILENCE: Duration = Duration::from_millis(100);
/// What an answer may usually take before it is known what it does.
pub(super) const UNKNOWN: Duration = Duration::from_millis(200);
/// What a failure costs in the estimate, at least.
const PENALTY: Duration = Duration::from_secs(1);
/// The pause before the first probe, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The longest pause where trust has failed and there are others to ask (RFC 7858 3.1, RFC 9250 5.2).
const LONG_PAUSE: Duration = Duration::from_hours(1);
/// A server that has been up for this long starts with short pauses again.
const STEADY: Duration = Duration::from_mins(1);

impl Ledger {
    pub(super) fn usual(&self) -> Duration {
        self.latency.percentile(95).unwrap_or(UNKNOWN)
    }

    pub(super) fn patience(&self) -> Duration {
        (self.usual() * 3).max(SILENCE)
    }

    /// Has it had nothing but SERVFAIL and REFUSED to say lately? Now and then it may be asked all the same.
    pub(super) fn is_refusing(&self, now: Instant) -> bool {
        let Some(more) = self.refusals.0.checked_sub(REFUSALS) else { return false };
        self.asked.is_some_and(|at| now < at + doubled(more).min(PAUSE.1))
    }

    pub(super) fn settle(&mut self, asked: Instant, outcome: Outcome, now: Instant) -> Change {
        let took = now.saturating_duration_since(asked);
        match outcome {
            Outcome::Answered => {
                self.latency.answered(took, now);
                self.refusals.0 = 0;
                self.comebacks = self.comebacks.wrapping_add(std::mem::take(&mut self.is_missed).into());
                self.revive(now)
            }
            Outcome::Failed => {
                // Quick failures must not look like quick answers.
                self.latency.waited(took.max(PENALTY / 4), now);
                if self.refusals.1.is_none_or(|last| last <= asked) {
                    self.refusals = (self.refusals.0.saturating_add(1), Some(now));
                }
                self.revive(now)
            }
            Outcome::Lost(cause) => self.lose(asked, cause, now),
            Outcome::Overtaken => {
                let silent = self.heard.is_none_or(|heard| heard < asked) && took >= self.patience();
                if !silent {
                    self.latency.overtaken(took, now);
                    return Change::None;
                }
                self.latency.waited(took, now);
                self.failures = self.failures.saturating_add(1);
                if self.failures >= FAILURES && self.state == State::Closed { self.suspect(now) } else { Change::None }
            }
        }
    }

    /// Counts a failure, unless it is our own or says nothing about the server.
    fn lose(&mut self, asked: Instant, cause: Cause, now: Instant) -> Change {
        let is_evidence = match cause {
            Cause::Busy => false,
            Cause::Truncated => return self.revive(now),
            // It answered others meanwhile: the name is slow, not the server.
            Cause::Timeout => self.heard.is_none_or(|heard| heard < asked),
            // One connection that closes fails all questions on it at once: that is one event.
            Cause::Closed => self.failed.is_none_or(|(_, at)| at < asked),
            Cause::Connect | Cause::Tls | Cause::Malformed | Cause::Mismatched | Cause::Unknown => true,
        };
        if cause != Cause::Busy {
            self.latency.waited(now.saturating_duration_since(asked).max(PENALTY), now);
        }
        if !is_evidence {
            return Change::None;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed = Some((cause, now));
        let enough = self.failures >= FAILURES || (cause == Cause::Tls && self.has_others);
        match self.state {
            State::Closed | State::Suspect if enough => self.open(cause, now),
            State::Closed | State::Suspect | State::Open => Change::None,
        }
    }

    /// A question has been answered.
    pub(super) fn revive(&mut self, now: Instant) -> Change {
        self.heard = Some(now);
        self.failures = 0;
        self.on_probation = false;
        self.close(now)
    }

    /// A probe has been answered. The next failure would be one too many; that answer disproves none.
    pub(super) fn admit(&mut self, now: Instant) -> Change {
        if self.state == State::Suspect {
            // It was only slower than it used to be.
            self.latency.forget_range();
        }
        if self.state != State::Closed {
            self.on_probation = true;
            self.failures = FAILURES - 1;
        }
        self.close(now)
    }

    fn close(&mut self, now: Instant) -> Change {
        self.owing = (self.outstanding > 0).then_some(now);
        self.probe = None;
        match std::mem::take(&mut self.state) {
            State::Closed => Change::None,
            State::Open | State::Suspect => {
                self.changed = Some(now);
                Change::Closed
            }
        }
    }

    pub(super) fn suspect(&mut self, now: Instant) -> Change {
        if self.on_probation {
            self.failed = Some((Cause::Timeout, now));
            // Another probe would be answered as well, and the next questions would wait in vain again.
            return self.open(Cause::Timeout, now);
        }
        self.state = State::Suspect;
        self.is_missed = true;
        self.changed = Some(now);
        self.probe = Some(now);
        Change::Suspected { unwatched: !std::mem::replace(&mut self.watched, true) }
    }

    pub(super) fn open(&mut self, cause: Cause, now: Instant) -> Change {
        let steady = !self.on_probation && self.changed.is_none_or(|at| now.saturating_duration_since(at) > STEADY);
        self.strikes = if steady { 0 } else { self.strikes.saturating_add(1) };
        self.state = State::Open;
        self.is_missed = true;
        self.changed = Some(now);
        self.schedule(cause, now);
        Change::Opened { cause, unwatched: !std::mem::replace(&mut self.watched, true) }
    }

    /// The next probe: doubling pauses, spread so that gateways do not probe in step.
    pub(super) fn schedule(&mut self, cause: Cause, now: Instant) {
        let longest = if cause == Cause::Tls && self.has_others { LONG_PAUSE } else { PAUSE.1 };
        let pause = doubled(self.strikes).min(longest);
        self.probe = Some(now + pause.mul_f32(rand::random_range(0.75..1.25)));
    }
}

fn doubled(times: u32) -> Duration {
    PAUSE.0 * 2u32.saturating_pow(times.min(16))
}
