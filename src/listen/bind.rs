//! The sockets of all doors, opened before anything is served, so that privileges may be dropped and an error stops the start.
//!
//! Each worker has its own socket on every address (`SO_REUSEPORT`), among which the kernel spreads the clients. That option lets
//! any process of the same user join in, so the first socket of an address is bound without it: whoever holds the address
//! already, also another instance of this gateway, is an error and never a thief of its traffic. Only then is the option set.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Socket, Type};

use super::{Door, DoorKind};
use crate::peer::DoorId;

mod inherited;

pub use inherited::Inherited;

/// What to do about an IPv6 address on a machine without IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// It is an error: somebody asked for this address.
    #[default]
    Refuse,
    /// Leave the door out, with a warning: the address is a default.
    Skip,
}

/// A door with its sockets: one a worker, or none where the door has no use for the protocol.
#[derive(Debug)]
pub struct BoundDoor {
    /// Which door.
    pub id: DoorId,
    /// What is spoken there.
    pub kind: DoorKind,
    /// Where: the port is known now.
    pub address: SocketAddr,
    /// One listening socket a worker; empty for DoQ.
    pub tcp: Vec<TcpListener>,
    /// One socket a worker; empty for doors without UDP, and for a QUIC door that is in the `shares` of an earlier one.
    pub udp: Vec<UdpSocket>,
    /// Later QUIC doors at the same address: they are served on `udp` of this one, chosen by ALPN.
    pub shares: Vec<DoorId>,
}

/// The transport protocol under a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A door that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen.{} = \"{address}\" ({protocol}): {cause}", key(*.kind))]
pub struct BindError {
    /// What should be spoken there.
    pub kind: DoorKind,
    /// Where.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Why not.
    pub cause: BindCause,
}

/// Why a door cannot be opened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindCause {
    /// Somebody else is there.
    #[error("the address is in use by another process; stop it, or choose another address or port")]
    InUse,
    /// Another door of ours is there.
    #[error("listen.{} names this address too; give one of them another port", key(*.0))]
    Twice(DoorKind),
    /// A low port without the privilege for it.
    #[error("permission denied; ports under 1024 need CAP_NET_BIND_SERVICE, or choose a port from 1024 up")]
    Permission,
    /// No interface has the address.
    #[error("no interface of this machine has this address; correct it, or bring the interface up first")]
    NotHere,
    /// The machine has no such address family.
    #[error("this machine has no IPv6; remove the address, or enable IPv6")]
    NoIpv6,
    /// Port 0 was asked for, and no port was free for both TCP and UDP.
    #[error("no port is free for both TCP and UDP; choose one")]
    NoPort,
    /// As many sockets as there are workers are handed over.
    #[error(
        "the running process serves it by {there} worker(s) and this one would by {here}: leave `workers` as it is, or restart"
    )]
    Workers {
        /// Of the process that serves it.
        there: usize,
        /// Of this one.
        here: usize,
    },
    /// Anything else.
    #[error(transparent)]
    Io(io::Error),
}

impl BindCause {
    fn of(error: io::Error, address: SocketAddr) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            io::ErrorKind::PermissionDenied => Self::Permission,
            _ if address.is_ipv6() && !has_ipv6() => Self::NoIpv6,
            io::ErrorKind::AddrNotAvailable => Self::NotHere,
            _ => Self::Io(error),
        }
    }
}

/// Opens every door for `workers` workers. Port 0 becomes a port that is free for every protocol of its door.
///
/// # Errors
/// The first door that cannot be opened; nothing stays open then.
pub fn bind(doors: &[Door], workers: usize, absent: Absent) -> Result<Vec<BoundDoor>, BindError> {
    bind_with(doors, workers, absent, Vec::new())
}

/// The same with the sockets that another process hands over, for the doors that they fit.
///
/// # Errors
/// As [`bind`], and a door that is served there by another number of workers.
pub fn bind_with(
    doors: &[Door],
    workers: usize,
    absent: Absent,
    inherited: Vec<Inherited>,
) -> Result<Vec<BoundDoor>, BindError> {
    let numbered = (0..u16::MAX).map(DoorId).zip(doors.iter().copied());
    bind_all(numbered, workers, absent, inherited)
}

/// The same for doors whose ids are chosen: those that come while others are open.
///
/// # Errors
/// As [`bind`].
pub fn bind_numbered(
    doors: impl IntoIterator<Item = (DoorId, Door)>,
    workers: usize,
    absent: Absent,
) -> Result<Vec<BoundDoor>, BindError> {
    bind_all(doors, workers, absent, Vec::new())
}

fn bind_all(
    doors: impl IntoIterator<Item = (DoorId, Door)>,
    workers: usize,
    absent: Absent,
    mut inherited: Vec<Inherited>,
) -> Result<Vec<BoundDoor>, BindError> {
    let mut bound: Vec<BoundDoor> = Vec::new();
    for (id, door) in doors {
        if absent == Absent::Skip && door.address.is_ipv6() && !has_ipv6() {
            tracing::warn!(door = key(door.kind), address = %door.address, "left out: this machine has no IPv6");
            continue;
        }
        let mut needs = Needs::of(door.kind);
        if needs.quic && share(&mut bound, door, id) {
            needs.udp = false;
        }
        clash(&bound, door, needs)?;
        let fail = |(protocol, cause)| BindError { kind: door.kind, address: door.address, protocol, cause };
        let place = inherited.iter().position(|inherited| inherited.door == door);
        let opened = match place.map(|place| inherited.remove(place)) {
            Some(inherited) => inherited.adopt(needs, workers.max(1)),
            None => open(door.address, needs, workers.max(1)),
        };
        let (tcp, udp, address) = opened.map_err(fail)?;
        bound.push(BoundDoor { id, kind: door.kind, address, tcp, udp, shares: Vec::new() });
    }
    Ok(bound)
}

/// The configuration key of a door.
const fn key(kind: DoorKind) -> &'static str {
    match kind {
        DoorKind::Dns => "dns",
        DoorKind::Dot => "dot",
        DoorKind::Doh | DoorKind::DohTcp | DoorKind::DohClear => "doh",
        DoorKind::Doq => "doq",
    }
}

/// Which sockets a door needs of its own.
#[derive(Clone, Copy, Debug)]
struct Needs {
    tcp: bool,
    udp: bool,
    quic: bool,
}

impl Needs {
    const fn of(kind: DoorKind) -> Self {
        match kind {
            DoorKind::Dns => Self { tcp: true, udp: true, quic: false },
            DoorKind::Dot | DoorKind::DohTcp | DoorKind::DohClear => Self { tcp: true, udp: false, quic: false },
            DoorKind::Doh => Self { tcp: true, udp: true, quic: true },
            DoorKind::Doq => Self { tcp: false, udp: true, quic: true },
        }
    }
}

/// Lets `door` join the QUIC sockets of an earlier door at its address, if there is one.
fn share(bound: &mut [BoundDoor], door: Door, id: DoorId) -> bool {
    let at = |other: &&mut BoundDoor| other.address == door.address && Needs::of(other.kind).quic;
    let Some(first) = bound.iter_mut().find(at) else { return false };
    first.shares.push(id);
    true
}

/// Is an earlier door of ours already where `door` wants to be?
fn clash(bound: &[BoundDoor], door: Door, needs: Needs) -> Result<(), BindError> {
    for other in bound.iter().filter(|other| other.address == door.address) {
        let protocol = match (needs.tcp && !other.tcp.is_empty(), needs.udp && !other.udp.is_empty()) {
            (true, _) => Protocol::Tcp,
            (false, true) => Protocol::Udp,
            (false, false) => continue,
        };
        let cause = BindCause::Twice(other.kind);
        return Err(BindError { kind: door.kind, address: door.address, protocol, cause });
    }
    Ok(())
}

type Opened = (Vec<TcpListener>, Vec<UdpSocket>, SocketAddr);
type Failed = (Protocol, BindCause);

fn open(wanted: SocketAddr, needs: Needs, workers: usize) -> Result<Opened, Failed> {
    let (tcp, udp, address) = claim(wanted, needs)?;
    let fail = |protocol| move |error| (protocol, BindCause::of(error, wanted));
    let tcp = match tcp {
        Some(first) => spread(first, address, Protocol::Tcp, workers).map_err(fail(Protocol::Tcp))?,
        None => Vec::new(),
    };
    let udp = match udp {
        Some(first) => spread(first, address, Protocol::Udp, workers).map_err(fail(Protocol::Udp))?,
        None => Vec::new(),
    };
    for listener in &tcp {
        listener.listen(BACKLOG).map_err(fail(Protocol::Tcp))?;
    }
    Ok((tcp.into_iter().map(Into::into).collect(), udp.into_iter().map(Into::into).collect(), address))
}

/// Binds the first socket of each protocol that is needed, and nobody else may hold the address meanwhile.
fn claim(wanted: SocketAddr, needs: Needs) -> Result<(Option<Socket>, Option<Socket>, SocketAddr), Failed> {
    let one = |protocol, address| first(protocol, address).map_err(|error| (protocol, BindCause::of(error, address)));
    for _ in 0..PORT_ATTEMPTS {
        let mut address = wanted;
        let mut tcp = None;
        if needs.tcp {
            let (socket, at) = one(Protocol::Tcp, address)?;
            (tcp, address) = (Some(socket), at);
        }
        if !needs.udp {
            return Ok((tcp, None, address));
        }
        match one(Protocol::Udp, address) {
            Ok((socket, at)) => return Ok((tcp, Some(socket), at)),
            // The system chose the port for TCP alone: let it choose another.
            Err((_, BindCause::InUse)) if wanted.port() == 0 => {}
            Err(failed) => return Err(failed),
        }
    }
    Err((Protocol::Udp, BindCause::NoPort))
}

fn first(protocol: Protocol, address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = prepared(protocol, address)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// The sockets of all workers, `first` among them.
#[cfg(target_os = "linux")]
fn spread(first: Socket, address: SocketAddr, protocol: Protocol, workers: usize) -> io::Result<Vec<Socket>> {
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        let socket = prepared(protocol, address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// The sockets of all workers: elsewhere `SO_REUSEPORT` spreads nothing, so they share one.
#[cfg(not(target_os = "linux"))]
fn spread(first: Socket, _address: SocketAddr, _protocol: Protocol, workers: usize) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(first.try_clone()?);
    }
    sockets.push(first);
    Ok(sockets)
}

/// A socket with its options set, not yet bound.
fn prepared(protocol: Protocol, address: SocketAddr) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match protocol {
        // Connections of an earlier process that wait out their time are no reason not to start. (On UDP the option would
        // let others in.)
        Protocol::Tcp => socket.set_reuse_address(true)?,
        Protocol::Udp => {
            // As much as the system grants: a burst should wait, not be lost.
            let _ = socket.set_recv_buffer_size(BUFFER);
            let _ = socket.set_send_buffer_size(BUFFER);
            tune(&socket, address)?;
        }
    }
    Ok(socket)
}

/// No fragments, whatever forged ICMP says of the path (RFC 9715 R1, R2); and on wildcard addresses each datagram tells where it
/// was sent to (GEN-16).
#[cfg(target_os = "linux")]
fn tune(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    use std::net::IpAddr;

    use nix::sys::socket::{setsockopt, sockopt};
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    // Best effort: what is over the interface's MTU fails with EMSGSIZE and is sent truncated.
    let _ = match address {
        SocketAddr::V4(_) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::INTERFACE),
        SocketAddr::V6(_) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::INTERFACE),
    };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn tune(_socket: &Socket, _address: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Has this machine IPv6 at all? Then it has the loopback address.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Connections that may wait to be accepted on one socket.
const BACKLOG: i32 = 1024;

/// Octets of a UDP socket's buffers.
const BUFFER: usize = 4 << 20;

/// Tries for a port that TCP and UDP can both have.
const PORT_ATTEMPTS: u8 = 64;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn door(kind: DoorKind, address: &str) -> Door {
        Door { kind, address: address.parse().unwrap() }
    }

    fn one(kind: DoorKind, address: SocketAddr) -> Result<Vec<BoundDoor>, BindError> {
        bind(&[Door { kind, address }], 2, Absent::Refuse)
    }

    #[test]
    fn a_dns_door_has_a_socket_a_worker_on_one_port_of_both_protocols() {
        let [bound] = &bind(&[door(DoorKind::Dns, "127.0.0.1:0")], 3, Absent::Refuse).unwrap()[..] else {
            panic!("one door")
        };
        assert_ne!(bound.address.port(), 0);
        assert_eq!((bound.tcp.len(), bound.udp.len()), (3, 3));
        assert!(bound.tcp.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
        assert!(bound.udp.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
    }

    #[test]
    fn a_second_instance_is_an_error_that_names_the_address() {
        for kind in [DoorKind::Dns, DoorKind::Dot, DoorKind::Doq, DoorKind::Doh, DoorKind::DohClear] {
            let held = one(kind, "127.0.0.1:0".parse().unwrap()).unwrap();
            let error = one(kind, held[0].address).unwrap_err();
            assert!(matches!(error.cause, BindCause::InUse), "{kind:?}: {error}");
            assert!(error.to_string().contains(&held[0].address.to_string()), "{error}");
        }
    }

    #[test]
    fn an_address_is_free_again_while_old_connections_wait_out_their_time() {
        let held = one(DoorKind::Dot, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = held[0].address;
        let client = TcpStream::connect(address).unwrap();
        let accepted = loop {
            if let Some(Ok(accepted)) = held[0].tcp.iter().map(TcpListener::accept).find(Result::is_ok) {
                break accepted;
            }
        };
        // Whoever closes first keeps the connection in TIME-WAIT.
        drop(accepted);
        drop(client);
        drop(held);
        one(DoorKind::Dot, address).unwrap();
    }

    #[test]
    fn quic_doors_at_one_address_share_its_sockets() {
        let first = one(DoorKind::Doh, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first[0].address;
        drop(first);
        let doors = [Door { kind: DoorKind::Doh, address }, Door { kind: DoorKind::Doq, address }];
        let bound = bind(&doors, 2, Absent::Refuse).unwrap();
        assert_eq!(bound[0].shares, [DoorId(1)]);
        assert_eq!((bound[0].udp.len(), bound[1].udp.len()), (2, 0));
        assert_eq!((bound[0].tcp.len(), bound[1].tcp.len()), (2, 0));
    }

    #[test]
    fn ppx_12_a_doh_door_behind_a_proxy_has_no_quic() {
        let first = one(DoorKind::DohTcp, "127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!((first[0].tcp.len(), first[0].udp.len()), (2, 0));
    }

    #[test]
    fn dot_and_doq_live_at_one_address_without_sharing() {
        let first = one(DoorKind::Doh, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first[0].address;
        drop(first);
        let doors = [Door { kind: DoorKind::Dot, address }, Door { kind: DoorKind::Doq, address }];
        let bound = bind(&doors, 1, Absent::Refuse).unwrap();
        assert!(bound[0].shares.is_empty());
        assert_eq!((bound[0].tcp.len(), bound[1].udp.len()), (1, 1));
    }

    #[test]
    fn two_doors_of_ours_that_clash_are_told_apart_from_another_process() {
        let held = one(DoorKind::Dns, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = held[0].address;
        drop(held);
        for (second, protocol) in [(DoorKind::Dot, Protocol::Tcp), (DoorKind::Doq, Protocol::Udp)] {
            let doors = [Door { kind: DoorKind::Dns, address }, Door { kind: second, address }];
            let error = bind(&doors, 1, Absent::Refuse).unwrap_err();
            assert!(matches!(error.cause, BindCause::Twice(DoorKind::Dns)), "{error}");
            assert_eq!(error.protocol, protocol);
        }
    }

    #[test]
    fn an_address_of_no_interface_is_named_as_such() {
        let error = one(DoorKind::Dns, "192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(matches!(error.cause, BindCause::NotHere), "{error}");
    }

    #[test]
    fn an_ipv6_default_is_skipped_only_where_there_is_no_ipv6() {
        let bound = bind(&[door(DoorKind::Dns, "[::1]:0")], 1, Absent::Skip).unwrap();
        assert_eq!(bound.len(), usize::from(has_ipv6()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn frg_04_no_path_mtu_is_learnt_and_nothing_is_fragmented() {
        use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu_discover};
        let bound = one(DoorKind::Dns, "127.0.0.1:0".parse().unwrap()).unwrap();
        for socket in &bound[0].udp {
            assert_eq!(ip_mtu_discover(socket).unwrap(), Ipv4PathMtuDiscovery::INTERFACE);
        }
    }

    /// As above; the system then refuses to send what would need fragments, and the reply goes out truncated (FRG-05).
    #[cfg(target_os = "linux")]
    #[test]
    fn frg_03_no_reply_over_ipv6_leaves_in_fragments() {
        use rustix::net::sockopt::{Ipv6PathMtuDiscovery, ipv6_mtu_discover};
        if !has_ipv6() {
            return;
        }
        let bound = one(DoorKind::Dns, "[::1]:0".parse().unwrap()).unwrap();
        for socket in &bound[0].udp {
            assert_eq!(ipv6_mtu_discover(socket).unwrap(), Ipv6PathMtuDiscovery::INTERFACE);
        }
    }
}
