//! THE QUIC loop: one endpoint on one UDP address, its connections handed to DNS over QUIC or HTTP/3 by ALPN.
//!
//! First on the path of both. It never waits for one peer: a handshake is a task from its first datagram on, and how many are
//! under way decides whether an unknown address must first prove that it is one (RFC 9000 8.1.2).

mod alert;
mod handshake;
pub mod ids;
pub mod tokens;
pub mod transport;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use tokio::task::{JoinError, JoinSet};

use self::handshake::Arrival;
use self::ids::{IdKey, Ids};
use self::tokens::Tokens;
use crate::guard::Permit;
use crate::listen::Context;
use crate::peer::{DoorId, canonical};

/// What is spoken at one UDP address.
#[derive(Clone, Copy, Debug)]
pub struct QuicDoors {
    /// DNS over QUIC.
    pub doq: Option<DoorId>,
    /// DNS over HTTP/3.
    pub doh3: Option<DoorId>,
}

impl QuicDoors {
    fn all(self) -> impl Iterator<Item = DoorId> {
        self.doq.into_iter().chain(self.doh3)
    }
}

/// Whose connections these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerId {
    /// The worker.
    pub index: u8,
    /// The process: a number that changes with each that takes the port over.
    pub generation: u8,
}

/// What connections are secured with.
#[derive(Clone, Debug)]
pub struct Crypto {
    /// TLS 1.3.
    pub tls: Arc<rustls::ServerConfig>,
    /// Proofs of an address.
    pub tokens: Tokens,
}

/// Serves `socket` until the word to stop, and then until the last connection has ended.
pub async fn serve(socket: UdpSocket, worker: WorkerId, doors: QuicDoors, crypto: Crypto, context: Context) {
    let config = match transport::server_config(crypto, doors, &context.limits()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "these TLS settings cannot serve QUIC");
            return;
        }
    };
    match endpoint(socket, worker, config) {
        Ok((endpoint, local)) => Reception::new(endpoint, local, doors, context).run(Load::BOUNDS).await,
        Err(error) => tracing::error!(%error, "the QUIC endpoint could not be opened"),
    }
}

fn endpoint(
    socket: UdpSocket,
    worker: WorkerId,
    config: quinn::ServerConfig,
) -> std::io::Result<(Endpoint, SocketAddr)> {
    let local = socket.local_addr()?;
    let ids = Ids::new(IdKey::of_process(), worker);
    // The default has a reset key of its own, so that no worker can end another's connections.
    let mut shape = EndpointConfig::default();
    shape.cid_generator(move || Box::new(ids));
    Ok((Endpoint::new(shape, Some(config), socket, Arc::new(TokioRuntime))?, local))
}

/// How many handshakes may be under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// From here on, addresses must be validated first.
    retry_from: usize,
    /// From here on, nobody is let in.
    refuse_from: usize,
}

impl Load {
    const BOUNDS: Self = Self { retry_from: 256, refuse_from: 2048 };
}

/// The endpoint and all its connections.
struct Reception {
    endpoint: Endpoint,
    local: SocketAddr,
    doors: QuicDoors,
    context: Context,
    connections: JoinSet<()>,
    /// A clone is held by each handshake under way.
    handshakes: Arc<()>,
}

impl Reception {
    fn new(endpoint: Endpoint, local: SocketAddr, doors: QuicDoors, context: Context) -> Self {
        Self { endpoint, local, doors, context, connections: JoinSet::new(), handshakes: Arc::new(()) }
    }

    async fn run(mut self, load: Load) {
        let mut drain = self.context.drain.clone();
        let mut taken = 0_usize;
        loop {
            tokio::select! {
                biased;
                () = drain.wanted() => break,
                Some(ended) = self.connections.join_next() => self.reap(&ended),
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.receive(incoming, load),
                    None => break,
                },
            }
            taken = taken.wrapping_add(1);
            if taken.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
        self.finish().await;
    }

    /// Judges a first datagram: ask for proof of its address, refuse it, or begin the handshake.
    fn receive(&mut self, incoming: Incoming, load: Load) {
        let under_way = Arc::strong_count(&self.handshakes) - 1;
        let validated = incoming.remote_address_validated();
        if under_way >= load.retry_from && !validated {
            if let Err(error) = incoming.retry() {
                self.refuse(error.into_incoming());
            }
            return;
        }
        let permit = if under_way < load.refuse_from { self.admit(&incoming) } else { None };
        let Some(permit) = permit else { return self.refuse(incoming) };
        // Forged addresses must not use up the permits of the clients they name: until it is proven, an address holds none.
        let permit = Some(permit).filter(|_| validated);
        let arrival =
            Arrival { incoming, permit, handshake: Arc::clone(&self.handshakes), local: self.local, doors: self.doors };
        self.connections.spawn(arrival.serve(self.context.clone()));
    }

    /// A permit for any of the doors; which of them is known only after the handshake, and judged again then.
    fn admit(&self, incoming: &Incoming) -> Option<Permit> {
        let client = canonical(incoming.remote_address()).ip();
        let terms = self.context.terms();
        let guard = &terms.guard;
        let door = self.doors.all().find(|&door| guard.may_ask(door, client))?;
        guard.admit(door, client).ok()
    }

    fn refuse(&self, incoming: Incoming) {
        self.context.counters.connections_refused.add_one();
        incoming.refuse();
    }

    fn reap(&self, ended: &Result<(), JoinError>) {
        if ended.as_ref().is_err_and(JoinError::is_panic) {
            self.context.counters.panics.add_one();
            tracing::error!("a QUIC connection ended by a panic");
        }
    }

    /// Lets the connections end by themselves, and nobody in.
    async fn finish(mut self) {
        while !self.connections.is_empty() {
            tokio::select! {
                Some(ended) = self.connections.join_next() => self.reap(&ended),
                Some(incoming) = self.endpoint.accept() => self.refuse(incoming),
                else => break,
            }
        }
        self.endpoint.close(0_u32.into(), b"");
        // The last close must reach its peer; one that has gone is not waited for.
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }
}

/// Steps of the loop before others get their turn.
const TURN: usize = 32;

/// How long the endpoint stays to repeat its closes.
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod tests;
