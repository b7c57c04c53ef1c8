//! Room for UDP sockets: a question over UDP has one of its own (SPF-04), and open files are few.
//!
//! All servers of a gateway share the room that `config/capacity` keeps free for them, and none may take more than half of it: a
//! silent one would hold it all. Who finds it full waits a little, since most sockets are back within a round trip.

use std::io;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::error::Cause;

/// The room of one gateway.
#[derive(Debug)]
pub struct Sockets {
    free: Semaphore,
    size: usize,
}

/// What one server may take of it.
#[derive(Debug)]
pub struct Share {
    all: Arc<Sockets>,
    own: Semaphore,
    /// Questions at the server, those that wait for a socket among them.
    flights: Semaphore,
}

/// Leave to hold one socket, until dropped.
#[derive(Debug)]
pub struct Leave<'a> {
    _flight: SemaphorePermit<'a>,
    _own: SemaphorePermit<'a>,
    _all: SemaphorePermit<'a>,
}

/// Questions at one server at once, waiting ones included; more are [`Cause::Busy`].
const FLIGHTS: usize = 2048;

/// The part of an attempt's time that may be spent waiting for a socket: one in so many.
const WAITING_PART: u32 = 4;

impl Sockets {
    /// Room for `size` sockets, at least two.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.clamp(2, Semaphore::MAX_PERMITS);
        Self { free: Semaphore::new(size), size }
    }
}

impl Share {
    /// The share of one server in `all`.
    #[must_use]
    pub fn new(all: &Arc<Sockets>) -> Self {
        let (own, flights) = (Semaphore::new(all.size / 2), Semaphore::new(FLIGHTS));
        Self { all: Arc::clone(all), own, flights }
    }

    /// Waits for room, for a part of the time until `until`.
    ///
    /// # Errors
    /// [`Cause::Busy`] where there is none by then.
    pub async fn enter(&self, until: Instant) -> Result<Leave<'_>, Cause> {
        let flight = self.flights.try_acquire().map_err(|_| Cause::Busy)?;
        let now = Instant::now();
        let patience = now + until.saturating_duration_since(now) / WAITING_PART;
        let room = async { Some((self.own.acquire().await.ok()?, self.all.free.acquire().await.ok()?)) };
        let (own, all) = timeout_at(patience, room).await.ok().flatten().ok_or(Cause::Busy)?;
        Ok(Leave { _flight: flight, _own: own, _all: all })
    }
}

/// Why a socket could not be had: the want of files, memory or ports is ours, anything else means that no way leads to the server.
#[must_use]
pub fn fault(error: &io::Error) -> Cause {
    /// ENFILE and EMFILE, the same on every Unix.
    const NO_FILE: [i32; 2] = [23, 24];
    let ours = matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::AddrInUse | io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy
    );
    let files = error.raw_os_error().is_some_and(|number| NO_FILE.contains(&number));
    if ours || files { Cause::Busy } else { Cause::Connect }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_server_takes_half_of_the_room_and_a_little_waiting_is_allowed() {
        let all = Arc::new(Sockets::new(4));
        let (silent, lively) = (Share::new(&all), Share::new(&all));
        let start = Instant::now();
        let until = start + Duration::from_secs(4);
        let held = [silent.enter(until).await.unwrap(), silent.enter(until).await.unwrap()];
        assert_eq!(silent.enter(until).await.unwrap_err(), Cause::Busy);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let others = [lively.enter(until).await.unwrap(), lively.enter(until).await.unwrap()];
        let third = Share::new(&all);
        assert_eq!(third.enter(Instant::now()).await.unwrap_err(), Cause::Busy);
        let (waiting, ()) = tokio::join!(third.enter(until), async { drop(others) });
        assert!(waiting.is_ok());
        drop(held);
        assert!(silent.enter(until).await.is_ok());
    }

    #[test]
    fn the_want_of_files_is_ours_and_a_missing_way_is_not() {
        for number in [23, 24, nix::libc::ENOMEM, nix::libc::EADDRINUSE] {
            assert_eq!(fault(&io::Error::from_raw_os_error(number)), Cause::Busy, "{number}");
        }
        for number in [nix::libc::ENETUNREACH, nix::libc::EADDRNOTAVAIL, nix::libc::EAFNOSUPPORT, nix::libc::EACCES] {
            assert_eq!(fault(&io::Error::from_raw_os_error(number)), Cause::Connect, "{number}");
        }
    }
}
