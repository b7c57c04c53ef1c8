//! What the two processes send: lines of JSON, and descriptors in pieces of bounded number.

use std::io::{self, IoSlice, IoSliceMut, Read, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::HandoverError;
use crate::listen::Door;

/// What the new process says first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Of what is spoken here.
    pub version: u32,
}

/// What the running process says then; the descriptors follow: of each door TCP, then UDP; of each admin listener; the ferry's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Of what is spoken here.
    pub version: u32,
    /// Of the process that hands over.
    pub generation: u8,
    /// The doors.
    pub doors: Vec<DoorRow>,
    /// The admin listeners, as configured.
    pub admin: Vec<SocketAddr>,
}

/// One door.
#[derive(Debug, Serialize, Deserialize)]
pub struct DoorRow {
    /// As configured.
    pub door: Door,
    /// As bound.
    pub address: SocketAddr,
    /// How many listeners.
    pub tcp: usize,
    /// How many sockets.
    pub udp: usize,
}

/// The last words of each side.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The new process serves.
    Ready,
    /// The doors are its own.
    Yours,
}

/// Sends `value` as one line.
pub fn say(stream: &mut UnixStream, value: &impl Serialize) -> Result<(), HandoverError> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Reads one line. Octet by octet: descriptors belong to the octet after it.
pub fn hear<T: DeserializeOwned>(stream: &mut UnixStream) -> Result<T, HandoverError> {
    let mut line = Vec::new();
    while line.len() < LONGEST_LINE {
        let mut octet = [0];
        match stream.read(&mut octet)? {
            0 => break,
            _ if octet == *b"\n" => return serde_json::from_slice(&line).map_err(|_| HandoverError::Garbled),
            _ => line.extend(octet),
        }
    }
    if line.is_empty() {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    } else {
        Err(HandoverError::Garbled)
    }
}

/// Sends duplicates of `descriptors`.
pub fn give(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for piece in descriptors.chunks(PIECE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIECE))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(piece));
        sendmsg(stream.as_fd(), &[IoSlice::new(b"+")], &mut rights, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives this many descriptors.
pub fn take(stream: &UnixStream, count: usize) -> Result<Vec<OwnedFd>, HandoverError> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIECE))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut octet = [0];
        let heard = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut octet)], &mut rights, RecvFlags::CMSG_CLOEXEC)
            .map_err(io::Error::from)?;
        let before = taken.len();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                taken.extend(descriptors);
            }
        }
        if heard.bytes == 0 || taken.len() != count.min(before + PIECE) {
            return Err(HandoverError::Garbled);
        }
    }
    Ok(taken)
}

/// Descriptors sent at once; the system takes 253.
const PIECE: usize = 64;

/// Doors and listeners there may be, as text.
const LONGEST_LINE: usize = 1 << 20;
