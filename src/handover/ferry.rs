//! Carries QUIC datagrams between processes that share the doors: each to the process whose connection it is for.
//!
//! A process knows at most two others, the one before it and the one after it, each by a socket of whole messages. What is for an
//! older generation goes back, what is for a newer one forward, so that a chain of hand-overs works like one.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use quinn::udp::EcnCodepoint;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::listen::quic::WorkerId;
use crate::listen::quic::mailboxes::{Datagram, Mailboxes, Stray};

/// Which other process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// That had the doors before.
    Before,
    /// That has taken them over.
    After,
}

/// The ferry of a process.
#[derive(Debug)]
pub struct Ferry {
    mailboxes: Arc<Mailboxes>,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    before: Option<Arc<UnixStream>>,
    after: Option<Arc<UnixStream>>,
}

impl Links {
    const fn of(&mut self, side: Side) -> &mut Option<Arc<UnixStream>> {
        match side {
            Side::Before => &mut self.before,
            Side::After => &mut self.after,
        }
    }

    const fn is_alone(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

/// Both ends of a link.
///
/// # Errors
/// Where the system gives none.
pub fn link() -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((one.into(), other.into()))
}

impl Ferry {
    /// Of a process that knows no other.
    #[must_use]
    pub fn new(mailboxes: Arc<Mailboxes>) -> Arc<Self> {
        Arc::new(Self { mailboxes, links: Mutex::default() })
    }

    /// Carries over `link` to and from the process on this side, until it ends.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn open(self: &Arc<Self>, side: Side, link: UnixStream) -> io::Result<()> {
        link.set_write_timeout(Some(PATIENCE))?;
        let (reading, link) = (link.try_clone()?, Arc::new(link));
        let mut links = self.links();
        let was_alone = links.is_alone();
        *links.of(side) = Some(Arc::clone(&link));
        if was_alone {
            let (passer, strays) = mpsc::channel(MOST_WAITING);
            let ferry = Arc::clone(self);
            thread::Builder::new().name("ferry".into()).spawn(move || ferry.send_all(strays))?;
            self.mailboxes.pass_on_to(Some(passer));
        }
        drop(links);
        let ferry = Arc::clone(self);
        thread::Builder::new().name("ferry".into()).spawn(move || {
            ferry.receive_all(reading);
            ferry.close(side, &link);
        })?;
        Ok(())
    }

    /// Gives up the link on this side.
    pub fn cut(&self, side: Side) {
        if let Some(link) = self.links().of(side) {
            // Its reader hears that, and forgets the link.
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    fn close(&self, side: Side, link: &Arc<UnixStream>) {
        let mut links = self.links();
        if links.of(side).as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
            *links.of(side) = None;
        }
        if links.is_alone() {
            self.mailboxes.pass_on_to(None);
        }
    }

    fn send_all(&self, mut strays: mpsc::Receiver<Stray>) {
        while let Some(stray) = strays.blocking_recv() {
            self.forward(&stray);
        }
    }

    fn receive_all(&self, mut link: UnixStream) {
        let mut buffer = vec![0; LONGEST];
        loop {
            match link.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some(stray) = buffer.get(..length).and_then(unpack) {
                        self.deliver(stray);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn deliver(&self, stray: Stray) {
        if stray.owner.generation == self.generation() {
            // A connection that has ended meanwhile, or a worker that is behind: lost, as datagrams may be.
            let _ = self.mailboxes.take_in(stray.door, stray.datagram);
        } else {
            self.forward(&stray);
        }
    }

    fn forward(&self, stray: &Stray) {
        let age = self.generation().wrapping_sub(stray.owner.generation);
        let side = if age < u8::MAX / 2 { Side::Before } else { Side::After };
        let Some(link) = self.links().of(side).clone() else { return };
        if let Some(packed) = pack(stray) {
            // Nobody waits for one that does not read.
            let _ = (&*link).write(&packed);
        }
    }

    fn generation(&self) -> u8 {
        self.mailboxes.ownership().generation
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes before the datagram, behind its length.
#[derive(Serialize, Deserialize)]
struct Label {
    door: SocketAddr,
    index: u8,
    generation: u8,
    source: SocketAddr,
    local: Option<IpAddr>,
    ecn: Option<u8>,
}

fn pack(stray: &Stray) -> Option<Vec<u8>> {
    let Stray { door, owner, datagram } = stray;
    let label = serde_json::to_vec(&Label {
        door: *door,
        index: owner.index,
        generation: owner.generation,
        source: datagram.source,
        local: datagram.local,
        ecn: datagram.ecn.map(|ecn| ecn as u8),
    });
    let label = label.ok()?;
    let length = u16::try_from(label.len()).ok()?.to_be_bytes();
    Some([&length[..], &label, &datagram.octets].concat())
}

fn unpack(packed: &[u8]) -> Option<Stray> {
    let (length, rest) = packed.split_first_chunk()?;
    let (label, octets) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let Label { door, index, generation, source, local, ecn } = serde_json::from_slice(label).ok()?;
    let ecn = ecn.and_then(EcnCodepoint::from_bits);
    let datagram = Datagram { source, local, ecn, octets: Bytes::copy_from_slice(octets) };
    Some(Stray { door, owner: WorkerId { index, generation }, datagram })
}

/// Datagrams that may wait to be carried.
const MOST_WAITING: usize = 1024;

/// A datagram and its label.
const LONGEST: usize = (64 << 10) + 1024;

/// How long a full link is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::quic::ownership::{Ownership, SECRET};

    /// Three processes in a row, and what each of them has been asked to take in by its own worker.
    #[test]
    fn a_datagram_finds_the_process_of_its_connection_two_hand_overs_back() {
        let datagram = Datagram {
            source: ([192, 0, 2, 1], 4000).into(),
            local: Some([192, 0, 2, 53].into()),
            ecn: EcnCodepoint::from_bits(2),
            octets: Bytes::from_static(b"datagram"),
        };
        let owner = WorkerId { index: 1, generation: 255 };
        let stray = Stray { door: ([192, 0, 2, 53], 853).into(), owner, datagram };
        let of = |generation| Ferry::new(Arc::new(Mailboxes::new(Ownership::new(&[7; SECRET], generation))));
        // The numbers go round.
        let [middle, last] = [of(0), of(1)];
        let (to_first, first) = link().unwrap();
        let (to_middle, from_last) = link().unwrap();
        middle.open(Side::Before, to_first).unwrap();
        middle.open(Side::After, from_last).unwrap();
        last.open(Side::Before, to_middle).unwrap();
        last.forward(&stray);
        let mut buffer = [0; 1024];
        let length = (&first).read(&mut buffer).unwrap();
        let carried = unpack(&buffer[..length]).unwrap();
        assert_eq!(format!("{carried:?}"), format!("{stray:?}"));
        assert_eq!(unpack(&buffer[..20]).map(|_| ()), None);
    }
}
