//! A question of our own while a client waits for the answer to another: memory first, then who is asking already, then upstream.
//!
//! It takes the road that a client's would, so its answer is kept, and a herd of clients has it asked once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::cache::{Key, Reach};
use crate::clock::Moment;
use crate::pipeline::exchange::exchange;
use crate::pipeline::join::{Landed, Lead, Ticket};
use crate::pipeline::keys::Keys;
use crate::pipeline::rcode::{self, Problem};
use crate::pipeline::{Pipeline, Shared};
use crate::reply::{Meta, Stored, StoredBuf};
use crate::trail::Attempts;
use crate::upstream::Ask;
use crate::wire::patch;

/// What came of it.
#[derive(Debug)]
pub struct Heard {
    /// The answer, its TTLs as they are now, or the reply in its stead.
    pub result: Result<StoredBuf, Problem>,
    /// The attempts it took.
    pub attempts: Attempts,
}

/// Asks `ask`. An answer that is fetched again before it expires is not made of what is about to expire too: where `ask` is patient,
/// memory is passed by.
///
/// It takes no place among the questions of its domain: the client's, which has one, rests meanwhile.
pub async fn ask(pipeline: &Pipeline, ask: Ask, deadline: Instant) -> Heard {
    let shared = &pipeline.shared;
    let keys = Arc::new(Keys::of(shared, &ask));
    let now = shared.clock.now();
    let memory = || if ask.patient || ask.passed.is_some() { None } else { recall(shared, &keys, now) };
    if let Some(result) = memory() {
        return Heard { result, attempts: Attempts::default() };
    }
    let none = |problem| Heard { result: Err(problem), attempts: Attempts::default() };
    match shared.join(&keys, || !ask.patient && pipeline.is_known(&keys, now)) {
        Ticket::Lead(lead) => {
            let follow = lead.follow();
            fly(pipeline.clone(), lead, Arc::new(ask), keys, deadline).await;
            follow.landed().await.map_or_else(|| none(rcode::LOST), |landed| heard(landed, landed.attempts))
        }
        Ticket::Follow(follow) => match timeout_at(deadline, follow.landed()).await {
            // Whoever leads it tells of its attempts.
            Ok(landed) => landed.map_or_else(|| none(rcode::LOST), |landed| heard(landed, Attempts::default())),
            Err(_) => none(rcode::TIMED_OUT),
        },
        Ticket::Landed => {
            memory().map_or_else(|| none(rcode::LOST), |result| Heard { result, attempts: Attempts::default() })
        }
        Ticket::Full => none(rcode::OVERLOADED),
    }
}

fn heard(landed: &Landed, attempts: Attempts) -> Heard {
    Heard { result: landed.result.clone(), attempts }
}

/// An exchange within an exchange, which is one level deep: what is asked here is never made of something else.
fn fly(
    pipeline: Pipeline,
    lead: Lead,
    ask: Arc<Ask>,
    keys: Arc<Keys>,
    deadline: Instant,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(exchange(pipeline, lead, ask, keys, deadline))
}

/// What memory holds: an answer that is fresh, or a failure that is not tried again yet.
fn recall(shared: &Shared, keys: &Keys, now: Moment) -> Option<Result<StoredBuf, Problem>> {
    let Shared { cache, failures, .. } = shared;
    let mut places = keys.near(cache).chain([*keys.answer(), keys.denial()]);
    if let Some(found) = places.find_map(|key| cache.lookup(&key, now, |stored| copy(&key, stored, now))) {
        return Some(Ok(found));
    }
    if failures.is_empty() {
        return None;
    }
    let failure = failures.recall(&keys.own(), shared.at(keys.answer().question(), now))?;
    (failure.left_alone > 0).then(|| Err(rcode::of_failure(failure)))
}

/// What is kept under `key` as if it had come just now.
fn copy(key: &Key, Stored { meta, message, ttls }: Stored<'_>, now: Moment) -> StoredBuf {
    let age = now.seconds_since(meta.received);
    let mut message: Box<[u8]> = message.into();
    patch::age_ttls(&mut message, ttls, age, 0);
    let lifetime = meta.lifetime.saturating_sub(age);
    let meta = Meta { received: now, lifetime, http_lifetime: meta.http_lifetime.saturating_sub(age), ..meta };
    let scope = match key.reach() {
        None | Some(Reach::Everyone) => 0,
        Some(Reach::Within(subnet)) => subnet.length(),
        // For those who tell just as much.
        Some(Reach::Only(_)) => u8::MAX,
    };
    StoredBuf { meta, message, ttls: ttls.into(), scope, options: Box::default() }
}
