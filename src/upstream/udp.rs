//! Plain DNS over UDP toward a server, hardened against forgery (RFC 5452).
//!
//! Every exchange has a socket of its own, bound to port 0 and connected: the kernel draws the source port at random from its
//! ephemeral range and passes up only datagrams from the server's address and port (SPF-01, SPF-04); the id comes from a CSPRNG
//! (SPF-03). What matches no question of ours is ignored (SPF-02), until there is too much of it to be an accident (SPF-06).

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::ask::{Ask, Leg};
use super::delivery::{Window, is_truncated};
use super::error::Cause;
use super::origin::Origin;
use crate::wire::MAX_MESSAGE;

/// What came of asking over UDP.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The answer.
    Answer(Bytes),
    /// A matching answer with TC: its content means nothing (TCF-01).
    Truncated,
    /// So many mismatches that somebody is guessing: UDP is not to be trusted with this question.
    Besieged,
}

/// Mismatched datagrams after which UDP is given up for a question.
const MISMATCHES: u32 = 10;

/// Asks `address` from `origin`, and asks once more after a third of the window if `window.sends` allows.
///
/// The second datagram is the first one again, id and port included: two ids in flight would double a forger's chances.
///
/// # Errors
/// [`Cause::Timeout`], or [`Cause::Connect`] where the network says that nobody is there.
pub async fn ask(ask: &Ask, address: SocketAddr, origin: Origin, window: Window) -> Result<Heard, Cause> {
    let socket = open(address, origin).await.map_err(|_| Cause::Connect)?;
    let id = rand::random();
    let mut query = BytesMut::with_capacity(512);
    ask.compose(Leg { id, ..Leg::default() }, &mut query);
    let start = Instant::now();
    let third = window.until.saturating_duration_since(start) / 3;
    let mut siege = Siege { ask, id, mismatches: 0, buffer: Vec::with_capacity(MAX_MESSAGE) };
    for sent in 1..=window.sends.min(2) {
        socket.send(&query).await.map_err(|_| Cause::Connect)?;
        let wait = if sent == window.sends.min(2) { window.until } else { start + third };
        if let Ok(heard) = timeout_at(wait, siege.listen(&socket)).await {
            return heard;
        }
    }
    Err(Cause::Timeout)
}

async fn open(address: SocketAddr, origin: Origin) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(origin.local(address)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

struct Siege<'a> {
    ask: &'a Ask,
    id: u16,
    mismatches: u32,
    buffer: Vec<u8>,
}

impl Siege<'_> {
    /// Waits for the answer. Cancel-safe: what was counted stays counted.
    async fn listen(&mut self, socket: &UdpSocket) -> Result<Heard, Cause> {
        loop {
            self.buffer.clear();
            socket.recv_buf(&mut self.buffer).await.map_err(|_| Cause::Connect)?;
            if self.ask.check(&self.buffer, self.id).is_ok() {
                let truncated = is_truncated(&self.buffer);
                return Ok(if truncated {
                    Heard::Truncated
                } else {
                    Heard::Answer(Bytes::copy_from_slice(&self.buffer))
                });
            }
            self.mismatches += 1;
            if self.mismatches >= MISMATCHES {
                return Ok(Heard::Besieged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::testing::{ask as question, datagrams, reply, reply_as, window};
    use super::*;
    use crate::wire::{Flags, u16_at};

    const LONG: u64 = 10_000;

    #[tokio::test]
    async fn spf_01_02_wrong_id_source_and_question_are_ignored_and_the_good_answer_taken() {
        let (server, address) = datagrams().await;
        let (forger, _) = datagrams().await;
        let asking =
            tokio::spawn(
                async move { ask(&question("good.example"), address, Origin::default(), window(LONG, 1)).await },
            );
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let query = &buffer[..length];
        let id = u16_at(query, 0).unwrap();
        forger.send_to(&reply(query, Flags::AA), client).await.unwrap();
        server.send_to(&reply_as(id.wrapping_add(1), query), client).await.unwrap();
        let mut other = BytesMut::new();
        question("evil.example").compose(Leg { id, ..Leg::default() }, &mut other);
        server.send_to(&reply(&other, 0), client).await.unwrap();
        server.send_to(query, client).await.unwrap();
        let good = reply(query, 0);
        server.send_to(&good, client).await.unwrap();
        let Heard::Answer(answer) = asking.await.unwrap().unwrap() else { panic!("no answer") };
        assert_eq!(answer, good);
    }

    #[tokio::test]
    async fn spf_06_ten_mismatches_end_trust_in_udp_and_tcf_03_a_forged_tc_is_one_of_them() {
        let (server, address) = datagrams().await;
        let asking =
            tokio::spawn(async move { ask(&question("a.example"), address, Origin::default(), window(LONG, 1)).await });
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let query = &buffer[..length];
        let mut forged = reply(query, Flags::TC);
        forged[0] ^= 0xff;
        for _ in 0..10 {
            server.send_to(&forged, client).await.unwrap();
        }
        assert!(matches!(asking.await.unwrap(), Ok(Heard::Besieged)));
    }

    #[tokio::test]
    async fn neg_15_a_lost_datagram_is_sent_once_more_from_the_same_port_with_the_same_id() {
        let (server, address) = datagrams().await;
        let asking =
            tokio::spawn(async move { ask(&question("a.example"), address, Origin::default(), window(300, 2)).await });
        let (mut first, mut second) = ([0; 512], [0; 512]);
        let one = server.recv_from(&mut first).await.unwrap();
        let two = server.recv_from(&mut second).await.unwrap();
        assert_eq!((one, first), (two, second));
        assert_eq!(asking.await.unwrap().unwrap_err(), Cause::Timeout);
        assert!(server.try_recv_from(&mut first).is_err(), "a third datagram");
    }

    #[tokio::test]
    async fn spf_03_04_ids_and_source_ports_differ_from_question_to_question() {
        let (server, address) = datagrams().await;
        let (mut ids, mut ports) = (HashSet::new(), HashSet::new());
        for _ in 0..64 {
            let asking =
                tokio::spawn(
                    async move { ask(&question("a.example"), address, Origin::default(), window(LONG, 1)).await },
                );
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            ids.insert(u16_at(&buffer, 0).unwrap());
            ports.insert(client.port());
            server.send_to(&reply(&buffer[..length], 0), client).await.unwrap();
            assert!(matches!(asking.await.unwrap(), Ok(Heard::Answer(_))));
        }
        assert!(ids.len() > 55 && ports.len() > 55, "{} ids, {} ports", ids.len(), ports.len());
    }

    #[tokio::test]
    async fn prg_07_an_answer_far_over_the_announced_size_is_used() {
        let (server, address) = datagrams().await;
        let asking =
            tokio::spawn(async move { ask(&question("a.example"), address, Origin::default(), window(LONG, 1)).await });
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let mut large = reply(&buffer[..length], 0);
        large.resize(5000, 0);
        server.send_to(&large, client).await.unwrap();
        let Heard::Answer(answer) = asking.await.unwrap().unwrap() else { panic!("no answer") };
        assert_eq!(answer.len(), 5000);
    }
}
