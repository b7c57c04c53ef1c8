//! One connection from its first datagram: the handshake, then the protocol that both sides chose.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, Incoming, TransportErrorCode};
use rustls::pki_types::CertificateDer;

use super::QuicDoors;
use crate::guard::Permit;
use crate::listen::session::Session;
use crate::listen::{Context, doh3, doq, known};
use crate::peer::{DoorId, Peer, Transport};
use crate::telemetry::handshakes::{Failure, Shaking};

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
    /// Shakes hands and serves the connection to its end. Each step is a future of its own, so that a connection at rest keeps no room
    /// for its handshake, nor for the larger of two protocols.
    pub async fn serve(self, context: Context) {
        let Some((connection, session)) = Box::pin(self.begin(&context)).await else { return };
        if session.peer.transport == Transport::Doh3 {
            Box::pin(doh3::serve(connection, session, context)).await;
        } else {
            Box::pin(doq::serve(connection, session, context)).await;
        }
    }

    /// Shakes hands and lets the client in; `None` if nothing comes of it.
    async fn begin(self, context: &Context) -> Option<(Connection, Session)> {
        let Self { incoming, permit, handshake, local, doors } = self;
        let mut over = before(doors);
        // What the handshake proves; once it is over, datagrams may come from anywhere.
        let remote = incoming.remote_address();
        let connection = match shake(incoming, &mut over, context).await {
            Ok(connection) => connection,
            Err(why) => {
                context.counters.handshake_failed(over, why);
                tracing::debug!(over = over.name(), why = why.name(), "a handshake failed");
                return None;
            }
        };
        drop(handshake);
        context.counters.handshakes.add_one();
        let Some(Agreed { door, transport, alpn, server_name }) = agreed(&connection, doors) else {
            connection.close(DONE.into(), b"");
            return None;
        };
        let local = connection.local_ip().map_or(local, |ip| SocketAddr::new(ip, local.port()));
        let peer = Peer { server_name, ..Peer::new(remote, local, door, transport) };
        // Admission was to any door of this address; this one may have rules of its own.
        let permit = permit.filter(|_| context.terms().guard.may_connect(door, peer.ip()));
        let Some(permit) = permit.or_else(|| context.permit(&peer)) else {
            connection.close(refusal(transport).into(), b"");
            return None;
        };
        let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer = known::introduce(peer, shown.as_deref().map(Vec::as_slice), &context.terms().guard);
        Some((connection, Session { peer, permit, alpn: Some(alpn) }))
    }
}

/// The handshake, in its time; `over` becomes what the client asks for as soon as it has. 0-RTT stays off: nothing is read before
/// it is over.
async fn shake(incoming: Incoming, over: &mut Shaking, context: &Context) -> Result<Connection, Failure> {
    let mut drain = context.drain.clone();
    let mut connecting = incoming.accept().map_err(|error| failure(&error))?;
    let shaking = async {
        let data = connecting.handshake_data().await.map_err(|error| failure(&error))?;
        match data.downcast::<HandshakeData>().ok().and_then(|data| data.protocol).as_deref() {
            Some(b"doq") => *over = Shaking::Doq,
            Some(b"h3") => *over = Shaking::Doh3,
            Some(_) | None => {}
        }
        connecting.await.map_err(|error| failure(&error))
    };
    tokio::select! {
        biased;
        done = tokio::time::timeout(context.limits().handshake_timeout, shaking) => done.map_err(|_| Failure::Timeout)?,
        () = drain.wanted() => Err(Failure::Stopping),
    }
}

/// What a handshake is over before the client has said so.
const fn before(doors: QuicDoors) -> Shaking {
    match (doors.doq, doors.doh3) {
        (Some(_), None) => Shaking::Doq,
        (None, Some(_)) => Shaking::Doh3,
        (Some(_), Some(_)) | (None, None) => Shaking::Quic,
    }
}

/// Why a handshake came to nothing. A client that turns away from our certificate says so in a close that carries its alert (RFC 9001
/// 4.8), before the handshake is over for us.
fn failure(error: &ConnectionError) -> Failure {
    // CRYPTO_ERROR is 0x100 and the alert.
    let alert =
        |code: TransportErrorCode| u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
    match error {
        ConnectionError::VersionMismatch => Failure::Version,
        ConnectionError::TransportError(ours) => alert(ours.code).map_or(Failure::Other, Failure::found),
        ConnectionError::ConnectionClosed(close) => alert(close.error_code).map_or(Failure::Closed, Failure::told),
        ConnectionError::ApplicationClosed(_) => Failure::Closed,
        ConnectionError::Reset => Failure::Reset,
        ConnectionError::TimedOut => Failure::Timeout,
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => Failure::Other,
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
