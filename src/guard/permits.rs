//! Connection permits: a bound on all connections together and one on those of each client network.
//!
//! Taken at accept and given back at close, never per question.

use std::sync::Arc;

use super::Refusal;
use super::client::ClientNetwork;
use super::tally::Tally;

/// Counts of what is out.
#[derive(Debug)]
pub struct Permits {
    bound: usize,
    bound_per_client: usize,
    out: Arc<Tally<ClientNetwork>>,
}

impl Permits {
    /// At most `bound` permits, and `bound_per_client` for one client network.
    #[must_use]
    pub fn new(bound: usize, bound_per_client: u32) -> Self {
        let bound_per_client = usize::try_from(bound_per_client).unwrap_or(usize::MAX);
        Self { bound, bound_per_client, out: Arc::default() }
    }

    /// The same permits out, under other bounds. What is over them stays out.
    #[must_use]
    pub fn renewed(&self, bound: usize, bound_per_client: u32) -> Self {
        Self { out: Arc::clone(&self.out), ..Self::new(bound, bound_per_client) }
    }

    /// Takes a permit; `None` stands for an exempt client, which only the total counts.
    ///
    /// # Errors
    /// [`Refusal::Full`] or [`Refusal::ClientFull`]; nothing is taken then.
    pub fn take(&self, client: Option<ClientNetwork>) -> Result<(), Refusal> {
        if !self.out.take_of_all(self.bound) {
            return Err(Refusal::Full);
        }
        if client.is_some_and(|client| !self.take_for(client)) {
            self.out.give_back(None, 1);
            return Err(Refusal::ClientFull);
        }
        Ok(())
    }

    /// Takes for `client` the part of a permit that was taken for nobody: false where it holds as many as it may.
    pub fn take_for(&self, client: ClientNetwork) -> bool {
        self.out.take_for(client, 1, self.bound_per_client)
    }

    /// Gives back what `take` took for the same `client`.
    pub fn give_back(&self, client: Option<ClientNetwork>) {
        self.out.give_back(client, 1);
    }

    /// Permits out now.
    pub fn held(&self) -> usize {
        self.out.total()
    }

    /// The most there may be.
    pub const fn bound(&self) -> usize {
        self.bound
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn client(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
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
        permits.give_back(None);
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
        permits.give_back(Some(client("2001:db8::9")));
        permits.take(Some(client("2001:db8::3"))).unwrap();
    }

    #[test]
    fn the_maps_forget_a_network_with_its_last_permit() {
        let permits = Permits::new(10_000, 2);
        let clients: Vec<_> = (0..5000_u16).map(|n| client(&format!("10.0.{}.{}", n / 250, n % 250))).collect();
        for &client in &clients {
            permits.take(Some(client)).unwrap();
        }
        assert_eq!(permits.out.entries(), 5000);
        for &client in &clients {
            permits.give_back(Some(client));
        }
        assert_eq!(permits.out.entries(), 0);
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
