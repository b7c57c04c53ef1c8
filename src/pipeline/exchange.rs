//! The task that asks the upstream: it belongs to no client and ends by its own deadline (DESIGN, "an exchange belongs to
//! no client").

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::digest::digest;
use super::join::{Landed, Lead};
use super::keys::Keys;
use super::rcode::{self, Problem};
use super::walk::Walk;
use super::{Pipeline, Shared};
use crate::clock::Moment;
use crate::reply::{Kind, StoredBuf};
use crate::telemetry::Counters;
use crate::trail::{AttemptEnd, Attempts, UpstreamId};
use crate::upstream::error::Cause;
use crate::upstream::{Ask, Ended, ExchangeError};
use crate::wire::Flags;
use crate::wire::registry::ede;

/// The question of `walk` as it goes upstream.
///
/// AD is always asked for (RFC 6840 5.7): an entry then serves clients that want to know and clients that do not, whoever came first.
#[must_use]
pub fn ask(shared: &Shared, walk: &Walk<'_>) -> Arc<Ask> {
    Arc::new(Ask {
        question: walk.question.into(),
        recursion_desired: walk.asks(Flags::RD),
        checking_disabled: walk.asks(Flags::CD),
        authentic_data: true,
        dnssec_ok: walk.dnssec_ok(),
        padding: shared.settings.padding,
        prefer_stream: !walk.transport.is_datagram(),
        without_edns: false,
    })
}

/// Asks, digests, keeps, and tells everyone who waits: in that order, so that whoever finds no flight finds its answer.
pub async fn exchange(pipeline: Pipeline, lead: Lead, ask: Arc<Ask>, keys: Arc<Keys>, deadline: Instant) {
    let Pipeline { shared, counters, .. } = pipeline;
    let _counted = Deaths(&counters);
    // An exchange ends by its deadline; this one holds even if it does not.
    let ended = timeout_at(deadline, shared.exchange.exchange(Arc::clone(&ask), deadline)).await;
    let Ended { result, attempts } = ended.unwrap_or_else(|_| overdue());
    count(&counters, &attempts);
    let now = shared.clock.now();
    let result = match result {
        Ok(answered) => digest(&answered, &ask, &shared.cache_settings, now).map_err(|flaw| {
            tracing::debug!(upstream = answered.upstream.0, ?flaw, "unusable answer");
            (rcode::of_flaw(flaw), rcode::is_flaw_remembered(flaw))
        }),
        Err(error) => {
            tracing::debug!(upstream = error.upstream.0, cause = ?error.cause, "no answer");
            Err((rcode::of_error(error), rcode::is_remembered(error.cause)))
        }
    };
    let result = match result {
        Ok(stored) => {
            keep(&shared, &keys, &stored, now);
            Ok(stored)
        }
        Err((problem, remembered)) => {
            if remembered {
                remember(&shared, &keys, &problem, now);
            }
            Err(problem)
        }
    };
    lead.land(Landed { result, attempts });
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

fn keep(shared: &Shared, keys: &Keys, stored: &StoredBuf, now: Moment) {
    let meta = &stored.meta;
    if rcode::is_failure(meta.rcode) {
        shared.failures.record(keys.own(), now, meta.rcode, meta.ede.unwrap_or(ede::OTHER));
        return;
    }
    if !shared.failures.is_empty() {
        shared.failures.clear(keys.own());
    }
    match meta.kind {
        Kind::Fleeting => {}
        Kind::Positive | Kind::NoData | Kind::NxDomain => {
            if let Some(key) = keys.insert() {
                let _ = shared.cache.insert(key, stored.view(), now);
            }
        }
    }
}

fn remember(shared: &Shared, keys: &Keys, problem: &Problem, now: Moment) {
    shared.failures.record(keys.own(), now, problem.rcode, problem.ede().unwrap_or(ede::OTHER));
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
