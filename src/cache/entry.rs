//! An entry as it lies in a ring: one block of header, key, message and TTL offsets, so that a hit reads neighbouring cache lines.
//!
//! Who looks an entry up knows its key's length, so the place of the message follows from that of the block: the processor fetches
//! all its lines at once, without waiting for the header.
//!
//! The first word of every block is its [`Mark`]: its length and what eviction must know. Integers are little-endian.

use super::mark::Mark;
use crate::clock::Moment;
use crate::reply::{Kind, Meta, Stored};
use crate::trail::UpstreamId;
use crate::wire::Flags;

/// Blocks begin at multiples of this and are whole multiples long.
pub const GRAIN: usize = 8;

/// Octets of a header.
pub const HEADER: usize = 56;

/// A header, read.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Length, dead bit, visits.
    pub mark: Mark,
    /// The half of the hash that the index and the ghost know it by.
    pub tag: u32,
    /// Times it was served.
    pub hits: u32,
    /// Stands for the registrable domain of its name; 0 where there is none.
    pub domain: u32,
    /// Its facts.
    pub meta: Meta,
    /// Has somebody been told to have it renewed?
    is_renewing: bool,
    key: u16,
    ttls: u16,
    message: u16,
}

impl Header {
    const HITS_AT: usize = 16;
    const HAS_EDE: u16 = 0x100;
    const IS_ALIAS: u16 = 0x200;
    const IS_RENEWING: u16 = 0x800;
    /// The octet of the shape that has this bit.
    const RENEWING_AT: usize = 15;
    const IS_SUDDEN: u16 = 0x400;

    fn encode(&self) -> [u8; HEADER] {
        let meta = &self.meta;
        let bit = |is: bool, bit: u16| if is { bit } else { 0 };
        let shape = kind_number(meta.kind)
            | bit(meta.ede.is_some(), Self::HAS_EDE)
            | bit(meta.is_alias, Self::IS_ALIAS)
            | bit(self.is_renewing, Self::IS_RENEWING)
            | bit(meta.is_sudden, Self::IS_SUDDEN);
        let mut octets = [0; HEADER];
        lay(
            &mut octets,
            &[
                &self.mark.to_le_bytes(),
                &self.tag.to_le_bytes(),
                &self.key.to_le_bytes(),
                &self.ttls.to_le_bytes(),
                &self.message.to_le_bytes(),
                &shape.to_le_bytes(),
                &self.hits.to_le_bytes(),
                &meta.lifetime.to_le_bytes(),
                &meta.received.0.to_le_bytes(),
                &meta.http_lifetime.to_le_bytes(),
                &meta.rcode.to_le_bytes(),
                &meta.flags.0.to_le_bytes(),
                &meta.additional_at.to_le_bytes(),
                &meta.additionals.to_le_bytes(),
                &meta.supplier.0.to_le_bytes(),
                &meta.ede.unwrap_or_default().to_le_bytes(),
                &meta.stale.to_le_bytes(),
                &self.domain.to_le_bytes(),
            ],
        );
        octets
    }

    fn decode(octets: &[u8; HEADER]) -> Self {
        let mut rest = octets.as_slice();
        let mark = Mark::from_le_bytes(take(&mut rest));
        let tag = u32::from_le_bytes(take(&mut rest));
        let [key, ttls, message, shape] = [(); 4].map(|()| u16::from_le_bytes(take(&mut rest)));
        let hits = u32::from_le_bytes(take(&mut rest));
        let lifetime = u32::from_le_bytes(take(&mut rest));
        let received = Moment(u64::from_le_bytes(take(&mut rest)));
        let http_lifetime = u32::from_le_bytes(take(&mut rest));
        let [rcode, flags, additional_at, additionals, supplier, ede] =
            [(); 6].map(|()| u16::from_le_bytes(take(&mut rest)));
        let [stale, domain] = [(); 2].map(|()| u32::from_le_bytes(take(&mut rest)));
        let meta = Meta {
            received,
            lifetime,
            stale,
            http_lifetime,
            rcode,
            flags: Flags(flags),
            kind: kind_of(shape),
            is_alias: shape & Self::IS_ALIAS != 0,
            is_sudden: shape & Self::IS_SUDDEN != 0,
            additional_at,
            additionals,
            supplier: UpstreamId(supplier),
            ede: (shape & Self::HAS_EDE != 0).then_some(ede),
        };
        let is_renewing = shape & Self::IS_RENEWING != 0;
        Self { mark, tag, hits, domain, meta, is_renewing, key, ttls, message }
    }

    /// The header at `at`.
    pub fn read(arena: &[u8], at: usize) -> Option<Self> {
        arena.get(at..)?.first_chunk().map(Self::decode)
    }

    /// Is it fresh at `now`?
    pub fn is_fresh(&self, now: Moment) -> bool {
        now < self.expiry()
    }

    /// Has it expired, and may it stand in all the same?
    pub fn is_stale(&self, now: Moment) -> bool {
        let expiry = self.expiry();
        now >= expiry && now.0 < expiry.0.saturating_add(u64::from(self.meta.stale) * 1000)
    }

    /// Is it fresh, or may it stand in?
    pub fn is_of_use(&self, now: Moment) -> bool {
        self.was_fresh_within(self.meta.stale, now)
    }

    /// Is it time to have it renewed: is it in the last tenth of its life, and visited there not for the first time?
    ///
    /// Once in a life; not where a tenth is no time to ask an upstream in, and not what says that a name does not exist.
    fn is_due(&self, now: Moment) -> bool {
        const SHORTEST: u32 = 10;
        let (expiry, tenth) = (self.expiry(), u64::from(self.meta.lifetime) * 100);
        let is_late = now < expiry && expiry.0 - now.0 <= tenth;
        // The visit of the asker is not among the hits yet.
        let is_wanted = !self.is_renewing && self.hits > 0 && self.meta.lifetime >= SHORTEST;
        is_late && is_wanted && matches!(self.meta.kind, Kind::Positive | Kind::NoData)
    }

    /// Was it fresh at any time in the `window` seconds before `now`?
    pub fn was_fresh_within(&self, window: u32, now: Moment) -> bool {
        now.0 < self.expiry().0.saturating_add(u64::from(window) * 1000)
    }

    fn expiry(&self) -> Moment {
        Moment(self.meta.received.0.saturating_add(u64::from(self.meta.lifetime) * 1000))
    }
}

/// An entry as a walk shows it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The octets of its [`Key`](super::Key).
    pub key: &'a [u8],
    /// What is stored.
    pub stored: Stored<'a>,
    /// When it ceases to be fresh.
    pub expires: Moment,
    /// Times it was served.
    pub hits: u32,
    /// Octets it takes.
    pub size: usize,
}

/// Does the entry at `at` have this key?
pub fn has_key(arena: &[u8], at: usize, key: &[u8]) -> bool {
    let Some((octets, rest)) = arena.get(at..).and_then(<[u8]>::split_first_chunk::<HEADER>) else { return false };
    let length = u16::from_le_bytes([octets[8], octets[9]]);
    usize::from(length) == key.len() && rest.get(..key.len()) == Some(key)
}

/// Visits the entry at `at`, whose key has `key_len` octets, if it is fresh, and hands out what is stored.
pub fn visit_fresh(arena: &mut [u8], at: usize, key_len: usize, now: Moment) -> Option<Stored<'_>> {
    visit_if(arena, at, key_len, |header| header.is_fresh(now))
}

/// As [`visit_fresh`]; says too whether this visitor is to have it renewed, which one in its life is.
pub fn visit_due(arena: &mut [u8], at: usize, key_len: usize, now: Moment) -> Option<(Stored<'_>, bool)> {
    let mut is_due = false;
    let stored = visit_if(arena, at, key_len, |header| {
        is_due = header.is_due(now);
        header.is_renewing |= is_due;
        header.is_fresh(now)
    })?;
    Some((stored, is_due))
}

/// The same of one that has expired and may stand in.
pub fn visit_stale(arena: &mut [u8], at: usize, key_len: usize, now: Moment) -> Option<Stored<'_>> {
    visit_if(arena, at, key_len, |header| header.is_stale(now))
}

fn visit_if(
    arena: &mut [u8],
    at: usize,
    key_len: usize,
    wanted: impl FnOnce(&mut Header) -> bool,
) -> Option<Stored<'_>> {
    let (octets, rest) = arena.get_mut(at..)?.split_first_chunk_mut::<HEADER>()?;
    let mut header = Header::decode(octets);
    if !wanted(&mut header) {
        return None;
    }
    note(octets, &header, 1);
    let (message, rest) = rest.get(key_len..)?.split_at_checked(header.message.into())?;
    let ttls = rest.get(..header.ttls.into())?;
    Some(Stored { meta: header.meta, message, ttls })
}

/// Notes a visit of the entry at `at` in which it was served `hits` times.
pub fn visit(arena: &mut [u8], at: usize, hits: u32) {
    if let Some(octets) = arena.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<HEADER>) {
        let header = Header::decode(octets);
        note(octets, &header, hits);
    }
}

fn note(octets: &mut [u8; HEADER], header: &Header, hits: u32) {
    let (mark, hits) = (header.mark.visited_once_more(), header.hits.saturating_add(hits));
    if let Some(place) = octets.first_chunk_mut() {
        *place = mark.to_le_bytes();
    }
    if let Some(place) = octets.get_mut(Header::HITS_AT..).and_then(<[u8]>::first_chunk_mut) {
        *place = hits.to_le_bytes();
    }
    if header.is_renewing
        && let Some(octet) = octets.get_mut(Header::RENEWING_AT)
    {
        *octet |= Header::IS_RENEWING.to_be_bytes()[0];
    }
}

/// The entry at `at`, whole.
pub fn whole(arena: &[u8], at: usize) -> Option<Entry<'_>> {
    let header = Header::read(arena, at)?;
    let rest = arena.get(at..)?.get(HEADER..)?;
    let (key, rest) = rest.split_at_checked(header.key.into())?;
    let (message, rest) = rest.split_at_checked(header.message.into())?;
    let stored = Stored { meta: header.meta, message, ttls: rest.get(..header.ttls.into())? };
    Some(Entry { key, stored, expires: header.expiry(), hits: header.hits, size: header.mark.size() })
}

/// An entry about to be written.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    header: Header,
    key: &'a [u8],
    stored: Stored<'a>,
}

impl<'a> Draft<'a> {
    /// An entry for `stored` under `key`. `None` if a part of it is longer than a message can be.
    pub fn new(tag: u32, domain: u32, key: &'a [u8], stored: Stored<'a>) -> Option<Self> {
        let length = |part: &[u8]| u16::try_from(part.len()).ok();
        let octets = HEADER + key.len() + stored.ttls.len() + stored.message.len();
        let header = Header {
            mark: Mark::live(octets.next_multiple_of(GRAIN)),
            tag,
            hits: 0,
            domain,
            meta: stored.meta,
            is_renewing: false,
            key: length(key)?,
            ttls: length(stored.ttls)?,
            message: length(stored.message)?,
        };
        Some(Self { header, key, stored })
    }

    /// The same, having been served `hits` times before.
    #[must_use]
    pub const fn with_hits(mut self, hits: u32) -> Self {
        self.header.hits = hits;
        self
    }

    /// Octets it takes in a ring.
    pub const fn size(&self) -> usize {
        self.header.mark.size()
    }

    /// The half of the hash it is known by.
    pub const fn tag(&self) -> u32 {
        self.header.tag
    }

    /// Stands for its registrable domain.
    pub const fn domain(&self) -> u32 {
        self.header.domain
    }

    /// Its key.
    pub const fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Writes it at `at`, where a ring has made room.
    pub fn write(&self, arena: &mut [u8], at: usize) {
        if let Some(block) = arena.get_mut(at..) {
            lay(block, &[&self.header.encode(), self.key, self.stored.message, self.stored.ttls]);
        }
    }
}

/// What a kind is in a header, in two bits.
pub const fn kind_number(kind: Kind) -> u16 {
    match kind {
        Kind::Positive => 0,
        Kind::NoData => 1,
        Kind::NxDomain => 2,
        Kind::Fleeting => 3,
    }
}

/// The kind that the low two bits of `shape` stand for.
pub const fn kind_of(shape: u16) -> Kind {
    match shape & 3 {
        0 => Kind::Positive,
        1 => Kind::NoData,
        2 => Kind::NxDomain,
        _ => Kind::Fleeting,
    }
}

/// Copies `parts` to the start of `rest`, one after the other.
fn lay(mut rest: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        let Some((place, after)) = rest.split_at_mut_checked(part.len()) else { return };
        place.copy_from_slice(part);
        rest = after;
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((octets, after)) = rest.split_first_chunk() else { return [0; N] };
    *rest = after;
    *octets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            received: Moment(0x0102_0304_0506_0708),
            lifetime: 0xfedc_ba98,
            http_lifetime: 77,
            stale: 0x7654_3210,
            rcode: 4095,
            flags: Flags(0x8180),
            kind: Kind::NxDomain,
            is_alias: true,
            is_sudden: true,
            additional_at: 513,
            additionals: 9,
            supplier: UpstreamId(65_535),
            ede: Some(0),
        }
    }

    #[test]
    fn every_fact_survives_the_header() {
        for kind in [Kind::Positive, Kind::NoData, Kind::NxDomain, Kind::Fleeting] {
            for ede in [None, Some(0), Some(65_535)] {
                let stored = Stored { meta: Meta { kind, ede, ..meta() }, message: b"message", ttls: b"ttls" };
                let draft = Draft::new(0xdead_beef, 0x0bad_cafe, b"key", stored).unwrap();
                let mut arena = vec![0; 128];
                draft.write(&mut arena, GRAIN);
                assert!(has_key(&arena, GRAIN, b"key"));
                assert!(!has_key(&arena, GRAIN, b"ke"));
                assert!(!has_key(&arena, GRAIN, b"kez"));
                let found = visit_fresh(&mut arena, GRAIN, 3, Moment(0)).unwrap();
                assert_eq!((found.meta, found.message, found.ttls), (stored.meta, stored.message, stored.ttls));
                let header = Header::read(&arena, GRAIN).unwrap();
                assert_eq!((header.tag, header.hits, header.mark.size()), (0xdead_beef, 1, 72));
                assert_eq!(header.domain, 0x0bad_cafe);
            }
        }
    }

    #[test]
    fn one_visitor_in_the_last_tenth_is_told_to_renew_and_no_fact_is_lost_by_it() {
        let visits = |kind, lifetime, moments: &[u64]| {
            let stored =
                Stored { meta: Meta { kind, lifetime, received: Moment(0), ..meta() }, message: b"m", ttls: &[] };
            let mut arena = vec![0; 128];
            Draft::new(1, 0, b"k", stored).unwrap().write(&mut arena, 0);
            let mut told = Vec::new();
            for &now in moments {
                let (found, is_due) = visit_due(&mut arena, 0, 1, Moment(now)).unwrap();
                assert_eq!((found.meta, found.message), (stored.meta, stored.message));
                told.push(is_due);
            }
            told
        };
        assert_eq!(visits(Kind::Positive, 100, &[0, 80_000, 92_000, 93_000]), [false, false, true, false]);
        assert_eq!(visits(Kind::NoData, 100, &[92_000, 92_000, 94_000]), [false, true, false], "asked again");
        assert_eq!(visits(Kind::NxDomain, 100, &[0, 92_000, 93_000]), [false; 3]);
        assert_eq!(visits(Kind::Positive, 9, &[0, 8500, 8500]), [false; 3], "too short a life");
        assert_eq!(visits(Kind::Positive, u32::MAX, &[0, 100_000]), [false; 2]);
    }

    #[test]
    fn a_part_longer_than_a_message_is_no_entry() {
        let long = vec![0; 65_536];
        let stored = Stored { meta: meta(), message: &long, ttls: &[] };
        assert!(Draft::new(1, 0, b"k", stored).is_none());
    }

    #[test]
    fn ttl_02_an_entry_is_fresh_up_to_its_lifetime_and_not_at_it() {
        let meta = Meta { received: Moment(500), lifetime: 2, ..meta() };
        let draft = Draft::new(1, 0, b"k", Stored { meta, message: &[], ttls: &[] }).unwrap();
        assert!(draft.header.is_fresh(Moment(2499)));
        assert!(!draft.header.is_fresh(Moment(2500)));
    }
}
