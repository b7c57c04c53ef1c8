//! The cursors of a ring: blocks go in at the tail and out at the head, each in one piece. It holds no bytes itself.

use std::ops::Range;

/// A first-in first-out queue of blocks in one stretch of an arena.
#[derive(Debug)]
pub struct Ring {
    span: Range<usize>,
    head: usize,
    tail: usize,
    used: usize,
    /// Octets that have left, gaps included: with those after them they count the whole of what ever went in, so that a place in
    /// this count stays what it is while blocks come and go.
    passed: u64,
}

/// Where a block may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its offset in the arena.
    pub at: usize,
    /// What must be skipped to keep it in one piece: the octets from the tail to the end of the span.
    pub skip: usize,
    /// The tail before it: where what is skipped begins.
    pub tail: usize,
}

impl Ring {
    /// An empty ring over `span`.
    pub const fn new(span: Range<usize>) -> Self {
        let (head, tail) = (span.start, span.start);
        Self { span, head, tail, used: 0, passed: 0 }
    }

    /// Counts on from where `former` ended, whose span was the same: a place in its count is never taken for one in this.
    pub fn follow(&mut self, former: &Self) {
        let (_, end) = former.counts();
        self.passed = end.next_multiple_of(self.length().max(1) as u64);
    }

    /// Octets it spans.
    pub const fn length(&self) -> usize {
        self.span.end - self.span.start
    }

    /// Does `at` lie in it?
    pub fn contains(&self, at: usize) -> bool {
        self.span.contains(&at)
    }

    /// The oldest block.
    pub fn head(&self) -> Option<usize> {
        (self.used > 0).then_some(self.head)
    }

    /// Where a block of `size` octets fits such that `reserve` octets stay free behind it.
    pub fn room(&self, size: usize, reserve: usize) -> Option<Place> {
        let to_end = self.span.end - self.tail;
        let skip = if size <= to_end { 0 } else { to_end };
        let at = if skip == 0 { self.tail } else { self.span.start };
        (self.used + skip + size + reserve <= self.length()).then_some(Place { at, skip, tail: self.tail })
    }

    /// Takes the place that [`Self::room`] found for a block of `size` octets.
    pub fn push(&mut self, place: Place, size: usize) {
        self.used += place.skip + size;
        self.tail = self.wrap(place.at + size);
    }

    /// Gives up the oldest block, of `size` octets.
    pub fn pop(&mut self, size: usize) {
        self.used = self.used.saturating_sub(size);
        self.head = self.wrap(self.head + size);
        self.passed += size as u64;
        if self.used == 0 {
            // An empty ring begins anew, so that its whole span is one piece again.
            (self.head, self.tail) = (self.span.start, self.span.start);
            self.passed = self.passed.next_multiple_of(self.length().max(1) as u64);
        }
    }

    /// The count at the oldest block, and behind the youngest.
    pub const fn counts(&self) -> (u64, u64) {
        (self.passed, self.passed + self.used as u64)
    }

    /// Where the block of this count lies.
    pub fn place_of(&self, count: u64) -> usize {
        let length = self.length().max(1) as u64;
        self.span.start + usize::try_from(count % length).unwrap_or(0)
    }

    const fn wrap(&self, at: usize) -> usize {
        if at < self.span.end { at } else { self.span.start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_would_wrap_skips_to_the_start() {
        let mut ring = Ring::new(1000..1100);
        for _ in 0..3 {
            let place = ring.room(32, 0).unwrap();
            ring.push(place, 32);
        }
        assert_eq!(ring.room(8, 0), None);
        ring.pop(32);
        assert_eq!(ring.room(40, 0), None, "four octets are lost at the end");
        assert_eq!(ring.room(32, 8), None, "the reserve stays free");
        let place = ring.room(32, 0).unwrap();
        assert_eq!(place, Place { at: 1000, skip: 4, tail: 1096 });
        ring.push(place, 32);
        assert_eq!(ring.head(), Some(1032));
        assert_eq!(ring.room(8, 0), None);
    }

    #[test]
    fn a_full_ring_is_not_taken_for_an_empty_one() {
        let mut ring = Ring::new(0..64);
        assert_eq!(ring.head(), None);
        let place = ring.room(64, 0).unwrap();
        ring.push(place, 64);
        assert_eq!(ring.head(), Some(0));
        assert_eq!(ring.room(8, 0), None);
        ring.pop(64);
        assert_eq!(ring.head(), None);
        assert!(ring.room(64, 0).is_some());
    }

    #[test]
    fn a_count_leads_to_its_block_however_often_the_ring_has_turned() {
        let mut ring = Ring::new(1000..1100);
        let mut blocks = std::collections::VecDeque::new();
        for n in 0..200 {
            let size = [32, 24, 48][n % 3];
            while ring.room(size, 0).is_none() {
                let (oldest, _) = ring.counts();
                let (at, size) = blocks.pop_front().unwrap();
                if at != 0 {
                    assert_eq!(ring.place_of(oldest), at);
                }
                ring.pop(size);
            }
            let place = ring.room(size, 0).unwrap();
            if place.skip > 0 {
                blocks.push_back((0, place.skip));
            }
            let (_, youngest) = ring.counts();
            assert_eq!(ring.place_of(youngest + place.skip as u64), place.at);
            ring.push(place, size);
            blocks.push_back((place.at, size));
        }
    }
}
