//! What this version does with each key. A key that is accepted and does nothing would be a silent lie: here it is said.

use super::keys::{self, KEYS};
use super::node::{self, Node};
use super::{Findings, Origin, Values};

/// A key without effect: who relied on it would be misled about safety or reach, so that setting it is an error.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key; `*` stands for any one name, `[].` leads into a table of a list.
    pub key: &'static str,
    /// Why it is refused.
    pub what: &'static str,
}

/// The keys without effect: in this version there are none.
pub const EFFECT: &[Row] = &[];

/// Says so if somebody set `key` to a value that this version does not honour; `pattern` is its name in [`EFFECT`].
pub fn judge(pattern: &str, key: &str, node: &Node, findings: &mut Findings) {
    if let Some(row) = EFFECT.iter().find(|row| row.key == pattern) {
        refuse(row, key, node, findings);
    }
}

fn refuse(row: &Row, key: &str, node: &Node, findings: &mut Findings) {
    if node.origin.is_explicit() && !is_default(row.key, &node.to_toml()) {
        findings.effect(key, node.origin, row.what);
    }
}

/// Judges every key that somebody set; tables inside lists are judged where they are read.
pub fn judge_all(values: &Values, findings: &mut Findings) {
    for (path, node) in values.iter() {
        judge(path, path, node, findings);
    }
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
                    let fields = if list.starts_with("listen") { keys::DOOR } else { keys::SERVER };
                    fields.contains(&field)
                }
                None => keys::find(&row.key.split('.').collect::<Vec<_>>()).is_some(),
            };
            assert!(known, "{}", row.key);
        }
    }

    #[test]
    fn a_value_that_asks_for_no_more_than_this_version_does_is_not_warned_about() {
        for (origin, count) in [(Origin::Default, 0), (Origin::Set, 1)] {
            let mut findings = Findings::default();
            let row = Row { key: "listen.*[].color", what: "not yet" };
            refuse(&row, row.key, &node::parse_value("\"red\"", origin), &mut findings);
            assert_eq!(findings.into_sorted().len(), count, "{origin:?}");
        }
    }
}
