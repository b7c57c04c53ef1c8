//! For tests of front doors: a scripted pipeline and the surroundings of one worker.
//!
//! The first label of the name asked says what happens; see [`Script`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::watch;

use super::http::pages::Page;
use super::{Context, Limits, Terms};
use crate::answer::Answer;
use crate::clock::Moment;
use crate::guard::{self, Guard, Network};
use crate::peer::{DoorId, Peer, Transport};
use crate::query::{Query, Reject};
use crate::reply::{Facts, Freshness, Now, Out, Reply, Scope, Source, Verdict, Why};
use crate::shutdown::Stop;
use crate::telemetry::Counters;
use crate::trail::Trail;
use crate::wire::{Flags, HEADER_LEN, Question, name};

/// Answers by the first label: `now` at once, `private` and `nostore` likewise with that freshness, `big` with 60 000 octets,
/// `later` and `laterbig` when the gate opens, `never` never, `access` and `limit` not at all; anything malformed FORMERR.
pub(crate) struct Script {
    gate: watch::Receiver<bool>,
    /// Futures of `later` and `never` that live.
    pub(crate) pending: Arc<AtomicUsize>,
    /// Tells of each change of `pending`.
    changed: watch::Sender<()>,
    /// Transports of the questions asked, as bits.
    pub(crate) heard: AtomicUsize,
}

/// A test's end of the script and its surroundings.
pub(crate) struct Rehearsal {
    pub(crate) context: Context,
    pub(crate) script: Arc<Script>,
    pub(crate) stop: Stop,
    pub(crate) guard: Arc<Guard>,
    gate: watch::Sender<bool>,
    changes: watch::Receiver<()>,
}

/// Counts a future while it lives.
struct Living(Arc<AtomicUsize>, watch::Sender<()>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        self.1.send_replace(());
    }
}

impl Rehearsal {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        Self::guarded(change, |_| {})
    }

    /// The same with a guard that `guarding` has changed.
    pub(crate) fn guarded(change: impl FnOnce(&mut Limits), guarding: impl FnOnce(&mut guard::Settings)) -> Self {
        let (gate, gate_end) = watch::channel(false);
        let (changed, changes) = watch::channel(());
        let script =
            Arc::new(Script { gate: gate_end, pending: Arc::default(), changed, heard: AtomicUsize::default() });
        let (stop, drain) = Stop::new();
        let any: Vec<Network> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let mut settings = guard::Settings {
            allow: vec![any, vec![], vec!["0.0.0.0/0".parse().unwrap()]],
            connections: 1000,
            connections_per_client: 1000,
            queries_per_second: 0,
            ..guard::Settings::default()
        };
        guarding(&mut settings);
        let guard = Guard::new(settings);
        let mut limits = Limits { handshake_timeout: Duration::from_secs(20), ..Limits::default() };
        change(&mut limits);
        let terms = Terms {
            answer: Arc::clone(&script) as Arc<dyn Answer>,
            guard: Arc::clone(&guard),
            limits,
            paths: vec![String::from("/dns-query")].into(),
            pages: Arc::new([Page {
                path: "/set-up".into(),
                media_type: "text/html; charset=utf-8",
                body: Bytes::from_static(b"<p>How to</p>"),
            }]),
        };
        let context = Context::new(Arc::new(ArcSwap::from_pointee(terms)), Arc::new(Counters::default()), drain);
        Self { context, script, stop, guard, gate, changes }
    }

    /// Lets what waits be answered.
    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }

    /// Waits until `count` questions are waiting.
    pub(crate) async fn pending(&mut self, count: usize) {
        while self.script.pending.load(Ordering::SeqCst) != count {
            self.changes.changed().await.unwrap();
        }
    }

    /// Has a question come over `transport`?
    pub(crate) fn heard(&self, transport: Transport) -> bool {
        self.script.heard.load(Ordering::SeqCst) & 1 << transport as usize != 0
    }

    pub(crate) fn peer(transport: Transport) -> Peer {
        let address = "127.0.0.1:1".parse().unwrap();
        Peer::new(address, address, DoorId(0), transport)
    }
}

impl Script {
    fn reply(message: &[u8], question: Option<Question>, rcode: u16, out: &mut BytesMut) {
        let id = message.first_chunk::<2>().copied().unwrap_or_default();
        out.put_slice(&id);
        out.put_u16(Flags::QR | Flags::RA | rcode);
        out.put_u16(u16::from(question.is_some()));
        out.put_bytes(0, 6);
        if let Some(question) = question {
            out.put_slice(question.octets(message));
            if label(message, question).ends_with(b"big") {
                out.put_bytes(7, 60_000);
            }
        }
    }

    fn facts(label: &[u8], rcode: u16) -> Facts {
        let freshness = match label {
            b"private" => Freshness { max_age: 60, scope: Scope::Private },
            b"nostore" => Freshness::NO_STORE,
            _ => Freshness { max_age: 300, scope: Scope::Public },
        };
        Facts { source: Source::Local, rcode, freshness, trail: Trail::default() }
    }

    fn later(&self, query: Query<'_>, question: Question, forever: &[u8]) -> Now {
        let mut message = BytesMut::new();
        Self::reply(query.message(), Some(question), 0, &mut message);
        let facts = Self::facts(b"later", 0);
        let mut gate = self.gate.clone();
        let never = forever == b"never";
        self.pending.fetch_add(1, Ordering::SeqCst);
        let living = Living(Arc::clone(&self.pending), self.changed.clone());
        self.changed.send_replace(());
        Now::Later(Box::pin(async move {
            let _living = living;
            if never {
                std::future::pending::<()>().await;
            }
            _ = gate.wait_for(|&open| open).await;
            Verdict::Sent(Reply { message, facts })
        }))
    }
}

impl Answer for Script {
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        self.heard.fetch_or(1 << peer.transport as usize, Ordering::SeqCst);
        let (message, question, rcode) = match &asked {
            Ok(query) => (query.message(), query.question(), 0),
            Err(reject) => match reject.fault.header {
                None => return Now::Dropped(Why::NotAQuery),
                Some(header) if header.flags.has(Flags::QR) => return Now::Dropped(Why::NotAQuery),
                Some(_) => (reject.message, reject.fault.question, 1),
            },
        };
        let label = question.map_or(&b""[..], |question| label(message, question));
        match (label, asked, question) {
            (b"access", ..) => return Now::Dropped(Why::Access),
            (b"limit", ..) => return Now::Dropped(Why::Limit),
            (b"panic", ..) => panic!("scripted"),
            (b"later" | b"never" | b"laterbig", Ok(query), Some(question)) => {
                return self.later(query, question, label);
            }
            _ => {}
        }
        out.begin();
        Self::reply(message, question, rcode, out.tail());
        out.end();
        Now::Sent(Self::facts(label, rcode))
    }

    fn moment(&self) -> Moment {
        Moment(0)
    }
}

fn label(message: &[u8], question: Question) -> &[u8] {
    let name = question.name(message);
    let length = usize::from(name.first().copied().unwrap_or(0));
    &name[1.min(name.len())..(1 + length).min(name.len())]
}

/// A query for `label`.example with this id.
pub(crate) fn query(id: u16, label: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + 20);
    message.put_u16(id);
    message.put_u16(Flags::RD);
    message.put_u16(1);
    message.put_bytes(0, 6);
    message.extend(name::from_text(&format!("{label}.example")).unwrap());
    message.put_u16(1);
    message.put_u16(1);
    message
}

/// Is `reply` a reply with this id to a question for `label`.example?
#[track_caller]
pub(crate) fn assert_answers(reply: &[u8], id: u16, label: &str) {
    let asked = query(id, label);
    assert_eq!(reply[..2], asked[..2], "the id");
    assert_eq!(reply[2] & 0x80, 0x80, "QR");
    assert_eq!(reply[12..asked.len()], asked[12..], "the question");
    assert_eq!(reply.len() > 60_000, label.ends_with("big"));
}
