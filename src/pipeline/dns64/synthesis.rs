//! Answers made of others, record by record: AAAA of A, without what counts as absent, and pointers behind an alias.
//!
//! Aliases and their signatures stay; the signatures of what was changed do not, and nothing made here claims to be authentic (RFC
//! 6147 5.5; D64-07). Authority and additional data speak of another question and are left out.

use std::net::Ipv6Addr;

use super::Dns64;
use crate::clock::Moment;
use crate::pipeline::local::{Data, Local, Owner};
use crate::reply::{Kind, Meta, StoredBuf};
use crate::wire::registry::{class, ede, rcode, rtype};
use crate::wire::{Flags, Header, Record, Records, Section, WireError, name, u16_at};

/// AAAA records for `question` made of the answer `a` to the same for A, none living longer than `ceiling` seconds (RFC 6147 5.1.7).
/// `None` where there are none to be made, or more than a message holds.
#[must_use]
pub fn addresses(dns64: &Dns64, question: &[u8], a: &StoredBuf, ceiling: u32, now: Moment) -> Option<StoredBuf> {
    let mut draft = Draft::new(question, &a.message, (rcode::NOERROR, Kind::Positive));
    let mut count = 0;
    for record in answers(&a.message).ok()? {
        let v4 = record.rdata.of(&a.message).try_into().ok().map(<[u8; 4]>::into);
        match (record.rtype, v4) {
            (rtype::A, Some(v4)) if record.class == class::IN && dns64.prefix.takes(v4) => {
                let v6: Ipv6Addr = dns64.prefix.embed(v4);
                let ttl = record.ttl.min(ceiling);
                draft.add(&record, Data { rtype: rtype::AAAA, class: class::IN, ttl, rdata: &v6.octets() }).ok()?;
                count += 1;
            }
            _ if is_alias(&a.message, &record) => draft.copy(&record).ok()?,
            _ => {}
        }
    }
    if count == 0 {
        return None;
    }
    let made = draft.local.finish(now);
    let lifetime = if a.meta.kind == Kind::Positive { made.meta.lifetime } else { 0 };
    let kind = if lifetime == 0 { Kind::Fleeting } else { Kind::Positive };
    let meta = Meta {
        lifetime,
        http_lifetime: lifetime,
        stale: a.meta.stale,
        flags: a.meta.flags.with(Flags::AD, false),
        kind,
        is_alias: a.meta.is_alias,
        supplier: a.meta.supplier,
        ede: Some(ede::SYNTHESIZED),
        ..made.meta
    };
    Some(StoredBuf { meta, scope: a.scope, options: a.options.clone(), ..made })
}

/// `stored`, an answer to a question for AAAA, without the addresses that count as absent (RFC 6147 5.1.4). Where none is left it
/// says nothing of how long that holds.
#[must_use]
pub fn without_excluded(dns64: &Dns64, question: &[u8], stored: StoredBuf) -> StoredBuf {
    let Ok(records) = answers(&stored.message) else { return stored };
    let is_excluded = |record: &Record| address(&stored.message, record).is_some_and(|v6| dns64.excludes(v6));
    if !records.iter().any(is_excluded) {
        return stored;
    }
    let mut draft = Draft::new(question, &stored.message, (rcode::NOERROR, stored.meta.kind));
    let kept = |record: &&Record| {
        is_alias(&stored.message, record) || address(&stored.message, record).is_some() && !is_excluded(record)
    };
    let copied = records.iter().filter(kept).try_for_each(|record| draft.copy(record));
    let rest = copied.is_ok().then_some(draft.local);
    let left = rest.is_some() && records.iter().any(|record| record.rtype == rtype::AAAA && kept(&record));
    let rest = rest.unwrap_or_else(|| Local::new(question, rcode::NOERROR, Kind::Fleeting));
    let rest = rest.finish(stored.meta.received);
    let Meta { additional_at, additionals, .. } = rest.meta;
    let flags = stored.meta.flags.with(Flags::AD, false);
    let mut meta = Meta { flags, additional_at, additionals, ..stored.meta };
    if !left {
        meta = Meta { kind: Kind::Fleeting, lifetime: 0, http_lifetime: 0, ..meta };
    }
    StoredBuf { meta, scope: if left { stored.scope } else { 0 }, options: stored.options, ..rest }
}

/// The answer to `question` as an alias of `target`, whose own answer is `inner` (RFC 6147 5.3.1). `None` where it is too long.
#[must_use]
pub fn alias(question: &[u8], target: &[u8], inner: &StoredBuf, now: Moment) -> Option<StoredBuf> {
    let header = Header::parse(&inner.message).ok()?;
    let mut draft = Draft::new(question, &inner.message, (inner.meta.rcode, inner.meta.kind));
    let records: Vec<Record> = Records::new(&inner.message, &header).ok()?.collect::<Result<_, _>>().ok()?;
    let belongs = |record: &&Record| match record.section {
        Section::Answer => record.rtype == rtype::PTR || is_alias(&inner.message, record),
        Section::Authority => record.rtype == rtype::SOA,
        Section::Additional => false,
    };
    let ttl = records.iter().filter(belongs).map(|record| record.ttl).min().unwrap_or(0).min(LONGEST);
    draft.local.answer(Owner::Question, Data { rtype: rtype::CNAME, class: class::IN, ttl, rdata: target });
    records.iter().filter(belongs).try_for_each(|record| draft.copy(record)).ok()?;
    let made = draft.local.finish(now);
    let lifetime = inner.meta.lifetime.min(ttl);
    let meta = Meta {
        lifetime,
        http_lifetime: inner.meta.http_lifetime.min(ttl),
        kind: if lifetime == 0 { Kind::Fleeting } else { inner.meta.kind },
        stale: inner.meta.stale,
        flags: inner.meta.flags.with(Flags::AD, false).with(Flags::AA, false),
        is_alias: true,
        supplier: inner.meta.supplier,
        ede: Some(ede::SYNTHESIZED),
        ..made.meta
    };
    Some(StoredBuf { meta, scope: inner.scope, options: inner.options.clone(), ..made })
}

/// The address that an AAAA record holds.
#[must_use]
pub fn address(message: &[u8], record: &Record) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = record.rdata.of(message).try_into().ok()?;
    (record.rtype == rtype::AAAA && record.class == class::IN).then(|| octets.into())
}

/// The records of the answer section.
///
/// # Errors
/// For a message that cannot be read; what is kept always can.
pub fn answers(message: &[u8]) -> Result<Vec<Record>, WireError> {
    let header = Header::parse(message)?;
    Records::new(message, &header)?.take(header.answers.into()).collect()
}

/// Does it lead from one name to another, or sign what does?
fn is_alias(message: &[u8], record: &Record) -> bool {
    let leads = |rtype| matches!(rtype, rtype::CNAME | rtype::DNAME);
    leads(record.rtype) || record.rtype == rtype::RRSIG && u16_at(record.rdata.of(message), 0).is_ok_and(leads)
}

/// An answer made of the records of another.
struct Draft<'a> {
    local: Local,
    question: &'a [u8],
    from: &'a [u8],
    /// Octets so far, names in full: no fewer than it has.
    length: usize,
}

impl<'a> Draft<'a> {
    fn new(question: &'a [u8], from: &'a [u8], (rcode, kind): (u16, Kind)) -> Self {
        Self { local: Local::new(question, rcode, kind), question, from, length: 0 }
    }

    /// Adds `data` to the owner, and in the section, of `record`.
    fn add(&mut self, record: &Record, data: Data<'_>) -> Result<(), WireError> {
        let mut owner = Vec::new();
        name::expand(self.from, record.owner.into(), &mut owner)?;
        self.length += owner.len() + FIXED + data.rdata.len();
        if self.length > LONGEST_MESSAGE {
            return Err(WireError::Short);
        }
        let qname = self.question.split_last_chunk::<4>().map_or(self.question, |(qname, _)| qname);
        let owner = if owner.eq_ignore_ascii_case(qname) { Owner::Question } else { Owner::Name(owner.as_slice()) };
        match record.section {
            Section::Answer => self.local.answer(owner, data),
            Section::Authority => self.local.authority(owner, data),
            Section::Additional => self.local.additional(owner, data),
        }
        Ok(())
    }

    /// Adds `record` as it is, the names in its data in full.
    fn copy(&mut self, record: &Record) -> Result<(), WireError> {
        let names = match record.rtype {
            rtype::CNAME | rtype::DNAME | rtype::PTR => 1,
            rtype::SOA => 2,
            _ => 0,
        };
        let (mut at, mut rdata) = (usize::from(record.rdata.start), Vec::new());
        for _ in 0..names {
            at = name::expand(self.from, at, &mut rdata)?;
        }
        rdata.extend_from_slice(self.from.get(at..record.rdata.end.into()).ok_or(WireError::Short)?);
        let Record { rtype, class, ttl, .. } = *record;
        self.add(record, Data { rtype, class, ttl, rdata: &rdata })
    }
}

/// Seconds that what hangs on no TTL of its own lives (RFC 6147 5.1.7).
pub const LONGEST: u32 = 600;

/// Octets of a record beside its owner and data.
const FIXED: usize = 10;

/// Octets of records that an answer made here may have: with header, question and our OPT it is a message still.
const LONGEST_MESSAGE: usize = 64_000;
