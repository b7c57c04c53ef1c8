//! Layers laid over one another: defaults < file < environment < command line, key by key.

use std::collections::BTreeMap;

use super::keys::{self, KEYS, Known};
use super::node::{self, Entry, Node, Value};
use super::{Findings, Origin};

/// For every key, the value that holds and who said it.
#[derive(Clone, Debug, Default)]
pub struct Values {
    found: BTreeMap<String, Node>,
    sections: BTreeMap<String, Origin>,
}

impl Values {
    /// What holds when nobody says anything.
    #[must_use]
    pub fn defaults() -> Self {
        let known = KEYS.iter().filter_map(|key| Some((key.path.to_owned(), key.default?)));
        let found = known.map(|(path, text)| (path, node::parse_value(text, Origin::Default))).collect();
        Self { found, sections: BTreeMap::new() }
    }

    /// Lays a file over what holds.
    pub fn overlay(&mut self, entries: Vec<Entry>, findings: &mut Findings) {
        for entry in entries {
            self.place(&[entry.key], entry.origin, entry.node, findings);
        }
    }

    /// Lays `key=value` over what holds.
    pub fn assign(&mut self, assignment: &str, origin: Origin, findings: &mut Findings) {
        let Some((key, value)) = assignment.split_once('=') else {
            return findings.error("", origin, format!("\"{assignment}\" must be written key=value"));
        };
        let path: Vec<String> = key.trim().split('.').map(|segment| segment.trim().to_owned()).collect();
        self.place(&path, origin, node::parse_value(value.trim(), origin), findings);
    }

    /// A `[listen]` that somebody wrote opens exactly what it names: the doors it does not name are closed.
    pub fn close_unnamed_doors(&mut self) {
        let Some(&origin) = self.sections.get("listen") else { return };
        for (path, node) in &mut self.found {
            if path.starts_with("listen.") && !node.origin.is_explicit() {
                *node = Node::new(Value::List(Vec::new()), origin);
            }
        }
    }

    /// What a named pool leaves unsaid is as [`keys::pool_default`] has it, whatever `[upstream]` says: its servers are other
    /// servers. Bootstrap alone is the machine's, and taken over.
    pub fn complete_pools(&mut self) {
        let bootstrap = self.found.get("upstream.bootstrap").cloned();
        for (pool, _) in self.pools() {
            for key in KEYS.iter().filter_map(|key| key.path.strip_prefix("pool.*.")) {
                let default = || keys::pool_default(key).map(|text| node::parse_value(text, Origin::Default));
                let unsaid = if key == "bootstrap" { bootstrap.clone() } else { default() };
                if let Some(node) = unsaid {
                    self.found.entry(format!("{pool}.{key}")).or_insert(node);
                }
            }
        }
    }

    /// What holds for a key.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.found.get(path)
    }

    /// Every key that has a value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.found.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Where a section was opened, if anybody did.
    pub fn section(&self, path: &str) -> Option<Origin> {
        self.sections.get(path).copied()
    }

    /// The named pools, as dotted paths.
    pub fn pools(&self) -> Vec<(String, Origin)> {
        let pools = self.sections.iter().filter(|(path, _)| path.starts_with("pool."));
        pools.map(|(path, origin)| (path.clone(), *origin)).collect()
    }

    fn place(&mut self, path: &[String], origin: Origin, node: Node, findings: &mut Findings) {
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let dotted = path.join(".");
        let known = keys::find(&segments);
        if known.is_some() && !segments.iter().copied().all(is_plain) {
            return findings.error(&dotted, origin, "a pool's name is made of letters, digits, - and _");
        }
        match known {
            None => findings.unknown(&dotted, origin, keys::suggest(&segments)),
            Some(Known::Section) => self.open(path, origin, node, findings),
            Some(Known::Key(_)) => {
                if let Some((_, section)) = segments.split_last() {
                    self.sections.entry(section.join(".")).or_insert(origin);
                }
                self.found.insert(dotted, node);
            }
        }
    }

    fn open(&mut self, path: &[String], origin: Origin, node: Node, findings: &mut Findings) {
        let dotted = path.join(".");
        let Value::Table(entries) = node.value else {
            return findings.error(&dotted, origin, format!("is a section: write [{dotted}] and its keys below"));
        };
        self.sections.entry(dotted).or_insert(origin);
        for entry in entries {
            let mut below = path.to_vec();
            below.push(entry.key);
            self.place(&below, entry.origin, entry.node, findings);
        }
    }
}

fn is_plain(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

/// The assignments of `HUSHGATE_SET`: split at commas, but not at those inside quotes, lists and tables.
#[must_use]
pub fn split_assignments(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut quoted = None;
    let mut escaped = false;
    let parts = text.split(|character: char| {
        let literal = std::mem::take(&mut escaped);
        match (quoted, character) {
            (Some('"'), '\\') => escaped = !literal,
            (Some(open), close) if open == close && !literal => quoted = None,
            (None, '"' | '\'') => quoted = Some(character),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (Some(_) | None, _) => {}
        }
        quoted.is_none() && depth == 0 && matches!(character, ',' | '\n')
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_split_at_commas_of_the_outermost_level() {
        let text = r#"a=2s, b=["x,y", 'z]'] ,c={d=1,e="\",}"}, , f=1 GiB"#;
        assert_eq!(split_assignments(text), ["a=2s", r#"b=["x,y", 'z]']"#, r#"c={d=1,e="\",}"}"#, "f=1 GiB"]);
        assert!(split_assignments(" , ").is_empty());
    }

    #[test]
    fn a_later_layer_replaces_a_key_and_keeps_its_neighbours() {
        let mut findings = Findings::default();
        let mut values = Values::defaults();
        values.assign("cache={size=\"1 MiB\", prefetch=false}", Origin::Environment, &mut findings);
        values.assign("cache.size = 2 MiB", Origin::Set, &mut findings);
        let size = values.get("cache.size").unwrap();
        assert_eq!((size.text(), size.origin), (Some("2 MiB"), Origin::Set));
        assert_eq!(values.get("cache.prefetch").unwrap().origin, Origin::Environment);
        assert_eq!(values.get("cache.max_ttl").unwrap().origin, Origin::Default);
        assert!(findings.into_sorted().is_empty());
    }
}
