//! Plain DNS over UDP: the loop of one worker's socket.
//!
//! A turn reads at most two batches, answers what memory can answer into one buffer, sends the answers together and lets others
//! run. What must wait becomes a task, and its answer goes out with a later turn. The cached path allocates nothing once the
//! buffers have grown.
//!
//! How datagrams are read and sent is the system's: `linux` by recvmmsg and sendmmsg, `portable` one by one.

use std::net::SocketAddr;

use crate::listen::Context;
use crate::peer::DoorId;

mod turn;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
mod portable;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use linux::Port;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
use portable::Port;
use turn::Turn;

/// The way back of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    /// The client.
    remote: SocketAddr,
    /// The address it sent to, which the reply comes from (GEN-16).
    local: SocketAddr,
    /// The interface to leave by, where the address alone does not say it (IPv6 link-local); 0 elsewhere.
    interface: u32,
}

/// Serves one socket until the gateway drains and every question that waits has been answered.
///
/// Its future is not `Send`: run it with `spawn_local` on the worker's runtime. No error of the network ends it.
pub async fn serve(socket: std::net::UdpSocket, door: DoorId, context: Context) {
    match Port::open(socket) {
        Ok(port) => run(port, Turn::new(door, context)).await,
        Err(error) => tracing::error!(door = door.0, %error, "a UDP socket cannot be served"),
    }
}

async fn run(mut port: Port, mut turn: Turn) {
    let mut unyielded = 0;
    while turn.is_open() {
        tokio::select! {
            biased;
            ready = port.readable(), if turn.is_reading() => if let Err(error) = ready {
                pause(&error).await;
            },
            () = turn.waited() => {}
        }
        for _ in 0..BATCHES {
            let read = if turn.is_reading() { port.receive(&mut turn) } else { Ok(0) };
            port.send(&mut turn).await;
            match read {
                Ok(count) => unyielded += count,
                Err(ref error) => pause(error).await,
            }
            if !matches!(read, Ok(BATCH)) {
                break;
            }
        }
        // As many answers leave as questions come, else a flood of new ones would keep them here.
        for _ in 0..BATCHES {
            turn.gather();
            let full = turn.replies().len() == BATCH;
            port.send(&mut turn).await;
            if !full {
                break;
            }
        }
        if unyielded >= BATCHES * BATCH {
            unyielded = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Errors of reading belong to one datagram (ICMP) or to a shortage: neither ends the loop, and neither may spin it.
async fn pause(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    if !matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | Interrupted)
    {
        tracing::debug!(%error, "reading datagrams");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Datagrams read or sent by one system call.
const BATCH: usize = 32;

/// Batches of one turn.
const BATCHES: usize = 2;

/// Octets of a query that are looked at; one more than any query has reason to be is no query.
const DATAGRAM: usize = 4096;

/// The wait after a read that failed for want of something.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// The longest a full send buffer is waited for; the local network empties it, or is down.
const SEND_WAIT: std::time::Duration = std::time::Duration::from_millis(200);

#[cfg(test)]
mod tests;
