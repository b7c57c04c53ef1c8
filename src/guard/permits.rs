//! Connection permits: a bound on all connections together and one on those of each client network.
//!
//! Taken at accept and given back at close, never per question; so a lock per shard is enough. The maps hold one entry for each
//! network that has a permit, hence never more than there are permits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

use super::Refusal;
use super::client::ClientNetwork;

/// Counts of what is out, and how much may be.
#[derive(Debug)]
pub struct Permits {
    bound: usize,
    bound_per_client: u32,
    ledger: Arc<Ledger>,
}

/// Counts of what is out, whatever the bounds are by now.
#[derive(Debug)]
pub struct Ledger {
    held: AtomicUsize,
    hasher: RandomState,
    /// Permits out by client network; an entry is never zero.
    shards: Box<[Mutex<Shard>]>,
}

type Shard = HashMap<ClientNetwork, u32, RandomState>;

/// Accepts of different networks seldom meet at one lock.
const SHARDS: u64 = 32;

impl Permits {
    /// At most `bound` permits, and `bound_per_client` for one client network.
    #[must_use]
    pub fn new(bound: usize, bound_per_client: u32) -> Self {
        // One keyed hasher for choosing the shard, another inside: else the keys of a shard would share hash bits.
        let inner = RandomState::new();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(inner.clone()))).collect();
        let ledger = Arc::new(Ledger { held: AtomicUsize::new(0), hasher: RandomState::new(), shards });
        Self { bound, bound_per_client, ledger }
    }

    /// The same permits out, under other bounds. What is over them stays out.
    #[must_use]
    pub fn renewed(&self, bound: usize, bound_per_client: u32) -> Self {
        Self { bound, bound_per_client, ledger: self.ledger() }
    }

    /// Where what is out is given back.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Takes a permit; `None` stands for an exempt client, which only the total counts.
    ///
    /// # Errors
    /// [`Refusal::Full`] or [`Refusal::ClientFull`]; nothing is taken then.
    pub fn take(&self, client: Option<ClientNetwork>) -> Result<(), Refusal> {
        let held = &self.ledger.held;
        held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| (held < self.bound).then_some(held + 1))
            .map_err(|_| Refusal::Full)?;
        if client.is_some_and(|client| !self.take_for(client)) {
            held.fetch_sub(1, Ordering::AcqRel);
            return Err(Refusal::ClientFull);
        }
        Ok(())
    }

    /// Takes for `client` the part of a permit that was taken for nobody: false where it holds as many as it may.
    pub fn take_for(&self, client: ClientNetwork) -> bool {
        self.ledger.take_for(client, self.bound_per_client)
    }

    /// Permits out now.
    pub fn held(&self) -> usize {
        self.ledger.held.load(Ordering::Acquire)
    }
}

impl Ledger {
    /// Gives back what [`Permits::take`] took for the same `client`.
    pub fn give_back(&self, client: Option<ClientNetwork>) {
        if let Some(client) = client {
            self.give_back_for(client);
        }
        self.held.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes for `client` the part of a permit that was taken for nobody: false where it holds `bound` already.
    fn take_for(&self, client: ClientNetwork, bound: u32) -> bool {
        let Some(mut shard) = self.shard(client) else { return false };
        let count = shard.get(&client).copied().unwrap_or(0);
        if count >= bound {
            return false;
        }
        shard.insert(client, count + 1);
        true
    }

    fn give_back_for(&self, client: ClientNetwork) {
        let Some(mut shard) = self.shard(client) else { return };
        let Entry::Occupied(mut entry) = shard.entry(client) else { return };
        match entry.get() {
            0 | 1 => _ = entry.remove(),
            more => *entry.get_mut() = more - 1,
        }
    }

    /// Counts stay right across a panic of another holder: each is changed by a single insert or remove.
    fn shard(&self, client: ClientNetwork) -> Option<MutexGuard<'_, Shard>> {
        let index = usize::try_from(self.hasher.hash_one(client) % SHARDS).ok()?;
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
    }

    fn entries(permits: &Permits) -> usize {
        permits.ledger.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn the_total_bound_holds_for_all_clients_together_and_exempt_ones_count_in_it() {
        let permits = Permits::new(3, 2);
        permits.take(Some(client("192.0.2.1"))).unwrap();
        permits.take(None).unwrap();
        permits.take(Some(client("192.0.2.2"))).unwrap();
        assert_eq!(permits.take(Some(client("192.0.2.3"))), Err(Refusal::Full));
        assert_eq!(permits.take(None), Err(Refusal::Full));
        assert_eq!(permits.held(), 3);
        permits.ledger.give_back(None);
        permits.take(Some(client("192.0.2.3"))).unwrap();
    }

    #[test]
    fn the_client_bound_holds_for_one_network_and_a_refusal_takes_nothing() {
        let permits = Permits::new(100, 2);
        permits.take(Some(client("2001:db8::1"))).unwrap();
        permits.take(Some(client("2001:db8:0:ff::2"))).unwrap();
        assert_eq!(permits.take(Some(client("2001:db8::3"))), Err(Refusal::ClientFull));
        assert_eq!(permits.held(), 2);
        permits.take(Some(client("2001:db8:0:100::1"))).unwrap();
        permits.ledger.give_back(Some(client("2001:db8::9")));
        permits.take(Some(client("2001:db8::3"))).unwrap();
    }

    #[test]
    fn the_maps_forget_a_network_with_its_last_permit() {
        let permits = Permits::new(10_000, 2);
        let clients: Vec<_> = (0..5000_u16).map(|n| client(&format!("10.0.{}.{}", n / 250, n % 250))).collect();
        for &client in &clients {
            permits.take(Some(client)).unwrap();
        }
        assert_eq!(entries(&permits), 5000);
        for &client in &clients {
            permits.ledger.give_back(Some(client));
        }
        assert_eq!(entries(&permits), 0);
        assert_eq!(permits.held(), 0);
    }

    #[test]
    fn threads_that_race_for_permits_never_pass_a_bound() {
        let permits = Permits::new(50, 20);
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if permits.take(Some(client("192.0.2.1"))).is_ok() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 20);
        assert_eq!(permits.held(), 20);
    }
}
