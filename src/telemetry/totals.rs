//! All workers' counters in one.

use std::sync::Arc;

use super::counters::{Counter, Counters};

/// The sum of `workers`, as of about now: workers go on counting while it is taken.
pub(super) fn sum(workers: &[Arc<Counters>]) -> Counters {
    let total = Counters::default();
    for worker in workers {
        for (sum, counter) in all(&total).zip(all(worker)) {
            sum.add(counter.value());
        }
    }
    total
}

/// Names every field, so that a new one cannot be forgotten.
fn all(counters: &Counters) -> impl Iterator<Item = &Counter> {
    let Counters {
        questions,
        answers,
        rcodes,
        dropped,
        local,
        synthesised,
        subnets_told,
        options_passed,
        truncated,
        waited,
        joined,
        join_full,
        crowded,
        refreshes,
        refreshes_done,
        refreshes_dropped,
        failures_recalled,
        stale,
        sudden,
        attempts,
        attempts_failed,
        upstream_micros,
        upstream_micros_sum,
        connections,
        connections_open,
        strangers,
        connections_refused,
        handshakes,
        handshakes_failed,
        protocol_errors,
        secrets_taken,
        secrets_refused,
        panics,
        send_failed,
        overflow,
    } = counters;
    let arrays: [&[Counter]; 10] =
        [questions, answers, rcodes, dropped, local, stale, sudden, upstream_micros, connections, connections_open];
    let answering = [synthesised, truncated, waited, joined, join_full, crowded, failures_recalled];
    let refreshing = [refreshes, refreshes_done, refreshes_dropped];
    let asking = [subnets_told, options_passed, attempts, attempts_failed, upstream_micros_sum];
    let connecting = [strangers, connections_refused, handshakes, protocol_errors];
    let troubles = [secrets_taken, secrets_refused, panics, send_failed, overflow];
    let singles = answering.into_iter().chain(refreshing).chain(asking).chain(connecting).chain(troubles);
    arrays.into_iter().flatten().chain(handshakes_failed.iter().flatten()).chain(singles)
}
