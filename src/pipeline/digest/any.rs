//! The subset of an answer to QTYPE ANY that is told and kept (RFC 8482 4.1).
//!
//! Who asks for anything gets one set of records, so that a short question has no long answer: the alias if the name is one, else the
//! first set of data. Signatures over it are for those who ask for proofs (ANY-02).

use super::Flaw;
use crate::upstream::Ask;
use crate::wire::registry::rtype;
use crate::wire::{Record, Section, u16_at};

/// Takes all but one set out of the records of an answer to QTYPE ANY, and out of other answers nothing; answers where the first of
/// what is gone stood.
///
/// # Errors
/// [`Flaw::Malformed`] where a signature has no room for the type that it covers.
pub fn reduce(message: &[u8], records: &mut Vec<Record>, ask: &Ask) -> Result<Option<u16>, Flaw> {
    if asked_type(ask) != Some(rtype::ANY) {
        return Ok(None);
    }
    let mut sets = Vec::with_capacity(records.len());
    for record in records.iter().filter(|record| record.section == Section::Answer) {
        sets.push((data_type(message, record)?, record.class, record.rtype));
    }
    let Some((rtype, class)) = choose(&sets) else { return Ok(None) };
    // Where there is nothing but signatures, they are the set.
    let only_signatures = sets.iter().all(|(.., own)| *own == rtype::RRSIG);
    let mut first = None;
    records.retain(|record| {
        let covered = data_type(message, record).unwrap_or_default();
        let stays = match record.section {
            // An alias below a DNAME was made from it, and is proven by it (RFC 6672 3.1).
            Section::Answer => {
                record.class == class
                    && (covered == rtype || rtype == rtype::CNAME && covered == rtype::DNAME)
                    && (record.rtype != rtype::RRSIG || ask.dnssec_ok || only_signatures)
            }
            // That an answer was made from a wildcard is proven here (RFC 4035 3.1.3.3).
            Section::Authority => ask.dnssec_ok,
            Section::Additional => false,
        };
        if !stays {
            first.get_or_insert(record.owner);
        }
        stays
    });
    Ok(first)
}

/// The type and class of the set that is told, of those with these types, classes and types of records.
fn choose(sets: &[(u16, u16, u16)]) -> Option<(u16, u16)> {
    let is_proof = |own| matches!(own, rtype::RRSIG | rtype::NSEC | rtype::NSEC3 | rtype::DNSKEY);
    let alias = sets.iter().find(|(.., own)| *own == rtype::CNAME);
    let data = || sets.iter().find(|(.., own)| !is_proof(*own));
    let proof = || sets.iter().find(|(.., own)| *own != rtype::RRSIG);
    let chosen = alias.or_else(data).or_else(proof).or_else(|| sets.first())?;
    Some((chosen.0, chosen.1))
}

/// The type of the set that a record belongs to: a signature belongs to what it signs.
fn data_type(message: &[u8], record: &Record) -> Result<u16, Flaw> {
    if record.rtype == rtype::RRSIG { Ok(u16_at(record.rdata.of(message), 0)?) } else { Ok(record.rtype) }
}

fn asked_type(ask: &Ask) -> Option<u16> {
    let (_, fixed) = ask.question.split_last_chunk::<4>()?;
    u16_at(fixed, 0).ok()
}
