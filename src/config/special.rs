//! `[special]`: which names are answered here and not asked upstream, and what is answered to QTYPE ANY.

use super::domains;
use super::kinds::{self, What};
use super::nearest::nearest;
use super::node::Node;
use super::{Origin, Reader};
use crate::pipeline::{AnyRule, Special, is_answered_here, switchable};
use crate::upstream::settings::Forward;
use crate::wire::name;

const ALWAYS: &str = "is answered here whatever is said (RFC 6761, 7686, 9462): leave it out";

/// Reads it. What is forwarded is asked upstream as well.
pub fn read(reader: &mut Reader<'_>, forwards: &[Forward]) -> Special {
    let enabled = reader.read("special.enabled", kinds::flag);
    let denied = zones(reader, "special.deny", deny);
    let ask = zones(reader, "special.ask", |node| ask(node, &denied));
    let forwarded: Vec<Box<[u8]>> = forwards.iter().flat_map(|forward| forward.domains.iter().cloned()).collect();
    for (key, origin, zone) in &denied {
        let asked = ask.iter().map(|(key, _, zone)| (zone, key.as_str()));
        let said = asked.chain(forwarded.iter().map(|zone| (zone, "a [[forward]]")));
        if let Some((zone, place)) = said.into_iter().find(|(asked, _)| *asked == zone) {
            let what = format!("\"{}\" is asked upstream by {place}: it cannot be denied as well", shown(zone));
            reader.findings.error(key, *origin, what);
        }
    }
    let all = (!enabled).then(switchable).into_iter().flatten().filter_map(|(text, _)| domains::wire(&text));
    // The root is no part of the tree that anybody chose.
    let forwarded = forwarded.into_iter().filter(|domain| domain.len() > 1);
    let asked = ask.into_iter().map(|(_, _, zone)| zone).chain(forwarded).chain(all).collect();
    Special { asked, denied: denied.into_iter().map(|(_, _, zone)| zone).collect() }
}

/// Reads what is answered to QTYPE ANY.
pub fn read_any(reader: &mut Reader<'_>) -> AnyRule {
    reader.read("special.any", kinds::choice(&[("minimal", AnyRule::Minimal), ("full", AnyRule::Full)]))
}

/// A zone of a list and where it was said.
type Said = (String, Origin, Box<[u8]>);

fn zones(reader: &mut Reader<'_>, list: &str, parse: impl Fn(&Node) -> Result<Box<[u8]>, What>) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    for (key, node) in reader.read_items(list) {
        let Some(zone) = reader.check(&key, node, &parse) else { continue };
        if let Some((first, ..)) = said.iter().find(|(_, _, other)| *other == zone) {
            let what = format!("{} is already said by {first}", node.shown());
            reader.findings.error(&key, node.origin, what);
        } else {
            said.push((key, node.origin, zone));
        }
    }
    said
}

/// A domain that is asked upstream though it is special: a zone, a part of one, or what several zones lie under.
fn ask(node: &Node, denied: &[Said]) -> Result<Box<[u8]>, What> {
    let wire = zone(node, "everything is asked upstream with enabled = false")?;
    let denied = denied.iter().map(|(_, _, zone)| zone.clone());
    let mut zones = switchable().filter_map(|(text, _)| domains::wire(&text)).chain(denied);
    if zones.any(|zone| name::is_under(&wire, &zone) || name::is_under(&zone, &wire)) {
        return Ok(wire);
    }
    let known: Vec<String> = switchable().map(|(text, _)| text).collect();
    let text = shown(&wire);
    let meant = nearest(&text, known.iter().map(String::as_str));
    let meant = meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
    Err(format!(
        "{} is no special zone and is asked upstream anyway: special are \"test\", \"local\", \"home.arpa\", private reverse zones \
         like \"168.192.in-addr.arpa\" and those of special.deny{meant}",
        node.shown()
    ))
}

/// A zone that does not exist here.
fn deny(node: &Node) -> Result<Box<[u8]>, What> {
    zone(node, "no name at all would exist")
}

/// A domain that a list of `[special]` may name; `root` is what the root would mean there.
fn zone(node: &Node, root: &str) -> Result<Box<[u8]>, What> {
    let wire = domains::any(node)?;
    if wire.len() == 1 {
        return Err(format!("{} is the root: {root}", node.shown()));
    }
    if is_answered_here(&wire) { Err(format!("{} {ALWAYS}", node.shown())) } else { Ok(wire) }
}

fn shown(wire: &[u8]) -> String {
    name::Shown(wire).to_string().trim_end_matches('.').to_owned()
}
