//! Every key, what holds for it, and who said so: what `check --effective` prints.

use std::fmt::Write as _;

use super::keys::KEYS;
use super::node::{Node, Value};
use super::{Config, Origin, Values};

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveRow {
    /// The key, dotted.
    pub key: String,
    /// What holds for it.
    pub value: Node,
    /// Who said it.
    pub from: String,
    /// What the value alone does not tell: the number behind `"auto"`.
    pub note: Option<String>,
}

impl EffectiveRow {
    /// The layer that the value comes from, and its line in the file.
    pub const fn origin(&self) -> Origin {
        self.value.origin
    }
}

/// The rows in the order of the example file; `config` tells what `"auto"` came to, where the configuration stands.
#[must_use]
pub fn rows(values: &Values, config: Option<&Config>, file: &str) -> Vec<EffectiveRow> {
    let mut found: Vec<(&str, Node)> = values.iter().map(|(path, node)| (path, node.clone())).collect();
    if let Some(config) = config.filter(|_| values.get("state_dir").is_none()) {
        let path = config.state_dir.display().to_string();
        found.push(("state_dir", Node::new(Value::Text(path), Origin::Default)));
    }
    found.sort_by_cached_key(|(path, _)| rank(path));
    let row = |(path, value): (&str, Node)| EffectiveRow {
        from: from(value.origin, file),
        note: note(path, &value, config),
        key: path.to_owned(),
        value,
    };
    found.into_iter().map(row).collect()
}

/// The rows as a file that means the same, with a comment that says who said each.
#[must_use]
pub fn to_toml(rows: &[EffectiveRow]) -> String {
    let mut out = String::new();
    let mut section = "";
    for row in rows {
        let (home, name) = row.key.rsplit_once('.').unwrap_or(("", &row.key));
        if home != section {
            section = home;
            let _ = writeln!(out, "\n[{section}]");
        }
        let note = row.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        let comment = format!("{}{note}", row.from).replace(char::is_control, "?");
        let _ = writeln!(out, "{name} = {}  # {comment}", row.value.to_toml());
    }
    out
}

/// A key's place in the example file; the keys of one pool stay together.
fn rank(path: &str) -> (usize, &str, usize) {
    let segments: Vec<&str> = path.split('.').collect();
    let place = KEYS.iter().position(|key| key.is_at(&segments)).unwrap_or(KEYS.len());
    let pools = KEYS.iter().position(|key| key.path.starts_with("pool.")).unwrap_or(KEYS.len());
    match segments.as_slice() {
        ["pool", name, _] => (pools, name, place),
        _ => (place, "", 0),
    }
}

fn from(origin: Origin, file: &str) -> String {
    let layer = origin.layer(file);
    match origin.position() {
        (0, _) => layer.to_owned(),
        (line, _) => format!("{layer}:{line}"),
    }
}

fn note(path: &str, value: &Node, config: Option<&Config>) -> Option<String> {
    let number = match path {
        "workers" => config.map(|config| config.workers),
        "limits.connections" => config.map(|config| config.guard.connections),
        "limits.memory" => config.and_then(|config| config.memory).map(|octets| octets >> 20),
        _ => None,
    };
    let unit = if path == "limits.memory" { " MiB" } else { "" };
    number.filter(|_| value.text() == Some("auto")).map(|number| format!("{number}{unit} here"))
}
