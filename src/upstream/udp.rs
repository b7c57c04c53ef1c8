//! Plain DNS over UDP toward a server, hardened against forgery (RFC 5452).
//!
//! Every exchange has a socket of its own, bound to port 0 and connected: the kernel draws the source port at random from its
//! ephemeral range and passes up only datagrams from the server's address and port (SPF-01, SPF-04); the id comes from a CSPRNG
//! (SPF-03). What matches no question of ours is ignored (SPF-02), until there is too much of it to be an accident (SPF-06).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::ask::{Ask, Leg};
use super::delivery::{Window, is_truncated};
use super::error::Cause;
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

/// Asks `address`, and asks once more after a third of the window if `window.sends` allows.
///
/// The second datagram is the first one again, id and port included: two ids in flight would double a forger's chances.
///
/// # Errors
/// [`Cause::Timeout`], or [`Cause::Connect`] where the network says that nobody is there.
pub async fn ask(ask: &Ask, address: SocketAddr, window: Window) -> Result<Heard, Cause> {
    let socket = open(address).await.map_err(|_| Cause::Connect)?;
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

async fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
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
