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
    // Several to a line: one each would be longer than a function may be.
    #[rustfmt::skip]
    let Counters {
        questions, answers, rcodes, dropped, local, synthesised, subnets_told, options_passed, truncated,
        waited, joined, join_full, crowded, refreshes, refreshes_done, refreshes_dropped,
        failures_recalled, stale, sudden, attempts, attempts_failed, upstream_micros, upstream_micros_sum,
        connections, connections_open, strangers, connections_refused, handshakes, handshakes_failed, introductions,
        forwardings, protocol_errors, quic_handed_over, quic_passed_on, quic_lost, secrets_taken,
        secrets_refused, limited, panics, send_failed, overflow, beats,
    } = counters;
    let asked: [&[Counter]; 8] = [questions, answers, rcodes, dropped, local, stale, sudden, upstream_micros];
    let connected: [&[Counter]; 4] = [connections, connections_open, introductions, forwardings];
    let answering = [synthesised, truncated, waited, joined, join_full, crowded, failures_recalled];
    let refreshing = [refreshes, refreshes_done, refreshes_dropped];
    let asking = [subnets_told, options_passed, attempts, attempts_failed, upstream_micros_sum];
    let connecting = [strangers, connections_refused, handshakes, protocol_errors];
    let troubles = [secrets_taken, secrets_refused, panics, send_failed, overflow, beats];
    let moving = [quic_handed_over, quic_passed_on, quic_lost];
    let singles = answering.into_iter().chain(refreshing).chain(asking).chain(connecting).chain(moving).chain(troubles);
    let tables = limited.as_flattened().iter().chain(handshakes_failed.as_flattened());
    asked.into_iter().chain(connected).flatten().chain(tables).chain(singles)
}
