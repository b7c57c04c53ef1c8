//! Session tickets (RFC 8446 4.6.1, RFC 5077): the state of a session, sealed, kept by the client alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::ProducesTickets;

use super::Keys;

/// The doors that a ticket is made or shown at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// DoT and DoH over TCP.
    Stream,
    /// DoQ and DoH over HTTP/3.
    Quic,
}

impl Doors {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stream, Self::Quic];
}

/// What has become of tickets at one kind of door.
#[derive(Debug, Default)]
pub struct Count {
    made: AtomicU64,
    opened: AtomicU64,
    unknown: AtomicU64,
}

impl Count {
    /// Made, opened (their sessions were resumed), and shown but made with keys that are not, or no longer, known.
    #[must_use]
    pub fn values(&self) -> [u64; 3] {
        [&self.made, &self.opened, &self.unknown].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What has become of tickets.
#[derive(Debug, Default)]
pub struct Tally {
    stream: Count,
    quic: Count,
}

impl Tally {
    /// At these doors.
    #[must_use]
    pub const fn at(&self, doors: Doors) -> &Count {
        match doors {
            Doors::Stream => &self.stream,
            Doors::Quic => &self.quic,
        }
    }
}

/// Makes and opens the tickets of one kind of door.
#[derive(Clone, Debug)]
pub struct Tickets {
    keys: Arc<Keys>,
    doors: Doors,
}

impl Tickets {
    /// With `keys`, which may change at any time.
    #[must_use]
    pub const fn new(keys: Arc<Keys>, doors: Doors) -> Self {
        Self { keys, doors }
    }

    fn count(&self) -> &Count {
        self.keys.tally.at(self.doors)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.life().as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ticket = self.keys.seal_ticket(plain)?;
        self.count().made.fetch_add(1, Ordering::Relaxed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.keys.open_ticket(ticket);
        let count = if opened.is_some() { &self.count().opened } else { &self.count().unknown };
        count.fetch_add(1, Ordering::Relaxed);
        opened
    }
}
