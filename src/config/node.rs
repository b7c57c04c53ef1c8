//! TOML as a tree that knows where each value was said.
//!
//! The parser goes on after a mistake, so one look finds every broken line.

use std::fmt::Write as _;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Origin;

/// A value and where it was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was said.
    pub origin: Origin,
    /// The characters of a bare `--set` value: `tls.min_version=1.3` looks like a number and is meant as text.
    pub bare: Option<String>,
}

/// A TOML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"…"`.
    Text(String),
    /// `1`.
    Integer(i64),
    /// `0.5`.
    Float(f64),
    /// `true`.
    Boolean(bool),
    /// A date or time, or a number no key can want.
    Other(String),
    /// `[…]`.
    List(Vec<Node>),
    /// `{…}` or `[section]`.
    Table(Vec<Entry>),
}

/// A key of a table, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub origin: Origin,
    /// What it is set to.
    pub node: Node,
}

/// A broken place: where, and what the parser says.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where.
    pub origin: Origin,
    /// What the parser says.
    pub message: String,
}

/// Reads a file: what can be understood of it, and what cannot.
#[must_use]
pub fn parse_file(text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mark = |at: usize| position(text, at);
    let mut faults: Vec<Fault> = errors
        .iter()
        .map(|error| Fault { origin: mark(error.span().map_or(0, |span| span.start)), message: error.message().into() })
        .collect();
    // One slip often makes the parser stumble several times on a line; the first time says what it was.
    faults.sort_by_key(|fault| fault.origin);
    faults.dedup_by_key(|fault| fault.origin.position().0);
    (entries(table.get_ref(), &mark), faults)
}

/// Reads one value as `origin` says it; text that is no TOML value is taken as a bare string.
#[must_use]
pub fn parse_value(text: &str, origin: Origin) -> Node {
    let mut node = match DeValue::parse(text) {
        Ok(value) => build(&value, &|_| origin),
        Err(_) => Node { value: Value::Text(text.to_owned()), origin, bare: None },
    };
    node.bare = Some(text.to_owned());
    node
}

fn position(text: &str, at: usize) -> Origin {
    let before = text.get(..at).unwrap_or(text);
    let line = before.bytes().filter(|&octet| octet == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Origin::File { line, column }
}

fn entries(table: &DeTable<'_>, mark: &dyn Fn(usize) -> Origin) -> Vec<Entry> {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| Entry {
        key: AsRef::<str>::as_ref(key.get_ref()).to_owned(),
        origin: mark(key.span().start),
        node: build(value, mark),
    };
    let mut written: Vec<_> = table.iter().collect();
    written.sort_by_key(|(key, _)| key.span().start);
    written.into_iter().map(entry).collect()
}

fn build(spanned: &Spanned<DeValue<'_>>, mark: &dyn Fn(usize) -> Origin) -> Node {
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other(number.to_string()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other(number.to_string()),
        },
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Other(value.to_string()),
        DeValue::Array(list) => Value::List(list.iter().map(|item| build(item, mark)).collect()),
        DeValue::Table(table) => Value::Table(entries(table, mark)),
    };
    Node { value, origin: mark(spanned.span().start), bare: None }
}

impl Node {
    /// A value nobody wrote as TOML.
    #[must_use]
    pub const fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, bare: None }
    }

    /// The text, if it is one; a bare `--set` value is one whatever it looks like.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) => self.bare.as_deref(),
            Value::List(_) | Value::Table(_) => None,
        }
    }

    /// As TOML on one line.
    #[must_use]
    pub fn to_toml(&self) -> String {
        match &self.value {
            Value::Text(text) => quote(text),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Boolean(value) => value.to_string(),
            Value::Other(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(Self::to_toml).collect::<Vec<_>>().join(", ")),
            Value::Table(entries) if entries.is_empty() => "{}".to_owned(),
            Value::Table(entries) => {
                let pair = |entry: &Entry| format!("{} = {}", quote_key(&entry.key), entry.node.to_toml());
                format!("{{ {} }}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Text(text) | Value::Other(text) => Json::from(text.as_str()),
            Value::Integer(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Boolean(value) => Json::from(*value),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
        }
    }

    /// The value in a message, shortened where it is long.
    #[must_use]
    pub fn shown(&self) -> String {
        let whole = match &self.value {
            Value::List(_) => return "a list".to_owned(),
            Value::Table(_) => return "a table".to_owned(),
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) => {
                self.to_toml()
            }
        };
        if whole.chars().count() <= LONGEST_SHOWN {
            return whole;
        }
        whole.chars().take(LONGEST_SHOWN).chain("…".chars()).collect()
    }
}

const LONGEST_SHOWN: usize = 80;

/// `text` as a TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

/// `key` bare where TOML allows it.
fn quote_key(key: &str) -> String {
    let bare =
        !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    if bare { key.to_owned() } else { quote(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_line_is_found_and_the_rest_is_understood() {
        let (entries, faults) = parse_file("a = \nb = 2\nc = 5s\n");
        assert_eq!(faults.iter().map(|fault| fault.origin.position().0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(entries[1].node, Node::new(Value::Integer(2), Origin::File { line: 2, column: 5 }));
    }

    #[test]
    fn columns_count_characters_and_not_octets() {
        let (entries, _) = parse_file("\"\u{fc}\" = { key = 1 }\n");
        let Value::Table(inner) = &entries[0].node.value else { panic!("a table") };
        assert_eq!(inner[0].origin, Origin::File { line: 1, column: 9 });
    }

    #[test]
    fn values_are_rendered_as_toml_that_reads_back() {
        for text in ["\"a\\\"b\\\\c\\u0001\"", "[1, true, { a = 0.05, \"b c\" = [] }]", "-7", "{}"] {
            let node = parse_value(text, Origin::Set);
            assert_eq!(parse_value(&node.to_toml(), Origin::Set).value, node.value, "{text}");
        }
    }
}
