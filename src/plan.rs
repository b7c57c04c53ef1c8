//! From the bound doors to what each worker serves: sockets dealt out, TLS made once a kind of door.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::identity::Identity;
use crate::listen::DoorKind;
use crate::listen::accept::Service;
use crate::listen::bind::BoundDoor;
use crate::listen::doh::Site;
use crate::listen::quic::mailboxes::Mailboxes;
use crate::listen::quic::tokens::Tokens;
use crate::listen::quic::{Crypto, QuicDoors, steering};
use crate::peer::DoorId;
use crate::worker::Post;

/// How long clients may remember that HTTP/3 is served here (RFC 7838 3.1), in seconds.
const ALT_SVC_AGE: u32 = 86_400;

/// The TLS configurations of one gateway, shared by its workers.
struct Tls {
    dot: Arc<rustls::ServerConfig>,
    doh: Arc<rustls::ServerConfig>,
}

/// What the QUIC doors of all workers share, over all reloads.
pub struct Exchange {
    /// Where datagrams find their worker.
    pub mailboxes: Arc<Mailboxes>,
    /// Proofs of addresses: each is good once.
    pub tokens: Tokens,
}

/// Deals the sockets of `doors` out to `workers` workers, each with the door that was bound for it.
#[must_use]
pub fn posts(
    doors: Vec<BoundDoor>,
    identity: &Identity,
    workers: usize,
    exchange: &Exchange,
) -> Vec<Vec<(Post, DoorId)>> {
    let tls = Tls { dot: identity.stream_config(&[b"dot"]), doh: identity.stream_config(&[b"h2", b"http/1.1"]) };
    let mut stations: Vec<Vec<(Post, DoorId)>> = (0..workers).map(|_| Vec::new()).collect();
    let kinds: Vec<(DoorId, DoorKind)> = doors.iter().map(|door| (door.id, door.kind)).collect();
    for door in doors {
        let service = service(&door, &tls);
        let quic = quic_doors(&door, &kinds);
        let config = quic.map(|quic| {
            steering::steer(&door.udp, &exchange.mailboxes.ownership().key);
            let crypto = Crypto { tls: identity.quic_config(alpn(quic)), tokens: exchange.tokens.clone() };
            (exchange.mailboxes.row(door.address, workers), quic, crypto)
        });
        for (station, listener) in stations.iter_mut().zip(door.tcp) {
            station.push((Post::Stream(listener, door.id, service.clone()), door.id));
        }
        for (station, socket) in stations.iter_mut().zip(door.udp) {
            let post = match &config {
                Some((row, quic, crypto)) => Post::Quic(socket, Arc::clone(row), *quic, crypto.clone()),
                None => Post::Datagram(socket, door.id),
            };
            station.push((post, door.id));
        }
    }
    stations
}

fn service(door: &BoundDoor, tls: &Tls) -> Service {
    match door.kind {
        DoorKind::Dns | DoorKind::Doq => Service::Tcp,
        DoorKind::Dot => Service::Dot { tls: Arc::clone(&tls.dot) },
        DoorKind::Doh => {
            Service::Doh { tls: Arc::clone(&tls.doh), site: Arc::new(Site { alt_svc: Some(alt_svc(door.address)) }) }
        }
        DoorKind::DohTcp => Service::Doh { tls: Arc::clone(&tls.doh), site: Arc::default() },
        DoorKind::DohClear => Service::DohClear { site: Arc::new(Site { alt_svc: None }) },
    }
}

/// `h3=":443"; ma=86400`: the same port, because a DoH door opens both (DH3-02).
fn alt_svc(address: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(format!("h3=\":{}\"; ma={ALT_SVC_AGE}", address.port()))
        .unwrap_or(HeaderValue::from_static("clear"))
}

/// The QUIC protocols at a door's UDP address, its own and those of the doors that share it; `None` for plain DNS.
fn quic_doors(door: &BoundDoor, kinds: &[(DoorId, DoorKind)]) -> Option<QuicDoors> {
    let mut quic = QuicDoors { doq: None, doh3: None };
    let sharing = kinds.iter().filter(|(id, _)| *id == door.id || door.shares.contains(id));
    for &(id, kind) in sharing {
        match kind {
            DoorKind::Doq => _ = quic.doq.get_or_insert(id),
            DoorKind::Doh => _ = quic.doh3.get_or_insert(id),
            DoorKind::Dns | DoorKind::Dot | DoorKind::DohTcp | DoorKind::DohClear => return None,
        }
    }
    Some(quic)
}

fn alpn(doors: QuicDoors) -> &'static [&'static [u8]] {
    match (doors.doq, doors.doh3) {
        (Some(_), Some(_)) => &[b"doq", b"h3"],
        (Some(_), None) => &[b"doq"],
        (None, _) => &[b"h3"],
    }
}
