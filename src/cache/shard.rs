//! One shard: the rings, and who stays in them (S3-FIFO: Yang et al., SOSP 2023).
//!
//! New entries pass through the small ring; those visited there move to the main ring, the others leave and are remembered by the
//! ghost, which sends them straight to the main ring when they come back. So a scan of names asked once never displaces what is
//! asked often. Names of a domain that holds more than its share get no place in the main ring while that means displacing what is
//! fresh: names made up below one domain displace one another, though each is asked twice. A hit writes to the header it has read
//! anyway, and to nothing else.

mod room;

use std::sync::Arc;

use super::Inserted;
use super::entry::{self, Draft, Entry, GRAIN, Header};
use super::front::Departures;
use super::ghost::Ghost;
use super::index::Index;
use super::layout::Layout;
use super::mark::Mark;
use super::ring::Ring;
use super::share::Shares;
use crate::clock::Moment;
use crate::reply::Stored;
use room::Moves;

/// What has happened in a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answers kept.
    pub inserted: u64,
    /// Answers dropped to make room, expired ones included.
    pub evicted: u64,
    /// Answers not kept for their size.
    pub rejected: u64,
    /// Times an answer was kept out of the main ring because its domain has its share.
    pub limited: u64,
}

/// One shard. Locked as a whole by the cache.
#[derive(Debug)]
pub struct Shard {
    index: Index,
    arena: Vec<u8>,
    small: Ring,
    main: Ring,
    ghost: Ghost,
    shares: Shares,
    layout: Layout,
    octets: usize,
    tally: Tally,
    departures: Arc<Departures>,
}

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Small,
    Main,
}

/// How far a walk through a shard has come.
///
/// The small ring goes first: what moves meanwhile moves to the tail of the main ring, where the walk still comes by.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    lane: Lane,
    count: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { lane: Lane::Small, count: 0 }
    }
}

/// What becomes of an entry that a walk has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Stays,
    /// It is dropped.
    Goes,
}

impl Shard {
    /// An empty shard. Its memory is allocated zeroed, so pages cost nothing before they are used.
    pub fn new(layout: Layout) -> Self {
        Self {
            index: Index::new(layout.cells),
            arena: vec![0; layout.arena],
            small: Ring::new(0..layout.small),
            main: Ring::new(layout.small..layout.arena),
            ghost: Ghost::new(layout.buckets),
            shares: Shares::new(layout.counters, layout.share),
            layout,
            octets: 0,
            tally: Tally::default(),
            departures: Arc::default(),
        }
    }

    /// The same shard, empty: another set of pages, so that the old ones can be freed outside the lock.
    #[must_use]
    pub fn emptied_into(&mut self, fresh: Self) -> Self {
        let tally = self.tally;
        let old = std::mem::replace(self, fresh);
        self.small.follow(&old.small);
        self.main.follow(&old.main);
        self.tally = tally;
        self.departures = Arc::clone(&old.departures);
        self.departures.count();
        old
    }

    /// What has left it, for those who keep copies.
    pub fn departures(&self) -> Arc<Departures> {
        Arc::clone(&self.departures)
    }

    /// Its layout.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Entries in it.
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Octets of the entries in it.
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// What has happened.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Octets it holds on the heap.
    pub const fn footprint(&self) -> usize {
        self.arena.capacity() + self.index.footprint() + self.ghost.footprint() + self.shares.footprint()
    }

    /// The fresh entry of `key`, visited.
    pub fn lookup(&mut self, tag: u32, key: &[u8], now: Moment) -> Option<Stored<'_>> {
        let at = self.find(tag, key)?;
        entry::visit_fresh(&mut self.arena, at, key.len(), now)
    }

    /// As [`Shard::lookup`]; says too whether the entry is to be renewed, which one visitor in its life hears.
    pub fn lookup_due(&mut self, tag: u32, key: &[u8], now: Moment) -> Option<(Stored<'_>, bool)> {
        let at = self.find(tag, key)?;
        entry::visit_due(&mut self.arena, at, key.len(), now)
    }

    /// Counts `hits` of the entry of `key` that were served from a copy: one visit.
    pub fn credit(&mut self, tag: u32, key: &[u8], hits: u32) {
        if let Some(at) = self.find(tag, key) {
            entry::visit(&mut self.arena, at, hits);
        }
    }

    /// The header of the entry of `key`, fresh or not; not a visit.
    pub fn peek(&self, tag: u32, key: &[u8]) -> Option<Header> {
        Header::read(&self.arena, self.find(tag, key)?)
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, tag: u32, key: &[u8]) -> bool {
        let Some(at) = self.find(tag, key) else { return false };
        self.kill(tag, at);
        true
    }

    /// Keeps an entry, in the place of an older one of the same key.
    pub fn insert(&mut self, draft: &Draft<'_>, now: Moment) -> Inserted {
        let (tag, size) = (draft.tag(), draft.size());
        let former = self.find(tag, draft.key());
        // Who has earned a place in the main ring keeps it when the answer is renewed.
        let earned = former.is_some_and(|at| self.main.contains(at) || Mark::read(&self.arena, at).is_visited());
        if let Some(at) = former {
            self.kill(tag, at);
        }
        if size > self.layout.main_limit() {
            self.tally.rejected += 1;
            return Inserted::TooLarge;
        }
        let lane = if self.ghost.take(tag) || earned { Lane::Main } else { Lane::Small };
        if matches!(lane, Lane::Small) && size > self.layout.small_limit() {
            self.ghost.add(tag);
            self.tally.rejected += 1;
            return Inserted::Deferred;
        }
        let mut moves = Moves::for_size(size);
        while self.index.is_full() {
            if !self.shed_small(now, &mut moves) && !self.shed_main(now, &mut moves) {
                return Inserted::TooLarge;
            }
        }
        let at = match lane {
            Lane::Main if self.shares.is_exceeded(draft.domain(), size) => {
                self.claim_limited(draft.domain(), size, now, &mut moves)
            }
            Lane::Main | Lane::Small => self.claim(lane, size, now, &mut moves),
        };
        let Some(at) = at else { return Inserted::TooLarge };
        draft.write(&mut self.arena, at);
        self.index.insert(tag, at);
        self.octets += size;
        self.shares.add(draft.domain(), size);
        self.tally.inserted += 1;
        Inserted::Kept
    }

    /// Keeps an entry from before a restart, unless there is one of its key: what has come since is newer. Says whether it is kept.
    ///
    /// What was served then goes where what is asked often lives.
    pub fn restore(&mut self, draft: &Draft<'_>, hits: u32, now: Moment) -> bool {
        if self.find(draft.tag(), draft.key()).is_some() {
            return false;
        }
        if hits > 0 {
            self.ghost.add(draft.tag());
        }
        self.insert(draft, now) == Inserted::Kept
    }

    /// Walks on past some more blocks; says whether any may be left. Bounds the time under the lock.
    ///
    /// Whatever was here when the walk began is met, unless it has gone meanwhile; what came later may be met too.
    pub fn walk(&mut self, steps: &mut Steps, visit: &mut dyn FnMut(Entry<'_>) -> Fate) -> bool {
        const BLOCKS: usize = 48;
        const OCTETS: u64 = 16 << 10;
        let begun = steps.count;
        for _ in 0..BLOCKS {
            let ring = match steps.lane {
                Lane::Small => &self.small,
                Lane::Main => &self.main,
            };
            let (oldest, end) = ring.counts();
            steps.count = steps.count.max(oldest);
            if steps.count >= end {
                if steps.lane == Lane::Main {
                    return false;
                }
                *steps = Steps { lane: Lane::Main, count: 0 };
                return true;
            }
            let at = ring.place_of(steps.count);
            let mark = Mark::read(&self.arena, at);
            steps.count += mark.size() as u64;
            if !mark.is_dead() {
                self.show(at, visit);
            }
            if steps.count.saturating_sub(begun.max(oldest)) > OCTETS {
                break;
            }
        }
        true
    }

    fn show(&mut self, at: usize, visit: &mut dyn FnMut(Entry<'_>) -> Fate) {
        let fate = entry::whole(&self.arena, at).map_or(Fate::Stays, visit);
        if fate == Fate::Goes
            && let Some(header) = Header::read(&self.arena, at)
        {
            self.kill(header.tag, at);
        }
    }

    /// The entry of `key`, if it has expired but may stand in; a visit.
    pub fn lookup_stale(&mut self, tag: u32, key: &[u8], now: Moment) -> Option<Stored<'_>> {
        let at = self.find(tag, key)?;
        entry::visit_stale(&mut self.arena, at, key.len(), now)
    }

    fn find(&self, tag: u32, key: &[u8]) -> Option<usize> {
        self.index.find(tag, |at| entry::has_key(&self.arena, at, key))
    }

    /// The entry at `at` is no more; its block waits for the head to pass.
    fn kill(&mut self, tag: u32, at: usize) {
        self.index.remove(tag, at);
        self.departures.count();
        let size = self.forget(at);
        Mark::dead(size).write(&mut self.arena, at);
    }

    /// The entry at `at` no longer counts; says how long its block is.
    fn forget(&mut self, at: usize) -> usize {
        let size = Mark::read(&self.arena, at).size();
        self.octets = self.octets.saturating_sub(size);
        let domain = Header::read(&self.arena, at).map_or(0, |header| header.domain);
        self.shares.take(domain, size);
        size
    }
}

// A block that only fills a gap must hold a mark.
const _: () = assert!(GRAIN >= size_of::<Mark>());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Kind, Meta};

    const FULL: u32 = 400;

    fn shard() -> Shard {
        Shard::new(Layout::of(64 << 10, 256).unwrap())
    }

    fn put(shard: &mut Shard, n: u32, lifetime: u32, now: Moment) {
        let meta = Meta { received: now, lifetime, kind: Kind::Positive, ..Meta::default() };
        let (key, message) = (n.to_be_bytes(), [7; 100]);
        let draft = Draft::new(tag(n), 0, &key, Stored { meta, message: &message, ttls: &[] }).unwrap();
        assert_eq!(shard.insert(&draft, now), Inserted::Kept);
    }

    fn tag(n: u32) -> u32 {
        n.wrapping_mul(0x9e37_79b9)
    }

    fn visit(shard: &mut Shard, n: u32, now: Moment) -> bool {
        shard.lookup(tag(n), &n.to_be_bytes(), now).is_some()
    }

    fn header(shard: &Shard, n: u32) -> Option<Header> {
        shard.peek(tag(n), &n.to_be_bytes())
    }

    #[test]
    fn one_insertion_moves_a_bounded_number_of_octets_though_every_entry_was_visited() {
        let mut shard = shard();
        for n in 0..FULL {
            put(&mut shard, n, 60, Moment(0));
        }
        let all: Vec<u32> = (0..FULL).filter(|&n| header(&shard, n).is_some()).collect();
        for &n in all.iter().cycle().take(all.len() * 3) {
            assert!(visit(&mut shard, n, Moment(0)));
        }
        let before = shard.tally().evicted;
        put(&mut shard, FULL, 60, Moment(0));
        assert!(shard.tally().evicted > before);
        let spared = all.iter().filter_map(|&n| header(&shard, n)).filter(|header| header.mark.spared().is_visited());
        let untouched = spared.filter(|header| header.mark.spared().spared().is_visited()).count();
        assert!(untouched + 64 >= all.len(), "{untouched} of {}", all.len());
        assert!(untouched < all.len(), "some were spared");
    }

    #[test]
    fn what_was_visited_in_the_small_ring_but_has_expired_does_not_move_to_the_main_ring() {
        let mut shard = shard();
        for n in 0..FULL {
            put(&mut shard, n, 3600, Moment(0));
        }
        for n in 1000..1005 {
            put(&mut shard, n, 1, Moment(0));
            assert!(visit(&mut shard, n, Moment(0)));
        }
        for n in 2000..2100 {
            put(&mut shard, n, 3600, Moment(1000));
        }
        assert!((1000..1005).all(|n| header(&shard, n).is_none()));
    }

    /// Octets, entries and shares counted anew from what is there.
    fn recounted(shard: &mut Shard) -> (usize, usize, Shares) {
        let mut shares = Shares::new(shard.layout.counters, shard.layout.share);
        let (mut octets, mut entries, mut steps) = (0, 0, Steps::default());
        while shard.walk(&mut steps, &mut |entry| {
            (octets, entries) = (octets + entry.size, entries + 1);
            shares.add(domain(u32::from_be_bytes(entry.key.try_into().unwrap())), entry.size);
            Fate::Stays
        }) {}
        (octets, entries, shares)
    }

    fn domain(n: u32) -> u32 {
        tag(n % 4).wrapping_mul(u32::from(!n.is_multiple_of(4)))
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

        /// Whatever comes, moves and goes, and however.
        #[test]
        fn what_is_counted_is_what_is_there(
            share in 0.0_f64..1.1,
            steps in proptest::collection::vec((0_u32..300, 0_u8..20, 10_usize..2000, 0_u32..3), 400..1200),
        ) {
            let mut shard = Shard::new(Layout::of(32 << 10, 256).unwrap().shared(share));
            let mut now = Moment(1_000_000);
            for (n, action, length, stale) in steps {
                let key = n.to_be_bytes();
                let meta = Meta { received: now, lifetime: 60, stale: stale * 60, kind: Kind::Positive, ..Meta::default() };
                let message = vec![7; if length > 1900 { 5000 } else { length / 8 }];
                let stored = Stored { meta, message: &message, ttls: &[] };
                let draft = Draft::new(tag(n), domain(n), &key, stored).unwrap();
                match action {
                    0..9 => _ = shard.insert(&draft, now),
                    9..15 => _ = shard.lookup(tag(n), &key, now),
                    15 => _ = shard.lookup_stale(tag(n), &key, now),
                    16 => _ = shard.remove(tag(n), &key),
                    17 => _ = shard.restore(&draft.with_hits(stale), stale, now),
                    18 => now = Moment(now.0 + 15_000),
                    _ if length < 100 => {
                        let fresh = Shard::new(shard.layout());
                        drop(shard.emptied_into(fresh));
                    }
                    _ => {
                        let mut steps = Steps::default();
                        while shard.walk(&mut steps, &mut |entry| if entry.key[3] % 5 == 0 { Fate::Goes } else { Fate::Stays }) {}
                    }
                }
                let (octets, entries, shares) = recounted(&mut shard);
                proptest::prop_assert_eq!((shard.octets(), shard.len()), (octets, entries));
                proptest::prop_assert_eq!(&shard.shares, &shares);
            }
        }
    }

    #[test]
    fn one_insertion_moves_a_bounded_number_of_visited_entries_out_of_the_small_ring_though_there_is_room_for_all() {
        // So small that the index is full long before the rings are.
        let mut shard =
            Shard::new(Layout::of(4 << 20, 256).map(|layout| Layout { shards: 1, cells: 4096, ..layout }).unwrap());
        let mut n = 0;
        while !shard.index.is_full() {
            put(&mut shard, n, 60, Moment(0));
            assert!(visit(&mut shard, n, Moment(0)));
            n += 1;
        }
        let moved = |shard: &Shard| {
            (0..n).filter(|&n| shard.find(tag(n), &n.to_be_bytes()).is_some_and(|at| shard.main.contains(at))).count()
        };
        let before = moved(&shard);
        put(&mut shard, n, 60, Moment(0));
        let after = moved(&shard);
        assert!(after > before && after - before <= 64, "{before} {after}");
    }
}
