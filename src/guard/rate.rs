//! Question rates: what the limiter says of one question of one client.
//!
//! Two tables of buckets stand one behind the other. The first gives a client its rate; a question that finds it empty asks the
//! second, which gives as much again. So of the questions of one second the first `queries_per_second` are [`Rate::Within`], as
//! many again [`Rate::Over`] (worth an answer that says so), and the rest [`Rate::FarOver`] (worth none). A client that asks too
//! much keeps its rate and is not shut out.
//!
//! What has a proven source and what has not are counted apart: else forged datagrams in a client's name would have its connections
//! refused.

use std::hash::Hash;

use ahash::RandomState;

use super::buckets::Buckets;
use crate::clock::Moment;

/// What the limiter says of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// The client is exempt, or limits are off.
    Exempt,
    /// Within its rate.
    Within,
    /// Over its rate, but not over twice its rate.
    Over,
    /// Over twice its rate.
    FarOver,
}

/// Is the client known to be where it says?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// It only says so: a datagram without a valid cookie.
    Claimed,
    /// A handshake or a cookie has shown it.
    Proven,
}

/// The rates of all clients.
#[derive(Debug)]
pub struct Rates {
    /// Keyed by chance, so that nobody can choose addresses that share a bucket.
    hasher: RandomState,
    within: Buckets,
    over: Buckets,
}

impl Rates {
    /// Rates of `queries_per_second`, with bursts of one second's worth; `None` for 0: no limits.
    #[must_use]
    pub fn new(queries_per_second: u32) -> Option<Self> {
        (queries_per_second > 0).then(|| Self::keyed(queries_per_second, RandomState::new()))
    }

    fn keyed(queries_per_second: u32, hasher: RandomState) -> Self {
        Self { hasher, within: Buckets::new(queries_per_second), over: Buckets::new(queries_per_second) }
    }

    /// Counts one question of `client`: a network, or the number of one that has a name.
    pub fn count(&self, client: impl Hash, source: Source, now: Moment) -> Rate {
        let hash = self.hasher.hash_one((client, source));
        if self.within.take(hash, now) {
            Rate::Within
        } else if self.over.take(hash, now) {
            Rate::Over
        } else {
            Rate::FarOver
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::*;
    use crate::guard::client::ClientNetwork;
    use crate::peer::ClientId;

    fn client(text: &str) -> Client {
        Client::Network(ClientNetwork::of(text.parse().unwrap()))
    }

    fn asked(rates: &Rates, client: Client, now: Moment, times: usize) -> [usize; 3] {
        let said: Vec<Rate> = (0..times).map(|_| rates.count(client, Source::Claimed, now)).collect();
        [Rate::Within, Rate::Over, Rate::FarOver].map(|kind| said.iter().filter(|&&rate| rate == kind).count())
    }

    #[test]
    fn a_client_far_over_its_rate_still_gets_its_rate() {
        let rates = Rates::new(10).unwrap();
        let greedy = client("192.0.2.1");
        assert_eq!(asked(&rates, greedy, Moment(0), 50), [10, 10, 30]);
        assert_eq!(asked(&rates, greedy, Moment(500), 50), [5, 5, 40]);
        assert_eq!(asked(&rates, greedy, Moment(1500), 15), [10, 5, 0]);
    }

    #[test]
    fn two_clients_do_not_share_and_one_network_does() {
        let rates = Rates::new(10).unwrap();
        assert_eq!(asked(&rates, client("2001:db8::1"), Moment(0), 20), [10, 10, 0]);
        assert_eq!(asked(&rates, client("2001:db8:0:ff::2"), Moment(0), 5), [0, 0, 5]);
        assert_eq!(asked(&rates, client("2001:db8:0:100::1"), Moment(0), 5), [5, 0, 0]);
        assert_eq!(asked(&rates, client("192.0.2.1"), Moment(0), 10), [10, 0, 0]);
        assert_eq!(asked(&rates, client("::ffff:192.0.2.1"), Moment(0), 1), [0, 1, 0]);
        assert_eq!(asked(&rates, client("192.0.2.2"), Moment(0), 1), [1, 0, 0]);
        assert_eq!(asked(&rates, Client::Known(ClientId(7)), Moment(0), 30), [10, 10, 10]);
        assert_eq!(asked(&rates, Client::Known(ClientId(8)), Moment(0), 1), [1, 0, 0]);
    }

    #[test]
    fn a_flood_of_a_million_clients_shuts_nobody_out_and_does_not_free_the_greedy() {
        // A fixed key: with a chance one, a stranger shares the greedy client's bucket once in 500 runs.
        let rates = Rates::keyed(5, RandomState::with_seeds(1, 2, 3, 4));
        let (good, greedy) = (client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(asked(&rates, greedy, Moment(0), 5), [5, 0, 0]);
        let flood = |seconds: std::ops::Range<u32>| {
            for n in seconds.start * 1_000_000..seconds.end * 1_000_000 {
                let stranger = ClientNetwork::of(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into());
                rates.count(Client::Network(stranger), Source::Claimed, Moment(u64::from(n) / 2000));
            }
        };
        flood(0..1);
        // Half a second on, two and a half of its five tokens are back: it is still remembered.
        assert_eq!(asked(&rates, greedy, Moment(500), 10)[0], 2);
        assert_eq!(asked(&rates, good, Moment(500), 2), [2, 0, 0]);
        flood(1..2);
        assert_eq!(asked(&rates, good, Moment(1000), 4), [4, 0, 0]);
        assert_eq!(asked(&rates, greedy, Moment(1000), 10)[0], 3);
    }
}
