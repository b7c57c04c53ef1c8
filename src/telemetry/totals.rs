//! All workers' counters in one.

use std::sync::Arc;

use super::counters::{Counter, Counters};

/// The sum of `workers`, as of about now: workers go on counting while it is taken.
pub(super) fn sum(workers: &[Arc<Counters>]) -> Counters {
    let total = Counters::default();
    for worker in workers {
        add(&total, worker);
    }
    total
}

/// Names every field, so that a new one cannot be forgotten.
fn add(total: &Counters, worker: &Counters) {
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
    } = worker;
    let arrays: [(&[Counter], &[Counter]); 8] = [
        (&total.questions, questions),
        (&total.answers, answers),
        (&total.rcodes, rcodes),
        (&total.dropped, dropped),
        (&total.sudden, sudden),
        (&total.upstream_micros, upstream_micros),
        (&total.connections, connections),
        (&total.connections_open, connections_open),
    ];
    for (totals, counters) in arrays {
        for (total, counter) in totals.iter().zip(counters) {
            total.add(counter.value());
        }
    }
    let singles = [
        (&total.truncated, truncated),
        (&total.waited, waited),
        (&total.joined, joined),
        (&total.join_full, join_full),
        (&total.failures_recalled, failures_recalled),
        (&total.attempts, attempts),
        (&total.attempts_failed, attempts_failed),
        (&total.upstream_micros_sum, upstream_micros_sum),
        (&total.connections_refused, connections_refused),
        (&total.handshakes, handshakes),
        (&total.handshakes_failed, handshakes_failed),
        (&total.protocol_errors, protocol_errors),
        (&total.panics, panics),
        (&total.send_failed, send_failed),
        (&total.overflow, overflow),
    ];
    for (total, counter) in singles {
        total.add(counter.value());
    }
}
