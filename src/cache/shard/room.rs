//! Room in a shard: who makes it, who stays, and who has had its share.

use super::super::entry::Header;
use super::super::mark::Mark;
use super::super::ring::Place;
use super::{Lane, Shard};
use crate::clock::Moment;

/// Octets that one insertion may still move to keep visited entries. Bounds the time under the lock; when it is spent, they leave.
pub struct Moves {
    /// From the head of the main ring to its tail.
    spared: usize,
    /// From the small ring to the main ring.
    promoted: usize,
}

impl Moves {
    const MOST: usize = 64 << 10;

    /// For an entry of `size` octets.
    pub const fn for_size(size: usize) -> Self {
        // A long message passes many blocks as it is: what it may move besides has a limit of its own.
        let most = 4 * size;
        let most = 4096 + if most < Self::MOST { most } else { Self::MOST };
        Self { spared: most, promoted: most }
    }

    const fn none() -> Self {
        Self { spared: 0, promoted: 0 }
    }

    const fn spare(&mut self, size: usize) -> bool {
        spend(&mut self.spared, size)
    }

    const fn promote(&mut self, size: usize) -> bool {
        spend(&mut self.promoted, size)
    }
}

const fn spend(left: &mut usize, size: usize) -> bool {
    let Some(rest) = left.checked_sub(size) else { return false };
    *left = rest;
    true
}

impl Shard {
    /// Takes `size` octets at the tail of a ring, shedding from its head what is in the way.
    pub(super) fn claim(&mut self, lane: Lane, size: usize, now: Moment, moves: &mut Moves) -> Option<usize> {
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
    pub(super) fn shed_small(&mut self, now: Moment, moves: &mut Moves) -> bool {
        let Some(at) = self.small.head() else { return false };
        let mark = Mark::read(&self.arena, at);
        if !mark.is_dead()
            && let Some(header) = Header::read(&self.arena, at)
        {
            let limited = self.shares.is_exceeded(header.domain, 0);
            let has_earned = mark.is_visited() && header.is_of_use(now);
            let room = if has_earned && !limited {
                moves.promote(mark.size()).then(|| self.claim(Lane::Main, mark.size(), now, moves)).flatten()
            } else if header.is_fresh(now) {
                self.claim_spare(header.domain, mark.size(), now)
            } else if header.is_stale(now) {
                // It may be wanted yet, but not at the cost of anything.
                self.claim_free(mark.size())
            } else {
                None
            };
            if let Some(to) = room {
                self.relocate(header.tag, at, to, mark.unvisited());
            } else {
                self.tally.limited += u64::from(limited && has_earned);
                self.evict(header.tag, at, !limited);
            }
        }
        self.small.pop(mark.size());
        true
    }

    /// Passes the oldest block of the main ring; says whether there was one.
    pub(super) fn shed_main(&mut self, now: Moment, moves: &mut Moves) -> bool {
        let Some(at) = self.main.head() else { return false };
        let mark = Mark::read(&self.arena, at);
        let size = mark.size();
        self.main.pop(size);
        if mark.is_dead() {
            return true;
        }
        let Some(header) = Header::read(&self.arena, at) else { return true };
        let limited = self.shares.is_exceeded(header.domain, 0);
        let earned = mark.is_visited() && header.is_of_use(now);
        let spared = earned && !limited && moves.spare(size);
        // What has expired is spared once, however often it was asked for: then it must have been asked for again.
        let visits = if header.is_fresh(now) { mark.spared() } else { mark.unvisited() };
        if let Some(place) = self.main.room(size, 0).filter(|_| spared) {
            // The bytes move before a filler is written: the place may overlap the block that has just been passed.
            self.relocate(header.tag, at, place.at, visits);
            self.occupy(Lane::Main, place, size);
        } else {
            self.tally.limited += u64::from(limited && earned);
            self.evict(header.tag, at, mark.is_visited() && !limited);
        }
        true
    }

    /// Room in the main ring for an entry that has not earned it: where it is free, as while the ring first fills, or where only
    /// what is dead, beyond its domain's share, or expired and not asked for stands in the way. Looks at a few blocks only.
    fn claim_spare(&mut self, domain: u32, size: usize, now: Moment) -> Option<usize> {
        const LOOKS: usize = 8;
        let limited = self.shares.is_exceeded(domain, 0);
        for _ in 0..LOOKS {
            if self.index.is_full() {
                return None;
            }
            if let Some(at) = self.claim_free(size) {
                return Some(at);
            }
            let at = self.main.head()?;
            let mark = Mark::read(&self.arena, at);
            let stays = |header: Header| {
                let is_wanted = header.is_fresh(now) || mark.is_visited() && header.is_stale(now);
                is_wanted && (limited || !self.shares.is_exceeded(header.domain, 0))
            };
            if !mark.is_dead() && Header::read(&self.arena, at).is_some_and(stays) {
                return None;
            }
            // Nothing that has a right to its place is passed, so nothing is spared and nothing moves.
            self.shed_main(now, &mut Moves::none());
        }
        None
    }

    /// Room in the main ring where it is free already, and none while there are too many entries.
    fn claim_free(&mut self, size: usize) -> Option<usize> {
        let place = self.main.room(size, self.layout.reserve()).filter(|_| !self.index.is_full())?;
        Some(self.occupy(Lane::Main, place, size))
    }

    /// Room for an entry that has earned it but whose domain has its share: spare room, or a passing place among the new ones, so
    /// that the names of such a domain displace each other and nobody else's.
    pub(super) fn claim_limited(&mut self, domain: u32, size: usize, now: Moment, moves: &mut Moves) -> Option<usize> {
        if let Some(at) = self.claim_spare(domain, size, now) {
            return Some(at);
        }
        self.tally.limited += 1;
        if size > self.layout.small_limit() {
            self.tally.rejected += 1;
            return None;
        }
        self.claim(Lane::Small, size, now, moves)
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
        self.forget(at);
        self.index.remove(tag, at);
        self.departures.count();
        self.tally.evicted += 1;
        if remember {
            self.ghost.add(tag);
        }
    }
}
