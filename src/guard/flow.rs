//! What a client network may do in a second beside asking: begin connections, shake hands, take questions back, break protocols.
//!
//! Who takes back or breaks too much is shut out for a while: its connection is closed, and the next ones are not let in. Only what a
//! handshake has proven counts as somebody's fault, so that nobody can be shut out in their absence.

use std::sync::Arc;

use ahash::RandomState;

use super::Settings;
use super::buckets::Buckets;
use super::client::ClientNetwork;
use super::rate::Source;
use crate::clock::Moment;
use crate::telemetry::Limited;

/// How a conversation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// In clear text.
    Clear,
    /// With a handshake, which costs us the more.
    Handshake,
}

/// What a client did that costs it nothing and us something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Took a question back.
    Reset,
    /// Broke a protocol.
    Error,
}

/// The tables of all client networks, 128 KiB for each limit that is on.
#[derive(Debug)]
pub struct Flows {
    /// Keyed by chance, so that nobody can choose addresses that share a bucket.
    hasher: RandomState,
    connections: Option<Buckets>,
    handshakes: Option<Buckets>,
    resets: Option<Buckets>,
    errors: Option<Buckets>,
    /// The handshakes of all clients together.
    all_handshakes: Buckets,
    by: [u32; 4],
}

/// The rates in `settings`.
const fn rates(settings: &Settings) -> [u32; 4] {
    [
        settings.connections_per_second,
        settings.handshakes_per_second,
        settings.resets_per_second,
        settings.errors_per_second,
    ]
}

impl Flows {
    /// Tables by these settings; a limit of 0 has none.
    #[must_use]
    pub fn new(settings: &Settings) -> Arc<Self> {
        let by = rates(settings);
        let [connections, handshakes, resets, errors] = by;
        let table = |per_second: u32| (per_second > 0).then(|| Buckets::bursting(per_second, BURST));
        Arc::new(Self {
            hasher: RandomState::new(),
            connections: table(connections),
            handshakes: table(handshakes),
            resets: table(resets),
            errors: table(errors),
            all_handshakes: Buckets::single(MANY_HANDSHAKES),
            by,
        })
    }

    /// The same, with all that clients have done, if `settings` say the same rates; new ones if not.
    #[must_use]
    pub fn renewed(self: &Arc<Self>, settings: &Settings) -> Arc<Self> {
        if self.by == rates(settings) { Arc::clone(self) } else { Self::new(settings) }
    }

    /// May `client` begin a conversation?
    ///
    /// # Errors
    /// The limit that it has reached.
    pub fn begin(
        &self,
        client: ClientNetwork,
        beginning: Beginning,
        source: Source,
        now: Moment,
    ) -> Result<(), Limited> {
        if self.is_shut_out(client, now) {
            return Err(Limited::ShutOut);
        }
        // Forged first packets must not use up what the client they name may do.
        let hash = self.hasher.hash_one((client, source));
        if !takes(self.connections.as_ref(), hash, now) {
            return Err(Limited::Connections);
        }
        if beginning == Beginning::Handshake && !takes(self.handshakes.as_ref(), hash, now) {
            return Err(Limited::Handshakes);
        }
        Ok(())
    }

    /// Has `client` taken back or broken too much of late?
    pub fn is_shut_out(&self, client: ClientNetwork, now: Moment) -> bool {
        let hash = self.hasher.hash_one(client);
        [&self.resets, &self.errors].into_iter().flatten().any(|table| table.is_shut(hash, now))
    }

    /// Counts what `client` did; from the limit on it is shut out.
    ///
    /// # Errors
    /// The limit that it has reached.
    pub fn fault(&self, client: ClientNetwork, fault: Fault, now: Moment) -> Result<(), Limited> {
        let (table, limited) = match fault {
            Fault::Reset => (&self.resets, Limited::Resets),
            Fault::Error => (&self.errors, Limited::Errors),
        };
        let hash = self.hasher.hash_one(client);
        let Some(table) = table.as_ref().filter(|table| !table.take(hash, now)) else { return Ok(()) };
        table.shut(hash, SHUT_OUT, now);
        Err(limited)
    }

    /// Counts a handshake of anybody; answers whether they are many.
    pub fn are_many(&self, now: Moment) -> bool {
        !self.all_handshakes.take(0, now)
    }
}

fn takes(table: Option<&Buckets>, hash: u64, now: Moment) -> bool {
    table.is_none_or(|table| table.take(hash, now))
}

/// Seconds' worth that a client may do at once: behind one address of an office all come back together.
const BURST: u8 = 4;

/// Seconds that a client stays shut out.
const SHUT_OUT: u8 = 8;

/// Handshakes a second of all clients, above which unknown addresses must prove themselves first: about half of what one core can do.
const MANY_HANDSHAKES: u32 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn flows() -> Arc<Flows> {
        Flows::new(&Settings {
            connections_per_second: 10,
            handshakes_per_second: 5,
            resets_per_second: 10,
            errors_per_second: 2,
            ..Settings::default()
        })
    }

    fn client(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
    }

    #[test]
    fn connections_and_handshakes_have_a_burst_and_a_rate_of_their_own() {
        let (flows, one) = (flows(), client("192.0.2.1"));
        let begin = |beginning, source, now| flows.begin(one, beginning, source, Moment(now));
        assert!((0..20).all(|_| begin(Beginning::Handshake, Source::Proven, 0).is_ok()));
        assert_eq!(begin(Beginning::Handshake, Source::Proven, 0), Err(Limited::Handshakes));
        assert!((0..19).all(|_| begin(Beginning::Clear, Source::Proven, 0).is_ok()));
        assert_eq!(begin(Beginning::Clear, Source::Proven, 0), Err(Limited::Connections));
        assert_eq!(begin(Beginning::Handshake, Source::Claimed, 0), Ok(()), "who is only named is counted apart");
        assert_eq!(begin(Beginning::Handshake, Source::Proven, 1000), Ok(()));
        assert_eq!(flows.begin(client("192.0.2.2"), Beginning::Handshake, Source::Proven, Moment(0)), Ok(()));
    }

    #[test]
    fn who_breaks_or_takes_back_too_much_is_shut_out_for_a_while_and_nobody_else_is() {
        for (fault, burst, limited) in [(Fault::Error, 8, Limited::Errors), (Fault::Reset, 40, Limited::Resets)] {
            let (flows, one) = (flows(), client("2001:db8::1"));
            assert!((0..burst).all(|_| flows.fault(one, fault, Moment(0)).is_ok()));
            let clear = |client, now| flows.begin(client, Beginning::Clear, Source::Proven, Moment(now));
            assert_eq!(flows.fault(one, fault, Moment(0)), Err(limited));
            assert_eq!(clear(one, 0), Err(Limited::ShutOut));
            assert_eq!(clear(one, 7900), Err(Limited::ShutOut));
            assert_eq!(clear(client("2001:db8:1::1"), 0), Ok(()));
            assert_eq!(clear(one, 8500), Ok(()));
        }
    }

    #[test]
    fn limits_of_zero_limit_nothing_and_the_handshakes_of_all_are_counted_together() {
        let none = Settings {
            connections_per_second: 0,
            handshakes_per_second: 0,
            resets_per_second: 0,
            errors_per_second: 0,
            ..Settings::default()
        };
        let (flows, one) = (Flows::new(&none), client("192.0.2.1"));
        for _ in 0..5000 {
            assert_eq!(flows.begin(one, Beginning::Handshake, Source::Proven, Moment(0)), Ok(()));
            assert_eq!(flows.fault(one, Fault::Error, Moment(0)), Ok(()));
        }
        assert_eq!((0..1000).filter(|_| flows.are_many(Moment(0))).count(), 500);
        assert!(!flows.are_many(Moment(10)));
    }
}
