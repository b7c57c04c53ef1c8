//! What the cache is told.

use std::time::Duration;

use super::Rule;
use crate::wire::Suffixes;

/// Sizes and lifetimes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Octets that everything the cache holds may take, index included. Default 64 MiB; 0 switches it off.
    pub size: usize,
    /// The share of it that the names of one registrable domain may hold while others want the room. Default 0.25; 1 switches it
    /// off.
    pub domain_share: f64,
    /// Floor for TTLs. Default 0 (TTL-11).
    pub min_ttl: Duration,
    /// Ceiling for TTLs. Default 24 h; at most 7 d (RFC 8767 4).
    pub max_ttl: Duration,
    /// Ceiling for NXDOMAIN and NODATA. Default 5 min.
    pub negative_ttl: Duration,
    /// First ceiling for failures. Default 5 s; doubles while the failure lasts (RFC 9520 3.2).
    pub failure_ttl: Duration,
    /// Last ceiling for failures. Default 30 s; at most 300 s.
    pub failure_ttl_max: Duration,
    /// How long after its expiry an answer may still stand in. Default 24 h; 0 switches it off (RFC 8767).
    pub stale_window: Duration,
    /// How long an upstream may take before the stale answer is sent. Default 1.8 s.
    pub stale_after: Duration,
    /// The TTL that a stale answer carries. Default 30 s.
    pub stale_ttl: Duration,
    /// Do answers of equal lifetimes end one by one, up to a twentieth early? Default yes; whoever counts seconds wants no.
    pub spread: bool,
    /// Is an answer refreshed that is asked for again in its last tenth? Default yes.
    pub prefetch: bool,
    /// Is it kept in the state directory over a restart? Default no.
    pub snapshot: bool,
    /// What else holds for some domains. Default: nothing.
    pub rules: Suffixes<Rule>,
}

impl Settings {
    /// Is the wire name `name`, in any letter case, under guard?
    #[must_use]
    pub fn is_guarded(&self, name: &[u8]) -> bool {
        self.rules.find(name).is_some_and(|(rule, _)| rule.guard)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: 64 << 20,
            domain_share: 0.25,
            min_ttl: Duration::ZERO,
            max_ttl: Duration::from_hours(24),
            negative_ttl: Duration::from_mins(5),
            failure_ttl: Duration::from_secs(5),
            failure_ttl_max: Duration::from_secs(30),
            stale_window: Duration::from_hours(24),
            stale_after: Duration::from_millis(1800),
            stale_ttl: Duration::from_secs(30),
            spread: true,
            prefetch: true,
            snapshot: false,
            rules: Suffixes::default(),
        }
    }
}
