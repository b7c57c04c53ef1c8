//! The cursors of a ring: blocks go in at the tail and out at the head, each in one piece. It holds no bytes itself.

use std::ops::Range;

/// A first-in first-out queue of blocks in one stretch of an arena.
#[derive(Debug)]
pub struct Ring {
    span: Range<usize>,
    head: usize,
    tail: usize,
    used: usize,
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
        Self { span, head, tail, used: 0 }
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
        if self.used == 0 {
            // An empty ring begins anew, so that its whole span is one piece again.
            (self.head, self.tail) = (self.span.start, self.span.start);
        }
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
}
