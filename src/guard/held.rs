//! What a client has us keep: octets of its connections, places of its questions that wait. Given back on drop.

use std::sync::Arc;

use super::Guard;
use super::client::{Client, ClientNetwork};
use super::rate::Source;

/// What a connection's octets are charged to.
#[derive(Clone, Debug)]
pub struct Purse {
    guard: Arc<Guard>,
    /// `None` for an exempt client, which has no bound.
    client: Option<ClientNetwork>,
}

/// Octets that are kept for a client.
#[derive(Debug)]
pub struct Held {
    purse: Purse,
    octets: usize,
}

/// The place of a question that waits.
#[derive(Debug)]
pub struct Waiting {
    guard: Arc<Guard>,
    key: Option<(Client, Source)>,
}

impl Purse {
    pub(super) const fn new(guard: Arc<Guard>, client: Option<ClientNetwork>) -> Self {
        Self { guard, client }
    }

    /// Charges `octets` until what is returned is dropped; `None` if the client has too many already.
    #[must_use]
    pub fn hold(&self, octets: usize) -> Option<Held> {
        let taken = self.guard.octets().take(self.client, octets, self.guard.octets_per_client());
        taken.then(|| Held { purse: self.clone(), octets })
    }
}

impl Held {
    /// How many.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }
}

impl Waiting {
    pub(super) const fn new(guard: Arc<Guard>, key: Option<(Client, Source)>) -> Self {
        Self { guard, key }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.purse.guard.octets().give_back(self.purse.client, self.octets);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.guard.waiting().give_back(self.key, 1);
    }
}
