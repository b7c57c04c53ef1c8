//! Per-worker counters: written by one thread without a locked instruction, summed when they are read.
//!
//! Each worker has one [`Counters`]; nothing in it is shared with another core until a scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use super::handshakes::{Failure, Shaking};
use super::limited::Limited;
use super::proxies::{Forwarding, Introduction};
use crate::peer::Transport;
use crate::reply::Source;
use crate::trail::{Here, Stale, Sudden};

/// A counter (or gauge) with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. One writer: a load and a store, not a locked add.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes one away: for gauges.
    pub fn sub_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The number of RCODEs that have a counter of their own; higher ones share the last.
pub const RCODES: usize = 24;

/// The buckets of the upstream time histogram: upper bounds in microseconds, the last is everything above.
pub const UPSTREAM_MICROS: [u32; 12] =
    [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 4_000_000];

/// One worker's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions by transport.
    pub questions: [Counter; Transport::ALL.len()],
    /// Answers by where they came from.
    pub answers: [Counter; Source::ALL.len()],
    /// Answers by RCODE; the last counts all from `RCODES - 1` up.
    pub rcodes: [Counter; RCODES],
    /// Questions not answered: no query, access, limit (in the order of `Why`).
    pub dropped: [Counter; 3],
    /// Questions answered here whatever an upstream would say (in the order of `Here`).
    pub local: [Counter; Here::ALL.len()],
    /// Answers made of A records because there was no AAAA (RFC 6147).
    pub synthesised: Counter,
    /// Answers from servers that were told some bits of a client's network (RFC 7871).
    pub subnets_told: Counter,
    /// Questions that took options of their client's along.
    pub options_passed: Counter,
    /// Replies that had to be truncated.
    pub truncated: Counter,
    /// Questions that waited for an upstream.
    pub waited: Counter,
    /// Questions that joined an equal one in flight.
    pub joined: Counter,
    /// Questions refused because the join table was full.
    pub join_full: Counter,
    /// Questions refused because as many about their domain were in flight as may be.
    pub crowded: Counter,
    /// Answers to be asked for again while nobody waits for them.
    pub refreshes: Counter,
    /// The same that had come.
    pub refreshes_done: Counter,
    /// The same that were given up because too many were to be asked for.
    pub refreshes_dropped: Counter,
    /// Failures answered from the failure table.
    pub failures_recalled: Counter,
    /// Stale answers that stood in, by why.
    pub stale: [Counter; Stale::ALL.len()],
    /// Denials of what the cache had a moment before, by what was made of them (in the order of `Sudden::OUTCOMES`).
    pub sudden: [Counter; Sudden::OUTCOMES.len()],
    /// Attempts at upstreams.
    pub attempts: Counter,
    /// Attempts that ended without an answer.
    pub attempts_failed: Counter,
    /// Time of answered attempts, by [`UPSTREAM_MICROS`] and above.
    pub upstream_micros: [Counter; UPSTREAM_MICROS.len() + 1],
    /// Sum of the same, in microseconds.
    pub upstream_micros_sum: Counter,
    /// Connections accepted, by transport.
    pub connections: [Counter; Transport::ALL.len()],
    /// Connections open now, by transport (a gauge).
    pub connections_open: [Counter; Transport::ALL.len()],
    /// Questions refused while only clients that are known by name are heard.
    pub strangers: Counter,
    /// Connections refused for want of a permit.
    pub connections_refused: Counter,
    /// TLS and QUIC handshakes completed.
    pub handshakes: Counter,
    /// Handshakes that came to nothing, by what they were over and why.
    pub handshakes_failed: [[Counter; Failure::ALL.len()]; Shaking::ALL.len()],
    /// PROXY headers, by what came of them (in the order of `Introduction`).
    pub introductions: [Counter; Introduction::NAMES.len()],
    /// Requests from web servers that are believed, by what their headers told (in the order of `Forwarding`).
    pub forwardings: [Counter; Forwarding::NAMES.len()],
    /// Connections closed for breaking their protocol.
    pub protocol_errors: Counter,
    /// QUIC datagrams handed to the worker that they were for.
    pub quic_handed_over: Counter,
    /// QUIC datagrams passed on to another process of this port.
    pub quic_passed_on: Counter,
    /// QUIC datagrams that could be given to no other worker or process: its queue was full, or it is gone.
    pub quic_lost: Counter,
    /// Changes of a file of secrets that are in force.
    pub secrets_taken: Counter,
    /// Changes of a file of secrets that could not be used.
    pub secrets_refused: Counter,
    /// What clients were held back from, by kind and transport.
    pub limited: [[Counter; Transport::ALL.len()]; Limited::ALL.len()],
    /// Turns that panicked and were caught.
    pub panics: Counter,
    /// Datagrams that could not be sent.
    pub send_failed: Counter,
    /// Questions dropped because a bound on waiting ones was reached.
    pub overflow: Counter,
    /// Signs of life, for the watchdog.
    pub beats: Counter,
}

impl Counters {
    /// Counts an answer.
    pub fn answered(&self, source: Source, rcode: u16) {
        if let Some(counter) = self.answers.get(source as usize) {
            counter.add_one();
        }
        if let Some(counter) = self.rcodes.get(usize::from(rcode).min(RCODES - 1)) {
            counter.add_one();
        }
    }

    /// Counts a question over `transport`.
    pub fn asked(&self, transport: Transport) {
        if let Some(counter) = self.questions.get(transport as usize) {
            counter.add_one();
        }
    }

    /// Counts that a limit was reached over `transport`.
    pub fn limit(&self, limited: Limited, transport: Transport) {
        if let Some(counter) = self.limited.get(limited as usize).and_then(|kind| kind.get(transport as usize)) {
            counter.add_one();
        }
    }

    /// Counts a question that is answered here.
    pub fn stayed(&self, here: Here) {
        if let Some(counter) = self.local.get(here as usize) {
            counter.add_one();
        }
    }

    /// Counts what came of a PROXY header.
    pub fn introduced(&self, introduction: Introduction) {
        if let Some(counter) = self.introductions.get(introduction as usize) {
            counter.add_one();
        }
    }

    /// Counts what the headers of a web server's request told.
    pub fn forwarded(&self, forwarding: Forwarding) {
        if let Some(counter) = self.forwardings.get(forwarding as usize) {
            counter.add_one();
        }
    }

    /// Counts a stale answer.
    pub fn stood_in(&self, why: Stale) {
        if let Some(counter) = self.stale.get(why as usize) {
            counter.add_one();
        }
    }

    /// Counts a handshake that came to nothing.
    pub fn handshake_failed(&self, over: Shaking, why: Failure) {
        if let Some(counter) = self.handshakes_failed.get(over as usize).and_then(|row| row.get(why as usize)) {
            counter.add_one();
        }
    }

    /// Handshakes that came to nothing, if `counts` says so of the reason.
    pub fn failed_handshakes(&self, counts: impl Fn(Failure) -> bool) -> u64 {
        let rows = self.handshakes_failed.iter().flat_map(|row| Failure::ALL.into_iter().zip(row));
        rows.filter(|(why, _)| counts(*why)).fold(0, |sum, (_, counter)| sum.wrapping_add(counter.value()))
    }

    /// Counts a denial, if it was sudden.
    pub fn denied(&self, sudden: Sudden) {
        let outcome = sudden.name().and_then(|name| Sudden::OUTCOMES.iter().position(|&outcome| outcome == name));
        if let Some(counter) = outcome.and_then(|outcome| self.sudden.get(outcome)) {
            counter.add_one();
        }
    }

    /// Counts the time of an answered attempt.
    pub fn upstream_time(&self, micros: u32) {
        let bucket = UPSTREAM_MICROS.iter().position(|&bound| micros <= bound).unwrap_or(UPSTREAM_MICROS.len());
        if let Some(counter) = self.upstream_micros.get(bucket) {
            counter.add_one();
        }
        self.upstream_micros_sum.add(micros.into());
    }
}
