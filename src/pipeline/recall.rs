//! What memory holds for a question: an answer, or a failure that is not tried again yet.
//!
//! The last stage that a question of the fast path sees before finish: nothing here waits, and a hit allocates nothing.

use super::finish;
use super::keys::Keys;
use super::rcode;
use super::walk::Walk;
use super::{Pipeline, Shared};
use crate::clock::Moment;
use crate::reply::{Facts, Out, Source};
use crate::trail::Recall;

impl Pipeline {
    /// Looks into memory: answers first, so that a failure never hides what is still fresh (NEG-18).
    pub(super) fn recall(&self, keys: &Keys, now: Moment, walk: &mut Walk<'_>, out: &mut Out<'_>) -> Option<Facts> {
        let Shared { cache, failures, .. } = &*self.shared;
        let hit = cache.lookup_through(&self.front, keys.answer(), now, |stored| {
            let age = now.seconds_since(stored.meta.received);
            (stored.meta, age, finish::copy(walk, stored, age, out))
        });
        if let Some((meta, age, fit)) = hit {
            let left = meta.lifetime.saturating_sub(age);
            walk.trail.recall = Recall::Hit { age, left, supplier: meta.supplier };
            return Some(self.seal(walk, (&meta, age, fit), Source::Cache, out));
        }
        walk.trail.recall = Recall::Miss;
        if failures.is_empty() {
            return None;
        }
        let failure = failures.recall(keys.own(), now)?;
        walk.trail.recall = Recall::Failure { left: failure.left };
        self.counters.failures_recalled.add_one();
        Some(self.refuse(walk, &rcode::of_failure(failure), Source::Error, out))
    }

    /// Is there an answer or a failure by now?
    pub(super) fn is_known(&self, keys: &Keys, now: Moment) -> bool {
        let Shared { cache, failures, .. } = &*self.shared;
        let fresh = cache.peek(keys.answer(), now).is_some_and(|entry| entry.left > 0);
        fresh || (!failures.is_empty() && failures.recall(keys.own(), now).is_some())
    }
}
