//! The first word of every block in a ring: how long it is, and what eviction must know of it.

use super::entry::GRAIN;

/// The word that opens a block: its length, a dead bit, and a two-bit count of visits in the low bits that the grain leaves free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

impl Mark {
    const DEAD: u32 = 1;
    const VISIT: u32 = 2;
    const VISITS: u32 = 3 * Self::VISIT;

    /// A block of `size` octets that holds nothing.
    pub fn dead(size: usize) -> Self {
        Self(Self::live(size).0 | Self::DEAD)
    }

    pub fn live(size: usize) -> Self {
        Self(u32::try_from(size).unwrap_or(0) & !(Self::DEAD | Self::VISITS))
    }

    /// The mark at `at`. Where there can be none, a dead grain: whoever walks a ring moves on.
    pub fn read(arena: &[u8], at: usize) -> Self {
        let octets = arena.get(at..).and_then(<[u8]>::first_chunk::<4>);
        let mark = Self(octets.map_or(0, |octets| u32::from_le_bytes(*octets)));
        if mark.size() == 0 { Self::dead(GRAIN) } else { mark }
    }

    /// Writes it at `at`.
    pub fn write(self, arena: &mut [u8], at: usize) {
        if let Some(octets) = arena.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *octets = self.0.to_le_bytes();
        }
    }

    /// The length of the block.
    pub const fn size(self) -> usize {
        (self.0 & !(Self::DEAD | Self::VISITS)) as usize
    }

    /// Was it replaced, removed or skipped?
    pub const fn is_dead(self) -> bool {
        self.0 & Self::DEAD != 0
    }

    /// Was it visited since it came here or was last spared?
    pub const fn is_visited(self) -> bool {
        self.0 & Self::VISITS != 0
    }

    pub const fn visited_once_more(self) -> Self {
        if self.0 & Self::VISITS == Self::VISITS { self } else { Self(self.0 + Self::VISIT) }
    }

    /// One visit less: the price of being spared.
    pub const fn spared(self) -> Self {
        if self.is_visited() { Self(self.0 - Self::VISIT) } else { self }
    }

    /// No visits: how an entry enters the main ring.
    pub const fn unvisited(self) -> Self {
        Self(self.0 & !Self::VISITS)
    }

    /// As it lies in a block.
    pub const fn to_le_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// The reverse.
    pub const fn from_le_bytes(octets: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_counted_to_three_and_paid_for_one_by_one() {
        let mut mark = Mark::live(64);
        for _ in 0..5 {
            mark = mark.visited_once_more();
        }
        for _ in 0..3 {
            assert!(mark.is_visited());
            mark = mark.spared();
        }
        assert!(!mark.is_visited() && !mark.is_dead());
        assert_eq!(mark.spared(), Mark::live(64));
        assert_eq!(mark.size(), 64);
        assert!(Mark::dead(64).is_dead());
    }
}
