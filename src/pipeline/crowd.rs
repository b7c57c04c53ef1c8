//! How many questions of one registrable domain wait for upstreams at a time: the defence against made-up subdomains.
//!
//! Whoever makes up names below a domain whose servers are slow or down makes questions that no memory answers and that all wait
//! to the end. Counted by the domain, they fill its places and nobody else's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ahash::RandomState;

use crate::cache::domain;

/// Counters. Domains that share one by chance share its places, so there are many more than flights at one time.
const CELLS: usize = 1 << 16;

/// The questions under way, counted by domain.
pub struct Crowds {
    cells: Arc<[AtomicU16]>,
    /// With a key of this process: nobody else can tell which domains share a counter.
    hasher: RandomState,
    /// Places of one domain; None where they are not counted.
    most: Option<u16>,
}

/// A place among the questions of a domain, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    /// The counter; None where none was counted up.
    counted: Option<(Arc<Crowds>, usize)>,
}

impl Crowds {
    /// With `most` places for each domain; 0 switches it off.
    #[must_use]
    pub fn new(most: u16) -> Arc<Self> {
        let cells = if most == 0 { 0 } else { CELLS };
        Arc::new(Self {
            cells: (0..cells).map(|_| AtomicU16::new(0)).collect(),
            hasher: RandomState::new(),
            most: (most > 0).then_some(most),
        })
    }

    /// The same places taken, but `most` for each domain.
    #[must_use]
    pub fn renewed(&self, most: u16) -> Arc<Self> {
        if self.cells.is_empty() {
            return Self::new(most);
        }
        let (cells, hasher) = (Arc::clone(&self.cells), self.hasher.clone());
        Arc::new(Self { cells, hasher, most: (most > 0).then_some(most) })
    }

    /// A place for a question about `name` (wire form, folded); None where all of its domain are taken.
    ///
    /// What has no registrable domain (the root) always has one.
    #[must_use]
    pub fn enter(self: &Arc<Self>, name: &[u8]) -> Option<Place> {
        let (Some(most), Some(domain)) = (self.most, domain::registrable(name)) else { return Some(Place::FREE) };
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let at = self.hasher.hash_one(domain) as usize % CELLS;
        let Some(cell) = self.cells.get(at) else { return Some(Place::FREE) };
        let more = |taken: u16| (taken < most).then_some(taken + 1);
        cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place { counted: Some((Arc::clone(self), at)) })
    }
}

impl Place {
    /// One that is not counted.
    pub const FREE: Self = Self { counted: None };
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((crowds, at)) = &self.counted
            && let Some(cell) = crowds.cells.get(*at)
        {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Crowds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowds").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::from_text;

    fn enter(crowds: &Arc<Crowds>, name: &str) -> Option<Place> {
        crowds.enter(&from_text(name).unwrap())
    }

    #[test]
    fn a_domain_has_so_many_places_and_no_more_whatever_the_names_below_it() {
        let crowds = Crowds::new(3);
        let mut places: Vec<_> = ["a.example.org", "b.c.example.org", "example.org"]
            .iter()
            .map(|name| enter(&crowds, name).unwrap())
            .collect();
        assert!(enter(&crowds, "d.example.org").is_none());
        assert!(enter(&crowds, "a.example.net").is_some(), "another domain has its own");
        places.pop();
        let again = enter(&crowds, "d.example.org");
        assert!(again.is_some() && enter(&crowds, "e.example.org").is_none());
    }

    #[test]
    fn workers_that_enter_at_once_get_the_exact_number_of_places() {
        let crowds = Crowds::new(100);
        let enter_all = || (0..100).filter_map(|n| enter(&crowds, &format!("n{n}.one.example"))).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter_all)).collect();
            let places: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            assert_eq!(places.len(), 100);
        });
        assert_eq!(enter_all().len(), 100, "all came back");
    }

    #[test]
    fn the_root_has_no_domain_and_zero_counts_nothing() {
        let crowds = Crowds::new(1);
        let roots: Vec<_> = (0..5).map(|_| enter(&crowds, ".")).collect();
        assert!(roots.iter().all(Option::is_some));
        let off = Crowds::new(0);
        let all: Vec<_> = (0..5).map(|n| enter(&off, &format!("n{n}.example.org"))).collect();
        assert!(all.iter().all(Option::is_some));
    }
}
