//! One shard: the rings, and who stays in them (S3-FIFO: Yang et al., SOSP 2023).
//!
//! New entries pass through the small ring; those visited there move to the main ring, the others leave and are remembered by the
//! ghost, which sends them straight to the main ring when they come back. So a scan of names asked once never displaces what is
//! asked often. A hit writes to the header it has read anyway, and to nothing else.

use std::sync::Arc;

use super::Inserted;
use super::entry::{self, Draft, Entry, GRAIN, Header, Mark};
use super::front::Departures;
use super::ghost::Ghost;
use super::index::Index;
use super::layout::Layout;
use super::ring::{Place, Ring};
use crate::clock::Moment;
use crate::reply::Stored;

/// What has happened in a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answers kept.
    pub inserted: u64,
    /// Answers dropped to make room, expired ones included.
    pub evicted: u64,
    /// Answers not kept for their size.
    pub rejected: u64,
}

/// One shard. Locked as a whole by the cache.
#[derive(Debug)]
pub struct Shard {
    index: Index,
    arena: Vec<u8>,
    small: Ring,
    main: Ring,
    ghost: Ghost,
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

/// Octets that one insertion may still move to spare visited entries. Bounds the time under the lock; when it is spent, they leave.
struct Moves(usize);

impl Moves {
    const fn for_size(size: usize) -> Self {
        Self(4096 + 4 * size)
    }

    const fn spend(&mut self, size: usize) -> bool {
        let Some(left) = self.0.checked_sub(size) else { return false };
        self.0 = left;
        true
    }
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
        self.arena.capacity() + self.index.footprint() + self.ghost.footprint()
    }

    /// The fresh entry of `key`, visited.
    pub fn lookup(&mut self, tag: u32, key: &[u8], now: Moment) -> Option<Stored<'_>> {
        let at = self.find(tag, key)?;
        entry::visit_fresh(&mut self.arena, at, key.len(), now)
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
        let Some(at) = self.claim(lane, size, now, &mut moves) else { return Inserted::TooLarge };
        draft.write(&mut self.arena, at);
        self.index.insert(tag, at);
        self.octets += size;
        self.tally.inserted += 1;
        Inserted::Kept
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
        let size = Mark::read(&self.arena, at).size();
        self.octets = self.octets.saturating_sub(size);
        Mark::dead(size).write(&mut self.arena, at);
    }

    /// Takes `size` octets at the tail of a ring, shedding from its head what is in the way.
    fn claim(&mut self, lane: Lane, size: usize, now: Moment, moves: &mut Moves) -> Option<usize> {
        loop {
            let place = match lane {
                Lane::Small => self.small.room(size, 0),
                Lane::Main => self.main.room(size, self.layout.reserve()),
            };
            if let Some(place) = place {
                return Some(self.occupy(lane, place, size));
            }
            let shed = match lane {
                Lane::Small => self.shed_small(now, moves),
                Lane::Main => self.shed_main(now, moves),
            };
            if !shed {
                return None;
            }
        }
    }

    fn occupy(&mut self, lane: Lane, place: Place, size: usize) -> usize {
        if place.skip > 0 {
            Mark::dead(place.skip).write(&mut self.arena, place.tail);
        }
        match lane {
            Lane::Small => self.small.push(place, size),
            Lane::Main => self.main.push(place, size),
        }
        place.at
    }

    /// Passes the oldest block of the small ring; says whether there was one.
    fn shed_small(&mut self, now: Moment, moves: &mut Moves) -> bool {
        let Some(at) = self.small.head() else { return false };
        let mark = Mark::read(&self.arena, at);
        if !mark.is_dead()
            && let Some(header) = Header::read(&self.arena, at)
        {
            let room = if !header.is_fresh(now) {
                None
            } else if mark.is_visited() {
                self.claim(Lane::Main, mark.size(), now, moves)
            } else {
                self.claim_spare(mark.size(), now)
            };
            match room {
                Some(to) => self.relocate(header.tag, at, to, mark.unvisited()),
                None => self.evict(header.tag, at, true),
            }
        }
        self.small.pop(mark.size());
        true
    }

    /// Passes the oldest block of the main ring; says whether there was one.
    fn shed_main(&mut self, now: Moment, moves: &mut Moves) -> bool {
        let Some(at) = self.main.head() else { return false };
        let mark = Mark::read(&self.arena, at);
        let size = mark.size();
        self.main.pop(size);
        if mark.is_dead() {
            return true;
        }
        let Some(header) = Header::read(&self.arena, at) else { return true };
        let spared = mark.is_visited() && header.is_fresh(now) && moves.spend(size);
        match self.main.room(size, 0).filter(|_| spared) {
            Some(place) => {
                // The bytes move before a filler is written: the place may overlap the block that has just been passed.
                self.relocate(header.tag, at, place.at, mark.spared());
                self.occupy(Lane::Main, place, size);
            }
            None => self.evict(header.tag, at, mark.is_visited()),
        }
        true
    }

    /// Room in the main ring for an entry that has not earned it: where it is free, as while the ring first fills, or where only
    /// what is dead or expired stands in the way. Looks at a few blocks only.
    fn claim_spare(&mut self, size: usize, now: Moment) -> Option<usize> {
        const LOOKS: usize = 8;
        if self.index.is_full() {
            return None;
        }
        for _ in 0..LOOKS {
            let room = self.main.room(size, self.layout.reserve());
            if let Some(place) = room {
                return Some(self.occupy(Lane::Main, place, size));
            }
            let at = self.main.head()?;
            let live = !Mark::read(&self.arena, at).is_dead();
            if live && Header::read(&self.arena, at).is_some_and(|header| header.is_fresh(now)) {
                return None;
            }
            // Nothing fresh is passed, so nothing is spared and nothing moves.
            self.shed_main(now, &mut Moves(0));
        }
        None
    }

    fn relocate(&mut self, tag: u32, from: usize, to: usize, mark: Mark) {
        if from.max(to) + mark.size() > self.arena.len() {
            return;
        }
        self.arena.copy_within(from..from + mark.size(), to);
        mark.write(&mut self.arena, to);
        self.index.relocate(tag, from, to);
    }

    fn evict(&mut self, tag: u32, at: usize, remember: bool) {
        self.octets = self.octets.saturating_sub(Mark::read(&self.arena, at).size());
        self.index.remove(tag, at);
        self.departures.count();
        self.tally.evicted += 1;
        if remember {
            self.ghost.add(tag);
        }
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
}
