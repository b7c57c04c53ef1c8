//! A hit allocates nothing: not in the pipeline, over no transport, and not in a whole turn of a worker that serves datagrams.
//!
//! The allocator counts for the whole process, so that no thread of a gateway gets away; who asks here allocates nothing either.
//! Other threads have errands of their own now and then: of several rounds the one with the fewest counts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what is wrong by failing")]

use std::alloc::System;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hushgate::cache::Reach;
use hushgate::config::{self, Source};
use hushgate::gateway::{Gateway, Running};
use hushgate::listen::DoorKind;
use hushgate::peer::Transport;
use hushgate::pipeline::{Dns64, Prefix};
use hushgate::upstream::SubnetRule;
use hushgate::wire::Subnet;
use hushgate::wire::registry::option;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[path = "../benches/rig/mod.rs"]
mod rig;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NAMES: u64 = 500;
const HITS: u64 = 500;
const ROUNDS: usize = 10;

/// `www.example` A.
const QUESTION: &[u8] = b"\x03www\x07example\0\0\x01\0\x01";

/// What clients tell of their subnet: 192.0.2.0/24, as an option has it.
const SUBNET: &[u8] = &[0, 1, 24, 0, 192, 0, 2];

/// The tests take turns: what one allocates is not to be counted against the other.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Allocations of the round that had the fewest.
fn fewest(mut round: impl FnMut()) -> usize {
    let mut counted = || {
        let made = || ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations;
        let before = made();
        round();
        made() - before
    };
    // The first round warms up what is set aside once.
    counted();
    (0..ROUNDS).map(|_| counted()).min().unwrap()
}

#[test]
fn what_is_counted_is_what_is_allocated() {
    let _turn = turn();
    let fewest = fewest(|| (0..7).for_each(|n| drop(std::hint::black_box(vec![n; 100]))));
    assert_eq!(fewest, 7);
}

#[test]
fn a_hit_allocates_nothing_over_any_transport() {
    let _turn = turn();
    let shared = rig::shared_by(64 << 20, SubnetRule::Strip, |settings| {
        settings.nsid = Some((*b"one.example").into());
        settings.pass = vec![65001];
        settings.dns64 = Some(Dns64 { prefix: Prefix::WELL_KNOWN, exclude: Vec::new() });
    });
    rig::fill(&shared, NAMES);
    let worker = rig::worker(&shared);
    let all: [Option<rig::Options<'_>>; 8] = [
        None,
        Some(&[]),
        Some(&[(option::COOKIE, b"8octets!")]),
        Some(&[(option::PADDING, &[])]),
        Some(&[(option::NSID, &[])]),
        Some(&[(option::KEEPALIVE, &[])]),
        Some(&[(option::ECS, SUBNET)]),
        Some(&[(65002, b"what?")]),
    ];
    for transport in Transport::ALL {
        for options in all {
            let mut client = rig::Client::new(worker.clone(), transport, options);
            let fewest = fewest(|| (0..HITS).for_each(|n| client.hit(n % NAMES)));
            assert_eq!(fewest, 0, "{transport:?}, {options:?}");
        }
    }
}

#[test]
fn a_hit_allocates_nothing_where_servers_are_told_of_clients() {
    let _turn = turn();
    let within = |length| Reach::Within(Subnet::read(SUBNET).unwrap().0.within(length));
    let rules = [SubnetRule::Forward, SubnetRule::Add { v4: 24, v6: 56 }];
    let reaches = [Reach::Everyone, within(24), within(16)];
    for (rule, reach) in rules.into_iter().flat_map(|rule| reaches.map(|reach| (rule, reach))) {
        let shared = rig::shared_by(64 << 20, rule, |_| ());
        rig::keep(&shared, QUESTION, Some(reach));
        let asking = rig::Asking::about(QUESTION, Some(&[(option::ECS, SUBNET)]));
        let mut client = rig::Client::asking(rig::worker(&shared), Transport::Udp, asking);
        let fewest = fewest(|| (0..HITS).for_each(|_| client.hit_again()));
        assert_eq!(fewest, 0, "{rule:?}, {reach:?}");
    }
}

#[test]
fn a_hit_of_a_name_that_ends_as_special_ones_do_allocates_nothing() {
    let _turn = turn();
    let question = b"\x011\x011\x011\x019\x07in-addr\x04arpa\0\0\x0c\0\x01";
    let shared = rig::shared(64 << 20);
    rig::keep(&shared, question, None);
    let asking = rig::Asking::about(question, Some(&[]));
    let mut client = rig::Client::asking(rig::worker(&shared), Transport::Udp, asking);
    assert_eq!(fewest(|| (0..HITS).for_each(|_| client.hit_again())), 0);
}

/// A server that gives every name an address.
fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let end = 12 + query[12..length].iter().position(|&octet| octet == 0).unwrap() + 5;
            let record = b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\xc0\0\x02\x01";
            let header = [query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            let answer = [&header, &query[12..end], record].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// A gateway with one worker and this door, with more configuration, and where it is asked over UDP.
fn gateway(state: &std::path::Path, door: &str, extra: &str) -> (Running, SocketAddr) {
    let file = state.join("hushgate.toml");
    let text = format!(
        "state_dir = {:?}\nworkers = 1\n[listen]\ndns = [{door}]\ndot = []\ndoh = []\ndoq = []\n\
         [admin]\nlisten = []\n[upstream]\nservers = [\"udp://{}\"]\nfallback = []\n{extra}",
        state.join("state").display().to_string(),
        upstream()
    );
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(&Source { file: Some(file), environment: None, sets: Vec::new() });
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems));
    let bound = Gateway::build(config).unwrap().bind().unwrap();
    let (_, door) = bound.doors().into_iter().find(|(kind, _)| *kind == DoorKind::Dns).unwrap();
    (bound.serve().unwrap(), door)
}

/// Allocations of the whole process while a gateway answers hits over UDP, each question behind `header`.
fn while_served(door: &str, extra: &str, header: &[u8]) -> usize {
    let state = tempfile::tempdir().unwrap();
    let (running, door) = gateway(state.path(), door, extra);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(door).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut asking = rig::Asking::new(Some(&[(option::COOKIE, b"8octets!")]));
    let mut answer = [0; 1500];
    let mut sent = header.to_vec();
    sent.reserve(1500);
    let mut ask = |n| {
        sent.truncate(header.len());
        sent.extend(asking.of(n));
        socket.send(&sent).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!((answer[3] & 15, answer[7]), (0, 1), "NOERROR and an address");
        assert!(length > 60);
    };
    let warm = 20;
    (0..warm).for_each(&mut ask);
    let fewest = fewest(|| (0..HITS).for_each(|n| ask(n % warm)));
    running.stop();
    fewest
}

/// Limits that count who asks, and do not come into play.
const LIMITS: &str = "[limits]\nexempt = []\nqueries_per_second = 1000000\n";

/// A client that is known by its network.
const CLIENT: &str = "[[client]]\nname = \"kitchen\"\nnetworks = [\"198.51.100.0/24\"]\n";

#[test]
fn a_worker_that_serves_hits_over_udp_allocates_nothing() {
    let _turn = turn();
    for extra in [String::new(), LIMITS.to_owned(), format!("{LIMITS}{CLIENT}")] {
        assert_eq!(while_served("\"127.0.0.1:0\"", &extra, b""), 0, "in {HITS} hits with {extra:?}");
    }
}

#[test]
fn a_worker_behind_a_proxy_that_serves_hits_over_udp_to_known_clients_allocates_nothing() {
    let _turn = turn();
    let door = "{ address = \"127.0.0.1:0\", proxy = [\"127.0.0.1/32\"] }";
    let extra = format!("{LIMITS}{CLIENT}[access]\nidentified_only = true\n");
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\0\x35";
    assert_eq!(while_served(door, &extra, header), 0, "in {HITS} hits");
}
