//! The cache as a stream of octets, for a snapshot that survives a restart. Pure: no file and no clock is opened here.
//!
//! Magic, version, time of writing, the names of the servers that the answers are from; then the answers, each behind its length;
//! then a length of zero, how many there were, and a checksum over all before it. Integers are little-endian. A stream is believed
//! whole or not at all: who reads it reads it to its end before an answer of it is used.
//!
//! The checksum finds damage, not malice: who can write to the state directory can answer as he likes anyway. So it is of the kind that
//! the tables here are hashed with.

mod record;
#[cfg(test)]
mod tests;

use std::hash::Hasher as _;
use std::io::{self, Read, Write};
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::Entry;
use crate::clock::Moment;
pub use record::Record;

/// What a snapshot begins with.
const MAGIC: [u8; 8] = *b"hushgate";

/// The version of what follows. Another one is refused: an answer is quickly asked for anew. Raise it when a key, a record or their
/// meaning changes.
const VERSION: u16 = 2;

/// The longest name of a server that is written down; longer ones are cut.
const LONGEST_NAME: usize = 512;

/// Octets of answers that may wait to be written: what one step of a walk shows, with room to spare, so that nothing grows under its
/// lock.
const BLOCK: usize = 256 << 10;

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It begins as no snapshot does.
    #[error("it is no snapshot of a cache")]
    Foreign,
    /// It is of another version than the one that is written.
    #[error("it is of version {0}, and this program reads version {VERSION}")]
    Version(u16),
    /// It ends before its end.
    #[error("it is not whole")]
    Truncated,
    /// It has been changed since it was written.
    #[error("it is damaged")]
    Damaged,
    /// It is younger than now, so that nobody knows how old its answers are.
    #[error("it was written {} s later than the clock says it is now", .0.as_secs())]
    Future(Duration),
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Answers.
    pub entries: u64,
    /// Octets.
    pub octets: u64,
}

/// Writes a snapshot.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    sum: SipHasher13,
    block: Vec<u8>,
    written: Written,
}

impl<W: Write> Writer<W> {
    /// Begins one at `wall` since 1970 that knows servers by these names, in the order of their ids.
    ///
    /// # Errors
    /// As `sink` has them; so do all that follow.
    pub fn begin<'a>(sink: W, wall: Duration, names: impl IntoIterator<Item = &'a str>) -> io::Result<Self> {
        let block = Vec::with_capacity(BLOCK);
        let mut writer = Self { sink, sum: SipHasher13::new(), block, written: Written::default() };
        writer.block.extend_from_slice(&MAGIC);
        writer.block.extend_from_slice(&VERSION.to_le_bytes());
        writer.block.extend_from_slice(&u64::try_from(wall.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
        let names: Vec<&str> = names.into_iter().take(u16::MAX.into()).collect();
        let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        writer.block.extend_from_slice(&number(names.len()));
        for name in names {
            let name = name.get(..name.floor_char_boundary(LONGEST_NAME)).unwrap_or_default();
            writer.block.extend_from_slice(&number(name.len()));
            writer.block.extend_from_slice(name.as_bytes());
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Takes `entry` in as it is at `now`, the moment of the beginning: copies it and writes nothing, for it may be under a lock.
    pub fn take(&mut self, entry: &Entry<'_>, now: Moment) {
        let start = self.block.len();
        self.block.extend_from_slice(&[0; 4]);
        record::encode(entry, now, &mut self.block);
        let length = u32::try_from(self.block.len() - start - 4).unwrap_or(0);
        if let Some(place) = self.block.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
            *place = length.to_le_bytes();
        }
        self.written.entries += 1;
    }

    /// Writes what has been taken in.
    ///
    /// # Errors
    /// The sink's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sum.write(&self.block);
        self.sink.write_all(&self.block)?;
        self.written.octets += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self) -> io::Result<Written> {
        self.block.extend_from_slice(&[0; 4]);
        self.block.extend_from_slice(&self.written.entries.to_le_bytes());
        self.flush()?;
        let sum = self.sum.finish128().as_bytes();
        self.sink.write_all(&sum)?;
        self.sink.flush()?;
        self.written.octets += sum.len() as u64;
        Ok(self.written)
    }
}

/// Reads a snapshot.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    sum: SipHasher13,
    wall: Duration,
    names: Vec<String>,
    octets: Vec<u8>,
    ttls: Vec<u8>,
    entries: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of one from `source`, which should be buffered.
    ///
    /// # Errors
    /// It is none that this program can read.
    pub fn open(source: R) -> Result<Self, Refused> {
        let (octets, ttls, names) = (Vec::new(), Vec::new(), Vec::new());
        let (sum, wall) = (SipHasher13::new(), Duration::ZERO);
        let mut reader = Self { source, sum, wall, names, octets, ttls, entries: 0 };
        if reader.array()? != MAGIC {
            return Err(Refused::Foreign);
        }
        let version = u16::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        reader.wall = Duration::from_millis(u64::from_le_bytes(reader.array()?));
        for _ in 0..u16::from_le_bytes(reader.array()?) {
            let length = u16::from_le_bytes(reader.array()?).into();
            if length > LONGEST_NAME {
                return Err(Refused::Damaged);
            }
            reader.fill(length)?;
            let name = std::str::from_utf8(&reader.octets).map_err(|_| Refused::Damaged)?;
            reader.names.push(name.into());
        }
        Ok(reader)
    }

    /// The names of the servers, by their ids when it was written.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How long ago it was written, where it is `wall` since 1970 now.
    ///
    /// # Errors
    /// [`Refused::Future`].
    pub fn age(&self, wall: Duration) -> Result<Duration, Refused> {
        wall.checked_sub(self.wall).ok_or_else(|| Refused::Future(self.wall.saturating_sub(wall)))
    }

    /// The next answer, `None` at the end: then all that was read is what was written.
    ///
    /// # Errors
    /// It cannot be read, or is not as it was written.
    pub fn read_next(&mut self) -> Result<Option<Record<'_>>, Refused> {
        let length = usize::try_from(u32::from_le_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length == 0 {
            return self.close().map(|()| None);
        }
        if length > record::LONGEST_RECORD {
            return Err(Refused::Damaged);
        }
        self.fill(length)?;
        self.entries += 1;
        record::decode(&self.octets, &mut self.ttls).map(Some).ok_or(Refused::Damaged)
    }

    fn close(&mut self) -> Result<(), Refused> {
        let entries = u64::from_le_bytes(self.array()?);
        let sum = self.sum.finish128().as_bytes();
        let as_written = entries == self.entries && self.array::<16>()? == sum;
        let at_end = self.source.read(&mut [0])? == 0;
        if as_written && at_end { Ok(()) } else { Err(Refused::Damaged) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let mut octets = [0; N];
        self.source.read_exact(&mut octets).map_err(short)?;
        self.sum.write(&octets);
        Ok(octets)
    }

    fn fill(&mut self, length: usize) -> Result<(), Refused> {
        self.octets.resize(length, 0);
        self.source.read_exact(&mut self.octets).map_err(short)?;
        self.sum.write(&self.octets);
        Ok(())
    }
}

fn short(error: io::Error) -> Refused {
    if error.kind() == io::ErrorKind::UnexpectedEof { Refused::Truncated } else { Refused::Unreadable(error) }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (octets, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*octets)
}
