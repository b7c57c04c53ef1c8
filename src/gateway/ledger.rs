//! What has become of reloads so far, for metrics and the log.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use crate::admin::{Change, Takes};
use crate::telemetry::ReloadGauge;

/// Counts of reloads.
#[derive(Debug)]
pub struct Ledger(Mutex<ReloadGauge>);

impl Ledger {
    /// Of a gateway that has the configuration it was started with.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(ReloadGauge { generation: 1, ..ReloadGauge::default() }))
    }

    /// Configurations that there have been.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.gauge().generation
    }

    /// What is measured.
    #[must_use]
    pub fn gauge(&self) -> ReloadGauge {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One was put in force; which.
    pub fn applied(&self) -> u64 {
        let mut gauge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ReloadGauge { applied, refused, generation, .. } = *gauge;
        *gauge =
            ReloadGauge { applied: applied + 1, refused, generation: generation + 1, last: now(), last_is_good: true };
        gauge.generation
    }

    /// One was not.
    pub fn refused(&self) {
        let mut gauge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (gauge.refused, gauge.last, gauge.last_is_good) = (gauge.refused + 1, now(), false);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Says what has changed, key by key.
pub fn announce(changes: &[Change], generation: u64) {
    for Change { key, old, new, takes } in changes {
        let (old, new) = (old.as_deref().unwrap_or("-"), new.as_deref().unwrap_or("-"));
        match takes {
            Takes::Reload => tracing::info!(%key, old, new, "the configuration has changed"),
            Takes::Restart => {
                tracing::warn!(%key, old, new, "a change that needs a restart: the old value holds until then");
            }
        }
    }
    tracing::info!(generation, changes = changes.len(), "a configuration is in force");
}
