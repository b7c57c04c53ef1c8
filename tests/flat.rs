//! The memory of a whole gateway under tens of thousands of real messages with something wrong, over every way to ask: alone in its
//! process, so that nothing else is measured. What is left behind by a question, a connection or a stream shows here, however small.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::large_futures,
    clippy::cast_sign_loss,
    clippy::items_after_statements,
    clippy::cast_possible_truncation,
    reason = "a test says what is wrong by failing"
)]

#[allow(dead_code, unused_imports, reason = "made for tests/gateway, which uses all of it")]
#[path = "gateway/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::time::Duration;

use hushgate::peer::Transport;
use tokio::task::JoinSet;
use tokio::time::timeout;

use harness::mutation::{Way, corpus, mutant};
use harness::raw::{Noise, resident};
use harness::{Rig, client};

/// Where the noise begins.
const SEED: u64 = 12_676;

/// Rounds before memory counts: what is bounded has come to its bounds.
const WARM: usize = 4;

/// Rounds after that.
const MORE: usize = 10;

/// Octets that those may add, which is some 160 for each mutant; what they do add is some 40, the allocator's own way of going about it.
const GROWTH: usize = 3 << 20;

/// Mutants of a round, 1900 in all: fewer where each costs more.
const fn share(way: Way) -> usize {
    match (way.transport, way.get) {
        (Transport::Udp, _) => 600,
        (Transport::Tcp, _) => 400,
        (Transport::Doh2, _) => 200,
        (Transport::Dot | Transport::Doh1 | Transport::Doh3 | Transport::Doq, _) => 100,
    }
}

/// Sends a round of mutants over all ways at once; tells what memory the process has after it.
async fn round(rig: &Arc<Rig>, endpoint: &quinn::Endpoint, corpus: &[Vec<u8>], noise: &mut Noise) -> usize {
    let mut sending = JoinSet::new();
    for way in Way::all() {
        let mutants = (0..share(way)).map(|_| mutant(corpus, noise)).collect();
        let (rig, endpoint) = (Arc::clone(rig), endpoint.clone());
        sending.spawn(async move { timeout(client::PATIENCE, way.send(&rig, &endpoint, mutants)).await.unwrap() });
    }
    sending.join_all().await;
    rig.upstream.forget();
    settle(rig).await;
    resident()
}

/// Waits until no connection and no question is under way.
async fn settle(rig: &Rig) {
    let settled = async {
        while rig.metric("hushgate_joins").await + rig.metric("hushgate_connections_held").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(client::PATIENCE, settled).await.expect("something is left behind");
}

#[tokio::test]
async fn memory_stays_flat_under_mutants_over_every_way_to_ask() {
    let toml = "[limits]\nqueries_per_second = 0\n[cache]\nsize = \"1 MiB\"";
    let rig = Arc::new(Rig::set(toml, &["upstream.timeout=500ms"]).await);
    let endpoint = client::endpoint();
    let (corpus, mut noise) = (corpus(), Noise::new(SEED));
    let mut memory = Vec::new();
    for _ in 0..WARM + MORE {
        memory.push(round(&rig, &endpoint, &corpus, &mut noise).await);
    }
    let kib: Vec<usize> = memory.iter().map(|octets| octets >> 10).collect();
    let grown = memory.last().unwrap().saturating_sub(memory[WARM - 1]);
    eprintln!("KiB: {kib:?}");
    assert!(grown <= GROWTH, "{grown} octets more after {WARM} of the rounds {kib:?}, in KiB; seed {SEED}");
    rig.assert_well("after mutants").await;
    settle(&rig).await;
}
