//! One connection from its first datagram: the handshake, then the protocol that both sides chose.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming};
use rustls::pki_types::CertificateDer;

use super::QuicDoors;
use crate::guard::Permit;
use crate::listen::session::Session;
use crate::listen::{Context, doh3, doq, known};
use crate::peer::{DoorId, Peer, Transport};

/// An admitted first datagram.
pub struct Arrival {
    pub incoming: Incoming,
    /// `None` while the client's address is not proven: a handshake proves it.
    pub permit: Option<Permit>,
    /// Held while the handshake is under way.
    pub handshake: Arc<()>,
    pub local: SocketAddr,
    pub doors: QuicDoors,
}

/// What a handshake agreed on.
struct Agreed {
    door: DoorId,
    transport: Transport,
    alpn: Vec<u8>,
    server_name: Option<Arc<str>>,
}

impl Arrival {
    /// Shakes hands and serves the connection to its end.
    pub async fn serve(self, context: Context) {
        let Self { incoming, permit, handshake, local, doors } = self;
        let Some(connection) = shake(incoming, &context).await else {
            context.counters.handshakes_failed.add_one();
            return;
        };
        drop(handshake);
        context.counters.handshakes.add_one();
        let Some(Agreed { door, transport, alpn, server_name }) = agreed(&connection, doors) else {
            connection.close(DONE.into(), b"");
            return;
        };
        let local = connection.local_ip().map_or(local, |ip| SocketAddr::new(ip, local.port()));
        let peer = Peer { server_name, ..Peer::new(connection.remote_address(), local, door, transport) };
        // Admission was to any door of this address; this one may have rules of its own.
        let permit = permit.filter(|_| context.terms().guard.may_ask(door, peer.ip()));
        let Some(permit) = permit.or_else(|| context.terms().guard.admit(door, peer.ip()).ok()) else {
            context.counters.connections_refused.add_one();
            connection.close(refusal(transport).into(), b"");
            return;
        };
        let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer = known::introduce(peer, shown.as_deref().map(Vec::as_slice), &context.terms().guard);
        let session = Session { peer, permit, alpn: Some(alpn) };
        if transport == Transport::Doh3 {
            doh3::serve(connection, session, context).await;
        } else {
            doq::serve(connection, session, context).await;
        }
    }
}

/// The handshake, in its time. 0-RTT stays off: nothing is read before it is over.
async fn shake(incoming: Incoming, context: &Context) -> Option<Connection> {
    let mut drain = context.drain.clone();
    let connecting = incoming.accept().ok()?;
    tokio::select! {
        biased;
        done = tokio::time::timeout(context.limits().handshake_timeout, connecting) => done.ok()?.ok(),
        () = drain.wanted() => None,
    }
}

fn agreed(connection: &Connection, doors: QuicDoors) -> Option<Agreed> {
    let HandshakeData { protocol, server_name, .. } = *connection.handshake_data()?.downcast().ok()?;
    let alpn = protocol?;
    let (door, transport) = match alpn.as_slice() {
        b"doq" => (doors.doq?, Transport::Doq),
        b"h3" => (doors.doh3?, Transport::Doh3),
        _ => return None,
    };
    Some(Agreed { door, transport, alpn, server_name: server_name.map(Into::into) })
}

/// No error of any protocol.
const DONE: u32 = 0;

/// The code that says "not you" in the protocol's own numbers: `DOQ_UNSPECIFIED_ERROR`, `H3_REQUEST_REJECTED`.
const fn refusal(transport: Transport) -> u32 {
    if matches!(transport, Transport::Doh3) { 0x10b } else { 0x5 }
}
