//! Real messages with something wrong, and all ways to send them.

use std::path::Path;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hushgate::peer::Transport;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;

use super::raw::{Noise, frame, rest};
use super::{Ask, Rig, client};

/// The messages that mutants are made of: those the fuzz targets begin with, and such as clients send.
pub fn corpus() -> Vec<Vec<u8>> {
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
pub fn mutate(octets: &mut Vec<u8>, from: usize, corpus: &[Vec<u8>], noise: &mut Noise) {
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
pub fn mutant(corpus: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let mut octets = corpus[noise.below(corpus.len())].clone();
    mutate(&mut octets, 0, corpus, noise);
    octets
}

/// A way to ask.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub transport: Transport,
    pub get: bool,
}

impl Way {
    pub fn all() -> impl Iterator<Item = Self> {
        let http = [Transport::Doh1, Transport::Doh2, Transport::Doh3];
        let gets = http.into_iter().map(|transport| Self { transport, get: true });
        Transport::ALL.into_iter().map(|transport| Self { transport, get: false }).chain(gets)
    }

    fn request(self, rig: &Rig, message: &[u8]) -> Request<Full<Bytes>> {
        if self.get { rig.get(message) } else { rig.post(message) }
    }

    /// Sends `mutants`, over QUIC from `endpoint`, and hears what there is to hear.
    pub async fn send(self, rig: &Rig, endpoint: &quinn::Endpoint, mutants: Vec<Vec<u8>>) {
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
            Transport::Doh3 => self.over_http_3(rig, endpoint, mutants).await,
            Transport::Doq => {
                let connect = || async {
                    let trust = client::trust(&rig.authority(), &[b"doq"]);
                    client::quic_from(endpoint, rig.doq(), trust).await.unwrap()
                };
                let mut connection = connect().await;
                for mutant in mutants {
                    if connection.close_reason().is_some() {
                        connection = connect().await;
                    }
                    client::doq_exchange(&connection, &mutant).await;
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

    async fn over_http_3(self, rig: &Rig, endpoint: &quinn::Endpoint, mutants: Vec<Vec<u8>>) {
        let trust = client::trust(&rig.authority(), &[b"h3"]);
        let connection = client::quic_from(endpoint, rig.doh(), trust).await.unwrap();
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
