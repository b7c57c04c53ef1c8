//! Reads typed values out of the layers and writes down what cannot be read, so that reading goes on to the end.

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::effect;
use super::kinds::{self, What};
use super::nearest::nearest;
use super::node::{Entry, Node, Value};
use super::{Findings, Origin, Surroundings, Values, plain_file};
use crate::confine;

/// What reading needs.
#[derive(Debug)]
pub struct Reader<'a> {
    /// What holds.
    pub values: &'a Values,
    /// What is wrong.
    pub findings: &'a mut Findings,
    /// The machine.
    pub around: &'a Surroundings,
    /// The file's folder, which its paths are relative to.
    pub base: &'a Path,
    /// Every path that was said, for whoever must know what the gateway goes on to read.
    pub named: RefCell<Vec<PathBuf>>,
}

/// A table inside a list: a door, a server, a certificate.
#[derive(Debug)]
pub struct Fields<'n> {
    key: String,
    /// Where it was said.
    pub origin: Origin,
    entries: &'n [Entry],
}

impl Fields<'_> {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
    }

    /// Does it say nothing but `name`?
    pub fn is_only(&self, name: &str) -> bool {
        self.entries.iter().all(|entry| entry.key == name)
    }

    /// The path of the table.
    pub fn path(&self) -> &str {
        &self.key
    }

    /// The path of a field.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }
}

impl<'a> Reader<'a> {
    /// A key's value; where it cannot be read the problem is noted and a value stands in that nobody will use.
    pub fn read<T: Default>(&mut self, path: &str, parse: impl FnOnce(&'a Node) -> Result<T, What>) -> T {
        let values = self.values;
        values.get(path).and_then(|node| self.check(path, node, parse)).unwrap_or_default()
    }

    /// The values of a list.
    pub fn read_list<T>(&mut self, path: &str, parse: impl FnMut(&'a Node) -> Result<T, What>) -> Vec<T> {
        let values = self.values;
        values.get(path).map(|node| self.check_list(path, node, parse)).unwrap_or_default()
    }

    /// Reads `node`, said at `key`.
    pub fn check<'n, T>(
        &mut self,
        key: &str,
        node: &'n Node,
        parse: impl FnOnce(&'n Node) -> Result<T, What>,
    ) -> Option<T> {
        parse(node).map_err(|what| self.findings.error(key, node.origin, what)).ok()
    }

    /// Reads every item of `node`, said at `key`.
    pub fn check_list<'n, T>(
        &mut self,
        key: &str,
        node: &'n Node,
        mut parse: impl FnMut(&'n Node) -> Result<T, What>,
    ) -> Vec<T> {
        let items = self.items(key, node);
        items.into_iter().filter_map(|(key, item)| self.check(&key, item, &mut parse)).collect()
    }

    /// The items of a list with their paths.
    pub fn items<'n>(&mut self, key: &str, node: &'n Node) -> Vec<(String, &'n Node)> {
        let Value::List(items) = &node.value else {
            let what = format!("{} must be a list, in [ ]", node.shown());
            self.findings.error(key, node.origin, what);
            return Vec::new();
        };
        items.iter().enumerate().map(|(index, item)| (format!("{key}[{index}]"), item)).collect()
    }

    /// The items of the list at `path`.
    pub fn read_items(&mut self, path: &str) -> Vec<(String, &'a Node)> {
        let values = self.values;
        values.get(path).map(|node| self.items(path, node)).unwrap_or_default()
    }

    /// Notes that the list at `path` may not be empty.
    pub fn require_items(&mut self, path: &str, what: &str) {
        if let Some(node) = self.values.get(path) {
            self.require_listed(path, node, what);
        }
    }

    /// The same of the list `node`, said at `key`.
    pub fn require_listed(&mut self, key: &str, node: &Node, what: &str) {
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            self.findings.error(key, node.origin, what);
        }
    }

    /// Looks into a table of a list; `pattern` is its name in `EFFECT`.
    pub fn fields<'n>(&mut self, key: &str, node: &'n Node, known: &[&str], pattern: &str) -> Option<Fields<'n>> {
        let Value::Table(entries) = &node.value else {
            let what = format!("{} must be a table, in {{ }}", node.shown());
            self.findings.error(key, node.origin, what);
            return None;
        };
        for entry in entries {
            let path = format!("{key}.{}", entry.key);
            if known.contains(&entry.key.as_str()) {
                effect::judge(&format!("{pattern}[].{}", entry.key), &path, &entry.node, self.findings);
            } else {
                let meant = nearest(&entry.key, known.iter().copied()).map(str::to_owned);
                self.findings.unknown(&path, entry.origin, meant);
            }
        }
        Some(Fields { key: key.to_owned(), origin: node.origin, entries })
    }

    /// A field's value, if it is there and can be read.
    pub fn field<'n, T>(
        &mut self,
        fields: &'n Fields<'_>,
        name: &str,
        parse: impl FnOnce(&'n Node) -> Result<T, What>,
    ) -> Option<T> {
        fields.get(name).and_then(|node| self.check(&fields.key(name), node, parse))
    }

    /// The values of a field that is a list, if it is there.
    pub fn field_list<'n, T>(
        &mut self,
        fields: &'n Fields<'_>,
        name: &str,
        parse: impl FnMut(&'n Node) -> Result<T, What>,
    ) -> Option<Vec<T>> {
        fields.get(name).map(|node| self.check_list(&fields.key(name), node, parse))
    }

    /// Notes that a field must be there.
    pub fn require_field(&mut self, fields: &Fields<'_>, name: &str) {
        if fields.get(name).is_none() {
            self.findings.error(&fields.key, fields.origin, format!("`{name}` is missing"));
        }
    }

    /// A path: relative to the file where the file says it, else to where hushgate was started.
    pub fn path(&self, node: &Node) -> Result<PathBuf, What> {
        let text = kinds::text(node)?;
        if text.is_empty() {
            return Err("\"\" must be a path".to_owned());
        }
        let path = match node.origin {
            Origin::File { .. } => self.base.join(text),
            Origin::Default | Origin::Environment | Origin::Set => PathBuf::from(text),
        };
        self.named.borrow_mut().push(path.clone());
        Ok(path)
    }

    /// The path of a file that can be read.
    pub fn file(&self, node: &Node) -> Result<PathBuf, What> {
        let path = self.path(node)?;
        let readable = plain_file::open(&path).and_then(|mut file| file.read(&mut [0]));
        match readable {
            Ok(_) => Ok(path),
            Err(error) => {
                let hint = match error.kind() {
                    // Only a reload can meet this: at start everything is read before the process is confined.
                    ErrorKind::PermissionDenied if confine::is_fenced() => {
                        "its user may not, or landlock holds it to the folders that were named at start: then start hushgate anew"
                    }
                    _ => "check the path, and that the user hushgate runs as may read it",
                };
                Err(format!("{} cannot be read: {error}; {hint}", path.display()))
            }
        }
    }
}
