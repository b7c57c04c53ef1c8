//! Keeps the certificates up: takes what has changed, says what cannot be used, and hears of clients that turn away from them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Control, lookup};
use crate::identity::acme::Find;
use crate::telemetry::handshakes::Failure;

/// Time between two looks. A look costs two system calls a file; a broken pair has two looks to heal.
const INTERVAL: Duration = Duration::from_secs(3);

/// Time between two warnings of clients that turn away.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Takes what is new as long as the control thread lives; what cannot be used is told once, and what it was to replace stays.
pub async fn keep(control: Arc<Control>) {
    let mut told = control.identity.generation();
    let mut distrust = Distrust { told: control.turned_away(), next: Instant::now() };
    loop {
        tokio::time::sleep(INTERVAL).await;
        let (here, now) = (Arc::clone(&control), control.times.now());
        // Reading files and signing would hold up the admin server.
        let maintain = move || {
            let upkeep = here.identity.maintain(now);
            let generation = here.identity.generation();
            if generation != told {
                // They may be for other names, which discovery tells.
                here.reloader.retell();
            }
            (upkeep, generation)
        };
        if let Ok((upkeep, generation)) = tokio::task::spawn_blocking(maintain).await {
            told = generation;
            for origin in upkeep.renewed {
                tracing::info!(certificate = %origin, "a new certificate is in force");
            }
            for error in upkeep.faults {
                tracing::error!(%error, "a certificate was not renewed; the old one stays in force");
            }
        }
        if let Some(more) = distrust.rise(control.turned_away(), Instant::now()) {
            tracing::warn!(
                clients = more,
                "clients turned away from the certificate they were shown: an authority they do not know, another name, or expired"
            );
        }
    }
}

/// Orders and renews certificates by ACME, where that is wanted.
pub async fn order(control: Arc<Control>) {
    let Some(acme) = &control.acme else { return };
    let (force, times) = (Arc::clone(&control.force), Arc::clone(&control.times));
    let find: Find =
        Arc::new(move |host, port| Box::pin(lookup::look_up(Arc::clone(&force.load().routes), host, port)));
    Arc::clone(acme).run(find, Arc::new(move || times.now())).await;
}

impl Control {
    /// Handshakes that clients ended because of the certificate.
    fn turned_away(&self) -> u64 {
        let workers = self.counters.iter().map(|worker| worker.failed_handshakes(Failure::is_distrust));
        workers.fold(0, u64::wrapping_add)
    }
}

/// What has been said of clients that turned away.
struct Distrust {
    told: u64,
    next: Instant,
}

impl Distrust {
    /// How many there are to tell of at `now`, of `total` since the start.
    fn rise(&mut self, total: u64, now: Instant) -> Option<u64> {
        let more = total.saturating_sub(self.told);
        if more == 0 || now < self.next {
            return None;
        }
        *self = Self { told: total, next: now + WARNING_INTERVAL };
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_turn_away_are_told_of_at_once_and_then_once_a_minute() {
        let now = Instant::now();
        let mut distrust = Distrust { told: 3, next: now };
        let at = |seconds| now + Duration::from_secs(seconds);
        let told = [(3, 0), (5, 3), (6, 6), (9, 62), (12, 63), (12, 200), (12, 400)];
        let told = told.map(|(total, seconds)| distrust.rise(total, at(seconds)));
        assert_eq!(told, [None, Some(2), None, None, Some(7), None, None]);
    }
}
