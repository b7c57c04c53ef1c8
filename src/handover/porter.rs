//! The running process's side: hands the doors to whoever asks and may, and hears when they are served.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::unistd::geteuid;
use rustix::net::sockopt::socket_peercred;

use super::ferry::{Ferry, Side, link};
use super::messages::{DoorRow, Manifest, Request, Word, give, hear, say};
use super::{HandoverError, PATIENCE, PREPARATION, VERSION, socket};
use crate::admin;
use crate::listen::bind::Inherited;

/// What there is to hand over.
#[derive(Debug)]
pub struct Offer {
    /// Of this process.
    pub generation: u8,
    /// Duplicates of the doors' sockets.
    pub doors: Vec<Inherited>,
    /// And of the admin listeners.
    pub admin: Arc<[admin::Inherited]>,
}

/// The socket at which the doors are asked for, for as long as this lives.
#[derive(Debug)]
pub struct Porter(UnixListener);

impl Porter {
    /// Listens in `state_dir`, in the place of whoever did so before. `offer` says what there is each time somebody asks, and `done` is
    /// told which process serves it now: once, and then nobody is listened to any more.
    ///
    /// # Errors
    /// The socket cannot be made, or there is no thread.
    pub fn start(
        state_dir: &Path,
        ferry: Arc<Ferry>,
        offer: impl Fn() -> io::Result<Offer> + Send + 'static,
        done: impl FnOnce(u32) + Send + 'static,
    ) -> Result<Self, HandoverError> {
        let path = socket(state_dir);
        let listening = || {
            let listener = admin::private_socket(&path)?;
            listener.set_nonblocking(false)?;
            let ear = listener.try_clone()?;
            thread::Builder::new().name("handover".into()).spawn(move || listen(&ear, &ferry, &offer, done))?;
            Ok(Self(listener))
        };
        listening().map_err(|source| HandoverError::Socket { path: path.clone(), source })
    }
}

impl Drop for Porter {
    fn drop(&mut self) {
        // Ends the wait for the next who asks.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

fn listen(ear: &UnixListener, ferry: &Arc<Ferry>, offer: &dyn Fn() -> io::Result<Offer>, done: impl FnOnce(u32)) {
    while let Ok((stream, _)) = ear.accept() {
        match hand_over(stream, ferry, offer) {
            Ok(process) => return done(process),
            Err(error) => {
                ferry.cut(Side::After);
                tracing::warn!(%error, "the doors were not handed over; they are served on");
            }
        }
    }
}

/// Hands over to whoever is at the other end of `stream`; the number of that process, once it serves.
fn hand_over(
    mut stream: UnixStream,
    ferry: &Arc<Ferry>,
    offer: &dyn Fn() -> io::Result<Offer>,
) -> Result<u32, HandoverError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let peer = socket_peercred(&stream).map_err(io::Error::from)?;
    let uid = peer.uid.as_raw();
    if uid != geteuid().as_raw() && uid != 0 {
        let _ = stream.shutdown(Shutdown::Both);
        return Err(HandoverError::Stranger { uid });
    }
    let Request { version } = hear(&mut stream)?;
    let Offer { generation, doors, admin } = offer()?;
    let row =
        |door: &Inherited| DoorRow { door: door.door, address: door.address, tcp: door.tcp.len(), udp: door.udp.len() };
    let manifest = Manifest {
        version: VERSION,
        generation,
        doors: doors.iter().map(row).collect(),
        admin: admin.iter().map(|admin| admin.configured).collect(),
    };
    // Also to one of another version, which says then which it has met.
    let said = say(&mut stream, &manifest);
    if version != VERSION {
        return Err(HandoverError::Version { theirs: version });
    }
    said?;
    let (ours, theirs) = link()?;
    // Before the new process reads: its connections are no dead process's.
    ferry.open(Side::After, ours)?;
    let sockets = doors.iter().flat_map(|door| {
        let tcp = door.tcp.iter().map(|listener| listener.as_fd());
        tcp.chain(door.udp.iter().map(|socket| socket.as_fd()))
    });
    let listeners = admin.iter().map(|admin| admin.listener.as_fd());
    let descriptors: Vec<BorrowedFd<'_>> = sockets.chain(listeners).chain([theirs.as_fd()]).collect();
    give(&stream, &descriptors)?;
    drop((doors, theirs));
    stream.set_read_timeout(Some(PREPARATION))?;
    match hear(&mut stream)? {
        Word::Ready => {}
        Word::Yours => return Err(HandoverError::Garbled),
    }
    // It serves whether it hears this or not.
    let _ = say(&mut stream, &Word::Yours);
    Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
}
