//! What memory holds for a question: an answer, or a failure that is not tried again yet.
//!
//! The last stage that a question of the fast path sees before finish: nothing here waits, and a hit allocates nothing.

use super::finish;
use super::keys::Keys;
use super::rcode;
use super::walk::Walk;
use super::{Pipeline, Shared};
use crate::cache::{Cache, Key};
use crate::clock::Moment;
use crate::reply::{Facts, Out, Source, Stored};
use crate::trail::{Recall, Stale, Sudden};
use crate::wire::Flags;

impl Pipeline {
    /// Looks into memory: answers first, so that a failure never hides what is still fresh (NEG-18).
    pub(super) fn recall(&self, keys: &Keys, now: Moment, walk: &mut Walk<'_>, out: &mut Out<'_>) -> Option<Facts> {
        let answered = if keys.passed().is_none() { self.recall_answer(keys, now, walk, out) } else { None };
        answered.or_else(|| self.recall_failure(keys, now, walk, out))
    }

    fn recall_answer(&self, keys: &Keys, now: Moment, walk: &mut Walk<'_>, out: &mut Out<'_>) -> Option<Facts> {
        let cache = &self.shared.cache;
        let mut take = |stored: Stored<'_>, is_due| {
            let age = now.seconds_since(stored.meta.received);
            (stored.meta, age, finish::copy(walk, stored, age, out), is_due)
        };
        // Who does not want recursion does not cause it.
        let renews = self.shared.cache_settings.prefetch && walk.asks(Flags::RD);
        let near = keys.near(cache).find(|key| is_fresh(cache, key, now));
        let key = near.as_ref().unwrap_or(keys.answer());
        let hit = cache.lookup_through(&self.front, (key, renews), now, &mut take);
        let is_of_key = hit.is_some();
        // A name that does not exist has no records of any type (NEG-03).
        let hit = hit.or_else(|| cache.lookup(&keys.denial(), now, |stored| take(stored, false)));
        let (meta, age, fit, is_due) = hit?;
        if is_of_key {
            walk.reached(key);
        }
        let left = meta.lifetime.saturating_sub(age);
        walk.trail.recall = Recall::Hit { age, left, supplier: meta.supplier };
        if is_due {
            self.renew(keys, walk);
        }
        if meta.is_sudden {
            walk.trail.sudden = Sudden::Earlier;
        }
        Some(self.seal(walk, (&meta, age, fit), Source::Cache, out))
    }

    fn recall_failure(&self, keys: &Keys, now: Moment, walk: &mut Walk<'_>, out: &mut Out<'_>) -> Option<Facts> {
        let failures = &self.shared.failures;
        walk.trail.recall = Recall::Miss;
        if failures.is_empty() {
            return None;
        }
        let failure = failures.recall(&keys.own(), self.shared.at(walk.question, now))?;
        let problem = rcode::of_failure(failure);
        let [_, original] = problem.extras;
        if let Some(facts) = self.stand_in(keys, walk, (Stale::Lately, original), out) {
            return Some(facts);
        }
        // Held for an answer that stood in and has gone meanwhile: the next asker finds out.
        if failure.left_alone == 0 {
            return None;
        }
        walk.trail.recall = Recall::Failure { left: failure.left_alone };
        self.counters.failures_recalled.add_one();
        Some(self.refuse(walk, &problem, Source::Error, out))
    }

    /// Is there an answer or a failure by now?
    pub(super) fn is_known(&self, keys: &Keys, now: Moment) -> bool {
        let Shared { cache, failures, .. } = &*self.shared;
        let has_answer = || {
            is_fresh(cache, keys.answer(), now)
                || is_fresh(cache, &keys.denial(), now)
                || keys.near(cache).any(|key| is_fresh(cache, &key, now))
        };
        (keys.passed().is_none() && has_answer())
            || (!failures.is_empty()
                && failures
                    .recall(&keys.own(), self.shared.at(keys.answer().question(), now))
                    .is_some_and(|failure| failure.left_alone > 0))
    }
}

fn is_fresh(cache: &Cache, key: &Key, now: Moment) -> bool {
    cache.peek(key, now).is_some_and(|entry| entry.left > 0)
}
