//! The dates of an answer: TTLs as they will be served, and how long the whole is fresh.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hasher as _};

use ahash::RandomState;

use super::Clean;
use super::judge::Judged;
use crate::cache::Limits;
use crate::cache::lifetime::lifetime;
use crate::reply::Kind;
use crate::wire::registry::rtype;
use crate::wire::{Record, Section, WireError, name, u16_at};

/// When what ends.
pub struct Dates {
    /// Seconds the answer is fresh, 0 for one that is not kept.
    pub lifetime: u32,
    /// Seconds HTTP caches may keep it.
    pub http_lifetime: u32,
    /// Packed offsets of the TTL fields.
    pub offsets: Vec<u8>,
}

/// Writes into `clean` the TTLs it will be served with and says how long it is fresh, `age` seconds of its life being over.
pub fn date(clean: &mut Clean, judged: Judged, age: u32, limits: &Limits) -> Dates {
    let lowest = equalise(clean);
    // TTL-05: a TTL with its top bit set is a large number, no sign. DOH-26: what aged on the way is no longer left.
    let left: Vec<u32> = lowest.iter().map(|ttl| ttl.saturating_sub(age)).collect();
    let smallest = left.iter().copied().min().unwrap_or_default();
    let ceiling = limits.max_ttl;
    let (lifetime, floor, ceiling) = match judged {
        Judged::Positive => {
            let lifetime = lifetime(limits, Kind::Positive, smallest);
            // A configured minimum lifts the TTLs below it; nothing lifts a zero (TTL-04).
            (lifetime, if lifetime > smallest { lifetime } else { 0 }, ceiling)
        }
        // MINIMUM is a TTL of the denial (RFC 2308 5), and ages as one.
        Judged::NoData { minimum } => denied(limits, Kind::NoData, smallest.min(minimum.saturating_sub(age))),
        Judged::NxDomain { minimum } => denied(limits, Kind::NxDomain, smallest.min(minimum.saturating_sub(age))),
        Judged::Passing | Judged::Denied => (0, 0, ceiling),
    };
    let mut offsets = Vec::with_capacity(2 * clean.records.len());
    let mut smallest_answer = None::<u32>;
    for (record, left) in clean.records.iter_mut().zip(left) {
        record.ttl = left.max(floor).min(ceiling);
        offsets.extend_from_slice(&record.ttl_at.to_be_bytes());
        let at = usize::from(record.ttl_at);
        if let Some(place) = clean.message.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = record.ttl.to_be_bytes();
        }
        if record.section == Section::Answer {
            smallest_answer = Some(smallest_answer.map_or(record.ttl, |smallest| smallest.min(record.ttl)));
        }
    }
    let http_lifetime = match judged {
        Judged::Positive => smallest_answer.unwrap_or_default(),
        // No TTL of a denial is shorter than its lifetime, and none is served longer.
        Judged::NoData { .. } | Judged::NxDomain { .. } => lifetime,
        Judged::Passing | Judged::Denied => 0,
    };
    // What is never kept is dated as if it were: that it must not be kept is for us alone to know, but for HTTP caches before us.
    let kept = u32::from(!limits.never);
    Dates { lifetime: lifetime * kept, http_lifetime: http_lifetime * kept, offsets }
}

/// Lifetime, floor and ceiling of a denial. It lives and dies with its SOA; no record in it says more (RFC 2308 5), nor less
/// where a configured minimum lifts it.
fn denied(limits: &Limits, kind: Kind, smallest: u32) -> (u32, u32, u32) {
    let lifetime = lifetime(limits, kind, smallest);
    (lifetime, if lifetime > smallest { lifetime } else { 0 }, lifetime)
}

/// The TTL of each record, lowered to the lowest of its set (RFC 2181 5.2; GEN-17).
///
/// Sets are told apart by a keyed hash, so that a hostile answer of thousands of names costs one pass; two that collide would
/// only share the lower TTL.
fn equalise(clean: &Clean) -> Vec<u32> {
    let hasher = RandomState::new();
    let mut lowest: HashMap<u64, u32, RandomState> = HashMap::default();
    let sets: Vec<u64> = clean.records.iter().map(|record| rrset(&hasher, &clean.message, record)).collect();
    for (set, record) in sets.iter().zip(&clean.records) {
        match lowest.entry(*set) {
            Entry::Occupied(mut entry) => _ = entry.insert(record.ttl.min(*entry.get())),
            Entry::Vacant(entry) => _ = entry.insert(record.ttl),
        }
    }
    sets.iter().zip(&clean.records).map(|(set, record)| lowest.get(set).copied().unwrap_or(record.ttl)).collect()
}

/// Stands for the set that `record` belongs to. Signatures over different types are different sets (RFC 4035 2.2).
fn rrset(hasher: &RandomState, message: &[u8], record: &Record) -> u64 {
    let covered =
        if record.rtype == rtype::RRSIG { u16_at(record.rdata.of(message), 0).unwrap_or_default() } else { 0 };
    let mut state = hasher.build_hasher();
    for part in [record.rtype, record.class, covered] {
        state.write_u16(part);
    }
    // An owner that cannot be read has been refused before.
    let _: Result<(), WireError> = hash_name(&mut state, message, record.owner.into());
    state.finish()
}

fn hash_name(state: &mut impl std::hash::Hasher, message: &[u8], at: usize) -> Result<(), WireError> {
    let mut walk = name::labels(message, at);
    while let Some(label) = walk.step()? {
        state.write_usize(label.len());
        for octet in label {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
    Ok(())
}
