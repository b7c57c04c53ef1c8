//! A gateway without sockets: a scripted upstream behind, bytes in front.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::sync::Semaphore;

use crate::answer::Answer as _;
use crate::cache;
use crate::clock::Clock;
use crate::guard::{self, Guard, Network, Refuse};
use crate::peer::{DoorId, Peer, Transport};
use crate::pipeline::{AnyRule, CookieRule, Pipeline, Settings, Shared, Special};
use crate::query::Query;
use crate::reply::{Facts, Now, Out, Pending, Verdict, Why};
use crate::telemetry::Counters;
use crate::trail::{self, Attempt, AttemptEnd, Attempts, UpstreamId};
use crate::upstream::error::Cause;
use crate::upstream::{Answered, Ask, Ended, Exchange, ExchangeError, Exchanging, Route, SubnetRule, Telling};
use crate::wire::registry::{option, rtype};
use crate::wire::{Edns, Flags, Header, OptWriter, Options, Record, Records, Section, name, patch};

pub const SECRET: [u8; 16] = [0x5a; 16];

pub fn settings() -> Settings {
    Settings {
        timeout: Duration::from_secs(4),
        cookies: true,
        require_cookie: CookieRule::WhenBusy,
        secrets: vec![SECRET],
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
    }
}

/// What the upstream does with a question.
pub enum Play {
    Answer(Built),
    Raw(Vec<u8>),
    Aged(Built, u32),
    Fail(Cause),
    Hang,
    Panic,
}

type Script = Box<dyn Fn(&Ask) -> Play + Send + Sync>;

/// A scripted upstream that remembers what it was asked.
pub struct Upstream {
    script: Script,
    pub asked: Mutex<Vec<Ask>>,
    /// One permit lets one exchange end.
    pub gate: Arc<Semaphore>,
    pub trusted: bool,
    /// What it is told of clients' networks.
    pub ecs: SubnetRule,
    /// Is it known to be down?
    pub down: AtomicBool,
    /// How often it has come back.
    pub comebacks: AtomicU32,
}

impl Upstream {
    /// What it does with a question, without being asked.
    pub fn play(&self, ask: &Ask) -> Play {
        (self.script)(ask)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream")
    }
}

impl Exchange for Upstream {
    fn exchange(&self, ask: Arc<Ask>, _deadline: tokio::time::Instant) -> Exchanging {
        let ask = self.ecs.narrow(&ask);
        self.asked.lock().unwrap().push((*ask).clone());
        let play = (self.script)(&ask);
        let (gate, trusted) = (Arc::clone(&self.gate), self.trusted);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            let upstream = UpstreamId(7);
            let told = ask.subnet.map(|told| told.subnet);
            let answered =
                |message: Vec<u8>, age| Ok(Answered { message: message.into(), upstream, age, trusted, told });
            let result = match play {
                Play::Answer(built) => answered(built.0, 0),
                Play::Raw(message) => answered(message, 0),
                Play::Aged(built, age) => answered(built.0, age),
                Play::Fail(cause) => Err(ExchangeError { upstream, cause }),
                Play::Hang => std::future::pending().await,
                Play::Panic => panic!("as a fault would"),
            };
            let end = result.as_ref().map_or_else(ExchangeError::end, |_| AttemptEnd::Answered);
            let mut attempts = Attempts::default();
            let noted = ask.subnet.map_or(trail::Told::Nothing, Telling::noted);
            attempts.push(Attempt { upstream, told: noted, end, micros: 1500, ..Attempt::default() });
            Ended { result, attempts }
        })
    }

    fn route(&self, _: &[u8]) -> Route {
        Route { fingerprint: 42, is_forwarded: false, subnets: self.ecs.or(SubnetRule::Strip) }
    }

    fn is_down(&self, _: &[u8]) -> bool {
        self.down.load(Relaxed)
    }

    fn comebacks(&self, _: &[u8]) -> u32 {
        self.comebacks.load(Relaxed)
    }

    fn name(&self, _: UpstreamId) -> Option<&str> {
        None
    }
}

/// A message under construction, upstream's or client's.
#[derive(Clone)]
pub struct Built(pub Vec<u8>);

pub fn wire(text: &str) -> Vec<u8> {
    name::from_text(text).unwrap()
}

fn bump(message: &mut [u8], at: usize) {
    let count = u16::from_be_bytes([message[at], message[at + 1]]) + 1;
    patch::put_u16(message, at, count);
}

impl Built {
    /// An answer to `ask`: QR, RD, RA.
    pub fn to(ask: &Ask) -> Self {
        let flags = Flags(Flags::QR | Flags::RD | Flags::RA);
        let mut message = Header { id: 9, flags, questions: 1, ..Header::default() }.to_octets().to_vec();
        message.extend_from_slice(&ask.question);
        Self(message)
    }

    /// A query with RD.
    pub fn query(name: &str, rtype: u16) -> Self {
        let flags = Flags(Flags::RD);
        let mut message = Header { id: 0xbeef, flags, questions: 1, ..Header::default() }.to_octets().to_vec();
        message.extend(wire(name));
        message.put_u16(rtype);
        message.put_u16(1);
        Self(message)
    }

    pub fn flags(mut self, flags: u16, on: bool) -> Self {
        let now = Header::parse(&self.0).unwrap().flags;
        patch::set_flags(&mut self.0, now.with(flags, on));
        self
    }

    pub fn rcode(mut self, rcode: u16) -> Self {
        let now = Header::parse(&self.0).unwrap().flags;
        patch::set_flags(&mut self.0, now.with_rcode(rcode));
        self
    }

    /// Appends a record whose owner is given in wire form, pointers allowed.
    pub fn record(mut self, section: Section, owner: &[u8], (rtype, ttl): (u16, u32), rdata: &[u8]) -> Self {
        self.0.put_slice(owner);
        self.0.put_u16(rtype);
        self.0.put_u16(1);
        self.0.put_u32(ttl);
        self.0.put_u16(u16::try_from(rdata.len()).unwrap());
        self.0.put_slice(rdata);
        let at = match section {
            Section::Answer => 6,
            Section::Authority => 8,
            Section::Additional => 10,
        };
        bump(&mut self.0, at);
        self
    }

    /// An A record of QNAME.
    pub fn a(self, ttl: u32, last: u8) -> Self {
        self.record(Section::Answer, &[0xc0, 12], (rtype::A, ttl), &[192, 0, 2, last])
    }

    /// A CNAME of QNAME.
    pub fn cname(self, ttl: u32, target: &str) -> Self {
        self.record(Section::Answer, &[0xc0, 12], (rtype::CNAME, ttl), &wire(target))
    }

    /// An SOA in authority.
    pub fn soa(self, owner: &str, ttl: u32, minimum: u32) -> Self {
        let mut rdata = wire("ns.example.");
        rdata.extend(wire("admin.example."));
        for field in [1, 2, 3, 4, minimum] {
            rdata.put_u32(field);
        }
        self.record(Section::Authority, &wire(owner), (rtype::SOA, ttl), &rdata)
    }

    /// An OPT with these options.
    pub fn opt(mut self, rcode: u16, dnssec_ok: bool, options: &[(u16, &[u8])]) -> Self {
        let mut writer = OptWriter::start(&mut self.0, 4096, rcode, dnssec_ok);
        for (code, data) in options {
            writer.option(*code, &[data]);
        }
        writer.finish();
        patch::add_additional(&mut self.0);
        self
    }

    /// An OPT with a payload size.
    pub fn sized(self, size: u16) -> Self {
        let at = self.0.len() + 3;
        let mut sized = self.opt(0, false, &[]);
        patch::put_u16(&mut sized.0, at, size);
        sized
    }
}

/// A reply, taken apart.
pub struct Got {
    pub message: Vec<u8>,
    pub facts: Facts,
    pub header: Header,
    pub records: Vec<Record>,
    pub edns: Option<Edns>,
}

impl Got {
    fn new(message: Vec<u8>, facts: Facts) -> Self {
        let header = Header::parse(&message).unwrap();
        let mut walk = Records::new(&message, &header).unwrap();
        let all: Vec<Record> = walk.by_ref().map(Result::unwrap).collect();
        assert_eq!(walk.position(), message.len(), "octets after the last record");
        let opts: Vec<_> = all.iter().filter(|record| record.rtype == rtype::OPT).collect();
        assert!(opts.len() <= 1, "more than one OPT");
        let edns = opts.first().map(|opt| Edns::parse(&message, opt.class, opt.ttl, opt.rdata).unwrap());
        let records = all.iter().copied().filter(|record| record.rtype != rtype::OPT).collect();
        Self { message, facts, header, records, edns }
    }

    pub fn rcode(&self) -> u16 {
        self.header.flags.rcode() | self.edns.map_or(0, |edns| u16::from(edns.extended_rcode) << 4)
    }

    pub fn has(&self, flag: u16) -> bool {
        self.header.flags.has(flag)
    }

    pub fn ttls(&self) -> Vec<u32> {
        self.records.iter().map(|record| record.ttl).collect()
    }

    pub fn types(&self) -> Vec<u16> {
        self.records.iter().map(|record| record.rtype).collect()
    }

    pub fn rdata(&self, at: usize) -> &[u8] {
        self.records[at].rdata.of(&self.message)
    }

    pub fn owner(&self, at: usize) -> Vec<u8> {
        let mut owner = Vec::new();
        name::expand(&self.message, self.records[at].owner.into(), &mut owner).unwrap();
        owner
    }

    /// The options of the OPT in order.
    pub fn options(&self) -> Vec<(u16, Vec<u8>)> {
        let mut walk = Records::new(&self.message, &self.header).unwrap().map(Result::unwrap);
        let Some(opt) = walk.find(|record| record.rtype == rtype::OPT) else { return Vec::new() };
        let options = Options::new(&self.message, opt.rdata).map(Result::unwrap);
        options.map(|(code, data)| (code, data.of(&self.message).to_vec())).collect()
    }

    pub fn option(&self, code: u16) -> Option<Vec<u8>> {
        self.options().into_iter().find(|(other, _)| *other == code).map(|(_, data)| data)
    }

    pub fn edes(&self) -> Vec<u16> {
        let edes = self.options().into_iter().filter(|(code, _)| *code == option::EDE);
        edes.map(|(_, data)| u16::from_be_bytes([data[0], data[1]])).collect()
    }
}

/// A gateway of one worker.
pub struct Gateway {
    pub pipeline: Pipeline,
    pub upstream: Arc<Upstream>,
    pub counters: Arc<Counters>,
    pub clock: Clock,
}

pub struct Plan {
    pub settings: Settings,
    pub cache: cache::Settings,
    pub trusted: bool,
    pub ecs: SubnetRule,
    pub held: bool,
    pub refuse: Refuse,
    pub allow: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            settings: settings(),
            cache: cache::Settings::default(),
            trusted: true,
            ecs: SubnetRule::Strip,
            held: false,
            refuse: Refuse::Answer,
            allow: "192.0.2.0/24",
        }
    }
}

impl Gateway {
    pub fn new(script: impl Fn(&Ask) -> Play + Send + Sync + 'static) -> Self {
        Self::with(Plan::default(), script)
    }

    pub fn with(options: Plan, script: impl Fn(&Ask) -> Play + Send + Sync + 'static) -> Self {
        let gate = Arc::new(Semaphore::new(if options.held { 0 } else { 100_000 }));
        let (asked, down) = (Mutex::default(), AtomicBool::new(false));
        let comebacks = AtomicU32::default();
        let (trusted, ecs) = (options.trusted, options.ecs);
        let upstream = Arc::new(Upstream { script: Box::new(script), asked, gate, trusted, ecs, down, comebacks });
        let allow: Network = options.allow.parse().unwrap();
        let guard = Guard::new(guard::Settings {
            allow: vec![vec![allow]],
            refuse: options.refuse,
            queries_per_second: 0,
            exempt: vec![allow],
            ..guard::Settings::default()
        });
        let (clock, counters) = (Clock::start(), Arc::new(Counters::default()));
        let exchange: Arc<dyn Exchange> = Arc::<Upstream>::clone(&upstream);
        // Tests count the seconds.
        let cache = cache::Settings { spread: false, ..options.cache };
        let shared = Shared::new(options.settings, cache, guard, exchange, clock.clone());
        Self { pipeline: Pipeline::new(shared, Arc::clone(&counters)), upstream, counters, clock }
    }

    pub fn asked(&self) -> usize {
        self.upstream.asked.lock().unwrap().len()
    }

    /// Lets the tasks run until the upstream has been asked `count` questions. A deadline would never come here: a paused clock stands
    /// still while anything runs.
    pub async fn until_asked(&self, count: usize) {
        for _ in 0..10_000 {
            if self.asked() >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} of {count} questions are ever asked", self.asked());
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub fn begin(&self, transport: Transport, message: &[u8]) -> Begun {
        self.begin_from("192.0.2.9", transport, message)
    }

    /// A message from the client at `address`.
    pub fn begin_from(&self, address: &str, transport: Transport, message: &[u8]) -> Begun {
        let client = SocketAddr::new(address.parse().unwrap(), 5353);
        let peer = Peer::new(client, "198.51.100.1:53".parse().unwrap(), DoorId(0), transport);
        let mut buffer = BytesMut::new();
        let asked = Query::parse(message, &peer, self.pipeline.moment());
        match self.pipeline.now(asked, &peer, &mut Out::bare(&mut buffer)) {
            Now::Sent(facts) => Begun::Sent(Box::new(Got::new(buffer.to_vec(), facts))),
            Now::Dropped(why) => {
                assert!(buffer.is_empty());
                Begun::Dropped(why)
            }
            Now::Later(pending) => {
                assert!(buffer.is_empty());
                Begun::Later(pending)
            }
        }
    }

    pub async fn over(&self, transport: Transport, query: &Built) -> Got {
        self.begin(transport, &query.0).got().await
    }

    pub async fn udp(&self, query: &Built) -> Got {
        self.over(Transport::Udp, query).await
    }

    pub async fn tcp(&self, query: &Built) -> Got {
        self.over(Transport::Tcp, query).await
    }
}

pub enum Begun {
    Sent(Box<Got>),
    Dropped(Why),
    Later(Pending),
}

impl Begun {
    pub async fn got(self) -> Got {
        match self {
            Self::Sent(got) => *got,
            Self::Dropped(why) => panic!("dropped: {why:?}"),
            Self::Later(pending) => match pending.await {
                Verdict::Sent(reply) => Got::new(reply.message.to_vec(), reply.facts),
                Verdict::Dropped(why) => panic!("dropped: {why:?}"),
            },
        }
    }

    /// An answer from memory.
    pub fn at_once(self) -> Got {
        match self {
            Self::Sent(got) => *got,
            Self::Dropped(_) | Self::Later(_) => panic!("not answered at once"),
        }
    }
}
