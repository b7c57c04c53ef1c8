//! A hit through `Pipeline::now`: without EDNS, with it, with a cookie, padded. The allocation columns must stay empty.
//!
//! One name asked again and again; `scaling` asks for many, from many threads.

use divan::{AllocProfiler, Bencher};

use hushgate::peer::Transport;
use hushgate::wire::registry::option;

mod rig;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn hit(bencher: Bencher<'_, '_>, transport: Transport, options: Option<rig::Options<'_>>) {
    let shared = rig::shared(64 << 20);
    rig::fill(&shared, 1);
    let mut client = rig::Client::new(rig::worker(&shared), transport, options);
    bencher.bench_local(|| client.hit(0));
}

#[divan::bench]
fn hit_without_edns(bencher: Bencher<'_, '_>) {
    hit(bencher, Transport::Udp, None);
}

#[divan::bench]
fn hit_with_edns(bencher: Bencher<'_, '_>) {
    hit(bencher, Transport::Udp, Some(&[]));
}

#[divan::bench]
fn hit_with_a_cookie(bencher: Bencher<'_, '_>) {
    hit(bencher, Transport::Udp, Some(&[(option::COOKIE, b"8octets!")]));
}

#[divan::bench]
fn hit_over_tcp(bencher: Bencher<'_, '_>) {
    hit(bencher, Transport::Tcp, Some(&[]));
}

#[divan::bench]
fn hit_padded(bencher: Bencher<'_, '_>) {
    hit(bencher, Transport::Dot, Some(&[(option::PADDING, &[])]));
}
