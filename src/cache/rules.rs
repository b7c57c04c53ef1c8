//! How long answers of a name are kept, if at all: by the rule of the longest domain that it is at or under, else as for all names.
//!
//! Asked once for each answer that arrives, by QNAME: what an alias leads to is kept by the rule of the alias.

use std::time::Duration;

use super::Settings;
use crate::reply::Kind;

/// What holds for a domain and all names below it (`[[cache.rule]]`). What it leaves open is as for all names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// As [`Settings::min_ttl`].
    pub min_ttl: Option<Duration>,
    /// As [`Settings::max_ttl`].
    pub max_ttl: Option<Duration>,
    /// As [`Settings::negative_ttl`].
    pub negative_ttl: Option<Duration>,
    /// As [`Settings::stale_window`].
    pub stale_window: Option<Duration>,
    /// Is no answer kept at all? Failures are remembered all the same, and equal questions asked as one.
    pub never: bool,
    /// Is a denial of what had data a moment ago asked again at another server before it is believed?
    pub guard: bool,
}

/// What holds for one name. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Floor for TTLs.
    pub min_ttl: u32,
    /// Ceiling for TTLs, at most seven days (RFC 8767 4; TTL-03).
    pub max_ttl: u32,
    /// Ceiling for NXDOMAIN and NODATA.
    pub negative_ttl: u32,
    /// How long after its expiry an answer may still stand in (RFC 8767).
    pub stale_window: u32,
    /// Is no answer kept?
    pub never: bool,
}

/// No TTL counts for more than seven days (RFC 8767 4; TTL-03).
pub const LONGEST: u32 = 604_800;

impl Limits {
    /// What `settings` say of `name` (uncompressed wire form, any letter case). Allocates nothing.
    #[must_use]
    pub fn of(name: &[u8], settings: &Settings) -> Self {
        let rule = settings.rules.find(name).map_or_else(Rule::default, |(&rule, _)| rule);
        let stale_window = rule.stale_window.unwrap_or(settings.stale_window);
        Self {
            min_ttl: seconds(rule.min_ttl.unwrap_or(settings.min_ttl)),
            max_ttl: seconds(rule.max_ttl.unwrap_or(settings.max_ttl)).min(LONGEST),
            negative_ttl: seconds(rule.negative_ttl.unwrap_or(settings.negative_ttl)),
            stale_window: if rule.never { 0 } else { seconds(stale_window) },
            never: rule.never,
        }
    }

    /// The longest that an answer of `kind` is fresh, in seconds.
    #[must_use]
    pub fn ceiling(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Positive => self.max_ttl,
            Kind::NoData | Kind::NxDomain => self.max_ttl.min(self.negative_ttl),
            Kind::Fleeting => 0,
        }
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::from_text;

    fn ruled(rules: &[(&str, Rule)]) -> Settings {
        let mut settings = Settings::default();
        for (domain, rule) in rules {
            settings.rules.insert(&from_text(domain).unwrap(), *rule);
        }
        settings
    }

    #[test]
    fn the_rule_of_the_longest_domain_holds_and_what_it_leaves_open_is_as_for_all() {
        let minute = Some(Duration::from_mins(1));
        let short = Rule { max_ttl: minute, ..Rule::default() };
        let lab = Rule { negative_ttl: minute, stale_window: minute, ..Rule::default() };
        let live = Rule { never: true, ..Rule::default() };
        let rules = [("corp.example", short), ("lan", short), ("lab.Corp.example", lab), ("live.example", live)];
        let settings = Settings { min_ttl: Duration::from_secs(5), ..ruled(&rules) };
        let of = |name| Limits::of(&from_text(name).unwrap(), &settings);
        let all = of("www.example");
        let expected = Limits { min_ttl: 5, max_ttl: 86_400, negative_ttl: 300, stale_window: 86_400, never: false };
        assert_eq!(all, expected);
        for name in ["corp.example", "WWW.corp.Example", "xlab.corp.example", "a.b.lan"] {
            assert_eq!(of(name), Limits { max_ttl: 60, ..all }, "{name}");
        }
        let lab = Limits { negative_ttl: 60, stale_window: 60, ..all };
        assert_eq!(of("x.lab.corp.example"), lab, "nothing of the shorter domain's rule");
        assert_eq!(of("a.live.example"), Limits { never: true, stale_window: 0, ..all });
        assert_eq!(of("xlive.example"), all);
        assert_eq!(Limits::of(&[], &settings), all);
    }

    #[test]
    fn ttl_03_no_rule_lifts_the_ceiling_of_seven_days() {
        let month = Rule { max_ttl: Some(Duration::from_hours(24 * 30)), ..Rule::default() };
        assert_eq!(Limits::of(&[0], &ruled(&[(".", month)])).max_ttl, 604_800);
    }
}
