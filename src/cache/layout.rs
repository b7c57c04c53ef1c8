//! How the octets of the cache are divided: into shards, and in a shard into two rings, an index, a ghost and counters by domain.

use super::entry::GRAIN;
use super::ghost::Ghost;
use super::index::Index;
use super::share::Shares;

/// Below this nothing useful fits, and nothing is kept.
const SMALLEST: usize = 4 << 10;

/// A shard's small ring must be able to hold a message of 64 KiB: a tenth of this nearly is one, see [`Layout::small_limit`].
const SHARD: usize = 1 << 20;

/// More shards than this gain nothing on any machine we know.
const MOST_SHARDS: usize = 256;

/// Per this many octets of rings there are [`CELLS`] index cells and [`TAGS`] ghost tags. At three cells in four taken, the index
/// is enough for entries of 128 octets on average; usual ones have 150 to 300. The ghost remembers about as many names as fit.
/// Each second of them has a counter of [`Shares`].
const UNIT: usize = 384;
const CELLS: usize = 4;
const TAGS: usize = 3;
const UNITS_A_COUNTER: usize = 2;

/// The sizes of one shard, all shards being equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many shards: a power of two.
    pub shards: usize,
    /// Octets of both rings.
    pub arena: usize,
    /// Octets of the small ring, a tenth; it comes first.
    pub small: usize,
    /// Cells of the index.
    pub cells: usize,
    /// Buckets of the ghost.
    pub buckets: usize,
    /// Counters by registrable domain.
    pub counters: usize,
    /// Octets that one domain may hold while others want the room.
    pub share: usize,
}

impl Layout {
    /// The division of `size` octets, `fixed` of which each shard needs for itself. `None` if that leaves nothing to divide.
    /// One domain may hold all.
    pub fn of(size: usize, fixed: usize) -> Option<Self> {
        if size < SMALLEST {
            return None;
        }
        let wanted = (size / SHARD).clamp(1, MOST_SHARDS);
        let shards = if wanted.is_power_of_two() { wanted } else { wanted.next_power_of_two() / 2 };
        // Places in an arena are counted in grains, in 32 bits.
        let largest = (u32::MAX as usize - 1).saturating_mul(GRAIN);
        let unit = UNIT + CELLS * Index::CELL + TAGS * 4 + Shares::COUNTER / UNITS_A_COUNTER;
        let units = (size / shards).checked_sub(fixed)? / unit;
        let units = units.min(largest / UNIT);
        let arena = units * UNIT;
        let small = arena / 10 / GRAIN * GRAIN;
        let (cells, buckets) = (units * CELLS, units * TAGS / Ghost::WAYS);
        Some(Self { shards, arena, small, cells, buckets, counters: units / UNITS_A_COUNTER, share: usize::MAX })
    }

    /// The same, where one domain may hold `share` of it; all from 1 on.
    #[must_use]
    pub fn shared(self, share: f64) -> Self {
        if share >= 1.0 {
            return Self { share: usize::MAX, ..self };
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a length, to the octet or so"
        )]
        let share = (self.arena as f64 * share.max(0.0)) as usize;
        Self { share, ..self }
    }

    /// The largest entry for the small ring; one entry never flushes it all.
    pub const fn small_limit(&self) -> usize {
        self.small / 4 * 3
    }

    /// The largest entry at all.
    pub const fn main_limit(&self) -> usize {
        (self.arena - self.small) / 4
    }

    /// Octets that stay free in the main ring, so that a spared entry of up to half of this fits again where the ring wraps.
    pub const fn reserve(&self) -> usize {
        let eighth = (self.arena - self.small) / 8;
        if eighth < 4096 { eighth } else { 4096 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_64_kib_fits_the_small_ring_of_any_cache_from_one_mebibyte_on() {
        for size in [1 << 20, 3 << 20, 64 << 20, 100 << 20, 1 << 30, 1 << 40] {
            let layout = Layout::of(size, 256).unwrap();
            assert!(layout.small_limit() >= 65_535 + 48 + 270 - 1, "{size}: {layout:?}");
        }
    }

    #[test]
    fn all_sizes_divide_within_the_budget_and_leave_little_over() {
        for size in [4 << 10, 5000, 64 << 10, 999_999, 1 << 20, 64 << 20, 100 << 20, 1 << 30] {
            let layout = Layout::of(size, 256).unwrap();
            let tables = layout.cells.max(8) * Index::CELL + layout.buckets.max(1) * Ghost::BUCKET;
            let one = layout.arena + tables + layout.counters.max(1) * Shares::COUNTER + 256;
            assert!(one * layout.shards <= size, "{size}: {layout:?}");
            assert!(one * layout.shards + layout.shards * 512 >= size, "{size}: {layout:?}");
            assert!(layout.shards.is_power_of_two());
            assert!(layout.small_limit() <= layout.main_limit());
        }
        assert_eq!(Layout::of(0, 256), None);
        assert_eq!(Layout::of(4095, 256), None);
    }

    #[test]
    fn a_share_is_a_part_of_both_rings_and_one_is_no_limit() {
        let layout = Layout::of(1 << 20, 256).unwrap();
        assert_eq!(layout.shared(0.25).share, layout.arena / 4);
        assert_eq!(layout.shared(0.0).share, 0);
        assert_eq!((layout.share, layout.shared(1.0).share), (usize::MAX, usize::MAX));
        assert!(layout.counters >= 1024);
    }
}
