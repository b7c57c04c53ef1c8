//! Asks a server that is not asked: the half-open breaker. Runs on the home runtime, only while the server is down or suspect.
//!
//! A probe is a whole attempt, so that it proves what a client needs: name, connection, trust, answer. The pool's end ends it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::Ask;
use super::error::Cause;
use super::health::Change;
use super::server::Upstream;
use crate::wire::registry::rtype;

/// The longest sleep: how long the end of a pool, or a change of plan, may go unnoticed.
const NAP: Duration = Duration::from_secs(5);

/// The cheapest question that every resolver can answer: `. NS`.
#[must_use]
pub fn question() -> Arc<Ask> {
    Arc::new(Ask::new(&[0], rtype::NS))
}

/// Probes `server` when its health asks for it, until it answers or is gone.
pub async fn watch(server: Weak<Upstream>) {
    while let Some(at) = server.upgrade().and_then(|server| server.health().next_probe()) {
        let now = Instant::now();
        if at > now {
            sleep_until(at.min(now + NAP)).await;
            continue;
        }
        let Some(server) = server.upgrade() else { return };
        let until = now + server.patience();
        let answered = timeout_at(until, server.probe(&question(), until)).await.unwrap_or(Err(Cause::Timeout));
        let change = server.health().probed(answered, Instant::now());
        if change != Change::None {
            server.announce(change);
        }
    }
}
