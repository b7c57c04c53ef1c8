//! Which records of the answer section speak of what was asked: those of QNAME and of the names that its CNAMEs lead to.
//!
//! What else a server adds there was not asked for, and is neither relayed nor kept (RFC 2181 5.4.1; TTL-16): whoever reads an answer
//! by its types alone would take it for the answer. A DNAME above a name of the chain stays: its CNAME was made from it (RFC 6672 3.1).

use std::collections::{HashMap, HashSet};

use ahash::RandomState;

use super::Flaw;
use crate::upstream::Ask;
use crate::wire::registry::rtype;
use crate::wire::{Record, Section, name, u16_at};

/// The names that an answer speaks of, folded: QNAME, and what each CNAME leads to in turn.
pub struct Chain {
    names: Vec<Vec<u8>>,
    class: u16,
}

/// A set of names, by their octets.
type Names<'a> = HashSet<&'a [u8], RandomState>;

/// A class that stands for all (RFC 1035 3.2.5).
const ANY_CLASS: u16 = 255;

/// Names that a chain may have. Resolvers follow a dozen; and every record is compared with all.
const LONGEST: usize = 128;

impl Chain {
    /// The chain of the answer to `ask` with these records, whatever their order.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] where it leads in a circle or is far too long: such a name cannot be resolved (RFC 9520 2).
    pub fn of(message: &[u8], records: &[Record], ask: &Ask) -> Result<Self, Flaw> {
        let (qname, fixed) = ask.question.split_last_chunk::<4>().ok_or(Flaw::Malformed)?;
        let (asked, class) = (u16_at(fixed, 0)?, u16_at(fixed, 2)?);
        let mut chain = Self { names: vec![qname.to_ascii_lowercase()], class };
        if matches!(asked, rtype::CNAME | rtype::ANY) {
            // The alias itself is the answer (RFC 1034 4.3.2, step 3a).
            return Ok(chain);
        }
        let mut aliases: HashMap<Vec<u8>, Vec<u8>, RandomState> = HashMap::default();
        let is_alias = |record: &&Record| record.section == Section::Answer && record.rtype == rtype::CNAME;
        for record in records.iter().filter(is_alias).filter(|record| chain.is_of_class(record.class)) {
            // Of several for one name the first holds: a name has one CNAME (RFC 2181 10.1).
            let target = folded(message, record.rdata.start.into())?;
            aliases.entry(folded(message, record.owner.into())?).or_insert(target);
        }
        // Each step takes its CNAME out, so this ends.
        while let Some(target) = chain.names.last().and_then(|last| aliases.remove(last)) {
            if chain.names.len() == LONGEST || chain.names.contains(&target) {
                return Err(Flaw::Malformed);
            }
            chain.names.push(target);
        }
        Ok(chain)
    }

    /// Takes what is not of the chain out of the answer section; answers where the first of it stood.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] where nothing is left: the server answered something else.
    pub fn strip(&self, message: &[u8], records: &mut Vec<Record>) -> Result<Option<u16>, Flaw> {
        let names: Names<'_> = self.names.iter().map(Vec::as_slice).collect();
        let mut above: Option<Names<'_>> = None;
        let mut first = None;
        records.retain(|record| {
            let belongs = record.section != Section::Answer
                || self.is_of_class(record.class)
                    && (points_at_qname(message, record)
                        || folded(message, record.owner.into()).is_ok_and(|owner| {
                            names.contains(owner.as_slice())
                                || is_dname(message, record)
                                    && above.get_or_insert_with(|| self.above()).contains(owner.as_slice())
                        }));
            if !belongs {
                first.get_or_insert(record.owner);
            }
            belongs
        });
        let emptied = first.is_some() && !records.iter().any(|record| record.section == Section::Answer);
        if emptied { Err(Flaw::Malformed) } else { Ok(first) }
    }

    /// The name that the answer ends at.
    pub fn end(&self) -> &[u8] {
        self.names.last().map_or(&[], Vec::as_slice)
    }

    /// Does it have the name at `at`?
    pub fn has(&self, message: &[u8], at: u16) -> bool {
        folded(message, at.into()).is_ok_and(|name| self.names.contains(&name))
    }

    /// Is QNAME itself an alias (STL-09)?
    pub fn is_alias(&self, message: &[u8], records: &[Record]) -> bool {
        let mut answers = records.iter().filter(|record| record.section == Section::Answer);
        let is_qname = |name: Vec<u8>| self.names.first() == Some(&name);
        answers.any(|record| record.rtype == rtype::CNAME && folded(message, record.owner.into()).is_ok_and(is_qname))
    }

    /// Is `class` the one that was asked for?
    pub const fn is_of_class(&self, class: u16) -> bool {
        class == self.class || self.class == ANY_CLASS
    }

    /// Its names and all that they are under.
    fn above(&self) -> Names<'_> {
        let mut above = Names::default();
        for name in &self.names {
            let mut rest = name.as_slice();
            while let Some((&length, tail)) = rest.split_first() {
                above.insert(rest);
                rest = tail.get(usize::from(length)..).unwrap_or_default();
            }
        }
        above
    }
}

/// Is it a DNAME, or the signature of one?
fn is_dname(message: &[u8], record: &Record) -> bool {
    let signed = || u16_at(record.rdata.of(message), 0) == Ok(rtype::DNAME);
    record.rtype == rtype::DNAME || record.rtype == rtype::RRSIG && signed()
}

/// Is its owner written as a pointer to the question, which follows the header of 12 octets? Nearly all are.
fn points_at_qname(message: &[u8], record: &Record) -> bool {
    const POINTER: u16 = 0xc00c;
    u16_at(message, record.owner.into()) == Ok(POINTER)
}

fn folded(message: &[u8], at: usize) -> Result<Vec<u8>, Flaw> {
    let mut out = Vec::new();
    name::expand(message, at, &mut out)?;
    out.make_ascii_lowercase();
    Ok(out)
}
