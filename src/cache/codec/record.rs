//! One answer in a snapshot. What is read is believed only as far as a reply made of it is sound: everything that can be told from the
//! message itself is, so that a file has no say in it.

use std::time::Duration;

use super::take;
use crate::cache::entry::{kind_number, kind_of};
use crate::cache::rules::LONGEST;
use crate::cache::{Entry, Key};
use crate::clock::Moment;
use crate::reply::{Kind, Meta, Stored};
use crate::trail::UpstreamId;
use crate::wire::registry::{rcode, rtype};
use crate::wire::{Flags, Header, Question, Records, Section};

/// An answer as a snapshot has it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it was kept under.
    pub key: Key,
    /// How old it was when the snapshot was written.
    pub age: Duration,
    /// Times it had been served.
    pub hits: u32,
    /// What is stored; when it was received is not known here, and its supplier is an index of the snapshot's table of names.
    pub stored: Stored<'a>,
}

/// Octets before the key.
const HEAD: usize = 35;

/// The most that a record takes: head, key, message.
pub const LONGEST_RECORD: usize = HEAD + Key::CAPACITY + crate::wire::MAX_MESSAGE;

const HAS_EDE: u8 = 4;
const IS_ALIAS: u8 = 8;
const IS_SUDDEN: u8 = 16;
const SHAPES: u8 = 31;

/// Header bits that an answer in the cache may have, its RCODE aside.
const KEPT_FLAGS: u16 = Flags::QR | Flags::RA | Flags::AD;

/// Appends `entry` as it is at `now`.
pub fn encode(entry: &Entry<'_>, now: Moment, out: &mut Vec<u8>) {
    let Entry { key, stored: Stored { meta, message, .. }, hits, .. } = entry;
    let bit = |is: bool, bit: u8| if is { bit } else { 0 };
    let [shape, _] = kind_number(meta.kind).to_le_bytes();
    let shape =
        shape | bit(meta.ede.is_some(), HAS_EDE) | bit(meta.is_alias, IS_ALIAS) | bit(meta.is_sudden, IS_SUDDEN);
    let age = u64::try_from(now.since(meta.received).as_millis()).unwrap_or(u64::MAX);
    for part in [
        &age.to_le_bytes()[..],
        &meta.lifetime.to_le_bytes(),
        &meta.stale.to_le_bytes(),
        &meta.http_lifetime.to_le_bytes(),
        &hits.to_le_bytes(),
        &meta.rcode.to_le_bytes(),
        &meta.supplier.0.to_le_bytes(),
        &meta.ede.unwrap_or_default().to_le_bytes(),
        &[shape],
        // No key is longer than its capacity.
        &u32::try_from(key.len()).unwrap_or(0).to_le_bytes(),
        key,
        message,
    ] {
        out.extend_from_slice(part);
    }
}

/// The answer in `octets`; its TTL offsets go to `ttls`. `None` where it is not one that could have been kept.
pub fn decode<'a>(octets: &'a [u8], ttls: &'a mut Vec<u8>) -> Option<Record<'a>> {
    let mut rest = octets;
    let age = Duration::from_millis(u64::from_le_bytes(take(&mut rest)?));
    let lifetime = u32::from_le_bytes(take(&mut rest)?);
    let stale = u32::from_le_bytes(take(&mut rest)?);
    let http_lifetime = u32::from_le_bytes(take(&mut rest)?);
    let hits = u32::from_le_bytes(take(&mut rest)?);
    let rcode = u16::from_le_bytes(take(&mut rest)?);
    let supplier = UpstreamId(u16::from_le_bytes(take(&mut rest)?));
    let ede = u16::from_le_bytes(take(&mut rest)?);
    let [shape] = take(&mut rest)?;
    let key_len = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let (key, message) = rest.split_at_checked(key_len)?;
    let key = Key::from_bytes(key)?;
    if lifetime == 0 || lifetime.max(stale).max(http_lifetime) > LONGEST || shape > SHAPES {
        return None;
    }
    let (message, header, additional_at) = survey(message, &key, ttls)?;
    let kind = kind_of(shape.into());
    let meta = Meta {
        received: Moment::default(),
        lifetime,
        stale,
        http_lifetime,
        rcode,
        flags: header.flags,
        kind,
        is_alias: shape & IS_ALIAS != 0,
        is_sudden: shape & IS_SUDDEN != 0,
        additional_at,
        additionals: header.additionals,
        supplier,
        ede: (shape & HAS_EDE != 0).then_some(ede),
    };
    let said = match kind {
        Kind::Positive | Kind::NoData => rcode::NOERROR,
        Kind::NxDomain => rcode::NXDOMAIN,
        Kind::Fleeting => return None,
    };
    let is_of_all_types = key.rtype() == 0;
    if rcode != said || header.flags.rcode() != said || is_of_all_types && kind != Kind::NxDomain {
        return None;
    }
    Some(Record { key, age, hits, stored: Stored { meta, message, ttls } })
}

/// Walks `message`, an answer to the question of `key`: it, its header, and where its additional section begins. `None` unless it is
/// sound, and fit to be kept.
fn survey<'a>(message: &'a [u8], key: &Key, ttls: &mut Vec<u8>) -> Option<(&'a [u8], Header, u16)> {
    let header = Header::parse(message).ok()?;
    let question = Question::parse(message).ok()?;
    let (name, fixed) = question.octets(message).split_last_chunk::<4>()?;
    let &[_, _, ref class @ ..] = fixed;
    // That a name does not exist was said to a question for some type, and is kept for all of them (NEG-03).
    let is_type = if key.rtype() == 0 { key.question().ends_with(class) } else { key.question().ends_with(fixed) };
    let asked = name.eq_ignore_ascii_case(key.name()) && is_type;
    let Flags(flags) = header.flags.with_rcode(0);
    if !asked || header.questions != 1 || flags & !KEPT_FLAGS != 0 || !header.flags.has(Flags::QR) {
        return None;
    }
    ttls.clear();
    let mut additional_at = None;
    let mut records = Records::at(message, &header, question.end());
    for record in records.by_ref() {
        let record = record.ok()?;
        let is_additional = record.section == Section::Additional;
        match record.rtype {
            // These are of one hop, and are never stored.
            rtype::OPT => return None,
            rtype::TSIG | rtype::SIG if is_additional => return None,
            _ if record.leads_astray(message) => return None,
            _ => ttls.extend_from_slice(&record.ttl_at.to_be_bytes()),
        }
        if is_additional {
            additional_at.get_or_insert(record.owner);
        }
    }
    let message = message.get(..records.position())?;
    let end = u16::try_from(message.len()).ok()?;
    Some((message, header, additional_at.unwrap_or(end)))
}
