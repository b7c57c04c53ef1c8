//! Any octets as a question, and any others as what a server answers: whatever is replied can be read, belongs to the question, and is
//! no longer than it may be; and asked again, from memory or not, the same holds.
//!
//! An input is: an octet that chooses transport and settings, the length of the question in two, the question, the answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hushgate::answer::Answer as _;
use hushgate::clock::Clock;
use hushgate::config::{self, Source};
use hushgate::guard::Guard;
use hushgate::peer::{DoorId, Peer, Transport};
use hushgate::pipeline::{Pipeline, Shared};
use hushgate::query::Query;
use hushgate::reply::{Now, Out, Verdict};
use hushgate::telemetry::Counters;
use hushgate::trail::{Attempts, UpstreamId};
use hushgate::upstream::error::{Cause, ExchangeError};
use hushgate::upstream::{Answered, Ask, Ended, Exchange, Exchanging, Route, SubnetRule};
use hushgate::wire::{Header, Record, Records};

/// The server answers with what it was given, put behind the question asked.
const FITTING: u8 = 0x80;
/// Before the second question, as much time passes as most answers live.
const LATER: u8 = 0x40;
/// The server does not answer.
const FAILING: u8 = 0x20;
/// Subnets are forwarded.
const SUBNETS: u8 = 0x10;

/// One input.
pub fn run(input: &[u8]) {
    let Some((&[mode, high, low], rest)) = input.split_first_chunk() else { return };
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (question, answer) = rest.split_at(length);
    ask(mode, question, answer);
}

/// Asks `message` twice of a gateway whose server says `answer`.
pub fn ask(mode: u8, message: &[u8], answer: &[u8]) {
    RIGS.with(|[plain, subnets]| if mode & SUBNETS == 0 { plain } else { subnets }.ask(mode, message, answer));
}

thread_local! {
    static RIGS: [Rig; 2] = [
        Rig::new(SubnetRule::Strip, &[]),
        Rig::new(SubnetRule::Forward, &["privacy.ecs=\"forward\"", "dns64.prefix=\"64:ff9b::/96\"", "edns.pass=[65001]", "edns.nsid=\"here\""]),
    ];
}

/// A server that says what it is told to.
#[derive(Debug)]
struct Scripted {
    rule: SubnetRule,
    mode: Mutex<u8>,
    says: Mutex<Bytes>,
}

impl Exchange for Scripted {
    fn exchange(&self, ask: Arc<Ask>, _: tokio::time::Instant) -> Exchanging {
        let (mode, said) = (*self.mode.lock().expect("one thread"), self.says.lock().expect("one thread").clone());
        let message = match said.split_at_checked(12) {
            // QR and NOERROR; counts and all behind the question are the input's.
            Some((head, body)) if mode & FITTING != 0 => {
                [&[0, 0, head[2] | 0x80, head[3], 0, 1], &head[6..], &ask.question, body].concat().into()
            }
            _ => said,
        };
        let upstream = UpstreamId(0);
        let result = if mode & FAILING == 0 {
            let told = ask.subnet.map(|telling| telling.subnet);
            Ok(Answered { message, upstream, age: u32::from(mode & 1), trusted: mode & 2 != 0, told })
        } else {
            Err(ExchangeError { upstream, cause: Cause::Timeout })
        };
        Box::pin(async move { Ended { result, attempts: Attempts::default() } })
    }

    fn route(&self, _: &[u8]) -> Route {
        Route { fingerprint: 1, is_forwarded: false, subnets: self.rule }
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

/// A pipeline with all it needs.
struct Rig {
    runtime: tokio::runtime::Runtime,
    upstream: Arc<Scripted>,
    clock: Clock,
    pipeline: Pipeline,
}

impl Rig {
    fn new(rule: SubnetRule, sets: &[&str]) -> Self {
        let sets = sets.iter().chain(&["limits.queries_per_second=0"]).map(ToString::to_string).collect();
        let config = config::load(&Source { file: None, environment: None, sets }).config.expect("a configuration");
        // Nothing of this machine is in it, and memory stays small.
        let mut cache = config.cache;
        cache.size = 4 << 20;
        let (upstream, clock) =
            (Arc::new(Scripted { rule, mode: Mutex::default(), says: Mutex::default() }), Clock::start());
        let asked: Arc<dyn Exchange> = Arc::clone(&upstream) as _;
        let shared = Shared::new(config.pipeline, cache, Guard::new(config.guard), asked, clock.clone());
        let pipeline = Pipeline::new(shared, Arc::new(Counters::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        Self { runtime: runtime.expect("a runtime"), upstream, clock, pipeline }
    }

    fn ask(&self, mode: u8, message: &[u8], answer: &[u8]) {
        *self.upstream.mode.lock().expect("one thread") = mode;
        *self.upstream.says.lock().expect("one thread") = Bytes::copy_from_slice(answer);
        let transport = Transport::ALL[usize::from(mode & 0x0f) % Transport::ALL.len()];
        self.once(transport, message);
        if mode & LATER != 0 {
            self.clock.advance(Duration::from_secs(301));
        }
        self.once(transport, message);
    }

    fn once(&self, transport: Transport, message: &[u8]) {
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let peer = Peer::new(address("127.0.0.9:5353"), address("127.0.0.1:53"), DoorId(0), transport);
        let mut buffer = BytesMut::new();
        let replied = self.runtime.block_on(async {
            let mut out = Out::bare(&mut buffer);
            let now = self.pipeline.now(Query::parse(message, &peer, self.pipeline.moment()), &peer, &mut out);
            match now {
                Now::Sent(_) => Some(out.message().to_vec()),
                Now::Dropped(_) => None,
                Now::Later(pending) => match pending.await {
                    Verdict::Sent(reply) => Some(reply.message.to_vec()),
                    Verdict::Dropped(_) => None,
                },
            }
        });
        if let Some(reply) = replied {
            check(transport, message, &reply);
        }
    }
}

/// Is `reply` one to `asked`, whole and within bounds?
fn check(transport: Transport, asked: &[u8], reply: &[u8]) {
    assert!(reply.len() <= if transport == Transport::Udp { 1232 } else { usize::from(u16::MAX) });
    assert_eq!(reply.get(..2), asked.get(..2), "another id");
    assert_eq!((reply[2] & 0x80, reply[2] & 0x78), (0x80, asked[2] & 0x78), "a response of the same opcode");
    let header = Header::parse(reply).expect("a header");
    let records: Vec<Record> =
        Records::new(reply, &header).expect("a question").map(|record| record.expect("whole")).collect();
    let counted = usize::from(header.answers) + usize::from(header.authorities) + usize::from(header.additionals);
    assert_eq!(records.len(), counted);
    let end = records.last().map(|last| usize::from(last.rdata.end));
    assert!(end.is_none_or(|end| end == reply.len()), "octets behind the last record");
    assert!(records.iter().filter(|record| record.rtype == 41).count() <= 1, "one OPT");
}
