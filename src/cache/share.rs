//! How much of a shard each registrable domain holds, so that one whose names are made up at random cannot take it all.
//!
//! A fixed table of counters, one for all the domains whose tags fall on it: at some 1200 counters a mebibyte each stands for a
//! thousandth of what is held. Sharing one can only make the limit bite earlier. The tags are keyed hashes: nobody can choose whom
//! to share a counter with.

use super::entry::GRAIN;
use super::index::scale;

/// Octets held by domain.
#[derive(Debug, PartialEq, Eq)]
pub struct Shares {
    /// In grains, so that no shard is too large for them.
    counters: Vec<u32>,
    limit: usize,
}

impl Shares {
    /// Octets of one counter.
    pub const COUNTER: usize = 4;

    /// A table of `counters` counters, for domains that may hold `limit` octets each.
    pub fn new(counters: usize, limit: usize) -> Self {
        Self { counters: vec![0; counters.max(1)], limit }
    }

    /// An entry of `domain` has come.
    pub fn add(&mut self, domain: u32, size: usize) {
        if let Some(counter) = self.counter_mut(domain) {
            *counter = counter.saturating_add(grains(size));
        }
    }

    /// An entry of `domain` has gone.
    pub fn take(&mut self, domain: u32, size: usize) {
        if let Some(counter) = self.counter_mut(domain) {
            *counter = counter.saturating_sub(grains(size));
        }
    }

    /// Would `domain` hold more than its share with `more` octets? Names without a domain have no limit.
    pub fn is_exceeded(&self, domain: u32, more: usize) -> bool {
        domain != 0 && self.held(domain).saturating_add(more) > self.limit
    }

    /// Octets it holds.
    pub const fn footprint(&self) -> usize {
        self.counters.capacity() * Self::COUNTER
    }

    /// Octets held by `domain` and those that share its counter.
    fn held(&self, domain: u32) -> usize {
        let counter = self.counters.get(scale(domain, self.counters.len()));
        counter.map_or(0, |&grains| grains as usize * GRAIN)
    }

    fn counter_mut(&mut self, domain: u32) -> Option<&mut u32> {
        let at = scale(domain, self.counters.len());
        self.counters.get_mut(at)
    }
}

/// The layout keeps an arena below 2^32 grains.
fn grains(size: usize) -> u32 {
    u32::try_from(size / GRAIN).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_exceeded_its_share_from_the_first_octet_above_it_until_enough_has_gone() {
        let mut shares = Shares::new(1024, 800);
        shares.add(7, 400);
        shares.add(u32::MAX, 800);
        assert!(!shares.is_exceeded(7, 400) && shares.is_exceeded(7, 408));
        assert!(!shares.is_exceeded(u32::MAX, 0) && shares.is_exceeded(u32::MAX, 8));
        shares.take(u32::MAX, 400);
        assert!(!shares.is_exceeded(u32::MAX, 400));
        assert_eq!(shares.footprint(), 4096);
    }

    #[test]
    fn names_without_a_domain_have_no_limit_and_one_counter_for_all_only_makes_it_bite_earlier() {
        let mut shares = Shares::new(0, 800);
        shares.add(0, 1 << 20);
        assert!(!shares.is_exceeded(0, 1 << 20));
        assert!(shares.is_exceeded(1, 0));
    }
}
