//! `[limits]` and `workers`: how much the gateway takes on, and how long it waits for a client.

use std::time::Duration;

use super::doors::Doors;
use super::kinds::{self, What};
use super::node::Node;
use super::{Reader, Surroundings};
use crate::listen::Retry;
use crate::{guard, listen};

/// What `"auto"` connections never exceed.
const MOST_CONNECTIONS: u64 = 20_000;
/// What `"auto"` connections are at least, however little memory there is.
const FEWEST_CONNECTIONS: usize = 64;
/// Octets that an idle connection of the dearest kind, HTTP/3, may take.
const CONNECTION: usize = 52 << 10;
/// The words for proof of address.
const RETRY: &[(&str, Retry)] = &[("never", Retry::Never), ("when-busy", Retry::WhenBusy), ("always", Retry::Always)];
/// Files kept for what is no client's connection: upstreams, listeners, certificates, the log. Half where files are few.
const SPARE_FILES: u64 = 1536;
/// A worker's number is one octet of its QUIC connection ids.
const MOST_WORKERS: u32 = 256;

/// Reads the deadlines.
pub fn read_deadlines(reader: &mut Reader<'_>) -> listen::Limits {
    let second = Duration::from_secs(1);
    let idle = second..=Duration::from_hours(1);
    let handshake = Duration::from_millis(100)..=Duration::from_mins(1);
    let streams = reader.read("limits.streams_per_connection", kinds::whole(1..=10_000));
    listen::Limits {
        streams_per_connection: usize::try_from(streams).unwrap_or(usize::MAX),
        handshake_timeout: reader.read("limits.handshake_timeout", kinds::duration(handshake)),
        tcp_idle_timeout: reader.read("limits.tcp_idle_timeout", kinds::duration(idle.clone())),
        idle_timeout: reader.read("limits.idle_timeout", kinds::duration(idle)),
        retry: reader.read("limits.retry", kinds::choice(RETRY)),
    }
}

/// Reads how many questions about one domain may wait for upstreams.
pub fn read_outstanding(reader: &mut Reader<'_>) -> u16 {
    let most = reader.read("limits.outstanding_per_domain", kinds::whole(0..=10_000));
    u16::try_from(most).unwrap_or(u16::MAX)
}

/// Reads the limits; `doors` knows who may ask at each, and `left` is what memory there is for connections.
pub fn read_guard(reader: &mut Reader<'_>, doors: &Doors, left: Option<usize>) -> guard::Settings {
    let per_second = |reader: &mut Reader<'_>, key| reader.read(key, kinds::whole(0..=1_000_000));
    guard::Settings {
        allow: doors.allow.clone(),
        refuse: doors.refuse,
        connections: connections(reader, left),
        connections_per_client: reader.read("limits.connections_per_client", kinds::whole(1..=1_000_000)),
        queries_per_second: reader.read("limits.queries_per_second", kinds::whole(0..=1_000_000_000)),
        waiting_per_client: reader.read("limits.waiting_per_client", kinds::whole(0..=1_000_000)),
        connections_per_second: per_second(reader, "limits.connections_per_second"),
        handshakes_per_second: per_second(reader, "limits.handshakes_per_second"),
        resets_per_second: per_second(reader, "limits.resets_per_second"),
        errors_per_second: per_second(reader, "limits.errors_per_second"),
        octets_per_client: octets_per_client(reader),
        exempt: reader.read_list("limits.exempt", kinds::network),
        trust: doors.trust.clone(),
        // Read when the doors and names are known.
        clients: None,
    }
}

/// Reads how many workers there are.
pub fn read_workers(reader: &mut Reader<'_>) -> usize {
    let cores = reader.around.cores.clamp(1, MOST_WORKERS as usize);
    let chosen = reader.read("workers", |node| auto_or(node, 1..=MOST_WORKERS));
    chosen.map_or(cores, |count| usize::try_from(count).unwrap_or(cores))
}

/// Connections that the open-file limit leaves room for.
#[must_use]
pub fn room(around: &Surroundings) -> usize {
    usize::try_from(around.open_files - spare(around)).unwrap_or(usize::MAX)
}

fn spare(around: &Surroundings) -> u64 {
    SPARE_FILES.min(around.open_files / 2)
}

/// Sockets for questions to upstreams over UDP: two thirds of the files that are no client's.
#[must_use]
pub fn sockets(around: &Surroundings) -> usize {
    usize::try_from(spare(around) * 2 / 3).unwrap_or(usize::MAX)
}

/// 0 is no limit. Less than the longest message and an answer to it would be too little for one question.
fn octets_per_client(reader: &mut Reader<'_>) -> usize {
    match reader.read("limits.bytes_per_client", kinds::size((256 << 10)..=(1 << 40))) {
        0 => usize::MAX,
        octets => octets,
    }
}

fn connections(reader: &mut Reader<'_>, left: Option<usize>) -> usize {
    let room = room(reader.around);
    let fitting = left.map(|octets| (octets / CONNECTION).max(FEWEST_CONNECTIONS));
    let key = "limits.connections";
    let Some(chosen) = reader.read(key, |node| auto_or(node, 1..=10_000_000)) else {
        let most = usize::try_from(MOST_CONNECTIONS).unwrap_or(usize::MAX);
        return room.min(most).min(fitting.unwrap_or(most));
    };
    let chosen = usize::try_from(chosen).unwrap_or(usize::MAX);
    if let Some((node, fitting)) = reader.values.get(key).zip(fitting.filter(|&fitting| chosen > fitting)) {
        let what = format!("{chosen} idle connections may take more than limits.memory leaves: {fitting} fit");
        reader.findings.warning(key, node.origin, what);
    }
    if let Some(node) = reader.values.get(key).filter(|_| chosen > room) {
        let limit = reader.around.open_files;
        let what =
            format!("{chosen} is more than the {room} that the open-file limit ({limit}) leaves: raise LimitNOFILE");
        reader.findings.warning(key, node.origin, what);
    }
    chosen
}

/// `"auto"` is None.
fn auto_or(node: &Node, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, What> {
    if node.text() == Some("auto") {
        return Ok(None);
    }
    kinds::whole(range)(node).map(Some).map_err(|what| format!("{what}, or \"auto\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_open_files_leave_half_of_them_to_clients() {
        let with = |open_files| room(&Surroundings { open_files, ..Surroundings::default() });
        assert_eq!(with(100), 50);
        assert_eq!(with(1024), 512);
        assert_eq!(with(65_536), 64_000);
        assert_eq!(with(0), 0);
        assert!(with(u64::MAX) > 1_000_000);
    }

    #[test]
    fn questions_over_udp_leave_files_for_the_rest_of_the_gateway() {
        for (open_files, size) in [(0, 0), (100, 33), (1024, 341), (4096, 1024), (u64::MAX, 1024)] {
            assert_eq!(sockets(&Surroundings { open_files, ..Surroundings::default() }), size);
        }
    }
}
