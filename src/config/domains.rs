//! Lists of domains that something is said of: forwards and cache rules. Each domain may stand in one place only.

use std::collections::BTreeMap;

use super::Reader;
use super::kinds::{self, What};
use super::node::Node;
use super::reader::Fields;
use crate::upstream::address::ends_in_a_number;
use crate::wire::name;

/// How a kind of list speaks of its mistakes.
#[derive(Debug)]
pub struct Words {
    /// Of a list without a domain.
    pub none: &'static str,
    /// Between a domain and the place that has it already.
    pub twice: &'static str,
}

/// The field `domains`, each read by `domain`; `taken` holds where each domain of all such lists was written.
pub fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    taken: &mut BTreeMap<Box<[u8]>, String>,
    words: &Words,
    domain: fn(&Node) -> Result<Box<[u8]>, What>,
) -> Vec<Box<[u8]>> {
    let Some(node) = fields.get("domains") else {
        reader.require_field(fields, "domains");
        return Vec::new();
    };
    let list = fields.key("domains");
    reader.require_listed(&list, node, words.none);
    let mut domains = Vec::new();
    for (key, item) in reader.items(&list, node) {
        let Some(domain) = reader.check(&key, item, domain) else { continue };
        if let Some(holder) = taken.get(&domain) {
            reader.findings.error(&key, item.origin, format!("{} {} {holder}", item.shown(), words.twice));
        } else {
            taken.insert(domain.clone(), key);
            domains.push(domain);
        }
    }
    domains
}

/// A domain as a wire name in lower case.
pub fn any(node: &Node) -> Result<Box<[u8]>, What> {
    let text = kinds::domain(node)?;
    if ends_in_a_number(&text) {
        let what = "must be a domain name; the reverse zone of 10.0.0.0/8 is written \"10.in-addr.arpa\"";
        return Err(format!("{} {what}", node.shown()));
    }
    wire(&text).ok_or_else(|| format!("{} must be a domain name", node.shown()))
}

/// The same of text.
pub fn wire(text: &str) -> Option<Box<[u8]>> {
    name::from_text(text).ok().map(|wire| wire.to_ascii_lowercase().into())
}
