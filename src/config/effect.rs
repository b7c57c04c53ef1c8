//! What this version does with each key. A key that is accepted and does nothing would be a silent lie: here it is said.

use super::keys::{self, KEYS};
use super::node::{self, Node};
use super::{Findings, Origin, Severity, Values};

/// What becomes of a key that somebody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What the example file says of it.
    Full,
    /// Nothing, and nobody is worse off for it: a warning says what happens instead.
    Warn(&'static str),
    /// Nothing, and who relied on it would be misled about safety or reach: an error.
    Refuse(&'static str),
}

/// A key without full effect.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key; `*` stands for any one name, `[].` leads into a table of a list.
    pub key: &'static str,
    /// What becomes of it.
    pub effect: Effect,
    /// Values, as TOML, that ask for no more than this version does; the default is always among them.
    pub honoured: &'static [&'static str],
}

const fn warn(key: &'static str, what: &'static str, honoured: &'static [&'static str]) -> Row {
    Row { key, effect: Effect::Warn(what), honoured }
}

const fn refuse(key: &'static str, what: &'static str) -> Row {
    Row { key, effect: Effect::Refuse(what), honoured: &[] }
}

const NEVER_STALE: &str = "not available in this version: an expired answer is never served";
const ONE_SET_OF_LIMITS: &str = "not available in this version: one set of TTL limits holds for all names";
const NO_PROXY_HEADER: &str =
    "not available in this version: without it the proxy's address would be taken for the client's; leave it out";

/// The keys whose effect is not full.
pub const EFFECT: &[Row] = &[
    refuse("listen.*[].proxy", NO_PROXY_HEADER),
    refuse("listen.*[].forwarded", NO_PROXY_HEADER),
    refuse("upstream.*[].ecs", "not available in this version: the client's network is never told to a server"),
    warn("cache.stale_window", NEVER_STALE, &["\"0s\"", "\"0ms\"", "\"0\"", "0"]),
    warn("cache.stale_after", NEVER_STALE, &[]),
    warn("cache.stale_ttl", NEVER_STALE, &[]),
    warn("cache.prefetch", "not available in this version: an answer is asked for again after it expired", &["false"]),
    warn("cache.snapshot", "not available in this version: the cache starts empty", &["false"]),
    refuse("cache.rule[].min_ttl", ONE_SET_OF_LIMITS),
    refuse("cache.rule[].max_ttl", ONE_SET_OF_LIMITS),
    refuse("cache.rule[].negative_ttl", ONE_SET_OF_LIMITS),
    refuse("cache.rule[].stale_window", ONE_SET_OF_LIMITS),
    refuse("cache.rule[].never", ONE_SET_OF_LIMITS),
    refuse("privacy.ecs", "not available in this version: only \"strip\" is"),
];

/// What becomes of `key`, by its pattern in [`EFFECT`].
#[must_use]
pub fn of(key: &str) -> Effect {
    row(key).map_or(Effect::Full, |row| row.effect)
}

/// Says so if somebody set `key` to a value that this version does not honour; `pattern` is its name in [`EFFECT`].
pub fn judge(pattern: &str, key: &str, node: &Node, findings: &mut Findings) {
    let Some(row) = row(pattern) else { return };
    let asked = node.to_toml();
    if !node.origin.is_explicit() || row.honoured.contains(&asked.as_str()) || is_default(pattern, &asked) {
        return;
    }
    match row.effect {
        Effect::Full => {}
        Effect::Warn(what) => findings.effect(key, node.origin, Severity::Warning, what),
        Effect::Refuse(what) => findings.effect(key, node.origin, Severity::Error, what),
    }
}

/// Judges every key that somebody set; tables inside lists are judged where they are read.
pub fn judge_all(values: &Values, findings: &mut Findings) {
    for (path, node) in values.iter() {
        judge(path, path, node, findings);
    }
}

fn row(key: &str) -> Option<&'static Row> {
    EFFECT.iter().find(|row| row.key == key)
}

/// Does `asked`, as TOML, say no more than the default of `key`?
pub fn is_default(key: &str, asked: &str) -> bool {
    let path: Vec<&str> = key.split('.').collect();
    let default = KEYS.iter().find(|known| known.is_at(&path)).and_then(|known: &keys::Key| known.default);
    default.is_some_and(|text| node::parse_value(text, Origin::Default).to_toml() == asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_key_of_the_file() {
        for row in EFFECT {
            let known = match row.key.split_once("[].") {
                Some((list, field)) => {
                    let fields = match list {
                        "cache.rule" => keys::RULE,
                        list if list.starts_with("listen") => keys::DOOR,
                        _ => keys::SERVER,
                    };
                    fields.contains(&field)
                }
                None => keys::find(&row.key.split('.').collect::<Vec<_>>()).is_some(),
            };
            assert!(known, "{}", row.key);
        }
    }

    #[test]
    fn a_value_that_asks_for_no_more_than_this_version_does_is_not_warned_about() {
        for (text, count) in [("true", 0), ("false", 0), ("1", 1)] {
            let mut findings = Findings::default();
            judge("cache.prefetch", "cache.prefetch", &node::parse_value(text, Origin::Set), &mut findings);
            assert_eq!(findings.into_sorted().len(), count, "{text}");
        }
    }
}
