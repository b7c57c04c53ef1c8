//! How long an answer is fresh.

use super::Settings;
use crate::reply::Kind;

/// Seconds an answer of `kind` with this smallest TTL is fresh, clamped.
#[must_use]
pub fn lifetime(settings: &Settings, kind: Kind, smallest_ttl: u32) -> u32 {
    let seconds = |d: std::time::Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    let most = seconds(settings.max_ttl).min(604_800);
    match kind {
        Kind::Fleeting => 0,
        _ if smallest_ttl == 0 => 0,
        Kind::Positive => smallest_ttl.max(seconds(settings.min_ttl)).min(most),
        Kind::NoData | Kind::NxDomain => smallest_ttl.min(seconds(settings.negative_ttl)).min(most),
    }
}
