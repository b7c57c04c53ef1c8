//! The socket of one worker as quinn sees it: datagrams for others are taken out, those that others received are put in.
//!
//! What the kernel could not steer comes to its worker here. Datagrams are sent by the worker's own socket in any case: all
//! sockets of a door have the same address.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::mailboxes::{Datagram, Lost, Other, Row};
use crate::telemetry::Counters;

/// A socket that keeps to its worker's datagrams.
pub struct Sorting {
    socket: Arc<dyn AsyncUdpSocket>,
    row: Arc<Row>,
    index: u8,
    counters: Arc<Counters>,
}

impl Sorting {
    /// `socket` as that of the worker with this index.
    #[must_use]
    pub fn new(socket: Arc<dyn AsyncUdpSocket>, row: Arc<Row>, index: u8, counters: Arc<Counters>) -> Self {
        Self { socket, row, index, counters }
    }

    /// Takes what is another's out of a buffer with one or more datagrams of one sender: all are `stride` long, but for the last.
    fn sort(&self, octets: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let (mut at, mut kept) = (0, 0);
        while at < meta.len {
            let end = at.saturating_add(stride).min(meta.len);
            let Some(datagram) = octets.get(at..end) else { break };
            if let Some(other) = self.row.other(datagram, self.index) {
                self.hand_over(other, datagram, meta);
            } else {
                if kept != at {
                    octets.copy_within(at..end, kept);
                }
                kept += end - at;
            }
            at = end;
        }
        meta.len = kept;
    }

    fn hand_over(&self, other: Other, octets: &[u8], meta: &RecvMeta) {
        let datagram =
            Datagram { source: meta.addr, local: meta.dst_ip, ecn: meta.ecn, octets: Bytes::copy_from_slice(octets) };
        let handed = match other {
            Other::Worker(index) => self.row.put(index, datagram),
            Other::Process(owner) => self.row.pass_on(owner, datagram),
        };
        let counter = match (handed, other) {
            (Ok(()), Other::Worker(_)) => &self.counters.quic_handed_over,
            (Ok(()), Other::Process(_)) => &self.counters.quic_passed_on,
            (Err(Lost::Full | Lost::Nobody), _) => &self.counters.quic_lost,
        };
        counter.add_one();
    }
}

impl AsyncUdpSocket for Sorting {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mailbox = self.row.mailbox(self.index);
        let handed = mailbox.map_or(0, |mailbox| mailbox.take(cx.waker(), buffers, metas));
        let (Some(buffers @ [_, ..]), Some(metas)) = (buffers.get_mut(handed..), metas.get_mut(handed..)) else {
            return Poll::Ready(Ok(handed));
        };
        if self.row.is_handed_over() {
            return if handed > 0 { Poll::Ready(Ok(handed)) } else { Poll::Pending };
        }
        match self.socket.poll_recv(cx, buffers, metas) {
            Poll::Ready(Ok(received)) => {
                for (octets, meta) in buffers.iter_mut().zip(metas).take(received) {
                    self.sort(octets, meta);
                }
                Poll::Ready(Ok(handed + received))
            }
            Poll::Pending if handed > 0 => Poll::Ready(Ok(handed)),
            other => other,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments().min(SEGMENTS)
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Sorting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sorting").field("index", &self.index).field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Datagrams that one connection sends at once. Each connection keeps room for so many from its handshake on; the server's part of
/// that, and the answers of one turn, are seldom more.
const SEGMENTS: usize = 4;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use quinn::Runtime as _;

    use super::super::mailboxes::Mailboxes;
    use super::super::rig::ownership;
    use super::*;

    #[tokio::test]
    async fn what_came_in_one_piece_is_taken_apart_only_where_owners_differ() {
        let row = Mailboxes::new(ownership()).row(([127, 0, 0, 1], 853).into(), 2);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = quinn::TokioRuntime.wrap_udp_socket(socket).unwrap();
        let counters = Arc::<Counters>::default();
        let sorting = Sorting::new(socket, Arc::clone(&row), 0, Arc::clone(&counters));
        let packet = |index, length: usize| {
            let mut packet = [&[0x40][..], &ownership().key.id(ownership().worker(index), rand::random())].concat();
            packet.resize(length, index);
            packet
        };
        let received = [packet(0, 50), packet(1, 50), packet(0, 50), packet(1, 50), packet(0, 30)];
        let mut octets = received.concat();
        let mut meta = RecvMeta { len: octets.len(), stride: 50, ..RecvMeta::default() };
        sorting.sort(&mut octets, &mut meta);
        let own = [&received[0][..], &received[2], &received[4]].concat();
        assert_eq!((&octets[..meta.len], meta.stride), (&own[..], 50));
        assert_eq!((counters.quic_handed_over.value(), counters.quic_lost.value()), (2, 0));

        let mut buffers = [[0; 64]; 3];
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut metas = [RecvMeta::default(); 3];
        let taken = row.mailbox(1).unwrap().take(Waker::noop(), &mut slices, &mut metas);
        assert_eq!((taken, metas[0].len, metas[0].stride), (2, 50, 50));
        assert_eq!((&buffers[0][..50], &buffers[1][..50]), (&received[1][..], &received[3][..]));
        // Nothing at all is as well received.
        let mut meta = RecvMeta { len: 0, stride: 0, ..RecvMeta::default() };
        sorting.sort(&mut [], &mut meta);
        assert_eq!(meta.len, 0);
    }
}
