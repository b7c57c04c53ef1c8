//! Asking a server: one trait, [`Exchange`], behind which every transport, a pool and a route look alike.
//!
//! Raw answers pass through: a leg checks that an answer belongs to its question, `pipeline/digest` judges it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::trail::{Attempts, UpstreamId};

pub mod address;
pub mod ask;
pub mod error;
pub mod settings;

pub mod budget;
pub mod choice;
pub mod commons;
pub mod facts;
pub mod flight;
pub mod health;
pub mod latency;
pub mod ledger;
pub mod probe;
pub mod round;
pub mod route;
pub mod tally;

pub mod pool;
pub mod server;
pub mod verdict;

pub mod delivery;
pub mod dial;
pub mod eyeballs;
pub mod kept;
pub mod origin;
pub mod proxy;

pub mod bootstrap;
pub mod hosts;
pub mod known;
pub mod lines;
pub mod names;
pub mod proof;
pub mod resolve;
pub mod rest;
pub mod stamp;
pub mod time_names;
pub mod timekeeper;
pub mod tls;

pub mod dot;
pub mod mux;
pub mod tcp;

pub mod case;
pub mod hop;
pub mod jar;
pub mod plain;
pub mod sockets;
pub mod spell;
pub mod udp;

pub mod doh;
pub mod doh2;
pub mod doh3;
pub mod doq;
pub mod http;
pub mod quic;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod faults;
#[cfg(test)]
pub(crate) mod testing;

pub use address::{Address, Scheme};
pub use ask::Ask;
pub use error::ExchangeError;
pub use pool::Pool;
pub use route::Routes;
pub use server::BuildError;
pub use settings::{PoolSettings, Server, Settings};

/// An answer that belongs to the question asked.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The message as received, OPT included, without a stream's length prefix.
    pub message: Bytes,
    /// Who gave it.
    pub upstream: UpstreamId,
    /// Seconds the answer has aged on its way (the HTTP Age header, RFC 8484 5.1).
    pub age: u32,
    /// Did it come over a leg whose AD bit may be believed: encrypted and authenticated (SEC-07)?
    pub trusted: bool,
}

/// How an exchange ended, and every attempt it took.
#[derive(Debug)]
pub struct Ended {
    /// The answer, or why there is none.
    pub result: Result<Answered, ExchangeError>,
    /// The attempts.
    pub attempts: Attempts,
}

/// An exchange under way.
pub type Exchanging = Pin<Box<dyn Future<Output = Ended> + Send + 'static>>;

/// The way a question takes through the configured servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Stands for it in cache keys: differs wherever the answers may, in every process the same.
    pub fingerprint: u64,
    /// Did a forward of less than everything choose it? Then the operator knows the name, however special it is.
    pub is_forwarded: bool,
}

/// Something that can be asked: a server over some transport, or a pool of them.
pub trait Exchange: Send + Sync + fmt::Debug {
    /// Asks. Ends by `deadline` whatever the server does; the future owns all it needs.
    fn exchange(&self, ask: Arc<Ask>, deadline: Instant) -> Exchanging;

    /// The way that `question` (QNAME in any letter case, QTYPE, QCLASS) takes.
    fn route(&self, question: &[u8]) -> Route;

    /// The server with this id, for people.
    fn name(&self, upstream: UpstreamId) -> Option<&str>;
}
