//! How long an answer is fresh: the operator's floor and ceilings on what the records say (RFC 1035 3.2.1, RFC 2308 5, RFC 8767 4).

use super::Limits;
use crate::reply::Kind;

/// Seconds an answer of `kind` is fresh whose smallest TTL is `smallest_ttl`; 0 means: relay it, do not keep it.
///
/// For a negative answer `smallest_ttl` has seen the SOA's MINIMUM (NEG-01). A TTL of 0 stays 0 whatever the floor (TTL-04);
/// a TTL with its top bit set is a large number (TTL-05). Where floor and ceiling cross, the ceiling holds.
#[must_use]
pub fn lifetime(limits: &Limits, kind: Kind, smallest_ttl: u32) -> u32 {
    if smallest_ttl == 0 {
        return 0;
    }
    smallest_ttl.max(limits.min_ttl).min(limits.ceiling(kind))
}

/// `lifetime`, shortened by up to a twentieth and at most 30 seconds as `tag` falls: answers that came together with equal TTLs do
/// not all expire at one instant, and no answer lives longer than its TTL allows.
///
/// The same for an entry each time. In whole seconds, as all lifetimes are: below 20 s nothing is left to spread.
#[must_use]
pub fn spread(lifetime: u32, tag: u32) -> u32 {
    let most = (lifetime / 20).min(30);
    let early = (u64::from(tag) * u64::from(most + 1)) >> 32;
    lifetime - u32::try_from(early).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Settings;
    use super::*;

    fn lifetime(settings: &Settings, kind: Kind, smallest_ttl: u32) -> u32 {
        super::lifetime(&Limits::of(&[0], settings), kind, smallest_ttl)
    }

    fn week() -> Settings {
        Settings { max_ttl: Duration::from_hours(24 * 30), ..Settings::default() }
    }

    #[test]
    fn ttl_03_no_lifetime_exceeds_seven_days() {
        assert_eq!(lifetime(&week(), Kind::Positive, 2_000_000), 604_800);
        assert_eq!(lifetime(&Settings::default(), Kind::Positive, 2_000_000), 86_400);
    }

    #[test]
    fn ttl_04_zero_stays_zero_under_any_floor() {
        let floor = Settings { min_ttl: Duration::from_mins(1), ..Settings::default() };
        assert_eq!(lifetime(&floor, Kind::Positive, 0), 0);
        assert_eq!(lifetime(&floor, Kind::NxDomain, 0), 0);
    }

    #[test]
    fn ttl_05_the_top_bit_makes_a_ttl_large_not_zero() {
        assert_eq!(lifetime(&week(), Kind::Positive, 0x8000_0000), 604_800);
    }

    #[test]
    fn ttl_11_the_floor_is_off_by_default() {
        assert_eq!(lifetime(&Settings::default(), Kind::Positive, 1), 1);
        let floor = Settings { min_ttl: Duration::from_mins(1), ..Settings::default() };
        assert_eq!(lifetime(&floor, Kind::Positive, 1), 60);
    }

    #[test]
    fn neg_06_negative_answers_have_a_ceiling_of_their_own_below_the_common_one() {
        let settings = Settings::default();
        assert_eq!(lifetime(&settings, Kind::NxDomain, 604_800), 300);
        assert_eq!(lifetime(&settings, Kind::NoData, 604_800), 300);
        assert_eq!(lifetime(&settings, Kind::NoData, 7), 7);
        let low = Settings { max_ttl: Duration::from_secs(10), ..Settings::default() };
        assert_eq!(lifetime(&low, Kind::NxDomain, 604_800), 10);
    }

    #[test]
    fn equal_lifetimes_are_spread_over_their_last_twentieth_and_never_prolonged() {
        let tags = (0..1000_u32).map(|n| n.wrapping_mul(0x9e37_79b9));
        for (of, shortest) in [(0, 0), (1, 1), (19, 19), (20, 19), (60, 57), (300, 285), (600, 570), (604_800, 604_770)]
        {
            let mut spread: Vec<u32> = tags.clone().map(|tag| spread(of, tag)).collect();
            spread.sort_unstable();
            spread.dedup();
            assert_eq!(spread, (shortest..=of).collect::<Vec<_>>(), "{of}: each second in turn");
        }
        assert_eq!(spread(u32::MAX, u32::MAX), u32::MAX - 30);
    }

    #[test]
    fn the_ceiling_beats_the_floor() {
        let crossed = Settings { min_ttl: Duration::from_hours(1), ..Settings::default() };
        assert_eq!(lifetime(&crossed, Kind::NxDomain, 1), 300);
    }

    #[test]
    fn ttl_10_what_is_fleeting_is_never_kept() {
        assert_eq!(lifetime(&Settings::default(), Kind::Fleeting, 300), 0);
    }
}
