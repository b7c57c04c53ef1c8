//! `[[cache.rule]]`: how long answers of some domains are kept, where that is not as for all names.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::domains::{self, Words};
use super::kinds;
use super::memory::{LONGEST_NEGATIVE_TTL, LONGEST_TTL};
use super::node::Node;
use super::reader::Fields;
use super::{Reader, keys};
use crate::cache::{Rule, Settings};

const WORDS: Words =
    Words { none: "[] rules nothing: name at least one domain, or leave the rule out", twice: "already has a rule by" };

const TTLS: RangeInclusive<Duration> = Duration::ZERO..=LONGEST_TTL;

/// Reads all rules into `settings`, which holds what is for all names already.
pub fn read(reader: &mut Reader<'_>, settings: &mut Settings) {
    let mut taken = BTreeMap::new();
    for (key, node) in reader.read_items("cache.rule") {
        let Some(fields) = reader.fields(&key, node, keys::RULE, "cache.rule") else { continue };
        let domains = domains::read(reader, &fields, &mut taken, &WORDS, domains::any);
        let rule = Rule {
            min_ttl: reader.field(&fields, "min_ttl", kinds::ttl(TTLS)),
            max_ttl: reader.field(&fields, "max_ttl", kinds::ttl(Duration::from_secs(1)..=LONGEST_TTL)),
            negative_ttl: reader.field(&fields, "negative_ttl", kinds::ttl(Duration::ZERO..=LONGEST_NEGATIVE_TTL)),
            stale_window: reader.field(&fields, "stale_window", kinds::ttl(TTLS)),
            never: reader.field(&fields, "never", kinds::flag).unwrap_or_default(),
            guard: reader.field(&fields, "guard", kinds::flag).unwrap_or_default(),
        };
        check_order(reader, &fields, &rule, settings);
        check_never(reader, &fields, &rule);
        if !domains.is_empty() && fields.is_only("domains") {
            reader.findings.warning(&key, fields.origin, "says nothing but domains: they are kept as all others are");
        }
        for domain in domains {
            settings.rules.insert(&domain, rule);
        }
    }
}

/// A floor may not lie above its ceiling, be one of them the one for all names.
fn check_order(reader: &mut Reader<'_>, fields: &Fields<'_>, rule: &Rule, all: &Settings) {
    let (floor, ceiling) = (rule.min_ttl.unwrap_or(all.min_ttl), rule.max_ttl.unwrap_or(all.max_ttl));
    // What cannot be read has its own error; where both are for all names that is reported there.
    let unread = |name, said: Option<Duration>| said.is_none() && fields.get(name).is_some();
    let readable = !unread("min_ttl", rule.min_ttl) && !unread("max_ttl", rule.max_ttl) && !all.max_ttl.is_zero();
    if floor <= ceiling || !readable {
        return;
    }
    let shown = |named: &str| reader.values.get(named).map(Node::shown).unwrap_or_default();
    let (name, what) = match (fields.get("min_ttl"), fields.get("max_ttl")) {
        (Some(low), Some(high)) => ("min_ttl", format!("{} is more than max_ttl ({})", low.shown(), high.shown())),
        (Some(low), None) => {
            ("min_ttl", format!("{} is more than cache.max_ttl ({})", low.shown(), shown("cache.max_ttl")))
        }
        (None, Some(high)) => {
            let what = format!("{} is less than cache.min_ttl ({})", high.shown(), shown("cache.min_ttl"));
            ("max_ttl", format!("{what}: give the rule a min_ttl of its own"))
        }
        (None, None) => return,
    };
    let origin = fields.get(name).map_or(fields.origin, |node| node.origin);
    reader.findings.error(&fields.key(name), origin, what);
}

/// What is never kept cannot be kept longer, nor compared with a denial.
fn check_never(reader: &mut Reader<'_>, fields: &Fields<'_>, rule: &Rule) {
    let longer = [("min_ttl", rule.min_ttl), ("stale_window", rule.stale_window)];
    for (name, said) in longer.into_iter().filter(|_| rule.never) {
        if let (Some(node), Some(said)) = (fields.get(name), said)
            && !said.is_zero()
        {
            let what = format!("{} contradicts never = true: what is not kept cannot be kept longer", node.shown());
            reader.findings.error(&fields.key(name), node.origin, what);
        }
    }
    if let Some(node) = fields.get("guard").filter(|_| rule.never && rule.guard) {
        let what = "true contradicts never = true: nothing is kept that a denial could be sudden after".to_owned();
        reader.findings.error(&fields.key("guard"), node.origin, what);
    }
}
