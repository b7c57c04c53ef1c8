//! What a peer has been answered and does not take: counted for each connection, so that it cannot make us hold more and more.
//!
//! Above [`ENOUGH`] its connection takes no further questions; an answer that comes above [`MOST`] is dropped and its stream reset.
//! Many questions may already be waiting for their answers when a client stops reading: hence two bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::guard::{Held, Purse};

/// Octets above which no further questions are taken.
pub const ENOUGH: usize = 64 * 1024;

/// Octets above which answers are dropped: one turn of the longest ones.
pub const MOST: usize = super::turn::TURN * 64 * 1024;

/// The octets that one connection's peer leaves unread. Clones share them.
#[derive(Clone, Debug)]
pub struct Unread {
    octets: Arc<AtomicUsize>,
    /// All connections of a client together have a bound too.
    purse: Purse,
}

/// An answer that waits for its peer.
#[derive(Debug)]
pub struct Kept {
    octets: Arc<AtomicUsize>,
    held: Held,
}

impl Unread {
    /// Nothing yet of the connection whose client `purse` is.
    #[must_use]
    pub fn of(purse: Purse) -> Self {
        Self { octets: Arc::default(), purse }
    }

    /// Counts an answer of `octets` until what is returned is dropped; `None` if there are too many already.
    pub fn keep(&self, octets: usize) -> Option<Kept> {
        let held = self.purse.hold(octets)?;
        let before = self.octets.fetch_add(octets, Ordering::Relaxed);
        let kept = Kept { octets: Arc::clone(&self.octets), held };
        (before <= MOST).then_some(kept)
    }

    /// Should no further questions be taken?
    pub fn is_enough(&self) -> bool {
        self.octets.load(Ordering::Relaxed) > ENOUGH
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.octets.fetch_sub(self.held.octets(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Guard, Settings};
    use crate::peer::DoorId;

    fn unread(octets_per_client: usize) -> Unread {
        let allow = vec![vec!["0.0.0.0/0".parse().unwrap()]];
        let guard = Guard::new(Settings { allow, octets_per_client, ..Settings::default() });
        Unread::of(guard.admit(DoorId(0), "192.0.2.1".parse().unwrap()).unwrap().purse())
    }

    #[test]
    fn connections_of_one_client_share_what_may_be_kept_for_it() {
        let first = unread(100_000);
        let second = Unread::of(first.purse.clone());
        let kept = first.keep(60_000).unwrap();
        assert!(second.keep(60_000).is_none() && second.keep(40_000).is_some());
        drop(kept);
        assert!(second.keep(60_000).is_some() && !second.is_enough());
    }

    #[test]
    fn questions_stop_before_answers_are_dropped_and_what_is_taken_makes_room() {
        let unread = unread(MOST * 2);
        let mut kept = Vec::new();
        while !unread.is_enough() {
            kept.push(unread.keep(60_000).unwrap());
        }
        assert_eq!(kept.len(), 2);
        while let Some(another) = unread.keep(60_000) {
            kept.push(another);
        }
        assert_eq!(kept.len(), MOST / 60_000 + 1);
        kept.clear();
        assert!(!unread.is_enough());
        assert!(unread.keep(1).is_some());
    }
}
