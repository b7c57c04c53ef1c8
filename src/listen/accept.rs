//! The accept loop of every stream door: TCP, DoT and DoH on TCP.
//!
//! Each connection is a task that the loop owns, with a permit held from before the handshake to its end. Nothing one client does
//! or leaves undone delays the next accept, and no error of accepting ends the loop. A panic ends one connection.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::server::TlsStream;

use super::presence::Presence;
use super::proxy::introduced;
use super::tcp::Tcp;
use super::tls::{self, Pace, Secured};
use super::{Context, Session, doh, known, stream, validator};
use crate::guard::{Beginning, Refusal, Source};
use crate::identity::Identity;
use crate::peer::{DoorId, Peer, Transport};
use crate::shutdown::Stop;
use crate::telemetry::handshakes::Shaking;

/// What is spoken on an accepted connection.
#[derive(Clone, Debug)]
pub enum Service {
    /// Plain DNS (RFC 7766).
    Tcp,
    /// DNS over TLS (RFC 7858).
    Dot {
        /// Offers [`tls::DOT_ALPN`].
        tls: Arc<ServerConfig>,
    },
    /// DNS over HTTPS, HTTP/1.1 and HTTP/2.
    Doh {
        /// Offers [`tls::DOH_ALPN`].
        tls: Arc<ServerConfig>,
        /// The door's own.
        site: Arc<doh::Site>,
    },
    /// The same in clear text, behind a web server.
    DohClear {
        /// The door's own.
        site: Arc<doh::Site>,
    },
}

impl Service {
    /// DNS over TLS with our identity.
    pub fn dot(identity: &Identity) -> Self {
        Self::Dot { tls: identity.stream_config(tls::DOT_ALPN) }
    }

    /// DNS over HTTPS with our identity.
    pub fn doh(identity: &Identity, site: Arc<doh::Site>) -> Self {
        Self::Doh { tls: identity.stream_config(tls::DOH_ALPN), site }
    }

    /// What a connection costs before its first question.
    const fn beginning(&self) -> Beginning {
        if self.has_tls() { Beginning::Handshake } else { Beginning::Clear }
    }

    /// Does a connection begin with a TLS handshake?
    const fn has_tls(&self) -> bool {
        match self {
            Self::Dot { .. } | Self::Doh { .. } => true,
            Self::Tcp | Self::DohClear { .. } => false,
        }
    }

    /// The transport of its connections, as far as the door tells: ALPN tells HTTP/1.1 and HTTP/2 apart.
    const fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Dot { .. } => Transport::Dot,
            Self::Doh { .. } | Self::DohClear { .. } => Transport::Doh1,
        }
    }
}

/// Accepts and serves until the gateway drains and the last connection has ended.
pub async fn serve(listener: std::net::TcpListener, door: DoorId, service: Service, context: Context) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(door = door.0, %error, "a listening socket cannot be served");
            return;
        }
    };
    let mut drain = context.drain.clone();
    // Connections hear the word from this loop: they look at it often, and all cores share the gateway's own.
    let (stop, local) = Stop::new();
    let context = context.draining_by(local);
    let mut door = Doorway { id: door, service, context, pace: Pace::new(), connections: JoinSet::new() };
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = drain.leaving() => break,
            Some(ended) = door.connections.join_next() => door.reap(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    failing = false;
                    if catch_unwind(AssertUnwindSafe(|| door.admit(stream, remote))).is_err() {
                        door.context.counters.panics.add_one();
                    }
                }
                Err(error) => pause(&error, &mut failing).await,
            },
        }
    }
    drop(listener);
    // Where another process accepts from now on, connections end by themselves, or when the word to stop comes.
    loop {
        tokio::select! {
            biased;
            () = drain.wanted() => break,
            ended = door.connections.join_next() => match ended {
                Some(ended) => door.reap(ended),
                None => break,
            },
        }
    }
    stop.begin();
    while let Some(ended) = door.connections.join_next().await {
        door.reap(ended);
    }
}

/// Waits where an accept failed for want of something (open files, memory), so that the loop does not spin; says so once.
async fn pause(error: &io::Error, failing: &mut bool) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock) {
        return;
    }
    if !*failing {
        tracing::warn!(%error, "connections cannot be accepted; trying on");
    }
    *failing = true;
    tokio::time::sleep(PAUSE).await;
}

/// One door's connections.
struct Doorway {
    id: DoorId,
    service: Service,
    context: Context,
    pace: Pace,
    connections: JoinSet<()>,
}

impl Doorway {
    fn admit(&mut self, mut stream: TcpStream, remote: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let peer = Peer::new(remote, local, self.id, self.service.transport());
        let permit = match self.context.admit(&peer, self.service.beginning()) {
            Ok(permit) => permit,
            Err(why) => return self.refuse(stream, &peer, why),
        };
        let _ = stream.set_nodelay(true);
        let session = Session { peer, permit, alpn: None };
        let (context, pace) = (self.context.clone(), self.pace.clone());
        // Each protocol is a task type of its own, so that an idle TCP connection is not as large as an HTTP/2 one. DoH counts its
        // own connections: only it can tell its versions apart.
        match self.service.clone() {
            Service::Tcp => self.connections.spawn(async move {
                let Some(session) = introduced(&mut stream, session, &context).await else { return };
                let _presence = Presence::of(&context.counters, session.peer.transport);
                stream::serve(stream, session, context).await;
            }),
            Service::Dot { tls } => self.connections.spawn(async move {
                let Some(session) = introduced(&mut stream, session, &context).await else { return };
                let Some((stream, session)) = secure(stream, tls, pace, session, &context).await else { return };
                let _presence = Presence::of(&context.counters, session.peer.transport);
                stream::serve(stream, session, context).await;
            }),
            Service::Doh { tls, site } => self.connections.spawn(async move {
                let Some(session) = introduced(&mut stream, session, &context).await else { return };
                let Some((stream, session)) = secure(stream, tls, pace, session, &context).await else { return };
                doh::serve(stream, session, site, context).await;
            }),
            Service::DohClear { site } => self.connections.spawn(async move {
                let Some(session) = introduced(&mut stream, session, &context).await else { return };
                doh::serve(stream, session, site, context).await;
            }),
        };
    }

    /// Turns a connection away; but an authority's validators come from anywhere, and are known by their client hello.
    fn refuse(&mut self, stream: TcpStream, peer: &Peer, why: Refusal) {
        let may_prove = why == Refusal::Access
            && self.service.has_tls()
            && self.context.challenges.is_pending()
            && self.context.begin(peer, Beginning::Handshake, Source::Proven).is_ok();
        if let Some(guest) = may_prove.then(|| self.context.challenges.guest()).flatten() {
            self.connections.spawn(validator::receive(stream, guest, self.context.clone()));
            return;
        }
        self.context.refused(peer, why);
        // A reset leaves nothing behind on our side.
        let _ = stream.set_zero_linger();
    }

    fn reap(&self, ended: Result<(), JoinError>) {
        if ended.is_err_and(|error| error.is_panic()) {
            self.context.counters.panics.add_one();
        }
    }
}

/// Shakes hands, and adds to `session` what that told; `None` where it came to nothing.
async fn secure(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    pace: Pace,
    session: Session,
    context: &Context,
) -> Option<(Box<TlsStream<Tcp>>, Session)> {
    // On the heap, and gone when it is done: the connection's task is smaller for it.
    let limit = context.limits().handshake_timeout;
    match Box::pin(tls::handshake(stream, tls, pace, limit, &context.challenges)).await {
        Ok(None) => None,
        Ok(Some(Secured { stream, server_name, alpn })) => {
            context.counters.handshakes.add_one();
            let peer = Peer { server_name, ..session.peer };
            let shown = stream.get_ref().1.peer_certificates();
            let peer = known::introduce(peer, shown, &context.terms().guard);
            Some((stream, Session { peer, alpn, ..session }))
        }
        Err(error) => {
            let over = if session.peer.transport == Transport::Dot { Shaking::Dot } else { Shaking::Doh };
            let why = tls::failure(&error);
            context.counters.handshake_failed(over, why);
            tracing::debug!(%error, why = why.name(), "a handshake failed");
            None
        }
    }
}

/// The wait after an accept that failed for want of something.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
