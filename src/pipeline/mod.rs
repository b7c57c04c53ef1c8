//! The order of the stages: access, cookie, limit, decide, strip, recall, join, exchange, digest, finish.
//!
//! `now` walks up to recall without waiting, and on a hit without allocating or locking more than a cache shard; `later` walks the
//! rest; both end in finish. Each stage is a file; this one is their order and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

mod admission;
mod cookie;
mod crowd;
mod digest;
mod dns64;
mod ecs;
mod exchange;
mod finish;
mod flushes;
mod join;
mod keys;
mod local;
mod options;
mod own;
mod rcode;
mod recall;
mod refresh;
pub mod settings;
mod shared;
mod special;
mod stale;
mod sudden;
#[cfg(test)]
mod tests;
mod waiting;
mod walk;

pub use cookie::Cookies;
pub use dns64::{Dns64, Prefix, PrefixError};
pub use keys::NOT_RECURSIVE;
pub use rcode::extended_errors;
pub use settings::{AnyRule, CookieRule, Settings, Special};
pub use shared::Shared;
pub use special::{is_answered_here, switchable};

use crate::answer::Answer;
use crate::cache::Front;
use crate::clock::Moment;
use crate::guard::{Rate, Strain};
use crate::peer::Peer;
use crate::query::{Origin, Query, Reject};
use crate::reply::{Facts, Freshness, Meta, Now, Out, Scope, Source, StoredBuf, Why};
use crate::telemetry::{Counters, Limited};
use crate::trail::{Cookie, Cut, Decision, Here, Join, Stale};
use crate::wire::Flags;
use crate::wire::registry::{rcode as codes, rtype};
use admission::Admission;
use finish::{Fit, Seal};
use join::{Landed, Ticket};
use keys::Keys;
use rcode::{Problem, Retry};
use walk::Walk;

/// How much longer than its exchange a client waits, to hear how it ended.
const HEARING: Duration = Duration::from_millis(20);

/// One worker's pipeline. Clones share everything.
#[derive(Clone, Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    front: Front,
}

/// What `decide` chose.
enum Decided {
    /// An answer made here.
    Local(Here, StoredBuf),
    /// A reply without data.
    Problem(Here, Problem),
    /// The cache, then the upstream.
    Forward,
}

impl Answer for Pipeline {
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        self.counters.asked(peer.transport);
        let Some(mut walk) = self.set_out(&asked, peer) else { return self.keep_silent(Why::NotAQuery) };
        match self.admit(&asked, peer, &mut walk) {
            Admission::Pass => {}
            Admission::Answer(problem) => return Now::Sent(self.refuse(&mut walk, &problem, Source::Error, out)),
            Admission::Silence(why) => return self.keep_silent(why),
        }
        let query = match asked {
            Ok(query) => query,
            Err(reject) => {
                let problem = rcode::of_fault(reject.fault.kind);
                return Now::Sent(self.refuse(&mut walk, &problem, Source::Error, out));
            }
        };
        let route = self.shared.exchange.route(walk.question);
        match ecs::told(&query, route.subnets, peer.ip()) {
            Ok(told) => walk.told = told,
            Err(fault) => return Now::Sent(self.refuse(&mut walk, &rcode::of_fault(fault), Source::Error, out)),
        }
        match decide(&self.shared, &query, &walk) {
            Decided::Local(here, stored) => {
                self.stay(here, &mut walk);
                return Now::Sent(self.relay(&mut walk, &stored, Source::Local, out));
            }
            Decided::Problem(here, problem) => {
                self.stay(here, &mut walk);
                let source = if problem.rcode == codes::NOERROR { Source::Local } else { Source::Error };
                return Now::Sent(self.refuse(&mut walk, &problem, source, out));
            }
            Decided::Forward => walk.trail.decision = Decision::Forward,
        }
        walk.trail.cut = ecs::strip(walk.edns, walk.told);
        let options = self.shared.passing.sent(query.message(), &mut walk);
        if options.is_some() {
            self.counters.options_passed.add_one();
        }
        let keys = Keys::new(route, &walk, options);
        let recalled = self.recall(&keys, query.arrival(), &mut walk, out);
        match recalled.or_else(|| self.stand_in_for_the_down(&keys, &mut walk, out)) {
            Some(facts) => Now::Sent(facts),
            None => self.put_off((&query, peer), walk, keys, out),
        }
    }

    fn decline(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        let Some(mut walk) = self.set_out(&asked, peer) else { return self.keep_silent(Why::NotAQuery) };
        walk.trail.join = Join::Full;
        Now::Sent(self.refuse(&mut walk, &rcode::OVERLOADED, Source::Error, out))
    }

    fn moment(&self) -> Moment {
        self.shared.clock.now()
    }
}

impl Pipeline {
    /// A worker's pipeline, counting into `counters`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, counters: Arc<Counters>) -> Self {
        let front = shared.cache.front();
        Self { shared, counters, front }
    }

    /// The same worker's pipeline by what `shared` has become ([`Shared::renewed`]).
    #[must_use]
    pub fn renewed(&self, shared: Arc<Shared>) -> Self {
        Self { shared, counters: Arc::clone(&self.counters), front: self.front.clone() }
    }

    fn set_out<'a>(&self, asked: &Result<Query<'a>, Reject<'a>>, peer: &Peer) -> Option<Walk<'a>> {
        let datagram_limit = self.shared.settings.datagram_limit;
        let walk = match asked {
            Ok(query) => Walk::of_query(query, peer.transport, datagram_limit),
            Err(reject) => Walk::of_reject(reject, peer.transport, datagram_limit)?,
        };
        let is_hurried = walk.edns.is_some() && self.shared.guard.strain() != Strain::None;
        Some(Walk { is_hurried, ..walk.begun_by(peer) })
    }

    /// Access, cookie, limit. Our own questions pass.
    fn admit(&self, asked: &Result<Query<'_>, Reject<'_>>, peer: &Peer, walk: &mut Walk<'_>) -> Admission {
        let Shared { guard, cookies, settings, .. } = &*self.shared;
        let (message, arrival) = match asked {
            Ok(query) if query.origin() == Origin::Internal => return Admission::Pass,
            Ok(query) => (query.message(), query.arrival()),
            Err(reject) => (reject.message, reject.arrival),
        };
        let allowed = admission::access(guard, peer, arrival, walk);
        if allowed != Admission::Pass {
            if guard.refuses_strangers() {
                self.counters.strangers.add_one();
            }
            return allowed;
        }
        if let Some(cookies) = cookies {
            // A cookie proves an address over UDP, so none is given for one that is not shown.
            admission::cookie(cookies, peer.shown_ip(), message, walk);
        }
        let rate = guard.rate(peer, admission::source(walk), arrival);
        if matches!(rate, Rate::Over | Rate::FarOver) {
            self.counters.limit(Limited::Questions, peer.transport);
        }
        admission::limit(rate, guard.refuse(), settings, walk)
    }

    fn stay(&self, here: Here, walk: &mut Walk<'_>) {
        walk.trail.decision = Decision::Local(here);
        self.counters.stayed(here);
    }

    /// Join, exchange, digest: asks for this client and its equals, or waits with them.
    async fn fetch(&self, keys: Arc<Keys>, walk: &mut Walk<'_>, out: &mut Out<'_>) -> Facts {
        self.counters.waited.add_one();
        let deadline = Instant::now() + self.shared.settings.timeout;
        let now = self.shared.clock.now();
        let mut ticket = self.shared.join(&keys, || self.is_known(&keys, now));
        if matches!(ticket, Ticket::Landed) {
            if let Some(facts) = self.recall(&keys, now, walk, out) {
                return facts;
            }
            ticket = self.shared.join(&keys, || false);
        }
        let has_stand_in = self.shared.has_stand_in(&keys, now);
        let follow = match ticket {
            Ticket::Lead(mut lead) => {
                let Some(place) = self.shared.place(&keys, walk.question) else {
                    walk.trail.join = Join::Crowded;
                    self.counters.crowded.add_one();
                    // Whoever has joined meanwhile hears the same.
                    lead.land(Landed::refused(rcode::CROWDED));
                    return self.stand_in_or_refuse(&keys, walk, (Stale::Full, &rcode::CROWDED), out);
                };
                lead.occupy(place);
                walk.trail.join = Join::Led;
                let (follow, ask) = (lead.follow(), exchange::ask(&self.shared, walk, &keys));
                let (ask, until) = if has_stand_in {
                    (exchange::patient(ask), deadline.max(follow.begun() + stale::REFRESH))
                } else {
                    (ask, deadline)
                };
                tokio::spawn(exchange::exchange(self.clone(), lead, ask, Arc::clone(&keys), until));
                follow
            }
            Ticket::Follow(follow) => {
                walk.trail.join = Join::Followed;
                self.counters.joined.add_one();
                follow
            }
            Ticket::Full | Ticket::Landed => {
                walk.trail.join = Join::Full;
                self.counters.join_full.add_one();
                return self.stand_in_or_refuse(&keys, walk, (Stale::Full, &rcode::OVERLOADED), out);
            }
        };
        if has_stand_in {
            let patience = (follow.begun() + self.shared.cache_settings.stale_after).min(deadline);
            if timeout_at(patience, follow.landed()).await.is_err()
                && let Some(facts) = self.stand_in(&keys, walk, (Stale::Slow, None), out)
            {
                return facts;
            }
        }
        // Where nothing stands in, the exchange of this client keeps the deadline itself, on this very thread.
        let landed = if walk.trail.join == Join::Led && !has_stand_in {
            Ok(follow.landed().await)
        } else {
            timeout_at(deadline + HEARING, follow.landed()).await
        };
        self.hear(&keys, walk, landed.map_err(|_| rcode::TIMED_OUT), out)
    }

    /// Answers with what the exchange brought.
    fn hear(
        &self,
        keys: &Keys,
        walk: &mut Walk<'_>,
        landed: Result<Option<&Landed>, Problem>,
        out: &mut Out<'_>,
    ) -> Facts {
        let landed = match landed.and_then(|landed| landed.ok_or(rcode::LOST)) {
            Ok(landed) => landed,
            Err(problem) => return self.stand_in_or_refuse(keys, walk, (Stale::Failed, &problem), out),
        };
        (walk.trail.attempts, walk.trail.sudden) = (landed.attempts, landed.sudden);
        match &landed.result {
            Ok(stored) => {
                let failed = rcode::is_failure(stored.meta.rcode);
                let reason = stored.meta.ede.map(|code| rcode::Extended { code, text: "" });
                let stale = if failed { self.stand_in(keys, walk, (Stale::Failed, reason), out) } else { None };
                let mut walk = Walk { brought: &stored.options, ..*walk };
                stale.unwrap_or_else(|| self.relay(&mut walk, stored, Source::Upstream, out))
            }
            Err(problem) => self.stand_in_or_refuse(keys, walk, (Stale::Failed, problem), out),
        }
    }

    /// Finish for an answer that has just been made or received.
    fn relay(&self, walk: &mut Walk<'_>, stored: &StoredBuf, source: Source, out: &mut Out<'_>) -> Facts {
        walk.scoped(stored.scope);
        let fit = finish::copy(walk, stored.view(), 0, out);
        self.seal(walk, (&stored.meta, 0, fit), source, out)
    }

    /// Finish for an answer that `copy` laid down.
    fn seal(
        &self,
        walk: &mut Walk<'_>,
        (meta, age, fit): (&Meta, u32, Fit),
        source: Source,
        out: &mut Out<'_>,
    ) -> Facts {
        let extras = [meta.ede.map(|code| rcode::Extended { code, text: "" }), None];
        let seal = Seal { flags: meta.flags, rcode: meta.rcode, extras };
        self.close(walk, (fit, seal), (source, finish::freshness(meta, age)), out)
    }

    /// The same, as the caller would have it sealed if all of it went in.
    fn close(
        &self,
        walk: &mut Walk<'_>,
        (fit, seal): (Fit, Seal),
        (source, freshness): (Source, Freshness),
        out: &mut Out<'_>,
    ) -> Facts {
        let truncated = fit == Fit::Nothing;
        if truncated && !walk.transport.is_datagram() {
            return self.refuse(walk, &rcode::TOO_LARGE, Source::Error, out);
        }
        walk.trail.cut = Cut(walk.trail.cut.0 | finish::cut(fit));
        self.counters.truncated.add(truncated.into());
        let seal = Seal { flags: seal.flags.with(Flags::TC, truncated), ..seal };
        let freshness = match freshness {
            _ if truncated => Freshness::NO_STORE,
            // DOH-13: it is for whoever is in the asker's network.
            Freshness { max_age, scope: Scope::Public } if walk.told.is_some() => {
                Freshness { max_age, scope: Scope::Private }
            }
            other => other,
        };
        self.send(walk, &seal, (source, freshness), out)
    }

    /// Finish for a reply without data.
    fn refuse(&self, walk: &mut Walk<'_>, problem: &Problem, source: Source, out: &mut Out<'_>) -> Facts {
        let truncated = problem.retry == Retry::OverStream && walk.transport.is_datagram();
        let rcode = if truncated { codes::NOERROR } else { problem.rcode };
        if truncated {
            walk.trail.cut = Cut(walk.trail.cut.0 | Cut::TRUNCATED);
            self.counters.truncated.add_one();
        }
        finish::bare(walk, out);
        let seal = Seal { flags: Flags(Flags::RA).with(Flags::TC, truncated), rcode, extras: problem.extras };
        self.send(walk, &seal, (source, Freshness::NO_STORE), out)
    }

    fn send(
        &self,
        walk: &mut Walk<'_>,
        seal: &Seal,
        (source, freshness): (Source, Freshness),
        out: &mut Out<'_>,
    ) -> Facts {
        self.shared.finish.seal(walk, seal, out);
        self.counters.answered(source, seal.rcode);
        Facts { source, rcode: seal.rcode, freshness, trail: walk.trail }
    }

    fn keep_silent(&self, why: Why) -> Now {
        if let Some(counter) = self.counters.dropped.get(why as usize) {
            counter.add_one();
        }
        Now::Dropped(why)
    }
}

/// Cookies alone, zone transfers, what is asked of the gateway itself and special names end here.
fn decide(shared: &Shared, query: &Query<'_>, walk: &Walk<'_>) -> Decided {
    let Some(question) = query.question() else { return Decided::Problem(Here::NoQuestion, cookie_alone(walk)) };
    if matches!(question.rtype, rtype::AXFR | rtype::IXFR) {
        return Decided::Problem(Here::Type, rcode::TRANSFER);
    }
    let (message, now) = (query.message(), query.arrival());
    if let Some(stored) = shared.own.answer(message, question, now) {
        return Decided::Local(Here::Own, stored);
    }
    if let Some(dns64) = &shared.settings.dns64 {
        // The prefix may lie in a private network, whose names are otherwise nobody's; as they are to those for
        // whom nothing is made.
        let validates = walk.dnssec_ok() && walk.asks(Flags::CD);
        if !validates && dns64.is_pointer(message, question) {
            return Decided::Forward;
        }
        if let Some(stored) = dns64.answer(message, question, now) {
            return Decided::Local(Here::Dns64, stored);
        }
    }
    if let Some(stored) = shared.special.answer(message, question, walk.dnssec_ok(), now) {
        return Decided::Local(Here::Special, stored);
    }
    if question.rtype == rtype::ANY && shared.settings.any == AnyRule::Full && walk.transport.is_datagram() {
        return Decided::Problem(Here::Type, rcode::ANY);
    }
    Decided::Forward
}

/// What a client hears that asked for a cookie alone (RFC 7873 5.4). Over a stream a wrong one is no offence (CKI-11), and without
/// cookies a query without a question is none (RFC 9619).
fn cookie_alone(walk: &Walk<'_>) -> Problem {
    match (walk.cookie, walk.trail.cookie) {
        (None, _) => rcode::of_fault(crate::wire::FaultKind::QuestionCount),
        (Some(_), Cookie::Invalid) if walk.transport.is_datagram() => rcode::BAD_COOKIE,
        (Some(_), _) => rcode::COOKIE_ALONE,
    }
}
