//! Questions of our own: answers that are fetched again though nobody waits for them.
//!
//! Whoever wants one offers an [`Errand`] to a bounded queue and goes on; one task, on the worker that is home to the upstream
//! connections, takes them from there into the join table and the same exchange that clients' questions take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::exchange::exchange;
use super::join::{Landed, Lead, Ticket};
use super::keys::Keys;
use super::walk::Walk;
use super::{Pipeline, rcode};
use crate::trail::Refresh;
use crate::upstream::Ask;
use crate::wire::Flags;

/// Errands that may wait; what comes on top is dropped and counted.
pub const QUEUE: usize = 256;

/// Errands under way at one time.
pub const UNDER_WAY: usize = 64;

/// How long one may take: nobody waits for it (RFC 8767 5: 10 to 30 s).
const TIMEOUT: Duration = Duration::from_secs(10);

/// One answer to be fetched.
#[derive(Debug)]
pub struct Errand {
    /// The question as it goes upstream.
    pub ask: Arc<Ask>,
    /// What its answer is kept under.
    pub keys: Arc<Keys>,
}

/// The queue of errands.
#[derive(Debug)]
pub struct Errands {
    sender: mpsc::Sender<Errand>,
    /// Taken by the task that runs them.
    receiver: Mutex<Option<mpsc::Receiver<Errand>>>,
    places: Arc<Semaphore>,
}

impl Default for Errands {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver: Mutex::new(Some(receiver)), places: Arc::new(Semaphore::new(UNDER_WAY)) }
    }
}

impl Errands {
    /// Queues an errand; false where the queue is full, and nothing is lost but freshness.
    fn offer(&self, errand: Errand) -> bool {
        self.sender.try_send(errand).is_ok()
    }

    fn take(&self) -> Option<mpsc::Receiver<Errand>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Pipeline {
    /// Has the answer of `keys`, which `walk` has just been given, asked for again before it expires.
    #[cold]
    pub(super) fn renew(&self, keys: &Keys, walk: &mut Walk<'_>) {
        let is_queued = self.offer(self.errand(keys, walk));
        walk.trail.refresh = if is_queued { Refresh::Queued } else { Refresh::Dropped };
    }

    /// The question that the answer of `keys` is fetched by: made of what it is kept under, and of nothing else that tells who asked
    /// or how.
    pub(super) fn errand(&self, keys: &Keys, walk: &Walk<'_>) -> Errand {
        let ask = Ask {
            question: keys.answer().question().into(),
            recursion_desired: true,
            checking_disabled: walk.asks(Flags::CD),
            authentic_data: true,
            dnssec_ok: walk.dnssec_ok(),
            padding: self.shared.settings.padding,
            prefer_stream: false,
            without_edns: false,
            patient: true,
            avoid: None,
            subnet: walk.subnet_sent(),
            passed: None,
        };
        Errand { ask: Arc::new(ask), keys: Arc::new(keys.clone()) }
    }

    /// Offers an errand, and counts what becomes of it.
    pub(super) fn offer(&self, errand: Errand) -> bool {
        let is_queued = self.shared.errands.offer(errand);
        let counter = if is_queued { &self.counters.refreshes } else { &self.counters.refreshes_dropped };
        counter.add_one();
        is_queued
    }

    /// Runs the errands of all workers, for as long as the gateway lives, each by the pipeline that `current` has then. The first to
    /// call it does; for others it ends at once.
    pub async fn run_errands(current: watch::Receiver<Self>) {
        let errands = Arc::clone(&current.borrow().shared.errands);
        let Some(mut receiver) = errands.take() else { return };
        while let Some(errand) = receiver.recv().await {
            let Ok(place) = Arc::clone(&errands.places).acquire_owned().await else { return };
            let pipeline = current.borrow().clone();
            let Some(lead) = pipeline.lead(&errand) else { continue };
            // In a task of its own: if it dies, it dies alone.
            tokio::spawn(pipeline.run(errand, lead, place));
        }
    }

    /// The flight of an errand; None where it is not to be flown.
    fn lead(&self, errand: &Errand) -> Option<Lead> {
        // Who is asking already fetches it for us too.
        let Ticket::Lead(mut lead) = self.shared.join(&errand.keys, || false) else {
            return None;
        };
        let Some(place) = self.shared.place(&errand.keys, &errand.ask.question) else {
            self.counters.refreshes_dropped.add_one();
            lead.land(Landed::refused(rcode::CROWDED));
            return None;
        };
        lead.occupy(place);
        Some(lead)
    }

    async fn run(self, Errand { ask, keys }: Errand, lead: Lead, place: OwnedSemaphorePermit) {
        let (follow, counters) = (lead.follow(), Arc::clone(&self.counters));
        exchange(self, lead, ask, keys, Instant::now() + TIMEOUT).await;
        drop(place);
        let answer = follow.landed().await.and_then(|landed| landed.result.as_ref().ok());
        let is_good = answer.is_some_and(|stored| !rcode::is_failure(stored.meta.rcode));
        counters.refreshes_done.add(is_good.into());
    }
}
