//! What an answer is: data, a denial that may be kept, or something that is relayed once (RFC 2308, RFC 6604).

use super::Clean;
use super::chain::Chain;
use crate::upstream::Ask;
use crate::wire::registry::{rcode, rtype};
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

/// Judges an answer to `ask` with this RCODE, which speaks of the names of `chain`.
pub fn judge(clean: &Clean, ask: &Ask, chain: &Chain, rcode: u16) -> Judged {
    match rcode {
        rcode::NOERROR if is_answered(clean, ask, chain) => Judged::Positive,
        rcode::NOERROR => denied_for(clean, chain).map_or(Judged::Denied, |minimum| Judged::NoData { minimum }),
        rcode::NXDOMAIN if is_answered(clean, ask, chain) => Judged::Passing,
        rcode::NXDOMAIN => denied_for(clean, chain).map_or(Judged::Denied, |minimum| Judged::NxDomain { minimum }),
        _ => Judged::Denied,
    }
}

/// Has it a record of the type that was asked for, of a name of the chain?
fn is_answered(clean: &Clean, ask: &Ask, chain: &Chain) -> bool {
    let asked = ask.question.len().checked_sub(4).and_then(|at| u16_at(&ask.question, at).ok()).unwrap_or_default();
    let is_asked = |record: &Record| asked == rtype::ANY || record.rtype == asked;
    clean.of(Section::Answer).any(|record| is_asked(record) && chain.has(&clean.message, record.owner))
}

/// MINIMUM of the SOA that denies the end of the chain: one of another zone says nothing (NEG-10).
fn denied_for(clean: &Clean, chain: &Chain) -> Option<u32> {
    let soa = clean.of(Section::Authority).find(|record| record.rtype == rtype::SOA)?;
    let mut owner = Vec::new();
    name::expand(&clean.message, soa.owner.into(), &mut owner).ok()?;
    if !chain.is_of_class(soa.class) || !name::is_under(chain.end(), &owner) {
        return None;
    }
    minimum(&clean.message, soa).ok().flatten()
}

fn minimum(message: &[u8], soa: &Record) -> Result<Option<u32>, WireError> {
    let numbers = name::skip(message, name::skip(message, soa.rdata.start.into())?)?;
    let whole = numbers + 20 == usize::from(soa.rdata.end);
    Ok(if whole { Some(u32_at(message, numbers + 16)?) } else { None })
}
