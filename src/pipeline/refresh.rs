//! Questions of our own: answers that are fetched again though nobody waits for them.
//!
//! Whoever wants one offers an [`Errand`] to a bounded queue and goes on; one task, on the worker that is home to the upstream
//! connections, takes them from there into the join table and the same exchange that clients' questions take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::Pipeline;
use super::exchange::exchange;
use super::join::Ticket;
use super::keys::Keys;
use crate::upstream::Ask;

/// Errands that may wait; what comes on top is dropped and counted.
const QUEUE: usize = 256;

/// Errands under way at one time.
const UNDER_WAY: usize = 64;

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
    pub fn offer(&self, errand: Errand) -> bool {
        self.sender.try_send(errand).is_ok()
    }

    fn take(&self) -> Option<mpsc::Receiver<Errand>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Pipeline {
    /// Runs the errands of all workers, for as long as the gateway lives. The first to call it does; for others it ends at once.
    pub async fn run_errands(self) {
        let Some(mut receiver) = self.shared.errands.take() else { return };
        while let Some(errand) = receiver.recv().await {
            let Ok(place) = Arc::clone(&self.shared.errands.places).acquire_owned().await else { return };
            let Errand { ask, keys } = errand;
            // Who is asking already fetches it for us too.
            let Ticket::Lead(lead) = self.shared.joins.join(keys.own().as_bytes(), || false) else { continue };
            let pipeline = self.clone();
            tokio::spawn(async move {
                exchange(pipeline, lead, ask, keys, Instant::now() + TIMEOUT).await;
                drop(place);
            });
        }
    }
}
