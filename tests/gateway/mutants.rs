//! Real messages with something wrong: a thousand over each way to ask, a thousand from servers of each transport. Nothing panics,
//! connections and questions under way come back to none, and the next good question is answered.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hushgate::peer::Transport;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::admin::scrape_until;
use crate::harness::raw::{Noise, frame, rest};
use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::{Answer, Ask, Rig, client, message};

/// Mutants for each way to ask, and for each transport of servers.
const MANY: usize = 1000;

/// Where the noise begins; each way has its own, so that one alone fails as it does among the others.
const SEED: u64 = 8906;

/// The messages that mutants are made of: those the fuzz targets begin with, and such as clients send.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/wire_view");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut messages: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for name in ["a.example.org", "b.example.org", "localhost", "_dns.resolver.arpa", "1.2.0.192.in-addr.arpa"] {
        for rtype in [1, 28, 15, 16, 65, 252, 255, 65_535] {
            let ask = Ask::new(name, rtype).id(0);
            let full =
                ask.clone().dnssec().option(10, &[7; 8]).option(12, &[0; 32]).option(8, &[0, 1, 24, 0, 198, 51, 100]);
            messages.extend([ask.bytes(), full.option(3, &[]).bytes()]);
        }
    }
    messages
}

/// One to four things wrong with `octets`: bits, lengths that lie, what is missing, twice there, or another message's.
fn mutate(octets: &mut Vec<u8>, from: usize, corpus: &[Vec<u8>], noise: &mut Noise) {
    for _ in 0..=noise.below(3) {
        let at = from + noise.below(octets.len().saturating_sub(from).max(1));
        if at >= octets.len() {
            return octets.push(noise.next() as u8);
        }
        match noise.below(8) {
            0 => octets.truncate(at.max(1)),
            1 => octets.insert(at, noise.next() as u8),
            2 => octets[at] = [0, 0xff, 0xc0, 0x40, 12][noise.below(5)],
            3 => octets.extend_from_within(at..),
            4 => {
                let lie = [0, 1, 3, 11, 255, 0x3fff, 0x7fff, 0xffff][noise.below(8)];
                octets.splice(at..(at + 2).min(octets.len()), u16::to_be_bytes(lie));
            }
            5 => {
                let other = &corpus[noise.below(corpus.len())];
                octets.splice(at.., other[noise.below(other.len())..].iter().copied());
            }
            6 => _ = octets.drain(at..(at + 1 + noise.below(8)).min(octets.len())),
            _ => octets[at] ^= 1 << noise.below(8),
        }
        octets.truncate(4000);
    }
}

/// Everything in this message may be wrong.
fn mutant(corpus: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let mut octets = corpus[noise.below(corpus.len())].clone();
    mutate(&mut octets, 0, corpus, noise);
    octets
}

/// A way to ask.
#[derive(Clone, Copy, Debug)]
struct Way {
    transport: Transport,
    get: bool,
}

impl Way {
    fn all() -> impl Iterator<Item = Self> {
        let http = [Transport::Doh1, Transport::Doh2, Transport::Doh3];
        let gets = http.into_iter().map(|transport| Self { transport, get: true });
        Transport::ALL.into_iter().map(|transport| Self { transport, get: false }).chain(gets)
    }

    fn request(self, rig: &Rig, message: &[u8]) -> Request<Full<Bytes>> {
        if self.get { rig.get(message) } else { rig.post(message) }
    }

    /// Sends `mutants`, and hears what there is to hear.
    async fn send(self, rig: &Rig, mutants: Vec<Vec<u8>>) {
        match self.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                for mutant in mutants {
                    socket.send_to(&mutant, rig.dns()).await.unwrap();
                }
            }
            Transport::Tcp | Transport::Dot => {
                // A message that is no query closes the connection: the rest go over another.
                for part in mutants.chunks(5) {
                    let (mut reader, mut writer) = tokio::io::split(rig.stream(self.transport).await);
                    let part: Vec<u8> = part.iter().flat_map(|mutant| frame(mutant)).collect();
                    let writing = async {
                        _ = writer.write_all(&part).await;
                        _ = writer.shutdown().await;
                    };
                    tokio::join!(writing, async { rest(&mut reader).await });
                }
            }
            Transport::Doh1 => self.over_http_1(rig, mutants).await,
            Transport::Doh2 => self.over_http_2(rig, mutants).await,
            Transport::Doh3 => self.over_http_3(rig, mutants).await,
            Transport::Doq => {
                let mut connection = rig.doq_connection().await;
                for mutant in mutants {
                    if connection.1.close_reason().is_some() {
                        connection = rig.doq_connection().await;
                    }
                    client::doq_exchange(&connection.1, &mutant).await;
                }
            }
        }
    }

    async fn over_http_1(self, rig: &Rig, mutants: Vec<Vec<u8>>) {
        let mut kept: Option<http1::SendRequest<Full<Bytes>>> = None;
        for mutant in mutants {
            let mut sender = if let Some(sender) = kept.take().filter(|sender| !sender.is_closed()) {
                sender
            } else {
                let (sender, driver) = http1::handshake(TokioIo::new(rig.https(b"http/1.1").await)).await.unwrap();
                tokio::spawn(driver);
                sender
            };
            let mut request = self.request(rig, &mutant);
            *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
            request.headers_mut().insert("host", "localhost".parse().unwrap());
            let response = sender.send_request(request).await.unwrap();
            judge(response.status().as_u16());
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            if sender.ready().await.is_ok() {
                kept = Some(sender);
            }
        }
    }

    async fn over_http_2(self, rig: &Rig, mutants: Vec<Vec<u8>>) {
        let (mut sender, connection) = h2::client::handshake(rig.https(b"h2").await).await.unwrap();
        tokio::spawn(connection);
        for mutant in mutants {
            sender = sender.ready().await.unwrap();
            let (response, mut body) = sender.send_request(self.request(rig, &mutant).map(drop), self.get).unwrap();
            if !self.get {
                body.send_data(mutant.into(), true).unwrap();
            }
            judge(response.await.unwrap().status().as_u16());
        }
    }

    async fn over_http_3(self, rig: &Rig, mutants: Vec<Vec<u8>>) {
        let trust = client::trust(&rig.authority(), &[b"h3"]);
        let (_endpoint, connection) = client::quic(rig.doh(), trust).await.unwrap();
        let (mut driver, mut sender) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
        let driving = tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        for mutant in mutants {
            let mut stream = sender.send_request(self.request(rig, &mutant).map(drop)).await.unwrap();
            if !self.get {
                // It may have been answered already.
                _ = stream.send_data(mutant.into()).await;
            }
            _ = stream.finish().await;
            judge(stream.recv_response().await.unwrap().status().as_u16());
            while let Ok(Some(_)) = stream.recv_data().await {}
        }
        driving.abort();
    }
}

/// A DNS answer, "no DNS message", "too large a query string": nothing that says "our fault".
fn judge(status: u16) {
    assert!([200, 400, 413, 414].contains(&status), "status {status}");
}

#[tokio::test]
async fn a_thousand_mutants_over_each_way_provoke_no_panic_and_leave_nothing_behind() {
    let rig = Rig::set("[limits]\nqueries_per_second = 0", &["upstream.timeout=500ms"]).await;
    let corpus = corpus();
    for (way, seed) in Way::all().zip(SEED..) {
        eprintln!("{way:?}, seed {seed}");
        let mut noise = Noise::new(seed);
        for batch in 0..4 {
            let mutants = (0..MANY / 4).map(|_| mutant(&corpus, &mut noise)).collect();
            timeout(client::PATIENCE, way.send(&rig, mutants)).await.unwrap();
            let name = format!("good{batch}.{}.{}.example.net", way.get, way.transport.name());
            let reply = rig.ask(way.transport, &Ask::a(&name).id(0).bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "after batch {batch}");
        }
        assert_eq!(rig.metric("hushgate_panics_total").await, 0, "seed {seed}");
    }
    rig.assert_well("mutants").await;
    assert_nothing_left(&rig).await;
}

/// No connection and no question under way. (Memory is measured where nothing else runs: `tests/fuzz/mutate.rs`.)
async fn assert_nothing_left(rig: &Rig) {
    let left = |what: &'static str| move |now: &crate::admin::openmetrics::Scrape| now.value(what) < 0.5;
    scrape_until(rig.admin(), left("joins")).await;
    scrape_until(rig.admin(), left("connections_held")).await;
}

/// Every kind of server there is.
const LEGS: [Leg; 6] = [Leg::Udp, Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic];

/// An answer to `query` of one of many shapes, most of them wrong behind the question, some anywhere.
fn mutant_answer(query: &[u8], corpus: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let soa = |answer: Answer| answer.soa("example", 60, 60);
    let shape = match noise.below(5) {
        0 => Answer::new().a(300, [192, 0, 2, 1]),
        1 => {
            Answer::new().answer("@", 5, 300, &message::name("t.example")).answer("t.example", 1, 300, &[192, 0, 2, 2])
        }
        2 => soa(Answer::new().rcode(3)),
        3 => soa(Answer::new()).authority(
            "@",
            46,
            60,
            &[&[0, 6, 8, 2][..], &[0; 14], &message::name("example"), &[5; 64]].concat(),
        ),
        _ => Answer::new().answer("@", 15, 60, &[0, 1, 0xc0, 12]).additional("x.example", 28, 60, &[1; 16]),
    };
    let mut octets = shape.opt(&[(15, &[0, 22, b'x']), (10, &[1; 16])]).to(query);
    let from = if noise.below(4) == 0 { 0 } else { message::question_end(query) };
    mutate(&mut octets, from, corpus, noise);
    octets
}

/// What reaches a client can be read to its end; what the data of a record means is not ours to judge.
fn assert_whole(reply: &[u8]) {
    use hushgate::wire::{Header, Record, Records};
    let header = Header::parse(reply).unwrap();
    let records: Vec<Record> = Records::new(reply, &header).unwrap().map(Result::unwrap).collect();
    let counts = message::counts(reply);
    assert_eq!(records.len(), counts[1..].iter().map(|&count| usize::from(count)).sum::<usize>());
    assert_eq!(records.last().map_or(message::question_end(reply), |last| last.rdata.end.into()), reply.len());
}

#[tokio::test]
async fn a_thousand_mutants_from_servers_of_each_transport_provoke_no_panic_and_are_forgotten() {
    let authority = Authority::new();
    let messages = Arc::new(corpus());
    let good = Arc::new(AtomicBool::new(false));
    let mut servers = Vec::new();
    let mut toml = String::from("[limits]\nqueries_per_second = 0\noutstanding_per_domain = 2000\n");
    for (leg, seed) in LEGS.into_iter().zip(SEED..) {
        eprintln!("{leg:?}, seed {seed}");
        let noise = std::sync::Mutex::new(Noise::new(seed));
        let (messages, good) = (Arc::clone(&messages), Arc::clone(&good));
        let server = Server::saying(leg, &authority, move |query| {
            if good.load(Ordering::SeqCst) {
                return Answer::new().a(300, [192, 0, 2, 9]).to(query);
            }
            mutant_answer(query, &messages, &mut noise.lock().unwrap())
        });
        let server = server.await;
        let scheme = leg.scheme();
        write!(
            toml,
            "[pool.{scheme}]\nservers = [{}]\ntimeout = \"400ms\"\nattempt_timeout = \"150ms\"\n\
             [[forward]]\ndomains = [\"{scheme}.example\"]\npool = \"{scheme}\"\n",
            server.entry()
        )
        .unwrap();
        servers.push(server);
    }
    let rig = Arc::new(Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await);
    for server in &servers {
        let mut asked = 0;
        while server.questions() < MANY {
            assert!(asked < 20 * MANY, "{:?} hears {} of {asked} questions", server.leg, server.questions());
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..100 {
                asked += 1;
                let name = format!("n{asked}.{}.example", server.leg.scheme());
                let (rig, ask) = (Arc::clone(&rig), Ask::a(&name).id(0).edns());
                asking.spawn(async move {
                    let reply = rig.ask(Transport::Udp, &ask.bytes()).await.message;
                    assert_whole(&reply);
                });
            }
            asking.join_all().await;
        }
        assert_eq!(rig.metric("hushgate_panics_total").await, 0, "{:?}", server.leg);
    }
    good.store(true, Ordering::SeqCst);
    for server in &servers {
        let until = Instant::now() + client::PATIENCE;
        for round in 0.. {
            let ask = Ask::a(&format!("good{round}.{}.example", server.leg.scheme())).bytes();
            if rig.ask(Transport::Udp, &ask).await.message.ends_with(&[192, 0, 2, 9]) {
                break;
            }
            assert!(Instant::now() < until, "{:?} is never asked again", server.leg);
            // It may be left alone for a moment first.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    rig.assert_well("answers").await;
    assert_nothing_left(&rig).await;
}
