//! The task that asks the upstream: it belongs to no client and ends by its own deadline (DESIGN, "an exchange belongs to
//! no client").

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::digest::digest;
use super::dns64;
use super::join::{Landed, Lead};
use super::keys::Keys;
use super::rcode::{self, Problem};
use super::walk::Walk;
use super::{Pipeline, Shared, sudden};
use crate::cache::{At, Cache, Key};
use crate::clock::Moment;
use crate::reply::{Kind, StoredBuf};
use crate::telemetry::Counters;
use crate::trail::{AttemptEnd, Attempts, Sudden, UpstreamId, Why};
use crate::upstream::error::Cause;
use crate::upstream::{Ask, Basis, Ended, ExchangeError, Telling};
use crate::wire::registry::{ede, rcode as codes};
use crate::wire::{Flags, Header, Subnet};

/// The question of `walk` as it goes upstream.
///
/// AD is always asked for (RFC 6840 5.7): an entry then serves clients that want to know and clients that do not, whoever came first.
#[must_use]
pub fn ask(shared: &Shared, walk: &Walk<'_>, keys: &Keys) -> Arc<Ask> {
    Arc::new(Ask {
        // In lower case: how the first of those who wait spells it is a trait of its own, and nobody else's business.
        question: keys.answer().question().into(),
        recursion_desired: walk.asks(Flags::RD),
        checking_disabled: walk.asks(Flags::CD),
        authentic_data: true,
        dnssec_ok: walk.dnssec_ok(),
        padding: shared.settings.padding,
        prefer_stream: !walk.transport.is_datagram(),
        without_edns: false,
        patient: false,
        avoid: None,
        subnet: walk.subnet_sent(),
        passed: keys.passed().cloned(),
    })
}

/// The same question, asked though nobody waits for the answer any longer (STL-05).
#[must_use]
pub fn patient(mut ask: Arc<Ask>) -> Arc<Ask> {
    Arc::make_mut(&mut ask).patient = true;
    ask
}

/// Asks, digests, keeps, and tells everyone who waits: in that order, so that whoever finds no flight finds its answer.
pub async fn exchange(pipeline: Pipeline, lead: Lead, ask: Arc<Ask>, keys: Arc<Keys>, deadline: Instant) {
    let Pipeline { shared, counters, .. } = &pipeline;
    let _counted = Deaths(counters);
    let flushes = lead.flushes();
    // As it is now: whoever comes back while this one is under way makes its failure worth another attempt.
    let comebacks = shared.exchange.comebacks(&ask.question);
    let (ask, (result, mut attempts)) = dns64::obtain(&pipeline, ask, deadline).await;
    let at = || At { now: shared.clock.now(), comebacks };
    let mut sudden = Sudden::No;
    let result = match result {
        Ok(stored) => {
            let weighed = sudden::weigh(&pipeline, stored, &ask, &keys, deadline).await;
            sudden = weighed.sudden;
            attempts.append(&weighed.attempts, Why::Doubt);
            unless_flushed(shared, &keys, flushes, || keep(shared, &keys, &weighed.stored, at()));
            Ok(weighed.stored)
        }
        Err((problem, remembered)) => {
            unless_flushed(shared, &keys, flushes, || give_up(shared, &keys, at(), (&problem, remembered)));
            Err(problem)
        }
    };
    lead.land(Landed { result, attempts, sudden });
}

/// Asks, and once more without any bit of the client's address where a server refuses because of it (RFC 7871 7.1.3; ECS-12). Answers
/// how it was asked at last.
pub async fn tell_less(pipeline: &Pipeline, ask: Arc<Ask>, deadline: Instant) -> (Arc<Ask>, Inquired) {
    let (told, (result, mut attempts)) = inquire_telling(pipeline, &ask, deadline).await;
    let is_refused = matches!(&result, Ok(stored) if stored.meta.rcode == codes::REFUSED);
    let Some(subnet) = told.filter(|told| is_refused && told.length() > 0) else {
        return (ask, (result, attempts));
    };
    let nothing = Telling { subnet: subnet.hidden(), basis: Basis::Nobody };
    let less = Arc::new(Ask { subnet: Some(nothing), ..(*ask).clone() });
    let (result, further) = inquire(pipeline, &less, deadline).await;
    attempts.append(&further, Why::Retry);
    // Nothing says whom else it is for.
    (less, (result.map(|stored| StoredBuf { scope: u8::MAX, ..stored }), attempts))
}

/// The answer, or the reply in its stead; and the attempts.
pub type Inquired = (Result<StoredBuf, Unanswered>, Attempts);

/// The reply in an answer's stead, and whether that is remembered.
pub type Unanswered = (Problem, bool);

/// Asks and digests; the reply in an answer's stead says whether it is remembered.
pub async fn inquire(pipeline: &Pipeline, ask: &Arc<Ask>, deadline: Instant) -> Inquired {
    inquire_telling(pipeline, ask, deadline).await.1
}

/// The same, and what whoever answered was told of the client's network.
async fn inquire_telling(
    Pipeline { shared, counters, .. }: &Pipeline,
    ask: &Arc<Ask>,
    deadline: Instant,
) -> (Option<Subnet>, Inquired) {
    // An exchange ends by its deadline; this one holds even if it does not.
    let ended = timeout_at(deadline, shared.exchange.exchange(Arc::clone(ask), deadline)).await;
    let Ended { result, attempts } = ended.unwrap_or_else(|_| overdue());
    count(counters, &attempts);
    let rules = (&shared.cache_settings, shared.settings.any);
    let told = result.as_ref().ok().and_then(|answered| answered.told);
    counters.subnets_told.add(told.is_some_and(|told| told.length() > 0).into());
    let result = match result {
        Ok(answered) => digest(&answered, ask, rules, shared.clock.now())
            .map(|stored| dns64::filtered(shared, ask, stored))
            .map_err(|flaw| {
                tracing::debug!(upstream = answered.upstream.0, ?flaw, "unusable answer");
                (rcode::of_flaw(flaw), rcode::is_flaw_remembered(flaw))
            }),
        Err(error) => {
            tracing::debug!(upstream = error.upstream.0, cause = ?error.cause, "no answer");
            Err((rcode::of_error(error), rcode::is_remembered(error.cause)))
        }
    };
    (told, (result, attempts))
}

/// Remembers that there was no answer: for longer where an older one stands in meanwhile (STL-04).
fn give_up(shared: &Shared, keys: &Keys, at: At, (problem, remembered): (&Problem, bool)) {
    let ede = problem.ede().unwrap_or(ede::OTHER);
    if !remembered {
        return;
    }
    if shared.has_stand_in(keys, at.now) {
        let _ = shared.failures.hold(&keys.own(), at, problem.rcode, ede);
    } else {
        shared.failures.record(&keys.own(), at, problem.rcode, ede);
    }
}

/// Does `keep`, but not where a flush that means it began after the question was sent: what is kept by now may be newer. One that
/// begins meanwhile says so before it drops anything, so either it meets what was kept or this takes it back.
fn unless_flushed(shared: &Shared, keys: &Keys, before: u64, keep: impl FnOnce()) {
    let is_meant = || shared.flushes.meant(keys.own().as_bytes(), before);
    if is_meant() {
        return;
    }
    keep();
    if is_meant() {
        if let Some(key) = keys.insert() {
            forget(&shared.cache, keys, key);
        }
        shared.failures.clear(&keys.own());
    }
}

/// Counts the task's death, here because its clients may have left.
struct Deaths<'a>(&'a Counters);

impl Drop for Deaths<'_> {
    fn drop(&mut self) {
        self.0.panics.add(std::thread::panicking().into());
    }
}

fn overdue() -> Ended {
    let error = ExchangeError { upstream: UpstreamId::default(), cause: Cause::Timeout };
    Ended { result: Err(error), attempts: Attempts::default() }
}

fn keep(shared: &Shared, keys: &Keys, stored: &StoredBuf, at: At) {
    let meta = &stored.meta;
    if rcode::is_failure(meta.rcode) {
        let ede = meta.ede.unwrap_or(ede::OTHER);
        if shared.has_stand_in(keys, at.now) {
            let _ = shared.failures.hold(&keys.own(), at, meta.rcode, ede);
        } else {
            shared.failures.record(&keys.own(), at, meta.rcode, ede);
        }
        return;
    }
    if !shared.failures.is_empty() {
        shared.failures.clear(&keys.own());
    }
    let Some(key) = keys.insert() else { return };
    match meta.kind {
        // It says what is true now: what was kept before is so no longer (STL-06).
        Kind::Fleeting => forget(&shared.cache, keys, key),
        Kind::Positive | Kind::NoData | Kind::NxDomain => insert(&shared.cache, keys, key, stored, at.now),
    }
}

/// Keeps `stored` where it will be found, and drops what it shows to be no longer so. That a name does not exist is kept for all its
/// types (NEG-03), unless it is another name that does not, at the end of an alias (NEG-08).
fn insert(cache: &Cache, keys: &Keys, key: &Key, stored: &StoredBuf, now: Moment) {
    let denial = keys.denial();
    let denied = stored.meta.kind == Kind::NxDomain && !has_answers(stored) && keys.speaks_for_all_types();
    if *key == denial && !denied {
        // The question was for type 0, which no record has: nothing else may stand where denials do.
        return;
    }
    let (kept, dropped) = if denied { (denial, *key) } else { (keys.place(stored.scope), denial) };
    if kept != dropped {
        cache.remove(&dropped);
    }
    let _ = cache.insert(&kept, stored.view(), now);
    // What was kept for a smaller part of the client's network would be found before it.
    for nearer in keys.near(cache).take_while(|nearer| *nearer != kept) {
        cache.remove(&nearer);
    }
}

/// Drops whatever the client of `keys` could be answered with, `key` being where everyone's answer is.
fn forget(cache: &Cache, keys: &Keys, key: &Key) {
    for key in keys.near(cache).chain([*key, keys.denial()]) {
        cache.remove(&key);
    }
}

fn has_answers(stored: &StoredBuf) -> bool {
    Header::parse(&stored.message).is_ok_and(|header| header.answers > 0)
}

fn count(counters: &Counters, attempts: &Attempts) {
    counters.attempts.add(attempts.made().into());
    // Only the last can have answered; who was overtaken did not fail.
    let answered = attempts.last().filter(|attempt| attempt.end == AttemptEnd::Answered);
    let failed = attempts.made().saturating_sub(attempts.overtaken()).saturating_sub(answered.is_some().into());
    counters.attempts_failed.add(failed.into());
    if let Some(attempt) = answered {
        counters.upstream_time(attempt.micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::Attempt;

    #[test]
    fn every_attempt_of_a_long_exchange_is_counted_as_it_ended() {
        let mut attempts = Attempts::default();
        let ends = [AttemptEnd::Overtaken; 4].into_iter().chain([AttemptEnd::Timeout; 6]);
        for end in ends.chain([AttemptEnd::Answered]) {
            attempts.push(Attempt { end, micros: 700, ..Attempt::default() });
        }
        let counters = Counters::default();
        count(&counters, &attempts);
        assert_eq!((counters.attempts.value(), counters.attempts_failed.value()), (11, 6));
        assert_eq!((counters.upstream_micros[1].value(), counters.upstream_micros_sum.value()), (1, 700));
    }
}
