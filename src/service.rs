//! What a service manager is told: ready, reloading, stopping, alive (`sd_notify(3)`). Without one, nothing.
//!
//! Alive means that every worker's loop goes round: each counts its own beats, and the control thread passes the word on only while all
//! of them count. A worker that is stuck thus has the manager start the gateway anew. The protocol is a few words in a datagram; the
//! libraries for it take no abstract socket, which container managers use.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::telemetry::Counters;

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The doors are served, at first or after a reload.
    Ready,
    /// Another configuration is about to be taken over, or refused: [`Notice::Ready`] follows.
    Reloading,
    /// Questions in flight are answered, and no others.
    Stopping,
    /// Every worker goes round.
    Alive,
    /// Another process serves the doors: this one.
    Replaced(u32),
}

impl Notice {
    fn text(self) -> String {
        match self {
            Self::Ready => "READY=1\nSTATUS=serving\n".to_owned(),
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading\n", monotonic_micros()),
            Self::Stopping => "STOPPING=1\nSTATUS=stopping: questions in flight are answered\n".to_owned(),
            Self::Alive => "WATCHDOG=1\n".to_owned(),
            Self::Replaced(process) => format!("MAINPID={process}\nREADY=1\nSTATUS=serving\n"),
        }
    }
}

/// The time by which the manager tells a notice of this reload from one of the last.
fn monotonic_micros() -> u128 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_micros())
}

/// Tells the service manager, if there is one. That it cannot be told is logged and changes nothing else.
pub fn tell(notice: Notice) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, notice) {
        tracing::warn!(%error, ?notice, "the service manager could not be told");
    }
}

/// Sends to a path, or to an abstract name where it begins with `@`.
fn send(socket: &OsStr, notice: Notice) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // Whoever does not read must not hold us up.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(notice.text().as_bytes(), &address).map(|_| ())
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Time within which the manager wants a sign of life; `None` where it wants none of this process.
fn patience() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours =
        std::env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|&micros| micros > 0 && is_ours).map(Duration::from_micros)
}

/// Counts a worker's beats for as long as it runs, if somebody wants to know.
pub async fn beat(counters: Arc<Counters>) {
    let Some(patience) = patience() else { return };
    loop {
        counters.beats.add_one();
        // Four in the time that the manager allows, two between any two looks.
        tokio::time::sleep(patience / 4).await;
    }
}

/// Tells the manager that the first `workers` of `counters` are alive, as long as all of them are, if it wants to know.
pub async fn watch(counters: Vec<Arc<Counters>>, workers: usize) {
    let Some(patience) = patience() else { return };
    watch_every(patience / 2, &counters, workers, || tell(Notice::Alive)).await;
}

async fn watch_every(interval: Duration, counters: &[Arc<Counters>], workers: usize, alive: impl Fn()) {
    let mut seen: Vec<u64> = Vec::new();
    let mut was_alive = true;
    loop {
        let beats: Vec<u64> = counters.iter().take(workers).map(|counters| counters.beats.value()).collect();
        let stuck = beats.iter().zip(&seen).position(|(now, before)| now == before);
        match stuck {
            None => alive(),
            Some(worker) if was_alive => {
                tracing::error!(worker, "this worker does not go round: the watchdog is told nothing");
            }
            Some(_) => {}
        }
        was_alive = stuck.is_none();
        seen = beats;
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::linux::net::SocketAddrExt as _;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn notices_go_to_a_path_and_to_an_abstract_name() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let name = format!("hushgate-test-{}", std::process::id());
        let abstract_socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let sockets =
            [(UnixDatagram::bind(&path).unwrap(), path.into_os_string()), (abstract_socket, format!("@{name}").into())];
        for (socket, address) in sockets {
            send(&address, Notice::Ready).unwrap();
            assert_eq!(received(&socket), "READY=1\nSTATUS=serving\n");
        }
        send(OsStr::new("/nowhere/at/all"), Notice::Ready).unwrap_err();
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let number = |text: String| -> u128 {
            let line = text.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
            assert!(text.starts_with("RELOADING=1\n"), "{text}");
            line.parse().unwrap()
        };
        let first = number(Notice::Reloading.text());
        assert!(first > 0 && number(Notice::Reloading.text()) >= first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_nothing_while_one_worker_is_stuck() {
        let counters: Vec<Arc<Counters>> = (0..3).map(|_| Arc::default()).collect();
        let interval = Duration::from_secs(2);
        let told = Cell::new(0);
        let watching = watch_every(interval, &counters, 2, || told.set(told.get() + 1));
        let living = async {
            // Half a turn late, so that the order of two equal times does not matter.
            tokio::time::sleep(interval / 2).await;
            assert_eq!(told.get(), 1, "at once");
            for (beating, wanted) in [(vec![0, 1], 2), (vec![0], 2), (vec![1], 2), (vec![], 2), (vec![0, 1], 3)] {
                for worker in &beating {
                    counters[*worker].beats.add_one();
                }
                tokio::time::sleep(interval).await;
                assert_eq!(told.get(), wanted, "{beating:?}");
            }
        };
        tokio::select! {
            () = watching => unreachable!("it goes on"),
            () = living => {}
        }
    }
}
