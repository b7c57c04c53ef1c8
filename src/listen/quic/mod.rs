//! THE QUIC loop: one endpoint on one UDP address, its connections handed to DNS over QUIC or HTTP/3 by ALPN.
//!
//! First on the path of both. It never waits for one peer: a handshake is a task from its first datagram on, and how many are
//! under way decides whether an unknown address must first prove that it is one (RFC 9000 8.1.2).
//!
//! Clients move: their address changes, and with it the socket that the kernel would choose. A connection id says which worker a
//! datagram is for (`ids`); the kernel goes by it where it can (`steering`), and workers hand each other the rest (`sorting`).

mod alert;
mod handshake;
pub mod ids;
pub mod mailboxes;
pub mod ownership;
mod sorting;
pub mod steering;
pub mod tokens;
pub mod transport;
pub mod whereabouts;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, Runtime as _, TokioRuntime};
use tokio::task::{JoinError, JoinSet};

use self::handshake::Arrival;
use self::ids::Ids;
use self::mailboxes::Row;
use self::sorting::Sorting;
use self::tokens::Tokens;
use crate::guard::{Beginning, Source};
use crate::listen::{Context, Limits, Retry};
use crate::peer::{DoorId, Peer, Transport, canonical};
use crate::telemetry::Counters;

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

/// Where one worker serves.
#[derive(Debug)]
pub struct Place {
    /// Its socket.
    pub socket: UdpSocket,
    /// Which of those that share the address it is.
    pub index: u8,
    /// Through which they hand each other datagrams.
    pub row: Arc<Row>,
}

/// What connections are secured with.
#[derive(Clone, Debug)]
pub struct Crypto {
    /// TLS 1.3.
    pub tls: Arc<rustls::ServerConfig>,
    /// Proofs of an address.
    pub tokens: Tokens,
}

/// Serves at `place` until the word to stop, and then until the last connection has ended.
pub async fn serve(place: Place, doors: QuicDoors, crypto: Crypto, context: Context) {
    let config = match transport::server_config(crypto.clone(), doors, &context.limits()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "these TLS settings cannot serve QUIC");
            return;
        }
    };
    match endpoint(place, config, &context.counters) {
        Ok((endpoint, local)) => {
            let load = Load::of(context.terms().guard.most_connections());
            Reception::new(endpoint, local, doors, crypto, context).run(load).await;
        }
        Err(error) => tracing::error!(%error, "the QUIC endpoint could not be opened"),
    }
}

fn endpoint(
    place: Place,
    config: quinn::ServerConfig,
    counters: &Arc<Counters>,
) -> std::io::Result<(Endpoint, SocketAddr)> {
    let Place { socket, index, row } = place;
    let local = socket.local_addr()?;
    let ids = Ids::new(Arc::clone(&row), index);
    let mut shape = EndpointConfig::new(row.ownership().reset_key(index));
    shape.cid_generator(move || Box::new(ids.clone())).min_reset_interval(RESETS);
    let runtime = Arc::new(TokioRuntime);
    let socket = Sorting::new(runtime.wrap_udp_socket(socket)?, row, index, Arc::clone(counters));
    Ok((Endpoint::new_with_abstract_socket(shape, Some(config), Arc::new(socket), runtime)?, local))
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
    /// One handshake keeps as much memory as a connection, and none of its client's permits: so there may be a part of those at most.
    fn of(most_connections: usize) -> Self {
        let retry_from = (most_connections / 16).clamp(8, 256);
        Self { retry_from, refuse_from: retry_from * 8 }
    }
}

/// The endpoint and all its connections.
struct Reception {
    endpoint: Endpoint,
    local: SocketAddr,
    doors: QuicDoors,
    crypto: Crypto,
    /// Those that new connections are told.
    limits: Limits,
    context: Context,
    connections: JoinSet<()>,
    /// A clone is held by each handshake under way.
    handshakes: Arc<()>,
}

impl Reception {
    fn new(endpoint: Endpoint, local: SocketAddr, doors: QuicDoors, crypto: Crypto, context: Context) -> Self {
        let limits = context.limits();
        Self { endpoint, local, doors, crypto, limits, context, connections: JoinSet::new(), handshakes: Arc::new(()) }
    }

    async fn run(mut self, load: Load) {
        let mut drain = self.context.drain.clone();
        let mut taken = 0_usize;
        loop {
            tokio::select! {
                biased;
                () = drain.leaving() => break,
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
        self.serve_on(load).await;
        self.finish().await;
    }

    /// Where another process reads from now on: what was read before is served, and connections go on until they end by themselves
    /// or the word to stop comes.
    async fn serve_on(&mut self, load: Load) {
        let mut drain = self.context.drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.wanted() => return,
                Some(incoming) = self.endpoint.accept() => self.receive(incoming, load),
                Some(ended) = self.connections.join_next() => self.reap(&ended),
                () = tokio::time::sleep(LULL), if self.connections.is_empty() => return,
            }
        }
    }

    /// What has been set otherwise since is told to connections that begin now.
    fn keep_up(&mut self) {
        let limits = self.context.limits();
        if limits == self.limits {
            return;
        }
        self.limits = limits;
        match transport::server_config(self.crypto.clone(), self.doors, &limits) {
            Ok(config) => self.endpoint.set_server_config(Some(config)),
            Err(error) => tracing::error!(%error, "new limits do not hold for QUIC"),
        }
    }

    /// Judges a first datagram: ask for proof of its address, refuse it, or begin the handshake.
    fn receive(&mut self, incoming: Incoming, load: Load) {
        self.keep_up();
        let under_way = Arc::strong_count(&self.handshakes) - 1;
        let validated = incoming.remote_address_validated();
        let peer = self.peer(&incoming);
        let source = if validated { Source::Proven } else { Source::Claimed };
        // Refused or not, a first packet counts: that is what makes an address prove itself.
        let begun = self.context.begin(&peer, Beginning::Handshake, source);
        let is_busy = {
            let terms = self.context.terms();
            terms.guard.is_busy(terms.answer.moment()) || under_way >= load.retry_from || begun.is_err()
        };
        let proof = match self.context.limits().retry {
            Retry::Never => false,
            Retry::WhenBusy => is_busy,
            Retry::Always => true,
        };
        if proof && !validated {
            if let Err(error) = incoming.retry() {
                self.refuse(error.into_incoming());
            }
            return;
        }
        if begun.is_err() || under_way >= load.refuse_from {
            return self.refuse(incoming);
        }
        let Some(permit) = self.context.permit(&peer) else { return incoming.refuse() };
        // Forged addresses must not use up the permits of the clients they name: until it is proven, an address holds none.
        let permit = Some(permit).filter(|_| validated);
        let arrival =
            Arrival { incoming, permit, handshake: Arc::clone(&self.handshakes), local: self.local, doors: self.doors };
        self.connections.spawn(arrival.serve(self.context.clone()));
    }

    /// Who it is, at any of the doors that it may ask at; which one is known only after the handshake, and judged again then.
    fn peer(&self, incoming: &Incoming) -> Peer {
        let remote = incoming.remote_address();
        let terms = self.context.terms();
        let is_open = |&door: &DoorId| terms.guard.may_connect(door, canonical(remote).ip());
        let door = self.doors.all().find(is_open).or_else(|| self.doors.all().next());
        let transport = if door == self.doors.doq { Transport::Doq } else { Transport::Doh3 };
        Peer::new(remote, self.local, door.unwrap_or_default(), transport)
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

/// From one stateless reset to the next. Each is smaller than what it answers; after a restart, many clients wait for theirs.
const RESETS: Duration = Duration::from_millis(1);

/// How long an endpoint without connections waits for first datagrams that it has read and not looked at yet.
const LULL: Duration = Duration::from_millis(100);

/// How long the endpoint stays to repeat its closes.
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod moving;
#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod tests;
