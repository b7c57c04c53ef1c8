//! Datagrams one by one, with nothing but what every system offers.
//!
//! On a wildcard address the system chooses the source of a reply, which need not be the address that was asked (GEN-16): doors
//! should name their addresses where this path is in use.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::turn::Turn;
use super::{BATCH, DATAGRAM, Route, SEND_WAIT};

/// One socket and the memory for a datagram.
pub(super) struct Port {
    socket: UdpSocket,
    bound: SocketAddr,
    buffer: Vec<u8>,
}

impl Port {
    /// Takes over a bound, non-blocking socket.
    pub fn open(socket: std::net::UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        // One octet more than is taken, to see that there was more.
        Ok(Self { socket: UdpSocket::from_std(socket)?, bound, buffer: vec![0; DATAGRAM + 1] })
    }

    /// Waits for datagrams. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads up to a batch and hands it to `turn`; answers how many datagrams there were.
    pub fn receive(&mut self, turn: &mut Turn) -> io::Result<usize> {
        let arrival = turn.moment();
        for count in 0..BATCH {
            let (length, remote) = match self.socket.try_recv_from(&mut self.buffer) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || count > 0 => return Ok(count),
                Err(error) => return Err(error),
            };
            let route = Route { remote, local: self.bound, interface: 0 };
            match self.buffer.get(..length).filter(|octets| octets.len() <= DATAGRAM) {
                Some(octets) => turn.take(octets, route, arrival),
                None => turn.oversized(),
            }
        }
        Ok(BATCH)
    }

    /// Sends the replies of `turn` and clears it. One that cannot be sent holds up no other.
    pub async fn send(&mut self, turn: &mut Turn) {
        let mut next = 0;
        while let Some(reply) = turn.replies().get(next) {
            match self.socket.try_send_to(turn.octets(reply), reply.route.remote) {
                Ok(_) => next += 1,
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
}
