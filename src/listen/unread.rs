//! What a peer has been answered and does not take: counted for each connection, so that it cannot make us hold more and more.
//!
//! Above [`ENOUGH`] its connection takes no further questions; an answer that comes above [`MOST`] is dropped and its stream reset.
//! Many questions may already be waiting for their answers when a client stops reading: hence two bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets above which no further questions are taken.
pub const ENOUGH: usize = 64 * 1024;

/// Octets above which answers are dropped: one turn of the longest ones.
pub const MOST: usize = super::turn::TURN * 64 * 1024;

/// The octets that one connection's peer leaves unread. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<AtomicUsize>);

/// An answer that waits for its peer.
#[derive(Debug)]
pub struct Kept {
    unread: Unread,
    octets: usize,
}

impl Unread {
    /// Counts an answer of `octets` until what is returned is dropped; `None` if there are too many already.
    pub fn keep(&self, octets: usize) -> Option<Kept> {
        let before = self.0.fetch_add(octets, Ordering::Relaxed);
        let kept = Kept { unread: self.clone(), octets };
        (before <= MOST).then_some(kept)
    }

    /// Should no further questions be taken?
    pub fn is_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) > ENOUGH
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.unread.0.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_stop_before_answers_are_dropped_and_what_is_taken_makes_room() {
        let unread = Unread::default();
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
