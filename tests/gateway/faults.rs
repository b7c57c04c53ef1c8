//! Servers that fail in every way their transport knows, as clients see it: beside a good server nobody notices, alone it is a
//! SERVFAIL in time that says why, once mended they answer, and nothing of it stays behind in the gateway.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hushgate::peer::Transport;

use crate::harness::raw::{has_run_alone, resident};
use crate::harness::servers::{Authority, Fault, Leg, Server};
use crate::harness::{Ask, Rig, message};

/// Datagrams and a door that is encrypted.
const DOORS: [Transport; 2] = [Transport::Udp, Transport::Dot];

/// Time for servers that say nothing useful: short, as a test waits for all of it.
const BRIEF: &str = "timeout = \"900ms\"\nattempt_timeout = \"500ms\"";
/// Time for servers that fail at once: long, so that a slow machine is no fault.
const AMPLE: &str = "timeout = \"20s\"\nattempt_timeout = \"15s\"";

/// How a question that came in at `door` is put to a server of this kind: one from a stream never in a datagram (PRG-06).
fn way(leg: Leg, door: Transport) -> Leg {
    if leg == Leg::Udp && door != Transport::Udp { Leg::Tcp } else { leg }
}

/// Is there nothing to be done but to wait?
fn is_mute(way: Leg, fault: Fault) -> bool {
    match fault {
        Fault::Silent | Fault::Drip => true,
        // Datagrams that are not the answer may be anybody's: the answer may still come (PRG-07).
        Fault::WrongQuestion | Fault::Garbage => way == Leg::Udp,
        // Another id is that of another question where many share a connection.
        Fault::WrongId => matches!(way, Leg::Udp | Leg::Tcp | Leg::Tls),
        _ => false,
    }
}

/// Every fault of every transport.
async fn matrix(authority: &Authority, legs: &[Leg]) -> Vec<Server> {
    let mut servers = Vec::new();
    for &leg in legs {
        for fault in leg.faults() {
            servers.push(Server::broken(leg, fault, authority).await);
        }
    }
    servers
}

/// A gateway with a pool for each server: `alone<place>.example` is asked there, `beside<place>.example` there and at `good`.
async fn before(servers: &[Server], good: &Server, authority: &Authority) -> Rig {
    let mut toml = String::new();
    for (place, server) in servers.iter().enumerate() {
        let mute = server.fault.is_some_and(|fault| is_mute(server.leg, fault));
        // Beside a good one an attempt is as long for it as for the one that fails, and may be waited out there only.
        let (time, attempt) = if mute { (BRIEF, "2s") } else { (AMPLE, "6s") };
        let alone = format!("[{}]\n{time}", server.entry());
        let servers = [server.entry(), good.entry()].join(", ");
        let beside = format!("[{servers}]\ntimeout = \"18s\"\nattempt_timeout = \"{attempt}\"");
        for (kind, servers) in [("alone", alone), ("beside", beside)] {
            write!(
                toml,
                "[pool.{kind}{place}]\nservers = {servers}\nstrategy = \"ordered\"\n\
                 [[forward]]\ndomains = [\"{kind}{place}.example\"]\npool = \"{kind}{place}\"\n"
            )
            .unwrap();
        }
    }
    Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await
}

async fn ask(rig: &Rig, door: Transport, name: &str) -> Vec<u8> {
    rig.ask(door, &Ask::a(name).id(0).edns().bytes()).await.message
}

fn is_from(reply: &[u8], octet: u8) -> bool {
    let at = message::question_end(reply) + 12;
    message::rcode(reply) == 0 && reply.get(at..at + 4) == Some(&[192, 0, 2, octet])
}

/// RCODE and extended error that a client is told: 22 where nobody was reached or nothing was heard, 23 where what was heard is no
/// answer (EDE-07). Of a truncated answer a client over UDP is told to ask over TCP (TCF-06).
fn told(way: Leg, fault: Fault, door: Transport) -> (u16, Option<u16>) {
    let rcode = if fault == Fault::Truncated && door == Transport::Udp { 0 } else { 2 };
    (rcode, Some(if is_mute(way, fault) { 22 } else { 23 }))
}

/// What one server does to its clients that it should not.
async fn judge(rig: &Rig, place: usize, server: &Server) -> Vec<String> {
    let fault = server.fault.unwrap();
    let mut wrong = Vec::new();
    for door in DOORS {
        let own = door.name();
        let beside = ask(rig, door, &format!("{own}.beside{place}.example")).await;
        if !is_from(&beside, 1) {
            wrong.push(format!("beside a good one over {own}: {:?}", (message::rcode(&beside), message::ede(&beside))));
        }
        let begun = Instant::now();
        let alone = ask(rig, door, &format!("{own}.alone{place}.example")).await;
        let heard = (message::rcode(&alone), message::ede(&alone));
        if heard != told(way(server.leg, door), fault, door) || message::counts(&alone)[1] != 0 {
            wrong.push(format!("alone over {own}: {heard:?}"));
        }
        // The time of the pool and what a loaded machine adds; AMPLE is never to be waited out.
        if begun.elapsed() > Duration::from_secs(9) {
            wrong.push(format!("alone over {own}: after {:?}", begun.elapsed()));
        }
    }
    wrong
}

/// Asks until the mended server answers: it may be left alone for a moment first.
async fn recovers(rig: &Rig, place: usize) -> bool {
    let until = Instant::now() + Duration::from_secs(30);
    let mut count = 0;
    while Instant::now() < until {
        let door = DOORS[count % DOORS.len()];
        if is_from(&ask(rig, door, &format!("{count}.mended.alone{place}.example")).await, 9) {
            return true;
        }
        count += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn every_fault(legs: &[Leg]) {
    let authority = Authority::new();
    let servers = Arc::new(matrix(&authority, legs).await);
    let good = Server::good(Leg::Udp, 1, &authority, None).await;
    let rig = Arc::new(before(&servers, &good, &authority).await);
    let judging: Vec<_> = (0..servers.len())
        .map(|place| {
            let (rig, servers) = (Arc::clone(&rig), Arc::clone(&servers));
            tokio::spawn(async move {
                let server = &servers[place];
                let mut wrong = judge(&rig, place, server).await;
                server.mend();
                if !recovers(&rig, place).await {
                    wrong.push("does not answer once mended".to_owned());
                }
                let label = format!("{:?}, {:?}", server.leg, server.fault.unwrap());
                wrong.into_iter().map(|what| format!("{label}: {what}")).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut found = Vec::new();
    for one in judging {
        found.extend(one.await.unwrap());
    }
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(rig.upstream.count(), 0, "what is forwarded goes nowhere else");
    rig.assert_well("after").await;
}

#[tokio::test]
async fn ede_07_every_fault_of_a_plain_server_is_a_reason_alone_and_unnoticed_beside_a_good_one() {
    every_fault(&[Leg::Udp, Leg::Tcp]).await;
}

#[tokio::test]
async fn ede_07_every_fault_of_a_tls_server_is_a_reason_alone_and_unnoticed_beside_a_good_one() {
    every_fault(&[Leg::Tls, Leg::Https]).await;
}

#[tokio::test]
async fn ede_07_every_fault_of_a_quic_server_is_a_reason_alone_and_unnoticed_beside_a_good_one() {
    every_fault(&[Leg::H3, Leg::Quic]).await;
}

/// How many files this process has open.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn nothing_stays_behind_of_faults_however_often_they_come_back() {
    if has_run_alone("faults::nothing_stays_behind_of_faults_however_often_they_come_back") {
        return;
    }
    let authority = Authority::new();
    let mut servers = Vec::new();
    for (leg, fault) in [
        (Leg::Udp, Fault::Garbage),
        (Leg::Tcp, Fault::Closes),
        (Leg::Tcp, Fault::Reset),
        (Leg::Tls, Fault::Alert),
        (Leg::Tls, Fault::CutShort),
        (Leg::Https, Fault::Reset),
        (Leg::Https, Fault::Garbage),
        (Leg::H3, Fault::Reset),
        (Leg::Quic, Fault::Closes),
        (Leg::Quic, Fault::Drip),
    ] {
        servers.push(Server::broken(leg, fault, &authority).await);
    }
    let good = Server::good(Leg::Udp, 1, &authority, None).await;
    let rig = Arc::new(before(&servers, &good, &authority).await);
    let mut measured = Vec::new();
    // The first quarter fills what is kept for good: caches, pools of memory, sessions.
    for quarter in 0..4 {
        let asking: Vec<_> = (0..servers.len() * 5)
            .map(|number| {
                let (rig, place) = (Arc::clone(&rig), number / 5);
                tokio::spawn(async move {
                    let name = format!("n{number}.q{quarter}.alone{place}.example");
                    assert_eq!(message::rcode(&ask(&rig, Transport::Tcp, &name).await), 2, "{name}");
                })
            })
            .collect();
        for one in asking {
            one.await.unwrap();
        }
        measured.push((open_files(), resident() >> 20));
    }
    let heard: Vec<usize> = servers.iter().map(|server| server.connections().max(server.questions())).collect();
    // A server that could not prove itself is spared handshakes for a moment, and on a busy machine these quarters are one.
    assert!(heard.iter().all(|&count| count >= 2), "each was asked again: {heard:?}");
    let [first, .., last] = measured[..] else { panic!("four measurements") };
    eprintln!("files and MiB: {measured:?}, connections: {heard:?}");
    assert!(last.0 <= first.0 + 15, "open files: {measured:?}");
    assert!(last.1 <= first.1 + 24, "MiB: {measured:?}");
}
