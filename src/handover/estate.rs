//! The new process's side: asks for the doors, and says when it serves them.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::messages::{DoorRow, Manifest, Request, Word, hear, say, take};
use super::{HandoverError, PATIENCE, VERSION, socket};
use crate::admin;
use crate::listen::bind::Inherited;

/// What a running process hands over.
#[derive(Debug)]
pub struct Estate {
    /// Of the process that hands over.
    pub generation: u8,
    /// Its doors.
    pub doors: Vec<Inherited>,
    /// Its admin listeners.
    pub admin: Vec<admin::Inherited>,
    /// How datagrams of its connections reach it, and those of the new process's this one.
    pub ferry: UnixStream,
    /// Where it waits to hear that they are served.
    pub voice: Voice,
}

/// Says that the doors are served. Dropped without a word, it leaves them where they were.
#[derive(Debug)]
pub struct Voice(UnixStream);

impl Voice {
    /// The doors are served here. From the answer on, the other process takes in nothing more.
    ///
    /// # Errors
    /// The other process is gone or silent: both may be serving.
    pub fn ready(mut self) -> Result<(), HandoverError> {
        say(&mut self.0, &Word::Ready)?;
        match hear(&mut self.0)? {
            Word::Yours => Ok(()),
            Word::Ready => Err(HandoverError::Garbled),
        }
    }
}

/// Asks the process that runs with this `state_dir` for its doors.
///
/// # Errors
/// [`HandoverError`].
pub fn claim(state_dir: &Path) -> Result<Estate, HandoverError> {
    let path = socket(state_dir);
    let mut stream = UnixStream::connect(&path).map_err(|source| HandoverError::Nobody { path, source })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    say(&mut stream, &Request { version: VERSION })?;
    let answer: serde_json::Value = hear(&mut stream)?;
    match answer.get("version").and_then(serde_json::Value::as_u64).and_then(|version| u32::try_from(version).ok()) {
        Some(VERSION) => {}
        Some(theirs) => return Err(HandoverError::Version { theirs }),
        None => return Err(HandoverError::Garbled),
    }
    let Manifest { generation, doors, admin, .. } =
        serde_json::from_value(answer).map_err(|_| HandoverError::Garbled)?;
    let count = doors.iter().fold(admin.len() + 1, |count, row| count.saturating_add(row.tcp).saturating_add(row.udp));
    if count > MOST {
        return Err(HandoverError::Garbled);
    }
    let mut descriptors = take(&stream, count)?.into_iter();
    let doors = doors.into_iter().map(|row| inherited(&row, &mut descriptors)).collect();
    let admin = admin.into_iter().zip(&mut descriptors);
    let admin = admin.map(|(configured, listener)| listener_at(configured, listener)).collect();
    let ferry = descriptors.next().ok_or(HandoverError::Garbled)?.into();
    Ok(Estate { generation, doors, admin, ferry, voice: Voice(stream) })
}

fn inherited(row: &DoorRow, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Inherited {
    let DoorRow { door, address, tcp, udp } = *row;
    let tcp = descriptors.take(tcp).map(TcpListener::from).collect();
    Inherited { door, address, tcp, udp: descriptors.take(udp).map(UdpSocket::from).collect() }
}

fn listener_at(configured: SocketAddr, listener: OwnedFd) -> admin::Inherited {
    admin::Inherited { configured, listener: listener.into() }
}

/// Descriptors of one hand-over: all that a process may have.
const MOST: usize = 1 << 16;
