//! How cost and memory of the cache grow with the names in it: `cargo bench --bench growth`, with `-- --json` for machines.
//!
//! From a thousand names to ten million, for which it takes 3 GiB of memory. A hit is one through the whole pipeline, for a name
//! at random, in CPU time; the median of some rounds counts. Memory is what the process holds more of than before, index and all.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use hushgate::peer::Transport;

mod cpu;
mod rig;

use rig::{Client, Names};

const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const ROUNDS: u64 = 9;
/// Questions a round asks.
const BATCH: u64 = 1 << 18;
/// Nanoseconds for which a bar gets one more block.
const BLOCK: f64 = 25.0;

/// What was found with so many names.
struct Row {
    names: u64,
    hit: f64,
    copy: f64,
    entry: f64,
    resident: f64,
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let rows: Vec<Row> = SIZES.into_iter().map(measured).collect();
    if json {
        let row = |Row { names, hit, copy, entry, resident }: &Row| {
            serde_json::json!({
                "names": names, "hit_ns": hit, "bare_map_ns": copy, "entry_octets": entry, "resident_octets": resident,
            })
        };
        println!("{}", serde_json::Value::Array(rows.iter().map(row).collect()));
        return;
    }
    println!("| names | a hit, ns | | bare map and copy, ns | octets an entry | octets of memory a name |");
    println!("|---:|---:|:---|---:|---:|---:|");
    for Row { names, hit, copy, entry, resident } in rows {
        let bar: String = (0..).map(|block| f64::from(block) * BLOCK).take_while(|at| at < &hit).map(|_| '▇').collect();
        println!("| {names} | {hit:.0} | {bar} | {copy:.0} | {entry:.0} | {resident:.0} |");
    }
}

fn measured(names: u64) -> Row {
    let before = resident();
    let shared = rig::shared(rig::size_for(names));
    rig::fill(&shared, names);
    let resident = per(resident().saturating_sub(before), names);
    let entry = per(shared.cache().stats().octets_used, names);
    let mut client = Client::new(rig::worker(&shared), Transport::Udp, Some(&[]));
    let hit = median(|round| cpu::nanoseconds(BATCH, || client.hits(&mut Names::new(round, names), BATCH)));
    drop((client, shared));
    let map = rig::mapped(names);
    let copy = median(|round| cpu::nanoseconds(BATCH, || rig::look_up(&map, &mut Names::new(round, names), BATCH)));
    Row { names, hit, copy, entry, resident }
}

fn median(round: impl FnMut(u64) -> f64) -> f64 {
    let mut seen: Vec<f64> = (0..ROUNDS).map(round).collect();
    seen.sort_by(f64::total_cmp);
    seen.get(seen.len() / 2).copied().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per(octets: u64, names: u64) -> f64 {
    octets as f64 / names as f64
}

/// Octets of memory that this process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}
