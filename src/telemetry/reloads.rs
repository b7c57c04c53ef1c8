//! What has become of reloads, as metrics.

use std::fmt;

use super::metrics::Page;

/// What has become of reloads of the configuration since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadGauge {
    /// Those put in force.
    pub applied: u64,
    /// Those that could not be.
    pub refused: u64,
    /// Configurations there have been, the first among them.
    pub generation: u64,
    /// When the last reload was, in seconds since 1970; 0: there was none.
    pub last: u64,
    /// Is what it read in force?
    pub last_is_good: bool,
}

impl ReloadGauge {
    /// Writes it down.
    ///
    /// # Errors
    /// As the encoder says.
    pub(super) fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        let Self { applied, refused, generation, last, last_is_good } = *self;
        let series = [("applied", applied), ("refused", refused)].map(|(result, count)| ([("result", result)], count));
        page.totals("reloads", "Configurations read while running, by what became of them", series.into_iter())?;
        page.gauge("config_generation", "Configurations there have been, the first among them", generation)?;
        page.gauge(
            "config_reload_timestamp_seconds",
            "When the last reload was, since 1970, 0 if there was none",
            last,
        )?;
        let help = "Is what was read last in force? 0 after a reload that was refused";
        page.gauge("config_reload_good", help, u64::from(last == 0 || last_is_good))
    }
}
