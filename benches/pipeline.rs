//! A hit through `Pipeline::now`: without EDNS, with it, with a cookie, padded. The allocation columns must stay empty.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use divan::{AllocProfiler, Bencher};

use hushgate::answer::Answer as _;
use hushgate::cache;
use hushgate::clock::Clock;
use hushgate::guard::{self, Guard, Network, Refuse};
use hushgate::peer::{DoorId, Peer, Transport};
use hushgate::pipeline::{CookieRule, Pipeline, Settings, Shared};
use hushgate::query::Query;
use hushgate::reply::{Now, Out};
use hushgate::telemetry::Counters;
use hushgate::trail::{Attempts, UpstreamId};
use hushgate::upstream::{Answered, Ask, Ended, Exchange, Exchanging, Route};
use hushgate::wire::registry::{option, rtype};
use hushgate::wire::{Flags, Header, OptWriter, name, patch};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// An upstream that gives every name four addresses.
#[derive(Debug)]
struct Upstream;

impl Exchange for Upstream {
    fn exchange(&self, ask: Arc<Ask>, _: tokio::time::Instant) -> Exchanging {
        let flags = Flags(Flags::QR | Flags::RD | Flags::RA);
        let header = Header { flags, questions: 1, answers: 4, ..Header::default() };
        let mut message = header.to_octets().to_vec();
        message.extend_from_slice(&ask.question);
        for last in 1..=4 {
            message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, last]);
        }
        let answered = Answered { message: message.into(), upstream: UpstreamId(0), age: 0, trusted: true };
        Box::pin(std::future::ready(Ended { result: Ok(answered), attempts: Attempts::default() }))
    }

    fn route(&self, _: &[u8]) -> Route {
        Route { fingerprint: 1, is_forwarded: false }
    }

    fn is_down(&self, _: &[u8]) -> bool {
        false
    }

    fn name(&self, _: UpstreamId) -> Option<&str> {
        None
    }
}

fn pipeline() -> Pipeline {
    let any: Network = "0.0.0.0/0".parse().expect("a network");
    let guard = Guard::new(guard::Settings {
        allow: vec![vec![any]],
        refuse: Refuse::Answer,
        connections: 1,
        connections_per_client: 1,
        queries_per_second: 0,
        exempt: Vec::new(),
    });
    let settings = Settings {
        timeout: Duration::from_secs(4),
        cookies: true,
        require_cookie: CookieRule::WhenBusy,
        secrets: vec![[7; 16]],
        padding: true,
        datagram_limit: 1232,
        outstanding_per_domain: 256,
        keepalive: Duration::from_secs(10),
    };
    let shared = Shared::new(settings, cache::Settings::default(), guard, Arc::new(Upstream), Clock::start());
    Pipeline::new(shared, Arc::new(Counters::default()))
}

fn query(options: Option<&[(u16, &[u8])]>) -> BytesMut {
    let header = Header { id: 7, flags: Flags(Flags::RD), questions: 1, ..Header::default() };
    let mut message = BytesMut::from(&header.to_octets()[..]);
    message.put_slice(&name::from_text("www.example.com").expect("a name"));
    message.put_u16(rtype::A);
    message.put_u16(1);
    if let Some(options) = options {
        let mut writer = OptWriter::start(&mut message, 1232, 0, false);
        for (code, data) in options {
            writer.option(*code, &[data]);
        }
        writer.finish();
        patch::add_additional(&mut message);
    }
    message
}

fn hit(bencher: Bencher<'_, '_>, transport: Transport, options: Option<&[(u16, &[u8])]>) {
    let (pipeline, message) = (pipeline(), query(options));
    let address = |text: &str| text.parse().expect("an address");
    let peer = Peer::new(address("192.0.2.9:5353"), address("192.0.2.1:53"), DoorId(0), transport);
    let mut buffer = BytesMut::with_capacity(4096);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let arrival = pipeline.moment();
    let ask = |buffer: &mut BytesMut| {
        buffer.clear();
        pipeline.now(Query::parse(&message, &peer, arrival), &peer, &mut Out::bare(buffer))
    };
    match ask(&mut buffer) {
        Now::Later(pending) => drop(runtime.block_on(pending)),
        Now::Sent(_) | Now::Dropped(_) => unreachable!("nothing is cached yet"),
    }
    assert!(matches!(ask(&mut buffer), Now::Sent(_)));
    bencher.bench_local(|| ask(&mut buffer));
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
fn hit_padded(bencher: Bencher<'_, '_>) {
    hit(bencher, Transport::Dot, Some(&[(option::PADDING, &[])]));
}
