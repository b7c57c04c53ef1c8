//! Who asks behind a proxy: its PROXY header, read before anything else that it carries (the specification of `HAProxy`, 2020).
//!
//! Between accept and TLS on streams, and before the message in each datagram of a plain door. Whose header is believed is the
//! guard's to say. From here on the client stands where the proxy stood, for access, limits, cookies, subnets and logs.

pub mod header;

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::header::{Carrier, Header, HeaderError, Said, parse};
use super::{Context, Session};
use crate::guard::{Beginning, Guard, Source, Standing};
use crate::peer::Peer;
use crate::telemetry::Counters;
use crate::telemetry::proxies::Introduction;

/// The session of the client that a proxy has connected for; that of anybody else as it was. `None` ends the connection.
pub(super) async fn introduced(stream: &mut TcpStream, session: Session, context: &Context) -> Option<Session> {
    if !session.permit.owes_header() {
        return Some(session);
    }
    // On the heap, and gone when it is done: a connection that needs none is no larger for it.
    let met = Box::pin(meet(stream, session, context)).await;
    if met.is_none() {
        // A reset leaves nothing behind on our side.
        let _ = stream.set_zero_linger();
    }
    met
}

async fn meet(stream: &mut TcpStream, session: Session, context: &Context) -> Option<Session> {
    let counters = &context.counters;
    let said = match timeout(context.limits().handshake_timeout, read(stream)).await {
        Ok(Ok(said)) => said,
        Ok(Err(fault)) => {
            tracing::debug!(proxy = %session.peer.ip(), error = %fault, "a proxy names no client");
            return fault.counted().and_then(|fault| refuse(counters, fault));
        }
        Err(_) => return refuse(counters, Introduction::Timeout),
    };
    let peer = speaking(session.peer, said, counters);
    let passed = match said {
        Said::Client { .. } => session.permit.pass_to(&context.terms().guard, peer.door, peer.ip()),
        Said::Nobody => Ok(session.permit),
    };
    let beginning = if peer.transport.is_encrypted() { Beginning::Handshake } else { Beginning::Clear };
    if context.begin(&peer, beginning, Source::Proven).is_err() {
        counters.connections_refused.add_one();
        return None;
    }
    let Ok(permit) = passed else {
        counters.connections_refused.add_one();
        return None;
    };
    Some(Session { peer, permit, ..session })
}

fn refuse<T>(counters: &Counters, why: Introduction) -> Option<T> {
    counters.introduced(why);
    None
}

/// Why a stream has no header.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It ended, or broke, after this many octets.
    #[error("the connection ended after {1} octets: {0}")]
    Ended(io::Error, usize),
}

impl Fault {
    /// What it is counted as. Who only looks whether the port is open says nothing and goes.
    const fn counted(&self) -> Option<Introduction> {
        match self {
            Self::Header(HeaderError::Missing) => Some(Introduction::Missing),
            Self::Ended(_, 0) => None,
            Self::Header(HeaderError::Malformed) | Self::Ended(..) => Some(Introduction::Malformed),
        }
    }
}

/// Reads the header and not an octet more: what follows is for TLS, or DNS. A line of version 1 is read by the octet, since only
/// its end tells its length.
async fn read(stream: &mut TcpStream) -> Result<Said, Fault> {
    let mut octets = Vec::new();
    loop {
        match parse(&octets, Carrier::Stream)? {
            Header::Whole { said, .. } => return Ok(said),
            Header::Partial { wanted } => {
                let have = octets.len();
                octets.resize(wanted, 0);
                let more = octets.get_mut(have..).unwrap_or_default();
                let count = match stream.read(more).await {
                    Ok(0) => return Err(Fault::Ended(io::ErrorKind::UnexpectedEof.into(), have)),
                    Ok(count) => count,
                    Err(error) => return Err(Fault::Ended(error, have)),
                };
                octets.truncate(have + count);
            }
        }
    }
}

/// The one that asks by `datagram`, and the message in it; `None` for a datagram that is not looked at any further.
pub(super) fn opened<'d>(
    peer: Peer,
    datagram: &'d [u8],
    guard: &Guard,
    counters: &Counters,
) -> Option<(Peer, &'d [u8])> {
    match guard.standing(peer.door, peer.ip()) {
        Standing::Client | Standing::Forwarder => Some((peer, datagram)),
        Standing::Stranger => refuse(counters, Introduction::Untrusted),
        Standing::Introducer => match parse(datagram, Carrier::Datagram) {
            Ok(Header::Whole { said, length }) => {
                Some((speaking(peer, said, counters), datagram.get(length..).unwrap_or_default()))
            }
            Ok(Header::Partial { .. }) | Err(HeaderError::Malformed) => refuse(counters, Introduction::Malformed),
            Err(HeaderError::Missing) => refuse(counters, Introduction::Missing),
        },
    }
}

/// The one that `peer`, a proxy, speaks for.
fn speaking(peer: Peer, said: Said, counters: &Counters) -> Peer {
    match said {
        Said::Client { source, destination } => {
            counters.introduced(Introduction::Accepted);
            Peer { local: crate::peer::canonical(destination), ..peer.speaking_for(source) }
        }
        Said::Nobody => {
            counters.introduced(Introduction::Local);
            peer
        }
    }
}
