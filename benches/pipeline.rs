//! A hit through `Pipeline::now`: without EDNS, with it, with each option, and with what the gateway may be told to do to answers. The
//! allocation columns must stay empty.
//!
//! One name asked again and again; `scaling` asks for many, from many threads.

use divan::{AllocProfiler, Bencher};

use hushgate::cache::Reach;
use hushgate::discovery::OwnName;
use hushgate::peer::Transport;
use hushgate::pipeline::{Dns64, Prefix, Settings};
use hushgate::upstream::SubnetRule;
use hushgate::wire::Subnet;
use hushgate::wire::registry::option;

mod rig;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Of the cache.
const SIZE: usize = 64 << 20;

/// An ordinary question: `www.d00000000.com` A.
const ORDINARY: &[u8] = b"\x03www\x09d00000000\x03com\0\0\x01\0\x01";

/// `1.1.1.9.in-addr.arpa` PTR, the name of nobody's private address.
const ARPA: &[u8] = b"\x011\x011\x011\x019\x07in-addr\x04arpa\0\0\x0c\0\x01";

/// What clients tell of their subnet, and what servers are told where it is added: 192.0.2.0/24.
const SUBNET: &[u8] = &[0, 1, 24, 0, 192, 0, 2];

const ADD: SubnetRule = SubnetRule::Add { v4: 24, v6: 56 };

fn main() {
    divan::main();
}

/// What is asked, with which options, over UDP if nothing else is said.
struct Case<'a> {
    transport: Transport,
    question: &'a [u8],
    options: Option<rig::Options<'a>>,
    subnets: SubnetRule,
    /// For whom the answer is kept; None where it is for who tells nothing.
    reach: Option<Reach>,
}

impl Case<'_> {
    const PLAIN: Self = Case {
        transport: Transport::Udp,
        question: ORDINARY,
        options: Some(&[]),
        subnets: SubnetRule::Strip,
        reach: None,
    };

    fn bench(self, bencher: Bencher<'_, '_>) {
        self.bench_with(bencher, |_| ());
    }

    fn bench_with(self, bencher: Bencher<'_, '_>, change: impl FnOnce(&mut Settings)) {
        let shared = rig::shared_by(SIZE, self.subnets, change);
        rig::keep(&shared, self.question, self.reach);
        let asking = rig::Asking::about(self.question, self.options);
        let mut client = rig::Client::asking(rig::worker(&shared), self.transport, asking);
        bencher.bench_local(|| client.hit_again());
    }
}

fn network() -> Reach {
    Reach::Within(Subnet::read(SUBNET).expect("well formed").0)
}

fn own() -> Vec<OwnName> {
    let name = |text: &[u8]| OwnName { name: text.into(), sets: Vec::new(), apex: None };
    vec![name(b"\x05doors\x07example\x03net\0"), name(b"\x03dns\x09doors-doo\x03net\0")]
}

fn dns64() -> Dns64 {
    Dns64 { prefix: Prefix::WELL_KNOWN, exclude: Vec::new() }
}

#[divan::bench]
fn hit_without_edns(bencher: Bencher<'_, '_>) {
    Case { options: None, ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_with_edns(bencher: Bencher<'_, '_>) {
    Case::PLAIN.bench(bencher);
}

#[divan::bench]
fn hit_with_a_cookie(bencher: Bencher<'_, '_>) {
    Case { options: Some(&[(option::COOKIE, b"8octets!")]), ..Case::PLAIN }.bench(bencher);
}

/// Which nobody is told.
#[divan::bench]
fn hit_with_a_subnet(bencher: Bencher<'_, '_>) {
    Case { options: Some(&[(option::ECS, SUBNET)]), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_with_an_unknown_option(bencher: Bencher<'_, '_>) {
    Case { options: Some(&[(65001, b"what?")]), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_over_tcp(bencher: Bencher<'_, '_>) {
    Case { transport: Transport::Tcp, ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_over_tcp_kept_alive(bencher: Bencher<'_, '_>) {
    Case { transport: Transport::Tcp, options: Some(&[(option::KEEPALIVE, &[])]), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_padded(bencher: Bencher<'_, '_>) {
    Case { transport: Transport::Dot, options: Some(&[(option::PADDING, &[])]), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_with_the_name_of_the_server(bencher: Bencher<'_, '_>) {
    Case { options: Some(&[(option::NSID, &[])]), ..Case::PLAIN }
        .bench_with(bencher, |settings| settings.nsid = Some((*b"one.example").into()));
}

/// A name whose end is that of many special ones.
#[divan::bench]
fn hit_of_an_arpa_name(bencher: Bencher<'_, '_>) {
    Case { question: ARPA, ..Case::PLAIN }.bench(bencher);
}

/// Others than the one that is sent.
#[divan::bench]
fn hit_where_options_pass(bencher: Bencher<'_, '_>) {
    Case { options: Some(&[(option::PADDING, &[])]), ..Case::PLAIN }
        .bench_with(bencher, |settings| settings.pass = vec![65001]);
}

#[divan::bench]
fn hit_of_a_name_as_long_as_an_own(bencher: Bencher<'_, '_>) {
    Case::PLAIN.bench_with(bencher, |settings| settings.about = own());
}

#[divan::bench]
fn hit_where_addresses_are_made(bencher: Bencher<'_, '_>) {
    Case::PLAIN.bench_with(bencher, |settings| settings.dns64 = Some(dns64()));
}

#[divan::bench]
fn hit_where_subnets_are_added(bencher: Bencher<'_, '_>) {
    Case { subnets: ADD, reach: Some(Reach::Everyone), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_where_subnets_are_added_for_the_network(bencher: Bencher<'_, '_>) {
    Case { subnets: ADD, reach: Some(network()), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_where_subnets_are_added_without_edns(bencher: Bencher<'_, '_>) {
    Case { options: None, subnets: ADD, reach: Some(Reach::Everyone), ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_where_subnets_are_forwarded_and_none_is_told(bencher: Bencher<'_, '_>) {
    Case { subnets: SubnetRule::Forward, ..Case::PLAIN }.bench(bencher);
}

#[divan::bench]
fn hit_where_subnets_are_forwarded(bencher: Bencher<'_, '_>) {
    Case {
        options: Some(&[(option::ECS, SUBNET)]),
        subnets: SubnetRule::Forward,
        reach: Some(Reach::Everyone),
        ..Case::PLAIN
    }
    .bench(bencher);
}
