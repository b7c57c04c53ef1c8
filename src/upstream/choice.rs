//! Who of several servers is asked next: the strategies of a pool.
//!
//! Called by [`super::round`] with the servers it may ask; state, budgets and fallback are decided there.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use super::server::Upstream;
use super::settings::Strategy;

/// A server that may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its place in the pool.
    pub place: usize,
    /// The server.
    pub server: &'a Arc<Upstream>,
}

/// One question in so many tries a server that has not been asked for [`LONG_AGO`].
const EXPLORE: u32 = 50;
/// Long enough for a server to have become quicker.
const LONG_AGO: Duration = Duration::from_secs(10);

/// Chooses from `candidates`; `turn` counts the questions of the pool.
pub fn choose(strategy: Strategy, candidates: &[Candidate<'_>], turn: usize, now: Instant) -> Option<usize> {
    let chosen = match strategy {
        Strategy::Ordered => candidates.first(),
        Strategy::RoundRobin => candidates.get(turn % candidates.len().max(1)),
        Strategy::Weighted => by_weight(candidates),
        Strategy::Adaptive | Strategy::Race => quicker_of_two(candidates, now),
    };
    chosen.map(|candidate| candidate.place)
}

fn by_weight<'a, 'b>(candidates: &'b [Candidate<'a>]) -> Option<&'b Candidate<'a>> {
    let weight = |candidate: &Candidate<'_>| u32::from(candidate.server.weight());
    let total: u32 = candidates.iter().map(weight).sum();
    if total == 0 {
        return candidates.first();
    }
    let mut drawn = rand::random_range(0..total);
    candidates.iter().find(|candidate| {
        let own = weight(candidate);
        let is_hit = drawn < own;
        drawn = drawn.saturating_sub(own);
        is_hit
    })
}

/// The power of two choices: as good as the best of all, without everyone running to the same one.
fn quicker_of_two<'a, 'b>(candidates: &'b [Candidate<'a>], now: Instant) -> Option<&'b Candidate<'a>> {
    if candidates.len() < 2 {
        return candidates.first();
    }
    let mut random = rand::rng();
    if random.random_range(0..EXPLORE) == 0
        && let Some(forgotten) = forgotten(candidates, now)
    {
        return Some(forgotten);
    }
    let first = random.random_range(0..candidates.len());
    let second = (first + random.random_range(1..candidates.len())) % candidates.len();
    let (first, second) = (candidates.get(first)?, candidates.get(second)?);
    let is_quicker = second.server.health().merit().cost < first.server.health().merit().cost;
    Some(if is_quicker { second } else { first })
}

/// The one that was asked longest ago, if that is long.
fn forgotten<'a, 'b>(candidates: &'b [Candidate<'a>], now: Instant) -> Option<&'b Candidate<'a>> {
    let asked = |candidate: &&Candidate<'_>| candidate.server.health().merit().asked;
    let oldest = candidates.iter().min_by_key(asked)?;
    let is_long_ago = asked(&oldest).is_none_or(|at| now.saturating_duration_since(at) >= LONG_AGO);
    is_long_ago.then_some(oldest)
}
