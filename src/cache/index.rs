//! The index of a shard: a fixed table from tag to place, probed line by line.
//!
//! One `u64` a cell (tag above, place below), so that a hit reads one cache line here and a wrong tag never touches an entry.
//! Deletion shifts back, so there are no tombstones, no rehash and no growth: the memory is what it was at construction.

use super::entry::GRAIN;

/// A linear-probing table with room for a fixed number of entries. Cell 0 is empty; places are kept one up.
#[derive(Debug)]
pub struct Index {
    cells: Vec<u64>,
    entries: usize,
}

impl Index {
    /// Octets of one cell.
    pub const CELL: usize = 8;

    /// A table of `cells` cells, of which three in four can be taken.
    pub fn new(cells: usize) -> Self {
        Self { cells: vec![0; cells.max(8)], entries: 0 }
    }

    /// Entries in it.
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Can it take no more? Probes grow long in a table fuller than that.
    pub const fn is_full(&self) -> bool {
        self.entries >= self.cells.len() / 4 * 3
    }

    /// Octets it holds.
    pub const fn footprint(&self) -> usize {
        self.cells.capacity() * Self::CELL
    }

    /// The place of the entry with `tag` that `is_it` recognises.
    pub fn find(&self, tag: u32, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = self.home(tag);
        // Ends: a quarter of the cells is empty.
        loop {
            let cell = self.cell(at);
            if cell == 0 {
                return None;
            }
            if tag_of(cell) == tag && is_it(place_of(cell)) {
                return Some(place_of(cell));
            }
            at = self.after(at);
        }
    }

    /// Adds an entry. The caller has made sure that the table is not full.
    pub fn insert(&mut self, tag: u32, place: usize) {
        debug_assert!(!self.is_full());
        let mut at = self.home(tag);
        while self.cell(at) != 0 {
            at = self.after(at);
        }
        self.set(at, cell_of(tag, place));
        self.entries += 1;
    }

    /// Follows an entry that moved.
    pub fn relocate(&mut self, tag: u32, from: usize, to: usize) {
        if let Some(at) = self.position(tag, from) {
            self.set(at, cell_of(tag, to));
        }
    }

    /// Takes an entry out and closes the gap it leaves.
    pub fn remove(&mut self, tag: u32, place: usize) {
        let Some(mut gap) = self.position(tag, place) else { return };
        self.entries = self.entries.saturating_sub(1);
        let mut at = gap;
        loop {
            at = self.after(at);
            let cell = self.cell(at);
            if cell == 0 {
                break;
            }
            // It may move back into the gap unless that lies before its home.
            if self.distance(self.home(tag_of(cell)), at) >= self.distance(gap, at) {
                self.set(gap, cell);
                gap = at;
            }
        }
        self.set(gap, 0);
    }

    fn position(&self, tag: u32, place: usize) -> Option<usize> {
        let wanted = cell_of(tag, place);
        let mut at = self.home(tag);
        loop {
            let cell = self.cell(at);
            if cell == 0 || cell == wanted {
                return (cell == wanted).then_some(at);
            }
            at = self.after(at);
        }
    }

    /// Tags are spread over any number of cells by multiplication; no power of two is needed.
    fn home(&self, tag: u32) -> usize {
        scale(tag, self.cells.len())
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.cells.len() { at + 1 } else { 0 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.cells.len() - from }
    }

    fn cell(&self, at: usize) -> u64 {
        self.cells.get(at).copied().unwrap_or(0)
    }

    fn set(&mut self, at: usize, cell: u64) {
        if let Some(place) = self.cells.get_mut(at) {
            *place = cell;
        }
    }
}

/// `tag` scaled to `0..length`: the product of a 32-bit fraction and a length is below that length.
pub fn scale(tag: u32, length: usize) -> usize {
    ((u128::from(tag) * length as u128) >> 32) as usize
}

fn cell_of(tag: u32, place: usize) -> u64 {
    // The layout keeps an arena below 2^32 grains.
    let unit = u32::try_from(place / GRAIN).unwrap_or(u32::MAX).saturating_add(1);
    u64::from(tag) << 32 | u64::from(unit)
}

const fn tag_of(cell: u64) -> u32 {
    (cell >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half of a cell")]
const fn place_of(cell: u64) -> usize {
    (cell as u32).saturating_sub(1) as usize * GRAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_is_found_until_it_is_taken_out_even_where_all_homes_collide() {
        let mut index = Index::new(16);
        // The last home of all: the probes wrap.
        let tag = u32::MAX;
        for place in 0..12 {
            assert!(!index.is_full());
            index.insert(tag - u32::try_from(place % 3).unwrap(), place * GRAIN);
        }
        assert!(index.is_full());
        for gone in [0, 5, 11, 3] {
            index.remove(tag - u32::try_from(gone % 3).unwrap(), gone * GRAIN);
        }
        for place in 0..12 {
            let found = index.find(tag - u32::try_from(place % 3).unwrap(), |at| at == place * GRAIN);
            assert_eq!(found.is_some(), ![0, 5, 11, 3].contains(&place), "{place}");
        }
        assert_eq!(index.len(), 8);
    }

    #[test]
    fn an_entry_that_moved_is_found_at_its_new_place_only() {
        let mut index = Index::new(8);
        index.insert(9, 0);
        index.relocate(9, 0, 80);
        assert_eq!(index.find(9, |_| true), Some(80));
        index.remove(9, 0);
        assert_eq!(index.len(), 1);
        index.remove(9, 80);
        assert_eq!(index.find(9, |_| true), None);
    }

    proptest::proptest! {
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec((0..40_usize, 0..3_u8), 1..400)) {
            let mut index = Index::new(64);
            let mut model = std::collections::HashMap::new();
            // Tags crowd at three homes.
            let tag = |n: usize| [0, u32::MAX / 2, u32::MAX][n % 3] ^ u32::try_from(n / 8).unwrap();
            for (n, action) in steps {
                match (action, model.get(&n).copied()) {
                    (0, None) => { index.insert(tag(n), n * GRAIN); model.insert(n, n * GRAIN); }
                    (1, Some(place)) => { index.remove(tag(n), place); model.remove(&n); }
                    (2, Some(place)) => { let to = place + 64 * GRAIN; index.relocate(tag(n), place, to); model.insert(n, to); }
                    _ => {}
                }
                for n in 0..40 {
                    let known = model.get(&n).copied();
                    let found = index.find(tag(n), |at| at / GRAIN % 64 == n);
                    proptest::prop_assert_eq!(found, known);
                }
                proptest::prop_assert_eq!(index.len(), model.len());
            }
        }
    }
}
