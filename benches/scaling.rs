//! What a hit through the whole pipeline costs, and how that cost keeps when workers share the cache: `cargo bench --bench scaling`.
//!
//! CPU time of the asking threads, not time on the wall, so that threads may be more than cores. Cases take turns, round after
//! round, and the median round counts: what else the machine does then touches all alike. Beside them a bare hash map and a copy.
//! `-- "one name"` runs the cases with that in their names alone.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::sync::{Arc, Barrier};

use hushgate::peer::Transport;
use hushgate::pipeline::Shared;

mod cpu;
mod rig;

use rig::{Client, Map, Names};

const FEW: u64 = 10_000;
const MANY: u64 = 1_000_000;
const ROUNDS: usize = 9;
/// Questions that a case asks in a round, all threads together.
const BATCH: u64 = 1 << 18;

/// One kind of asking.
struct Case {
    what: String,
    run: Box<dyn Fn(u64) -> f64>,
    seen: Vec<f64>,
}

fn main() {
    let caches = [FEW, MANY].map(|names| {
        let shared = rig::shared(rig::size_for(names).max(64 << 20));
        rig::fill(&shared, names);
        (names, shared, Arc::new(rig::mapped(names)))
    });
    let mut cases = Vec::new();
    for (names, shared, map) in &caches {
        cases.push(bare(*names, map));
        for transport in [Transport::Udp, Transport::Tcp, Transport::Dot] {
            cases.push(alone(*names, shared, transport, false));
            cases.push(alone(*names, shared, transport, true));
        }
    }
    let [(_, few, _), (_, many, _)] = &caches;
    for threads in [1, 2, 8] {
        cases.push(together(1, few, threads));
        cases.push(together(FEW, few, threads));
        cases.push(together(MANY, many, threads));
    }
    if let Some(wanted) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) {
        cases.retain(|case| case.what.contains(&wanted));
    }
    for round in 0..ROUNDS {
        for case in &mut cases {
            case.seen.push((case.run)(round as u64));
        }
    }
    for case in &mut cases {
        case.seen.sort_by(f64::total_cmp);
        let at = |part: usize| case.seen.get(case.seen.len() * part / 4).copied().unwrap_or_default();
        println!("{:42} {:7.0} ns   ({:.0} to {:.0})", case.what, at(2), at(1), at(3));
    }
}

fn shown(names: u64) -> &'static str {
    match names {
        1 => "one name",
        FEW => "10 000 names",
        _ => "1 000 000 names",
    }
}

fn case(what: String, run: impl Fn(u64) -> f64 + 'static) -> Case {
    Case { what, run: Box::new(run), seen: Vec::new() }
}

fn bare(names: u64, map: &Arc<Map>) -> Case {
    let map = Arc::clone(map);
    case(format!("{}, bare map and copy", shown(names)), move |round| {
        cpu::nanoseconds(BATCH, || rig::look_up(&map, &mut Names::new(round, names), BATCH))
    })
}

fn alone(names: u64, shared: &Arc<Shared>, transport: Transport, edns: bool) -> Case {
    let pipeline = rig::worker(shared);
    let with = if edns { "EDNS" } else { "no EDNS" };
    case(format!("{}, {}, {with}", shown(names), transport.name()), move |round| {
        let mut client = Client::new(pipeline.clone(), transport, edns.then_some(&[]));
        cpu::nanoseconds(BATCH, || client.hits(&mut Names::new(round, names), BATCH))
    })
}

fn together(names: u64, shared: &Arc<Shared>, threads: u64) -> Case {
    let workers: Vec<_> = (0..threads).map(|_| rig::worker(shared)).collect();
    case(format!("{}, udp, EDNS, threads: {threads}", shown(names)), move |round| {
        let start = Barrier::new(workers.len());
        let ask = |(caller, pipeline): (u64, _)| {
            let mut client = Client::new(pipeline, Transport::Udp, Some(&[]));
            start.wait();
            cpu::nanoseconds(BATCH / threads, || {
                client.hits(&mut Names::new(round * threads + caller, names), BATCH / threads);
            })
        };
        let spent: f64 = std::thread::scope(|scope| {
            let asking: Vec<_> =
                (0..).zip(workers.iter().cloned()).map(|worker| scope.spawn(move || ask(worker))).collect();
            asking.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        spent / f64::from(u32::try_from(threads).expect("few"))
    })
}
