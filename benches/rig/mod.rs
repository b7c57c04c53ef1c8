//! What benches and the test of allocations ask: a pipeline with a cache that is filled, and questions for as many names as wanted.
//!
//! Every name is of a registrable domain of its own, so that no bound on what one domain may hold comes into play.

#![allow(dead_code, reason = "each of its users takes what it needs")]
#![allow(clippy::indexing_slicing, reason = "into arrays whose length is known")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use bytes::BytesMut;
use hushgate::answer::Answer as _;
use hushgate::cache::{self, Bits, Key, Reach};
use hushgate::clock::{Clock, Moment};
use hushgate::guard::{self, Guard, Network};
use hushgate::peer::{DoorId, Peer, Transport};
use hushgate::pipeline::{AnyRule, CookieRule, Pipeline, Settings, Shared, Special};
use hushgate::query::Query;
use hushgate::reply::{Kind, Meta, Now, Out, Source, Stored};
use hushgate::telemetry::Counters;
use hushgate::trail::UpstreamId;
use hushgate::upstream::{Ask, Exchange, Exchanging, Route, SubnetRule};
use hushgate::wire::{Flags, OptWriter, patch};

/// Of every name, what the scripted upstream's routes are known by.
const ROUTE: u64 = 1;

/// An upstream that is never heard of: all that is asked here is known. By this rule it would be told of clients.
#[derive(Debug)]
struct Upstream(SubnetRule);

impl Exchange for Upstream {
    fn exchange(&self, _: Arc<Ask>, _: tokio::time::Instant) -> Exchanging {
        Box::pin(std::future::pending())
    }

    fn route(&self, _: &[u8]) -> Route {
        Route { fingerprint: ROUTE, is_forwarded: false, subnets: self.0 }
    }

    fn is_down(&self, _: &[u8]) -> bool {
        false
    }

    fn comebacks(&self, _: &[u8]) -> u32 {
        0
    }

    fn name(&self, _: UpstreamId) -> Option<&str> {
        None
    }
}

/// What the pipelines of a gateway with a cache of `size` octets share.
pub fn shared(size: usize) -> Arc<Shared> {
    shared_by(size, SubnetRule::Strip, |_| ())
}

/// The same where upstreams are told of clients by the rule `subnets`, with settings as `change` leaves them.
pub fn shared_by(size: usize, subnets: SubnetRule, change: impl FnOnce(&mut Settings)) -> Arc<Shared> {
    let any: Network = "0.0.0.0/0".parse().expect("a network");
    let guard = Guard::new(guard::Settings {
        allow: vec![vec![any]],
        connections: 1,
        connections_per_client: 1,
        queries_per_second: 0,
        ..guard::Settings::default()
    });
    let mut settings = Settings {
        timeout: Duration::from_secs(4),
        cookies: true,
        require_cookie: CookieRule::WhenBusy,
        secrets: vec![[7; 16]],
        padding: true,
        datagram_limit: 1232,
        outstanding_per_domain: 256,
        special: Special::default(),
        any: AnyRule::default(),
        keepalive: Duration::from_secs(10),
        nsid: None,
        pass: Vec::new(),
        about: Vec::new(),
        dns64: None,
    };
    change(&mut settings);
    let cache = cache::Settings { size, ..cache::Settings::default() };
    Shared::new(settings, cache, guard, Arc::new(Upstream(subnets)), Clock::start())
}

/// One worker's pipeline.
pub fn worker(shared: &Arc<Shared>) -> Pipeline {
    Pipeline::new(Arc::clone(shared), Arc::new(Counters::default()))
}

/// A client.
pub fn peer(transport: Transport) -> Peer {
    let address = |text: &str| text.parse().expect("an address");
    Peer::new(address("192.0.2.9:5353"), address("192.0.2.1:53"), DoorId(0), transport)
}

/// QNAME `www.dNNNNNNNN.com`, QTYPE A, QCLASS IN.
const QUESTION: &[u8; 23] = b"\x03www\x09d00000000\x03com\0\0\x01\0\x01";

/// Where the number begins in a question.
const NUMBER: std::ops::Range<usize> = 6..14;

/// Octets of a header.
const HEADER: usize = 12;

/// Writes `n` where a name has its number.
fn number(place: &mut [u8], n: u64) {
    for (digit, shift) in place.iter_mut().zip((0..32).step_by(4).rev()) {
        let nibble = (n >> shift) & 15;
        *digit = b"0123456789abcdef"[usize::try_from(nibble).unwrap_or_default()];
    }
}

/// The key of question `n`.
pub fn key(n: u64) -> Key {
    let mut question = *QUESTION;
    number(&mut question[NUMBER], n);
    key_of(&question)
}

fn key_of(question: &[u8]) -> Key {
    Key::new(question, Bits::default(), 0, ROUTE)
}

/// The options of an OPT record.
pub type Options<'a> = &'a [(u16, &'a [u8])];

/// A query that can be turned from one name to another.
#[derive(Clone)]
pub struct Asking(Vec<u8>);

impl Asking {
    /// With an OPT record that has these options, or with none.
    pub fn new(options: Option<Options<'_>>) -> Self {
        Self::about(QUESTION, options)
    }

    /// The same of this question, which is left as it is.
    pub fn about(question: &[u8], options: Option<Options<'_>>) -> Self {
        let mut message = b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        message.extend(question);
        if let Some(options) = options {
            let mut writer = OptWriter::start(&mut message, 1232, 0, false);
            for (code, data) in options {
                writer.option(*code, &[data]);
            }
            writer.finish();
            patch::add_additional(&mut message);
        }
        Self(message)
    }

    /// The query for name `n`.
    pub fn of(&mut self, n: u64) -> &[u8] {
        number(&mut self.0[HEADER + NUMBER.start..HEADER + NUMBER.end], n);
        &self.0
    }
}

/// Octets of the message that is kept of every name: an A answer, as most are.
pub const MESSAGE: usize = HEADER + QUESTION.len() + RECORD.len();

/// The record of every name.
const RECORD: &[u8; 16] = b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x01";

fn message(n: u64) -> Vec<u8> {
    let mut question = *QUESTION;
    number(&mut question[NUMBER], n);
    message_to(&question)
}

fn message_to(question: &[u8]) -> Vec<u8> {
    [b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0", question, RECORD].concat()
}

/// Octets of a cache with room for `names`, and some to spare.
pub fn size_for(names: u64) -> usize {
    usize::try_from(names * 280).expect("fits").max(1 << 20)
}

/// Keeps the answers of names `0..names`.
pub fn fill(shared: &Shared, names: u64) {
    for n in 0..names {
        insert(shared, &key(n), &message(n));
    }
    assert_eq!(shared.cache().stats().entries, names, "room for all");
}

/// Keeps an answer to `question`: for those in `reach`, or for all who tell nothing of themselves.
pub fn keep(shared: &Shared, question: &[u8], reach: Option<Reach>) {
    let key = key_of(question);
    insert(shared, &reach.map_or(key, |reach| key.reaching(reach)), &message_to(question));
}

fn insert(shared: &Shared, key: &Key, message: &[u8]) {
    let now = shared.clock().now();
    let meta = Meta {
        received: now,
        lifetime: 86_400,
        http_lifetime: 300,
        flags: Flags(0x8180),
        kind: Kind::Positive,
        additional_at: u16::try_from(message.len()).expect("short"),
        ..Meta::default()
    };
    let ttl_at = u16::try_from(message.len() - 10).expect("short").to_be_bytes();
    shared.cache().insert(key, Stored { meta, message, ttls: &ttl_at }, now);
}

/// What a cache is measured against: a map that hands out the same octets to be copied.
pub type Map = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;

/// The answers of names `0..names` in a bare map.
pub fn mapped(names: u64) -> Map {
    (0..names).map(|n| (key(n).as_bytes().into(), message(n).into())).collect()
}

/// Names below a bound, at random.
pub struct Names {
    state: u64,
    below: u64,
}

impl Names {
    /// Those of `caller`, which are not those of another.
    pub const fn new(caller: u64, below: u64) -> Self {
        Self { state: 0x0139_408d_cbbf_7a44 ^ (caller + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), below }
    }

    /// The next.
    pub const fn draw(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 32) * self.below) >> 32
    }
}

/// Looks `count` names up in `map` and copies what it finds.
pub fn look_up(map: &Map, names: &mut Names, count: u64) {
    let mut out = BytesMut::with_capacity(4096);
    for _ in 0..count {
        out.clear();
        let found = map.get(key(names.draw()).as_bytes()).map(|message| out.extend_from_slice(message));
        assert!(found.is_some());
        black_box(&mut out);
    }
}

/// One client's questions over one transport, every one of them a hit.
pub struct Client {
    pipeline: Pipeline,
    peer: Peer,
    asking: Asking,
    out: BytesMut,
    arrival: Moment,
}

impl Client {
    /// A client of `pipeline`.
    pub fn new(pipeline: Pipeline, transport: Transport, options: Option<Options<'_>>) -> Self {
        Self::asking(pipeline, transport, Asking::new(options))
    }

    /// A client of `pipeline` that asks this.
    pub fn asking(pipeline: Pipeline, transport: Transport, asking: Asking) -> Self {
        let out = BytesMut::with_capacity(4096);
        let arrival = pipeline.moment();
        Self { pipeline, peer: peer(transport), asking, out, arrival }
    }

    /// Asks for name `n`, as a front door does.
    pub fn hit(&mut self, n: u64) {
        self.asking.of(n);
        self.hit_again();
    }

    /// Asks what it asked before.
    pub fn hit_again(&mut self) {
        let Self { pipeline, peer, asking, out, arrival } = self;
        out.clear();
        let asked = Query::parse(&asking.0, peer, *arrival);
        let out = &mut if peer.transport.is_datagram() { Out::bare(out) } else { Out::framed(out) };
        assert!(matches!(pipeline.now(asked, peer, out), Now::Sent(facts) if facts.source == Source::Cache), "a hit");
        black_box(out);
    }

    /// Asks for `count` of `names`.
    pub fn hits(&mut self, names: &mut Names, count: u64) {
        (0..count).for_each(|_| self.hit(names.draw()));
    }
}
