//! How much memory this process takes: looked at a few times a second, and said to the guard when it becomes short.
//!
//! The bounds on connections and on what is kept for each make this the second line: it stands where they were set too high.

use std::sync::Arc;
use std::time::Duration;

use super::Control;
use crate::guard::Strain;

/// Looks until the control thread ends.
pub async fn watch(control: Arc<Control>) {
    let mut strain = Strain::None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(resident) = resident() else { return };
        // A reload may have changed it, or taken it away.
        let limit = control.force.load().memory.unwrap_or(usize::MAX);
        let now = judge(resident, limit, strain);
        if now != strain {
            let (resident, limit) = (resident >> 20, limit >> 20);
            match now {
                Strain::None => tracing::info!(resident, limit, "memory is enough again (MiB)"),
                Strain::Short => tracing::warn!(resident, limit, "memory is short: idle connections go early (MiB)"),
                Strain::Out => tracing::warn!(resident, limit, "memory is used up: nobody new is let in (MiB)"),
            }
        }
        strain = now;
        control.force.load().guard.strain_by(strain);
    }
}

/// Octets of this process that are in memory; `None` where the system does not tell.
pub fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// How short memory is, where it was as short as `before` a moment ago: a step back takes a little more than the step there.
const fn judge(resident: usize, limit: usize, before: Strain) -> Strain {
    let percent = resident.saturating_mul(100) / if limit == 0 { 1 } else { limit };
    match (percent, before) {
        (100.., _) | (97.., Strain::Out) => Strain::Out,
        (90.., _) | (85.., Strain::Short | Strain::Out) => Strain::Short,
        _ => Strain::None,
    }
}

/// Time between two looks: what all handshakes of that time may add is small beside the limit.
const INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_from_nine_tenths_and_recovers_a_little_below() {
        use Strain::{None as Enough, Out, Short};
        let mut strain = Strain::None;
        let mut said = Vec::new();
        for resident in [50, 89, 90, 99, 100, 150, 98, 96, 89, 84, 89] {
            strain = judge(resident << 20, 100 << 20, strain);
            said.push(strain);
        }
        assert_eq!(said, [Enough, Enough, Short, Short, Out, Out, Out, Short, Short, Enough, Enough]);
        assert!(resident().is_some_and(|octets| octets > 1 << 20));
    }
}
