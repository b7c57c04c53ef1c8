//! One question's way through the servers of a pool: who is asked, when another is asked as well, which answer is taken.
//!
//! The question waits in one place for everything: the attempts under way and one alarm. At the alarm a second server may be
//! asked, because the first is later than it usually is (a hedge) or owes many answers and gives none (a rescue). Attempts that
//! nobody waits for any more are dropped, which takes their questions back.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::ask::Telling;
use super::choice::{Candidate, choose};
use super::delivery::{Delivered, Window};
use super::error::{Cause, ExchangeError};
use super::health::Standing;
use super::pool::Roster;
use super::server::Upstream;
use super::settings::Strategy;
use super::verdict::Verdict;
use super::{Answered, Ask};
use crate::trail::{Attempt, AttemptEnd, Attempts, Told, UpstreamId, Why};

/// Sends a pass over the servers may use at each: together the three that RFC 9520 3.1 allows (NEG-15).
const PASSES: [u8; 2] = [2, 1];
/// Attempts of one question at once.
const AT_ONCE: usize = 3;
/// A hedge waits at least this long.
const HEDGE: Duration = Duration::from_millis(10);
/// The client's time is shared among at most so many servers.
const SHARES: usize = 4;

/// One question under way.
pub struct Round<'a> {
    roster: &'a Roster,
    ask: Arc<Ask>,
    until: Instant,
    turn: usize,
    pass: usize,
    /// Places asked in this pass.
    tried: Vec<usize>,
    running: Vec<Running>,
    /// When a hedge is due; None once it has been decided on.
    hedge: Option<Instant>,
    attempts: Attempts,
    /// A failure that a server did answer: better than none.
    second_best: Option<Answered>,
    /// The most telling failure so far.
    error: ExchangeError,
    /// Servers whose answer or failure would only repeat itself, by id.
    hopeless: Vec<UpstreamId>,
}

struct Running {
    place: usize,
    why: Why,
    since: Instant,
    /// When to look whether its server has fallen silent; None once the question has been asked elsewhere for that.
    look: Option<Instant>,
    attempt: Pin<Box<dyn Future<Output = Ending> + Send>>,
}

type Ending = (Result<(Delivered, Verdict), ExchangeError>, Attempts);

enum Event {
    /// The attempt at this place among those running has ended.
    Landed(usize, Ending),
    /// The alarm.
    Woke,
}

/// Servers from which the next is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those of the pool that are up.
    Up,
    /// And, when there are none, fallback servers that are up.
    Fallback,
    /// And, when there are none, whoever is left.
    Anyone,
}

impl<'a> Round<'a> {
    /// A question to the servers of `roster` that ends by `until`.
    pub fn new(roster: &'a Roster, ask: Arc<Ask>, until: Instant) -> Self {
        let error = ExchangeError { upstream: UpstreamId(0), cause: Cause::Unknown };
        let hopeless = ask.avoid.into_iter().collect();
        Self {
            roster,
            ask,
            until,
            turn: roster.turn(),
            pass: 0,
            tried: Vec::new(),
            running: Vec::new(),
            hedge: None,
            attempts: Attempts::default(),
            second_best: None,
            error,
            hopeless,
        }
    }

    /// Asks until there is an answer, nobody left to ask, or no time.
    pub async fn run(mut self) -> (Result<Answered, ExchangeError>, Attempts) {
        let mut alarm = pin!(sleep_until(self.until));
        self.begin(Instant::now());
        while !self.running.is_empty() || self.go_on(Instant::now()) {
            let wake = self.wake();
            if let Some(at) = wake.filter(|&at| at != alarm.deadline()) {
                alarm.as_mut().reset(at);
            }
            match poll_fn(|context| poll(&mut self.running, wake.map(|_| alarm.as_mut()), context)).await {
                Event::Landed(index, ending) => {
                    if let Some(answered) = self.land(index, ending) {
                        return (Ok(answered), self.attempts);
                    }
                }
                Event::Woke => self.reinforce(Instant::now()),
            }
        }
        (self.second_best.ok_or(self.error), self.attempts)
    }

    fn begin(&mut self, now: Instant) {
        let Some(place) = self.next(Reach::Anyone, now) else { return };
        self.start(place, Why::First, now);
        if !self.has_others() {
            return;
        }
        match self.roster.strategy {
            Strategy::Race => {
                if let Some(place) = self.next(Reach::Up, now) {
                    self.start(place, Why::First, now);
                }
            }
            Strategy::Ordered => {}
            Strategy::Adaptive | Strategy::RoundRobin | Strategy::Weighted => {
                let usual = self.server(place).map(|server| server.health().usual());
                self.hedge = self.roster.hedges.as_ref().and(usual).map(|usual| now + usual.max(HEDGE));
            }
        }
    }

    /// Asks the next server after a failure; false when there is none, or no time.
    fn go_on(&mut self, now: Instant) -> bool {
        while now < self.until {
            if let Some(place) = self.next(Reach::Anyone, now) {
                self.start(place, Why::Retry, now);
                return true;
            }
            if self.second_best.is_some() || self.pass + 1 >= PASSES.len() {
                return false;
            }
            self.pass += 1;
            self.tried.clear();
        }
        false
    }

    /// When to look at the attempts under way; None where there is nobody to help out.
    fn wake(&self) -> Option<Instant> {
        if !self.has_others()
            || self.running.len() >= AT_ONCE
            || self.candidates(Reach::Fallback, Instant::now()).is_empty()
        {
            return None;
        }
        self.running.iter().filter_map(|running| running.look).chain(self.hedge).min()
    }

    /// Asks another server as well, if one of those asked has fallen silent or is late.
    fn reinforce(&mut self, now: Instant) {
        let mut silent = false;
        let roster = self.roster;
        for running in &mut self.running {
            let Some(server) = roster.all.get(running.place).filter(|_| running.look.is_some_and(|at| at <= now))
            else {
                continue;
            };
            match server.health().silent(now) {
                Err(look) => running.look = Some(look),
                Ok(change) => {
                    server.announce(change);
                    (running.look, silent) = (None, true);
                }
            }
        }
        if silent && self.reinforce_with(Why::Rescue, Reach::Fallback, now) {
            return;
        }
        if self.hedge.is_some_and(|at| at <= now) {
            self.hedge = None;
            if self.running.len() == 1 {
                self.reinforce_with(Why::Hedge, Reach::Up, now);
            }
        }
    }

    fn reinforce_with(&mut self, why: Why, reach: Reach, now: Instant) -> bool {
        let budget = if why == Why::Rescue { Some(&self.roster.rescues) } else { self.roster.hedges.as_ref() };
        let Some(place) = self.next(reach, now).filter(|_| budget.is_some_and(super::budget::Budget::spend)) else {
            return false;
        };
        if let Some(server) = self.server(place) {
            let tally = server.tally();
            if why == Why::Rescue { tally.rescues.add_one() } else { tally.hedges.add_one() }
        }
        self.start(place, why, now);
        true
    }

    /// Is there anybody to help out?
    const fn has_others(&self) -> bool {
        self.roster.all.len() > 1
    }

    fn server(&self, place: usize) -> Option<&'a Arc<Upstream>> {
        self.roster.all.get(place)
    }

    fn next(&mut self, reach: Reach, now: Instant) -> Option<usize> {
        loop {
            let place = choose(self.roster.strategy, &self.candidates(reach, now), self.turn, now)?;
            let server = self.server(place)?;
            if !server.health().needs_breath(now) {
                return Some(place);
            }
            // With nobody else to ask, a server whose trust failed this very moment is spared another handshake.
            self.complain(ExchangeError { upstream: server.id(), cause: Cause::Tls });
            self.hopeless.push(server.id());
        }
    }

    /// The untried servers of the best sort that there is.
    fn candidates(&self, reach: Reach, now: Instant) -> Vec<Candidate<'a>> {
        let (mut found, mut best) = (Vec::new(), self.worst(reach));
        for (place, server) in self.roster.all.iter().enumerate() {
            if self.tried.contains(&place) || self.hopeless.contains(&server.id()) {
                continue;
            }
            let sort = self.sort(place, server.health().standing(now));
            if sort < best {
                found.clear();
                best = sort;
            }
            if sort == best {
                found.push(Candidate { place, server });
            }
        }
        found
    }

    /// 0 is asked before 1, and so on.
    fn sort(&self, place: usize, standing: Standing) -> u8 {
        match (self.roster.is_fallback(place), standing) {
            (false, Standing::Up) => 0,
            (false, Standing::Refusing) => 1,
            (true, Standing::Up) => 2,
            (true, Standing::Refusing) => 3,
            (false, Standing::Suspect) => 4,
            (false, Standing::Open) => 5,
            (true, Standing::Suspect | Standing::Open) => 6,
        }
    }

    /// The last sort within `reach`; once a server has answered, only its equals are asked on.
    fn worst(&self, reach: Reach) -> u8 {
        // A second opinion is not worth a wait for who is down, nor is the question any business of a fallback's.
        if self.ask.avoid.is_some() {
            return 0;
        }
        let answered = self.second_best.as_ref().map(|answered| answered.upstream);
        let by_fallback = answered.and_then(|id| self.roster.all.iter().position(|server| server.id() == id));
        match (by_fallback.map(|place| self.roster.is_fallback(place)), reach) {
            (None, Reach::Up) => 0,
            (Some(false), _) => 1,
            (Some(true), _) | (None, Reach::Fallback) => 3,
            (None, Reach::Anyone) => 6,
        }
    }

    fn start(&mut self, place: usize, why: Why, now: Instant) {
        let Some(server) = self.server(place).cloned() else { return };
        let why = if self.roster.is_fallback(place) && why != Why::Rescue { Why::Fallback } else { why };
        self.tried.push(place);
        let window = self.window(now);
        let look = self.has_others().then(|| server.health().look(now));
        let ask = Arc::clone(&self.ask);
        let attempt = Box::pin(async move {
            let mut attempts = Attempts::default();
            let result = server.attempt(&ask, window, &mut attempts).await;
            (result, attempts)
        });
        self.running.push(Running { place, why, since: now, look, attempt });
    }

    /// An attempt's part of the client's time: what is left, shared with those who could still be asked.
    fn window(&self, now: Instant) -> Window {
        let left = self.until.saturating_duration_since(now);
        let untried = (0..self.roster.all.len()).filter(|place| !self.tried.contains(place)).count();
        let shares = u32::try_from((untried + 1).min(SHARES)).unwrap_or(1);
        let time = self.roster.attempt_timeout.min(left / shares);
        Window { until: now + time, sends: PASSES.get(self.pass).copied().unwrap_or(1) }
    }

    /// Takes in how an attempt ended; an answer that settles the question comes back.
    fn land(&mut self, index: usize, (result, attempts): Ending) -> Option<Answered> {
        let landed = self.running.swap_remove(index);
        let (delivered, verdict) = match result {
            Ok(delivered) => delivered,
            Err(error) => {
                self.attempts.append(&attempts, landed.why);
                self.complain(error);
                if !is_worth_repeating(error.cause) {
                    self.hopeless.push(error.upstream);
                }
                return None;
            }
        };
        let server = self.server(landed.place)?;
        let (upstream, trusted) = (server.id(), server.is_trusted());
        let told = server.ecs().told(self.ask.subnet).map(|told| told.subnet);
        let answered = Answered { message: delivered.message, upstream, age: delivered.age, trusted, told };
        if verdict == Verdict::Final {
            self.leave_others();
            self.attempts.append(&attempts, landed.why);
            return Some(answered);
        }
        self.attempts.append(&attempts, landed.why);
        self.second_best = Some(answered);
        None
    }

    /// Of several failures the most telling is kept, the later of two equals.
    fn complain(&mut self, error: ExchangeError) {
        if error.cause.weight() >= self.error.cause.weight() {
            self.error = error;
        }
    }

    fn leave_others(&mut self) {
        for running in std::mem::take(&mut self.running) {
            let Some(server) = self.server(running.place) else { continue };
            let micros = u32::try_from(running.since.elapsed().as_micros()).unwrap_or(u32::MAX);
            let (upstream, why, end) = (server.id(), running.why, AttemptEnd::Overtaken);
            let told = server.ecs().told(self.ask.subnet).map_or(Told::Nothing, Telling::noted);
            self.attempts.push(Attempt { upstream, why, told, end, micros });
        }
    }
}

fn poll(running: &mut [Running], alarm: Option<Pin<&mut Sleep>>, context: &mut Context<'_>) -> Poll<Event> {
    for (index, running) in running.iter_mut().enumerate() {
        if let Poll::Ready(ending) = running.attempt.as_mut().poll(context) {
            return Poll::Ready(Event::Landed(index, ending));
        }
    }
    match alarm {
        Some(alarm) => alarm.poll(context).map(|()| Event::Woke),
        None => Poll::Pending,
    }
}

/// Might the same server answer the same question a moment later?
const fn is_worth_repeating(cause: Cause) -> bool {
    match cause {
        Cause::Timeout | Cause::Connect | Cause::Closed | Cause::Busy => true,
        Cause::Tls | Cause::Malformed | Cause::Mismatched | Cause::Truncated | Cause::Unknown => false,
    }
}

#[cfg(test)]
mod tests;
