//! What is told of certificates by ACME: when the next attempt is, and how the last ones went.

use std::fmt;

use super::metrics::Page;

/// The state of the one order that a gateway has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcmeGauge {
    /// When an order will be tried next, in seconds since 1970; 0: not known yet.
    pub next_attempt: i64,
    /// When the last order succeeded since the start; 0: none has.
    pub last_success: i64,
    /// Failures in a row, those before a restart counted in; 0: all is well.
    pub failing: u64,
    /// Certificates issued since the start.
    pub issued: u64,
    /// Orders failed since the start.
    pub failed: u64,
}

/// Writes it.
pub(super) fn write(page: &mut Page<'_>, gauge: Option<AcmeGauge>) -> fmt::Result {
    let Some(AcmeGauge { next_attempt, last_success, failing, issued, failed }) = gauge else { return Ok(()) };
    let whole = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    let help = "When a certificate will be ordered next, since 1970";
    page.gauge("acme_next_attempt_timestamp_seconds", help, whole(next_attempt))?;
    let help = "When the last order succeeded, since 1970, 0 if none has since the start";
    page.gauge("acme_last_success_timestamp_seconds", help, whole(last_success))?;
    page.gauge("acme_failing", "Orders that failed in a row, 0 while all is well", failing)?;
    page.count("acme_issued", "Certificates that were issued", issued)?;
    page.count("acme_failed", "Orders that failed", failed)
}
