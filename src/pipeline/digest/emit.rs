//! Taking records out of an answer.
//!
//! Compression pointers lead backward only, so what ends a message can be cut off it and all before stays valid: that is how
//! the OPT goes, which nearly always stands last. When records in the middle go (signatures that nobody asked for, an OPT that
//! is not last), everything after them moves, and pointers may lead into what is gone. Then the records are written anew: owners
//! in full or as a pointer to the same name, names in the RDATA of types that may have been compressed in full, all other RDATA
//! byte for byte (RFC 3597 4). A rewritten answer that no longer fits a message goes without its additional section, or not at all.

use std::collections::HashMap;

use ahash::RandomState;

use super::read::Received;
use super::{Clean, Flaw};
use crate::upstream::Ask;
use crate::wire::registry::rtype;
use crate::wire::{HEADER_LEN, Header, Record, Section, Span, WireError, name, patch};

/// `received` without hop-by-hop records, and for DO=0 without the DNSSEC records that were not asked for.
///
/// # Errors
/// [`Flaw::Malformed`] where what is left cannot be written.
pub fn clean(received: Received<'_>, ask: &Ask) -> Result<Clean, Flaw> {
    let Received { message, header, records_at, gap_at, .. } = received;
    let mut kept = received.records;
    let asked = asked_type(&ask.question);
    let stripped = kept.iter().find(|record| is_unwanted(record.rtype, ask, asked)).map(|record| record.owner);
    kept.retain(|record| !is_unwanted(record.rtype, ask, asked));
    let gap = gap_at.into_iter().chain(stripped).min();
    let end = kept.last().map_or(records_at, |last| last.rdata.end.into());
    let header = count(header, &kept);
    // A question was asked, and is told again even if the upstream cut it from an error.
    if records_at == HEADER_LEN {
        return Ok(question_alone(header, ask));
    }
    if gap.is_none_or(|gap| usize::from(gap) >= end) {
        let message = message.get(..end).ok_or(Flaw::Malformed)?.to_vec();
        return Ok(Clean { message, header, records: kept });
    }
    let rewritten = rewrite(message, records_at, &kept).or_else(|_| {
        kept.retain(|record| record.section != Section::Additional);
        rewrite(message, records_at, &kept)
    })?;
    Ok(Clean { message: rewritten.0, header: count(header, &kept), records: rewritten.1 })
}

fn question_alone(header: Header, ask: &Ask) -> Clean {
    let message = [&[0; HEADER_LEN], &*ask.question].concat();
    let header = Header { questions: 1, answers: 0, authorities: 0, additionals: 0, ..header };
    Clean { message, header, records: Vec::new() }
}

fn asked_type(question: &[u8]) -> u16 {
    question.len().checked_sub(4).and_then(|at| crate::wire::u16_at(question, at).ok()).unwrap_or_default()
}

/// SEC-04, SEC-05: proofs are for those who ask for them, by DO, by type, or by ANY.
fn is_unwanted(rtype: u16, ask: &Ask, asked: u16) -> bool {
    let proof = matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3 | rtype::DNSKEY);
    proof && !ask.dnssec_ok && rtype != asked && asked != rtype::ANY
}

fn count(header: Header, records: &[Record]) -> Header {
    let of = |section| narrow(records.iter().filter(|record| record.section == section).count()).unwrap_or(u16::MAX);
    Header {
        answers: of(Section::Answer),
        authorities: of(Section::Authority),
        additionals: of(Section::Additional),
        ..header
    }
}

/// An offset, as long as the message is one: the bound on all that is rewritten.
fn narrow(at: usize) -> Result<u16, WireError> {
    u16::try_from(at).map_err(|_| WireError::Short)
}

/// A message under reconstruction.
struct Rewriter<'a> {
    from: &'a [u8],
    to: Vec<u8>,
    /// Names written in full where a pointer can reach them. Only equal bytes are shared, so letter case is kept.
    names: HashMap<Vec<u8>, u16, RandomState>,
}

fn rewrite(message: &[u8], records_at: usize, records: &[Record]) -> Result<(Vec<u8>, Vec<Record>), WireError> {
    let to = message.get(..records_at).ok_or(WireError::Short)?.to_vec();
    let mut rewriter = Rewriter { from: message, to, names: HashMap::default() };
    let mut qname = Vec::new();
    name::expand(message, HEADER_LEN, &mut qname)?;
    rewriter.names.insert(qname, narrow(HEADER_LEN)?);
    let mut moved = Vec::with_capacity(records.len());
    for record in records {
        moved.push(rewriter.record(record)?);
    }
    Ok((rewriter.to, moved))
}

impl Rewriter<'_> {
    fn record(&mut self, record: &Record) -> Result<Record, WireError> {
        let owner = narrow(self.to.len())?;
        self.owner(record.owner.into())?;
        let ttl_at = narrow(self.to.len() + 4)?;
        let fixed = usize::from(record.ttl_at);
        self.to.extend_from_slice(self.from.get(fixed - 4..fixed + 4).ok_or(WireError::Short)?);
        let length_at = self.to.len();
        self.to.extend_from_slice(&[0; 2]);
        let start = self.to.len();
        if self.expanded(record).is_err() {
            self.to.truncate(start);
            self.to.extend_from_slice(record.rdata.of(self.from));
        }
        let length = narrow(self.to.len() - start)?;
        patch::put_u16(&mut self.to, length_at, length);
        let rdata = Span { start: narrow(start)?, end: narrow(self.to.len())? };
        Ok(Record { owner, ttl_at, rdata, ..*record })
    }

    fn owner(&mut self, at: usize) -> Result<(), WireError> {
        let mut owner = Vec::new();
        name::expand(self.from, at, &mut owner)?;
        if let Some(known) = self.names.get(&owner).filter(|_| owner.len() > 2) {
            self.to.extend_from_slice(&(0xc000 | known).to_be_bytes());
            return Ok(());
        }
        self.to.extend_from_slice(&owner);
        let start = self.to.len() - owner.len();
        if start < 0x4000 {
            self.names.insert(owner, narrow(start)?);
        }
        Ok(())
    }

    /// RDATA with its names in full. An error where it is not laid out as its type says: it is then opaque.
    fn expanded(&mut self, record: &Record) -> Result<(), WireError> {
        let Some((before, names)) = layout(record.rtype) else {
            self.to.extend_from_slice(record.rdata.of(self.from));
            return Ok(());
        };
        let (start, end) = (usize::from(record.rdata.start), usize::from(record.rdata.end));
        let mut at = match before {
            Before::Octets(octets) => start + octets,
            Before::Naptr => naptr_replacement(self.from, start)?,
        };
        if at > end {
            return Err(WireError::Short);
        }
        self.to.extend_from_slice(self.from.get(start..at).ok_or(WireError::Short)?);
        for _ in 0..names {
            at = name::expand(self.from, at, &mut self.to)?;
        }
        self.to.extend_from_slice(self.from.get(at..end).ok_or(WireError::Short)?);
        Ok(())
    }
}

/// What stands before the names of an RDATA.
#[derive(Clone, Copy)]
enum Before {
    Octets(usize),
    Naptr,
}

/// Where the types that RFC 1035 allows, or RFC 3597 4 expects, to be compressed have their names.
const fn layout(rtype: u16) -> Option<(Before, usize)> {
    Some(match rtype {
        // NS MD MF CNAME MB MG MR PTR, NXT, DNAME
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 30 | 39 => (Before::Octets(0), 1),
        // SOA, MINFO, RP
        6 | 14 | 17 => (Before::Octets(0), 2),
        // MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => (Before::Octets(2), 1),
        // PX
        26 => (Before::Octets(2), 2),
        // SRV
        33 => (Before::Octets(6), 1),
        // SIG
        24 => (Before::Octets(18), 1),
        // NAPTR
        35 => (Before::Naptr, 1),
        _ => return None,
    })
}

/// Order, preference and three character-strings precede the name (RFC 3403 4.1).
fn naptr_replacement(message: &[u8], start: usize) -> Result<usize, WireError> {
    let mut at = start + 4;
    for _ in 0..3 {
        at += 1 + usize::from(*message.get(at).ok_or(WireError::Short)?);
    }
    Ok(at)
}
