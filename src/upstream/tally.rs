//! What one server has cost and brought: counted where it happens, read by metrics and the admin server.
//!
//! Several workers write, so these are atomic additions; a question adds a handful of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count with many writers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one server.
#[derive(Debug, Default)]
pub struct Tally {
    /// Questions put to it, hedges and rescues among them.
    pub questions: Count,
    /// Answers that settled a question.
    pub answers: Count,
    /// Attempts that ended otherwise.
    pub failures: Count,
    /// Connections opened; over TLS and QUIC each is a handshake.
    pub handshakes: Count,
    /// Those of them that resumed a session.
    pub resumed: Count,
    /// Connections that could not be opened.
    pub handshakes_failed: Count,
    /// Questions asked again on a fresh connection because theirs closed under them.
    pub replayed: Count,
    /// Questions asked here because another server was slower than usual.
    pub hedges: Count,
    /// Questions asked here because another server had fallen silent.
    pub rescues: Count,
    /// Times its breaker opened.
    pub opened: Count,
}
