//! For tests: a QUIC door on loopback with a scripted pipeline behind it, and clients of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::{BufMut as _, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::mailboxes::Mailboxes;
use super::ownership::{Ownership, SECRET};
use super::tokens::Tokens;
use super::{Crypto, Load, Place, QuicDoors, Reception, endpoint, serve, steering, transport};
use crate::answer::Answer;
use crate::clock::Moment;
use crate::guard::{Guard, Settings};
use crate::identity::{Fleet, Keys, Secret};
use crate::listen::{Absent, Context, Door, DoorKind, Limits, Terms, bind};
use crate::peer::{DoorId, Peer};
use crate::query::{Query, Reject};
use crate::reply::{Facts, Freshness, Now, Out, Reply, Source, Verdict, Why};
use crate::shutdown::Stop;
use crate::telemetry::Counters;
use crate::trail::Trail;
use crate::wire::patch;

/// The generation of all workers here.
pub(crate) const GENERATION: u8 = 9;

/// Their keys.
pub(crate) fn ownership() -> Ownership {
    Ownership::new(&[5; SECRET], GENERATION)
}

/// Answers by the first letter of the name: `n`ow, `l`ater (when the gate opens), `s`ilence, `p`anic, `w`ait and panic, `b`ig.
pub(crate) struct Script {
    gate: watch::Receiver<bool>,
    /// Questions that wait or have waited, and those of them whose future is gone.
    pub waiting: AtomicUsize,
    pub gone: Arc<watch::Sender<usize>>,
    pub peers: Mutex<Vec<Peer>>,
}

struct Gone(Arc<watch::Sender<usize>>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.send_modify(|gone| *gone += 1);
    }
}

fn facts() -> Facts {
    Facts { source: Source::Local, rcode: 0, freshness: Freshness::NO_STORE, trail: Trail::default() }
}

fn reply(message: &[u8]) -> BytesMut {
    let mut reply = BytesMut::from(message);
    patch::put_u16(&mut reply, 2, 0x8180);
    reply
}

impl Answer for Script {
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        self.peers.lock().unwrap().push(peer.clone());
        let message = match &asked {
            Ok(query) => query.message(),
            Err(reject) => reject.message,
        };
        let mut gate = self.gate.clone();
        match message.get(13) {
            Some(b's') => Now::Dropped(Why::Limit),
            Some(b'p') => panic!("scripted"),
            Some(b'w') => Now::Later(Box::pin(async { panic!("scripted") })),
            Some(b'l') => {
                let (message, gone) = (reply(message), Gone(Arc::clone(&self.gone)));
                self.waiting.fetch_add(1, Ordering::Relaxed);
                Now::Later(Box::pin(async move {
                    let _gone = gone;
                    gate.wait_for(|&open| open).await.unwrap();
                    Verdict::Sent(Reply { message, facts: facts() })
                }))
            }
            other => {
                out.begin();
                out.tail().extend_from_slice(&reply(message));
                if other == Some(&b'b') {
                    out.tail().put_bytes(0, 60_000);
                }
                out.end();
                Now::Sent(facts())
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment(0)
    }
}

/// What a test may vary.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub doors: QuicDoors,
    pub allow: &'static [&'static str],
    pub limits: Limits,
    pub connections_per_client: u32,
    /// As the TLS settings that the door is given would have it.
    pub early_data: u32,
    /// Other bounds than those of [`serve`].
    pub load: Option<Load>,
    /// The secret of its fleet, 32 times this octet; without one its keys are its own.
    pub fleet: Option<u8>,
    /// How many share the address, each with an endpoint of its own.
    pub workers: u8,
    pub steering: Steering,
}

/// Who gives a datagram to the worker that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// The kernel.
    Kernel,
    /// The workers alone.
    Workers,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            doors: QuicDoors { doq: Some(DoorId(0)), doh3: None },
            allow: &["127.0.0.0/8", "127.0.0.0/8"],
            limits: Limits::default(),
            connections_per_client: 256,
            early_data: 0,
            load: None,
            workers: 1,
            steering: Steering::Kernel,
            fleet: None,
        }
    }
}

/// A door and what a test needs to see of it.
pub(crate) struct Rig {
    pub address: SocketAddr,
    pub script: Arc<Script>,
    pub counters: Arc<Counters>,
    /// Of all workers, the first one's again among them.
    pub all_counters: Vec<Arc<Counters>>,
    pub mailboxes: Arc<Mailboxes>,
    pub stop: Stop,
    pub gate: watch::Sender<bool>,
    pub served: JoinHandle<()>,
    root: CertificateDer<'static>,
}

impl Rig {
    pub fn start() -> Self {
        Self::with(Plan::default())
    }

    pub fn with(plan: Plan) -> Self {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        Self::at(plan, address, ownership())
    }

    /// At `address`, as the process that owns this.
    pub fn at(plan: Plan, address: SocketAddr, ownership: Ownership) -> Self {
        let (mut tls, root) = server_tls();
        Arc::make_mut(&mut tls).max_early_data_size = plan.early_data;
        let (gate, opened) = watch::channel(false);
        let script = Arc::new(Script {
            gate: opened,
            waiting: AtomicUsize::new(0),
            gone: Arc::new(watch::channel(0).0),
            peers: Mutex::default(),
        });
        let (stop, drain) = Stop::new();
        let counters = Arc::<Counters>::default();
        let allow = |list: &&str| if list.is_empty() { vec![] } else { vec![list.parse().unwrap()] };
        let terms = Terms {
            answer: Arc::clone(&script) as Arc<dyn Answer>,
            guard: Guard::new(Settings {
                allow: plan.allow.iter().map(allow).collect(),
                connections: 1000,
                connections_per_client: plan.connections_per_client,
                queries_per_second: 0,
                ..Settings::default()
            }),
            limits: plan.limits,
            paths: vec![String::from("/dns-query")].into(),
            pages: Arc::default(),
        };
        let terms = Arc::new(ArcSwap::from_pointee(terms));
        let door = Door { kind: DoorKind::Doq, address };
        let bound = bind::bind(&[door], plan.workers.into(), Absent::Refuse).unwrap().remove(0);
        let address = bound.address;
        let mailboxes = Arc::new(Mailboxes::new(ownership));
        if plan.steering == Steering::Kernel {
            steering::steer(&bound.udp, &ownership.key);
        }
        let row = mailboxes.row(address, plan.workers.into());
        let places = (0..).zip(bound.udp).map(|(index, socket)| Place { socket, index, row: Arc::clone(&row) });
        let doors = plan.doors;
        let crypto = Crypto { tls, tokens: Tokens::new(keys(plan.fleet)) };
        let mut served = Vec::new();
        let mut all_counters = Vec::new();
        for place in places {
            let counters = if place.index == 0 { Arc::clone(&counters) } else { Arc::default() };
            let context = Context::new(Arc::clone(&terms), Arc::clone(&counters), drain.clone());
            all_counters.push(counters);
            served.push(match plan.load {
                None => tokio::spawn(serve(place, doors, crypto.clone(), context)),
                Some(load) => {
                    let config = transport::server_config(crypto.clone(), doors, &plan.limits).unwrap();
                    let (endpoint, local) = endpoint(place, config, &context.counters).unwrap();
                    tokio::spawn(Reception::new(endpoint, local, doors, crypto.clone(), context).run(load))
                }
            });
        }
        let served = tokio::spawn(async move {
            for served in served {
                served.await.unwrap();
            }
        });
        Self { address, script, counters, all_counters, mailboxes, stop, gate, served, root }
    }

    pub fn client_config(&self, alpn: &str) -> quinn::ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        tls.enable_early_data = true;
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    pub fn client(&self, alpn: &str) -> quinn::Endpoint {
        let mut client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        client.set_default_client_config(self.client_config(alpn));
        client
    }

    pub async fn try_connect(&self, alpn: &str) -> Result<quinn::Connection, quinn::ConnectionError> {
        self.client(alpn).connect(self.address, "dns.test").unwrap().await
    }

    pub async fn connect(&self) -> quinn::Connection {
        self.try_connect("doq").await.unwrap()
    }
}

/// The keys of an instance whose fleet has this secret.
pub(crate) fn keys(fleet: Option<u8>) -> Arc<Keys> {
    let secrets = fleet.map(|octet| Secret::new([octet; 32])).into_iter().collect();
    Arc::new(Keys::new(&Fleet { secrets, ..Fleet::default() }, SystemTime::now()).unwrap())
}

fn server_tls() -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["dns.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"doq".to_vec(), b"h3".to_vec()];
    (Arc::new(tls), cert.der().clone())
}

/// A query for `name`, one label, with this id, and options in an OPT record if there are any.
pub(crate) fn query(id: u16, name: &str, options: &[u8]) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!options.is_empty())]);
    message.push(u8::try_from(name.len()).unwrap());
    message.extend(name.as_bytes());
    message.extend([0, 0, 1, 0, 1]);
    if !options.is_empty() {
        message.extend([0, 0, 41, 4, 0, 0, 0, 0, 0]);
        message.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        message.extend(options);
    }
    message
}

/// `message` behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// Asks `name` on a stream of its own; the whole stream as it came back.
pub(crate) async fn ask(connection: &quinn::Connection, name: &str) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&query(0, name, &[]))).await.unwrap();
    send.finish().unwrap();
    recv.read_to_end(70_000).await.unwrap()
}

/// The stream that answers [`ask`].
pub(crate) fn answer_to(name: &str) -> Vec<u8> {
    framed(&reply(&query(0, name, &[])))
}

/// Lets the runtime run until `done`; fails if that takes unreasonably long.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("never came about");
}
