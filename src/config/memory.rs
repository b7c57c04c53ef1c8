//! `[cache]`: how much is kept and how long.

use std::time::Duration;

use super::node::Node;
use super::{Reader, kinds, rules};
use crate::cache::Settings;
use crate::wire::Suffixes;

/// RFC 8767 4: no TTL is longer than seven days.
pub const LONGEST_TTL: Duration = Duration::from_hours(7 * 24);
/// RFC 2308 5: one to three hours are sensible for negative answers.
pub const LONGEST_NEGATIVE_TTL: Duration = Duration::from_hours(3);
/// RFC 9520 3.2: failures are kept at least a second and at most five minutes.
const FAILURES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);
const SIZES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1 << 40);

/// Reads it.
pub fn read(reader: &mut Reader<'_>) -> Settings {
    let mut settings = Settings {
        size: reader.read("cache.size", kinds::size(SIZES)),
        domain_share: reader.read("cache.domain_share", kinds::share),
        min_ttl: reader.read("cache.min_ttl", kinds::ttl(Duration::ZERO..=LONGEST_TTL)),
        max_ttl: reader.read("cache.max_ttl", kinds::ttl(Duration::from_secs(1)..=LONGEST_TTL)),
        negative_ttl: reader.read("cache.negative_ttl", kinds::ttl(Duration::ZERO..=LONGEST_NEGATIVE_TTL)),
        failure_ttl: reader.read("cache.failure_ttl", kinds::ttl(FAILURES)),
        failure_ttl_max: reader.read("cache.failure_ttl_max", kinds::ttl(FAILURES)),
        stale_window: reader.read("cache.stale_window", kinds::ttl(Duration::ZERO..=LONGEST_TTL)),
        stale_after: reader.read("cache.stale_after", kinds::duration(Duration::ZERO..=Duration::from_mins(1))),
        stale_ttl: reader.read("cache.stale_ttl", kinds::ttl(Duration::from_secs(1)..=Duration::from_hours(1))),
        spread: true,
        prefetch: reader.read("cache.prefetch", kinds::flag),
        snapshot: reader.read("cache.snapshot", kinds::flag),
        rules: Suffixes::default(),
    };
    check_order(reader, ("cache.min_ttl", settings.min_ttl), ("cache.max_ttl", settings.max_ttl));
    check_order(
        reader,
        ("cache.failure_ttl", settings.failure_ttl),
        ("cache.failure_ttl_max", settings.failure_ttl_max),
    );
    rules::read(reader, &mut settings);
    settings
}

/// A floor may not lie above its ceiling; the one that somebody set is named.
fn check_order(reader: &mut Reader<'_>, (low, floor): (&str, Duration), (high, ceiling): (&str, Duration)) {
    let [Some(low_node), Some(high_node)] = [low, high].map(|key| reader.values.get(key)) else { return };
    // An unreadable ceiling stands here as zero and has its own error already.
    if floor <= ceiling || ceiling.is_zero() {
        return;
    }
    let show = Node::shown;
    let (key, node, what) = if low_node.origin >= high_node.origin {
        (low, low_node, format!("{} is more than {high} ({})", show(low_node), show(high_node)))
    } else {
        (high, high_node, format!("{} is less than {low} ({})", show(high_node), show(low_node)))
    };
    reader.findings.error(key, node.origin, what);
}
