//! Asking a server: one trait, [`Exchange`], behind which every transport, a pool and a route look alike.
//!
//! Raw answers pass through: a leg checks that an answer belongs to its question, `pipeline/digest` judges it.
//!
//! The way of a question:
//!
//! ```text
//!  time_names   a time server's name, while the clock is wrong? in plain DNS by bootstrap servers
//!  route        the forward of the longest matching domain ─▶ its pool, or the default one
//!  pool         servers, and those asked only while none of them answers
//!  round        one question's way: choice (who), budget (hedges, rescues), verdict (good enough, or elsewhere?)
//!  server       one attempt over its line, told to health, latency and tally; probe asks while the others do not
//!    │
//!    ├─ plain ───── udp (case, jar, sockets, spell), then tcp where it must be
//!    └─ kept ────── lines (which connection, or one more?), rest (how long it may idle)
//!         │
//!         ├─ tcp, dot ── mux: many questions on one stream
//!         ├─ doh ─────── doh2, http
//!         └─ doh3, doq ─ quic
//!              │
//!  opened by dial (eyeballs, origin, proxy), at an address from resolve (names ─▶ bootstrap or hosts, known over a restart),
//!  proven by tls (proof, and timekeeper for the time)
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::trail::{Attempts, UpstreamId};
use crate::wire::Subnet;

// What is asked of whom, and what the operator says of them.
pub mod address;
pub mod ask;
pub mod error;
pub mod settings;

// Which pool, which server of it, and how that goes.
pub mod route;

pub mod budget;
pub mod choice;
pub mod former;
pub mod pool;
pub mod round;
pub mod verdict;

// One server: how it does, what it has cost, what is told of it.
pub mod facts;
pub mod flight;
pub mod health;
pub mod latency;
pub mod ledger;
mod line;
pub mod probe;
pub mod server;
pub mod tally;

// Its connections, kept.
pub mod commons;
pub mod delivery;
pub mod kept;
pub mod lines;
pub mod rest;

// The way there: its address, a proxy, where we leave from.
pub mod dial;
pub mod eyeballs;
pub mod origin;
pub mod proxy;

pub mod bootstrap;
pub mod hosts;
pub mod known;
pub mod names;
pub mod resolve;

// Its proof, and the time that it is judged by.
pub mod proof;
pub mod stamp;
pub mod time_names;
pub mod timekeeper;
pub mod tls;

// Plain DNS over UDP, and what guards it.
pub mod case;
pub mod hop;
pub mod jar;
pub mod plain;
pub mod sockets;
pub mod spell;
pub mod udp;

// Streams.
pub mod dot;
pub mod mux;
pub mod tcp;

// HTTP and QUIC.
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
pub use ask::{Ask, Basis, Telling};
pub use error::ExchangeError;
pub use pool::Pool;
pub use route::Routes;
pub use server::BuildError;
pub use settings::{PoolSettings, Server, Settings, SubnetRule};

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
    /// What its server was told of the client's network.
    pub told: Option<Subnet>,
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
    /// What at most its servers are told of clients' networks; `Strip` where none of them is told any.
    pub subnets: SubnetRule,
}

/// Something that can be asked: a server over some transport, or a pool of them.
pub trait Exchange: Send + Sync + fmt::Debug {
    /// Asks. Ends by `deadline` whatever the server does; the future owns all it needs.
    fn exchange(&self, ask: Arc<Ask>, deadline: Instant) -> Exchanging;

    /// The way that `question` (QNAME in any letter case, QTYPE, QCLASS) takes.
    fn route(&self, question: &[u8]) -> Route;

    /// Is every server that could answer `question` known to be down? Asked by every miss: cheap, and no promise.
    fn is_down(&self, question: &[u8]) -> bool;

    /// How often the servers that could answer `question` have answered again after being down, all together: where the number has
    /// changed, what failed before may succeed now. As cheap.
    fn comebacks(&self, question: &[u8]) -> u32;

    /// The server with this id, for people.
    fn name(&self, upstream: UpstreamId) -> Option<&str>;
}
