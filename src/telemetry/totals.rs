//! All workers' counters in one.

use std::sync::Arc;

use super::counters::{Counter, Counters};

/// The sum of `workers`, as of about now: workers go on counting while it is taken.
pub(super) fn sum(workers: &[Arc<Counters>]) -> Counters {
    let total = Counters::default();
    let (totals, singles) = parts(&total);
    for worker in workers {
        let (counters, counts) = parts(worker);
        for (totals, counters) in totals.into_iter().zip(counters) {
            totals.iter().zip(counters).for_each(|(total, counter)| total.add(counter.value()));
        }
        singles.into_iter().zip(counts).for_each(|(total, counter)| total.add(counter.value()));
    }
    total
}

/// Families and single counters. Names every field, so that a new one cannot be forgotten.
const fn parts(counters: &Counters) -> ([&[Counter]; 8], [&Counter; 15]) {
    let Counters {
        questions,
        answers,
        rcodes,
        dropped,
        truncated,
        waited,
        joined,
        join_full,
        failures_recalled,
        sudden,
        attempts,
        attempts_failed,
        upstream_micros,
        upstream_micros_sum,
        connections,
        connections_open,
        connections_refused,
        handshakes,
        handshakes_failed,
        protocol_errors,
        panics,
        send_failed,
        overflow,
    } = counters;
    (
        [questions, answers, rcodes, dropped, sudden, upstream_micros, connections, connections_open],
        [
            truncated,
            waited,
            joined,
            join_full,
            failures_recalled,
            attempts,
            attempts_failed,
            upstream_micros_sum,
            connections_refused,
            handshakes,
            handshakes_failed,
            protocol_errors,
            panics,
            send_failed,
            overflow,
        ],
    )
}
