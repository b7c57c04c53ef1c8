//! What the control thread does by the clock: whether upstreams live, and the time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Control;
use crate::upstream::timekeeper::Timekeeper;

/// Time between two looks at how the upstreams do, once one has answered.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Looks without a question from anyone before an upstream is asked for its own sake.
const QUIET_LOOKS: u32 = 6;

/// The same while none has: doubles from here.
const FIRST_PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two looks at whether a newer time has been proven.
const TIME_INTERVAL: Duration = Duration::from_mins(1);

/// Keeps up whether an upstream of the default pool lives, for `/readyz`: a named pool that dies takes a few domains with it, not
/// the gateway. What clients' questions came to tells it for nothing; an upstream is asked only until one has answered, while none
/// does, and after a long silence.
pub async fn watch_upstream(control: Arc<Control>) {
    let mut wait = FIRST_PROBE_INTERVAL;
    let mut quiet = QUIET_LOOKS;
    let mut before = control.asked_and_answered();
    loop {
        let now = control.asked_and_answered();
        let (asked, answered) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        quiet = if asked > 0 { 0 } else { quiet + 1 };
        let alive = match answered {
            0 if quiet >= QUIET_LOOKS || asked > 0 || !control.state.alive.load(Ordering::Relaxed) => {
                quiet = 0;
                let routes = Arc::clone(&control.force.load().routes);
                routes.is_alive(Instant::now() + PROBE_TIMEOUT).await
            }
            _ => true,
        };
        // After the probe, which is no question from anyone.
        before = control.asked_and_answered();
        control.state.alive.store(alive, Ordering::Relaxed);
        if alive && !control.state.answered.swap(true, Ordering::Relaxed) {
            tracing::info!("an upstream has answered");
        }
        wait = if alive { LOOK_INTERVAL } else { (wait * 2).min(LOOK_INTERVAL) };
        tokio::time::sleep(wait).await;
    }
}

/// Remembers the time over a restart, soon after it is first proven: a machine may lose its power within the hour, every day.
pub async fn keep_time(times: Arc<Timekeeper>) {
    let mut failed = false;
    loop {
        tokio::time::sleep(TIME_INTERVAL).await;
        let times = Arc::clone(&times);
        let remembered = tokio::task::spawn_blocking(move || times.remember()).await;
        if let Ok(Err(error)) = &remembered
            && !failed
        {
            tracing::warn!(%error, "the time is not remembered");
        }
        failed = matches!(remembered, Ok(Err(_)));
    }
}
