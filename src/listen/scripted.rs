//! A pipeline for tests of the front doors: the first label of a name says how it is answered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::{BufMut as _, BytesMut};
use tokio::sync::watch;

use super::{Context, Limits, Terms};
use crate::answer::Answer;
use crate::clock::{Clock, Moment};
use crate::guard::{self, Guard};
use crate::peer::{DoorId, Peer, Transport};
use crate::query::{Query, Reject};
use crate::reply::{Facts, Freshness, Now, Out, Reply, Source, Verdict, Why};
use crate::shutdown::{Drain, Stop};
use crate::trail::Trail;
use crate::wire::{FaultKind, Flags, Header};

/// `now`: at once. `later`: when the gate opens. `drop`: not at all. `panic`: that. `boom`: later, that.
/// `big`: with 8000 octets. `huge`: with more than a datagram holds, and an OPT.
pub struct Script {
    clock: Clock,
    gate: watch::Sender<bool>,
    asked: watch::Sender<usize>,
    pub peers: Mutex<Vec<Peer>>,
}

impl Script {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::start(),
            gate: watch::channel(false).0,
            asked: watch::channel(0).0,
            peers: Mutex::default(),
        })
    }

    /// Lets what waits be answered.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }

    /// Waits until `count` questions have been asked.
    pub async fn asked(&self, count: usize) {
        self.asked.subscribe().wait_for(|&asked| asked >= count).await.unwrap();
    }

    /// Questions asked so far.
    pub fn count(&self) -> usize {
        *self.asked.borrow()
    }

    /// The surroundings of a front door that asks this script, and the word to stop it.
    pub fn context(self: &Arc<Self>) -> (Stop, Context) {
        let (stop, drain) = Stop::new();
        (stop, self.context_with(drain, "0.0.0.0/0", Limits::default()))
    }

    pub fn context_with(self: &Arc<Self>, drain: Drain, allow: &str, limits: Limits) -> Context {
        let settings = guard::Settings {
            allow: vec![vec![allow.parse().unwrap(), "::/0".parse().unwrap()]],
            connections: 1000,
            connections_per_client: 1000,
            queries_per_second: 0,
            ..guard::Settings::default()
        };
        let terms = Terms {
            answer: Arc::clone(self) as Arc<dyn Answer>,
            guard: Guard::new(settings),
            limits,
            paths: Arc::from(["/dns-query".to_owned()]),
            pages: Arc::default(),
        };
        Context::new(Arc::new(ArcSwap::from_pointee(terms)), Arc::default(), drain)
    }
}

fn answer(query: &Query<'_>, name: &str, out: &mut BytesMut) {
    let flags = query.header().flags.with(Flags::QR, true);
    let huge = u16::from(name == "huge");
    let header = Header { flags, answers: huge, additionals: huge, ..query.header() };
    let start = out.len();
    out.put_slice(&header.to_octets());
    out.put_slice(query.question().unwrap().octets(query.message()));
    match name {
        "big" => out.put_bytes(0, 8000 - (out.len() - start)),
        // A record that fills a message, and a bare OPT.
        "huge" => {
            let length = 65_530 - (out.len() - start) - 12 - 11;
            out.put_slice(&[0xc0, 12, 0, 10, 0, 1, 0, 0, 0, 0]);
            out.put_u16(u16::try_from(length).unwrap());
            out.put_bytes(0, length);
            out.put_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        _ => {}
    }
}

fn facts() -> Facts {
    Facts { source: Source::Local, rcode: 0, freshness: Freshness::NO_STORE, trail: Trail::default() }
}

impl Answer for Script {
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        self.asked.send_modify(|asked| *asked += 1);
        self.peers.lock().unwrap().push(peer.clone());
        let query = match asked {
            Ok(query) => query,
            Err(reject) if matches!(reject.fault.kind, FaultKind::Short | FaultKind::Response) => {
                return Now::Dropped(Why::NotAQuery);
            }
            Err(reject) => panic!("the script knows no answer to {:?}", reject.fault),
        };
        let label = query.question().unwrap().name(query.message());
        let label = String::from_utf8(label[1..=usize::from(label[0])].to_vec()).unwrap();
        match label.as_str() {
            "drop" => Now::Dropped(Why::Limit),
            "panic" => panic!("as the script says"),
            "boom" => Now::Later(Box::pin(async { panic!("as the script says") })),
            "later" => {
                let (kept, mut gate) = (query.to_kept(), self.gate.subscribe());
                Now::Later(Box::pin(async move {
                    gate.wait_for(|&open| open).await.unwrap();
                    let mut message = BytesMut::new();
                    answer(&kept.query(), "later", &mut message);
                    Verdict::Sent(Reply { message, facts: facts() })
                }))
            }
            name => {
                out.begin();
                answer(&query, name, out.tail());
                out.end();
                Now::Sent(facts())
            }
        }
    }

    fn moment(&self) -> Moment {
        self.clock.now()
    }
}

/// A query for `name`.example.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let header = Header { id, flags: Flags(Flags::RD), questions: 1, ..Header::default() };
    let mut message = header.to_octets().to_vec();
    for label in [name, "example"] {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// A message behind its length.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(message);
    out
}

/// The header of a reply, which must be one.
pub fn header(reply: &[u8]) -> Header {
    let header = Header::parse(reply).unwrap();
    assert!(header.flags.has(Flags::QR));
    header
}

/// Runs what else there is to run until `done`.
pub async fn until(done: impl Fn() -> bool) {
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it never came about");
}

/// A client of door 0.
pub fn peer(transport: Transport) -> Peer {
    let address: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    Peer::new(address, "192.0.2.1:53".parse().unwrap(), DoorId(0), transport)
}
