//! Datagrams in batches: recvmmsg and sendmmsg, and where a datagram was sent to on wildcard sockets (`IP_PKTINFO`).
//!
//! The header arrays hold pointers into themselves and so are not `Send`: a [`Port`] stays on its worker.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, RawFd};

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::turn::{Outgoing, Turn};
use super::{BATCH, DATAGRAM, Route, SEND_WAIT};

/// One socket and the memory for its batches.
pub(super) struct Port {
    socket: UdpSocket,
    bound: SocketAddr,
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    buffers: Vec<[u8; DATAGRAM]>,
    arrivals: [Arrival; BATCH],
}

/// What is known of a datagram beside its octets.
#[derive(Clone, Copy, Default)]
struct Arrival {
    length: usize,
    cut: bool,
    remote: Option<SocketAddr>,
    local: Option<(IpAddr, u32)>,
}

impl Port {
    /// Takes over a bound, non-blocking socket.
    pub fn open(socket: std::net::UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            bound,
            incoming: headers(bound),
            outgoing: headers(bound),
            buffers: vec![[0; DATAGRAM]; BATCH],
            arrivals: [Arrival::default(); BATCH],
        })
    }

    /// Waits for datagrams. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads one batch and hands it to `turn`; answers how many datagrams there were.
    pub fn receive(&mut self, turn: &mut Turn) -> io::Result<usize> {
        let Self { socket, incoming, buffers, arrivals, .. } = self;
        let read = socket.try_io(Interest::READABLE, || Ok(collect(socket.as_raw_fd(), incoming, buffers, arrivals)?));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let arrival = turn.moment();
        let wildcard = self.bound.ip().is_unspecified();
        let mut lost = false;
        for (octets, datagram) in self.buffers.iter().zip(&self.arrivals).take(count) {
            let Some(remote) = datagram.remote else { continue };
            lost |= wildcard && datagram.local.is_none();
            match octets.get(..datagram.length).filter(|_| !datagram.cut) {
                Some(octets) => turn.take(octets, route(remote, datagram.local, self.bound), arrival),
                None => turn.oversized(),
            }
        }
        if lost {
            // A header that came back without its control message has no room for the next one.
            self.incoming = headers(self.bound);
        }
        Ok(count)
    }

    /// Sends the replies of `turn` and clears it. Those that leave from one address go together; one that cannot be sent holds up
    /// no other.
    pub async fn send(&mut self, turn: &mut Turn) {
        if self.bound.ip().is_unspecified() {
            turn.group();
        }
        let mut next = 0;
        while next < turn.replies().len() {
            match self.push(turn, next) {
                Ok(sent) => next += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if tokio::time::timeout(SEND_WAIT, self.socket.writable()).await.is_err() {
                        turn.unsent(turn.replies().len() - next);
                        break;
                    }
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) && turn.shorten(next) => {}
                Err(_) => {
                    turn.unsent(1);
                    next += 1;
                }
            }
        }
        turn.clear();
    }

    /// Sends what one system call can from the reply at `next` on.
    fn push(&mut self, turn: &Turn, next: usize) -> io::Result<usize> {
        let replies = turn.replies().get(next..).unwrap_or_default();
        let Some(first) = replies.first() else { return Ok(0) };
        let same = |reply: &&Outgoing| source(reply) == source(first);
        let count = replies.iter().take(BATCH).take_while(same).count();
        let empty: &[u8] = &[];
        let octets: [[IoSlice<'_>; 1]; BATCH] =
            array::from_fn(|i| [IoSlice::new(replies.get(i).map_or(empty, |reply| turn.octets(reply)))]);
        let addresses: [Option<SockaddrStorage>; BATCH] =
            array::from_fn(|i| replies.get(i).filter(|_| i < count).map(|reply| reply.route.remote.into()));
        let (v4, v6) = pktinfo(source(first));
        let control = match self.bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Some(ControlMessage::Ipv4PacketInfo(&v4)),
            IpAddr::V6(ip) if ip.is_unspecified() => Some(ControlMessage::Ipv6PacketInfo(&v6)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        let Self { socket, outgoing, .. } = self;
        socket.try_io(Interest::WRITABLE, || {
            let slices = octets.iter().take(count);
            let sent = sendmmsg(
                socket.as_raw_fd(),
                outgoing,
                slices,
                addresses.as_slice(),
                control.as_slice(),
                MsgFlags::MSG_DONTWAIT,
            )?;
            Ok(sent.count())
        })
    }
}

/// Header arrays for a batch, with room for a control message where each datagram has one.
fn headers(bound: SocketAddr) -> MultiHeaders<SockaddrStorage> {
    let control = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(cmsg_space!(in_pktinfo)),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(cmsg_space!(in6_pktinfo)),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    MultiHeaders::preallocate(BATCH, control)
}

fn collect(
    fd: RawFd,
    headers: &mut MultiHeaders<SockaddrStorage>,
    buffers: &mut [[u8; DATAGRAM]],
    arrivals: &mut [Arrival],
) -> nix::Result<usize> {
    let mut free = buffers.iter_mut();
    let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
        array::from_fn(|_| [IoSliceMut::new(free.next().map_or(&mut [], |buffer| buffer.as_mut_slice()))]);
    let read = recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    let mut count = 0;
    for (datagram, arrival) in read.zip(arrivals) {
        *arrival = Arrival {
            length: datagram.bytes,
            cut: datagram.flags.contains(MsgFlags::MSG_TRUNC),
            remote: datagram.address.as_ref().and_then(socket_address),
            local: destination(&datagram),
        };
        count += 1;
    }
    Ok(count)
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}

/// The address a datagram was sent to, fit to answer from, and its interface.
fn destination(datagram: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<(IpAddr, u32)> {
    datagram.cmsgs().ok()?.find_map(|control| match control {
        // The kernel has put an address of the interface here where the destination was a broadcast.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some((Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr)).into(), 0))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface =
                if address.is_unicast_link_local() || address.is_multicast() { info.ipi6_ifindex } else { 0 };
            let own = if address.is_multicast() { Ipv6Addr::UNSPECIFIED } else { address };
            Some((own.into(), interface))
        }
        _ => None,
    })
}

fn route(remote: SocketAddr, local: Option<(IpAddr, u32)>, bound: SocketAddr) -> Route {
    let (ip, interface) = local.unwrap_or((bound.ip(), 0));
    Route { remote, local: SocketAddr::new(ip, bound.port()), interface }
}

const fn source(reply: &Outgoing) -> (IpAddr, u32) {
    (reply.route.local.ip(), reply.route.interface)
}

/// The control message that makes a datagram leave from `source`; an unspecified one lets the kernel choose.
fn pktinfo((address, interface): (IpAddr, u32)) -> (in_pktinfo, in6_pktinfo) {
    let (v4, v6) = match address {
        IpAddr::V4(v4) => (v4, Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(v6) => (Ipv4Addr::UNSPECIFIED, v6),
    };
    let none = in_addr { s_addr: 0 };
    let local = in_addr { s_addr: v4.to_bits().to_be() };
    (
        in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: local, ipi_addr: none },
        in6_pktinfo { ipi6_addr: in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: interface },
    )
}
