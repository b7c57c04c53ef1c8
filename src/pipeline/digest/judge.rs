//! What an answer is: data, a denial that may be kept, or something that is relayed once (RFC 2308, RFC 6604).

use super::Clean;
use crate::upstream::Ask;
use crate::wire::registry::{class, rcode, rtype};
use crate::wire::{Record, Section, WireError, name, u16_at, u32_at};

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Records that answer the question.
    Positive,
    /// None, and an SOA that says for how long at most (its MINIMUM).
    NoData {
        /// SOA MINIMUM.
        minimum: u32,
    },
    /// No such name, likewise.
    NxDomain {
        /// SOA MINIMUM.
        minimum: u32,
    },
    /// Records, but not to be kept.
    Passing,
    /// A referral, a denial without proof of its lifetime, an error: not to be kept, by HTTP caches neither.
    Denied,
}

/// Judges an answer to `ask` with this RCODE.
pub fn judge(clean: &Clean, ask: &Ask, rcode: u16) -> Judged {
    let Some(target) = Target::follow(clean, ask) else { return Judged::Denied };
    match rcode {
        rcode::NOERROR if target.answered => Judged::Positive,
        rcode::NOERROR => target.minimum(clean).map_or(Judged::Denied, |minimum| Judged::NoData { minimum }),
        rcode::NXDOMAIN if target.answered => Judged::Passing,
        rcode::NXDOMAIN => target.minimum(clean).map_or(Judged::Denied, |minimum| Judged::NxDomain { minimum }),
        _ => Judged::Denied,
    }
}

/// Is QNAME itself an alias (STL-09)?
pub fn is_alias(clean: &Clean, ask: &Ask) -> bool {
    let Some((qname, _)) = ask.question.split_last_chunk::<4>() else { return false };
    let target = Target { name: qname.to_vec(), class: class::ANY, answered: false };
    let mut owner = Vec::new();
    let mut aliases = clean.of(Section::Answer).filter(|record| record.rtype == rtype::CNAME);
    aliases.any(|record| target.is_owner(clean, record, &mut owner))
}

/// The name that the answer speaks of: QNAME, or what its CNAMEs lead to.
struct Target {
    name: Vec<u8>,
    class: u16,
    answered: bool,
}

impl Target {
    fn follow(clean: &Clean, ask: &Ask) -> Option<Self> {
        let (qname, rest) = ask.question.split_at_checked(ask.question.len().checked_sub(4)?)?;
        let (asked, class) = (u16_at(rest, 0).ok()?, u16_at(rest, 2).ok()?);
        let mut target = Self { name: qname.to_vec(), class, answered: false };
        let mut owner = Vec::new();
        for record in clean.of(Section::Answer) {
            // An answer to ANY class may be of any class.
            if (record.class != class && class != 255) || !target.is_owner(clean, record, &mut owner) {
                continue;
            }
            if record.rtype == asked || asked == rtype::ANY {
                target.answered = true;
            } else if record.rtype == rtype::CNAME {
                target.name.clear();
                name::expand(&clean.message, record.rdata.start.into(), &mut target.name).ok()?;
            }
        }
        Some(target)
    }

    fn is_owner(&self, clean: &Clean, record: &Record, owner: &mut Vec<u8>) -> bool {
        owner.clear();
        name::expand(&clean.message, record.owner.into(), owner).is_ok() && owner.eq_ignore_ascii_case(&self.name)
    }

    /// MINIMUM of the SOA that denies this name: one of another zone says nothing (NEG-10).
    fn minimum(&self, clean: &Clean) -> Option<u32> {
        let soa = clean.of(Section::Authority).find(|record| record.rtype == rtype::SOA)?;
        let mut owner = Vec::new();
        name::expand(&clean.message, soa.owner.into(), &mut owner).ok()?;
        if (soa.class != self.class && self.class != 255) || !name::is_under(&self.name, &owner) {
            return None;
        }
        minimum(&clean.message, soa).ok().flatten()
    }
}

fn minimum(message: &[u8], soa: &Record) -> Result<Option<u32>, WireError> {
    let numbers = name::skip(message, name::skip(message, soa.rdata.start.into())?)?;
    let whole = numbers + 20 == usize::from(soa.rdata.end);
    Ok(if whole { Some(u32_at(message, numbers + 16)?) } else { None })
}
