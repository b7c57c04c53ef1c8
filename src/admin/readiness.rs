//! When `/readyz` says yes: serving, and either an upstream has answered or waiting for one has been long enough.
//!
//! A gateway with a warm cache or local answers is of use without an upstream; a load balancer that takes out every instance
//! because one upstream is down makes an outage of a nuisance. `?upstream` asks the stricter question, for BGP withdrawal.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// The facts that readiness is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Every worker serves its doors.
    pub serving: bool,
    /// The word to stop has been given, though questions are still answered.
    pub stopping: bool,
    /// Some upstream has answered since the start.
    pub upstream_answered: bool,
    /// Some upstream is believed to answer now.
    pub upstream_alive: bool,
}

/// What is asked of `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Send me clients?
    Service,
    /// The same, and is there an upstream that answers, at all times?
    Upstream,
}

/// The answer, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Yes or no.
    pub ready: bool,
    /// Empty when ready.
    pub reasons: Vec<&'static str>,
}

/// Since when, and how long, an upstream is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Instant,
}

impl Patience {
    /// From now, for `wait`.
    #[must_use]
    pub fn starting(wait: Duration) -> Self {
        Self { until: Instant::now() + wait }
    }

    /// The judgement now.
    #[must_use]
    pub fn judge(&self, vitals: Vitals, wanted: Wanted) -> Readiness {
        let waiting = !vitals.upstream_answered && Instant::now() < self.until;
        let against = [
            (!vitals.serving, "not all workers are serving"),
            (vitals.stopping, "stopping"),
            (waiting, "no upstream has answered yet"),
            (wanted == Wanted::Upstream && !vitals.upstream_alive, "no upstream is answering"),
        ];
        let reasons: Vec<_> = against.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect();
        Readiness { ready: reasons.is_empty(), reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: Vitals = Vitals { serving: true, stopping: false, upstream_answered: false, upstream_alive: false };

    #[tokio::test(start_paused = true)]
    async fn ready_once_an_upstream_has_answered_or_the_wait_is_over() {
        let patience = Patience::starting(Duration::from_secs(2));
        let ready = |vitals| patience.judge(vitals, Wanted::Service).ready;
        assert!(!ready(SERVING));
        assert!(ready(Vitals { upstream_answered: true, ..SERVING }));
        tokio::time::advance(Duration::from_millis(1999)).await;
        assert!(!ready(SERVING));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(ready(SERVING));
        assert!(!ready(Vitals { stopping: true, ..SERVING }));
        assert!(!ready(Vitals { serving: false, ..SERVING }));
    }

    #[tokio::test(start_paused = true)]
    async fn upstream_is_asked_for_at_all_times_where_it_is_wanted() {
        let patience = Patience::starting(Duration::from_secs(2));
        tokio::time::advance(Duration::from_mins(1)).await;
        let dead = Vitals { upstream_answered: true, ..SERVING };
        assert!(patience.judge(dead, Wanted::Service).ready);
        assert_eq!(patience.judge(dead, Wanted::Upstream).reasons, ["no upstream is answering"]);
        assert!(patience.judge(Vitals { upstream_alive: true, ..dead }, Wanted::Upstream).ready);
    }
}
