//! Where datagrams wait that came to one worker and are for another: one bounded queue a worker, for each UDP address.
//!
//! A worker's socket (`sorting`) fills the queues of others and empties its own. What is for another process, which had this port
//! before or has taken it over, goes to whoever has said that it passes such datagrams on.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use quinn::udp::{EcnCodepoint, RecvMeta};
use tokio::sync::mpsc;

use super::WorkerId;
use super::ids::destination;
use super::ownership::Ownership;

/// A datagram on its way to its worker.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// The address it was sent to, where the system told.
    pub local: Option<IpAddr>,
    /// What routers said of congestion.
    pub ecn: Option<EcnCodepoint>,
    /// What is in it.
    pub octets: Bytes,
}

/// A datagram for another process.
#[derive(Debug)]
pub struct Stray {
    /// The address of the door it came to.
    pub door: SocketAddr,
    /// Whose it is.
    pub owner: WorkerId,
    /// What came.
    pub datagram: Datagram,
}

/// Why a datagram has not found its worker: it is lost, as datagrams may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The queue is full.
    #[error("too many datagrams wait for this worker")]
    Full,
    /// It is for no worker that there is.
    #[error("no worker has this connection id")]
    Nobody,
}

/// Whoever passes datagrams on to other processes.
type Elsewhere = ArcSwapOption<mpsc::Sender<Stray>>;

/// The queues of all doors of a process.
#[derive(Debug)]
pub struct Mailboxes {
    ownership: Ownership,
    /// By the address of the door; a row lives as long as somebody serves it.
    rows: Mutex<BTreeMap<SocketAddr, Weak<Row>>>,
    elsewhere: Arc<Elsewhere>,
    handed_over: Arc<AtomicBool>,
}

impl Mailboxes {
    /// Those of a process that owns this.
    #[must_use]
    pub fn new(ownership: Ownership) -> Self {
        Self { ownership, rows: Mutex::default(), elsewhere: Arc::default(), handed_over: Arc::default() }
    }

    /// What the process owns.
    #[must_use]
    pub const fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The queues of the door at `door`, one for each of `workers`.
    #[must_use]
    pub fn row(&self, door: SocketAddr, workers: usize) -> Arc<Row> {
        let row = Arc::new(Row {
            door,
            ownership: self.ownership,
            boxes: (0..workers).map(|_| Mailbox::default()).collect(),
            elsewhere: Arc::clone(&self.elsewhere),
            handed_over: Arc::clone(&self.handed_over),
        });
        let mut rows = self.rows();
        rows.retain(|_, row| row.strong_count() > 0);
        rows.insert(door, Arc::downgrade(&row));
        row
    }

    /// From now on, datagrams for other processes are sent to `passer`, and what has no room there is lost.
    ///
    /// While nobody passes them on, the other processes are taken for dead, and their clients are told so by resets: of two
    /// processes that share a port, both call this before the second one reads.
    pub fn pass_on_to(&self, passer: Option<mpsc::Sender<Stray>>) {
        self.elsewhere.store(passer.map(Arc::new));
    }

    /// From now on another process reads all sockets: workers get what that one passes on to them, and nothing else.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::SeqCst);
        for row in self.rows().values().filter_map(Weak::upgrade) {
            row.boxes.iter().for_each(Mailbox::wake);
        }
    }

    /// Takes in a datagram that another process received at `door`.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn take_in(&self, door: SocketAddr, datagram: Datagram) -> Result<(), Lost> {
        let row = self.rows().get(&door).and_then(Weak::upgrade).ok_or(Lost::Nobody)?;
        let id = destination(&datagram.octets).ok_or(Lost::Nobody)?;
        let owner = row.ownership.key.owner(id).ok_or(Lost::Nobody)?;
        if owner.generation != row.ownership.generation {
            return Err(Lost::Nobody);
        }
        row.put(owner.index, datagram)
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Weak<Row>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queues of one door.
#[derive(Debug)]
pub struct Row {
    door: SocketAddr,
    ownership: Ownership,
    boxes: Box<[Mailbox]>,
    elsewhere: Arc<Elsewhere>,
    handed_over: Arc<AtomicBool>,
}

/// Whose a datagram is that is not for the worker that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// Another worker's of this process.
    Worker(u8),
    /// Another process's that lives.
    Process(WorkerId),
}

impl Row {
    /// What the process owns.
    #[must_use]
    pub const fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Whose `datagram` is; `None` if it is for the worker with this index, or for nobody in particular.
    pub(super) fn other(&self, datagram: &[u8], index: u8) -> Option<Other> {
        let id = destination(datagram)?;
        if self.ownership.key.may_be(id, self.ownership.worker(index)) {
            return None;
        }
        let owner = self.ownership.key.owner(id)?;
        if owner.generation != self.ownership.generation && !self.stands_alone() {
            return Some(Other::Process(owner));
        }
        // A reset of a dead process's connection can come only from the worker that has its dead worker's keys.
        Some(owner.index).filter(|&owner| owner != index && self.has(owner)).map(Other::Worker)
    }

    /// Is no other process known that shares this port?
    pub(super) fn stands_alone(&self) -> bool {
        self.elsewhere.load().is_none()
    }

    /// Does another process read the sockets?
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::SeqCst)
    }

    pub(super) fn mailbox(&self, index: u8) -> Option<&Mailbox> {
        self.boxes.get(usize::from(index))
    }

    /// Hands `datagram` to the worker with this index.
    pub(super) fn put(&self, index: u8, datagram: Datagram) -> Result<(), Lost> {
        self.mailbox(index).ok_or(Lost::Nobody)?.put(datagram)
    }

    /// Hands `datagram` to whoever passes it on to the process of `owner`.
    pub(super) fn pass_on(&self, owner: WorkerId, datagram: Datagram) -> Result<(), Lost> {
        let elsewhere = self.elsewhere.load();
        let passer = elsewhere.as_ref().ok_or(Lost::Nobody)?;
        passer.try_send(Stray { door: self.door, owner, datagram }).map_err(|_| Lost::Full)
    }

    fn has(&self, index: u8) -> bool {
        usize::from(index) < self.boxes.len()
    }
}

/// What waits for one worker at one door.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// At most [`MOST`].
    waiting: VecDeque<Datagram>,
    /// Of the task that reads the worker's socket.
    waker: Option<Waker>,
}

impl Mailbox {
    fn put(&self, datagram: Datagram) -> Result<(), Lost> {
        let mut held = self.held();
        if held.waiting.len() >= MOST {
            return Err(Lost::Full);
        }
        held.waiting.push_back(datagram);
        let waker = held.waker.take();
        drop(held);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        let waker = self.held().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Copies what waits into `buffers`, at most [`TURN`] datagrams, and has `waker` woken when more comes. How many there were.
    pub(super) fn take(&self, waker: &Waker, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut held = self.held();
        if !held.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            held.waker = Some(waker.clone());
        }
        let mut taken = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas).take(TURN) {
            let Some(Datagram { source, local, ecn, octets }) = held.waiting.pop_front() else { break };
            taken += 1;
            *meta = RecvMeta { addr: source, len: 0, stride: octets.len(), ecn, dst_ip: local };
            // One that another process received may be larger than any that is read here.
            if let Some(place) = buffer.get_mut(..octets.len()) {
                place.copy_from_slice(&octets);
                meta.len = octets.len();
            }
        }
        taken
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Datagrams that may wait for one worker at one door.
const MOST: usize = 256;

/// Datagrams of others that are taken before the worker's own get their turn.
const TURN: usize = 8;
