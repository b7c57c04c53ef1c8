//! Upstream servers of every transport that can be broken in a chosen way, mended, and made to close what rests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::client::{read_framed, send_framed};
use super::message::{Answer, question_end};

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Udp,
    Tcp,
    Tls,
    Https,
    H3,
    Quic,
}

/// What a server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    WrongId,
    WrongQuestion,
    /// TC, over a stream too.
    Truncated,
    /// A message that ends within a record.
    CutShort,
    /// More than a message may be.
    Oversized,
    /// A name that points to itself.
    Loop,
    Unavailable,
    Redirect,
    Html,
    /// The connection, or the stream of the question, is reset within the answer.
    Reset,
    /// TLS says no.
    Alert,
    Stranger,
    Expired,
    OtherName,
    /// An octet now and then.
    Drip,
    /// Accepts, and never answers.
    Silent,
    Closes,
    /// Octets of no protocol.
    Garbage,
}

impl Leg {
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    const fn alpn(self) -> &'static str {
        match self {
            Self::Udp | Self::Tcp => "",
            Self::Tls => "dot",
            Self::Https => "h2",
            Self::H3 => "h3",
            Self::Quic => "doq",
        }
    }

    /// What a server of this kind can do wrong.
    pub fn faults(self) -> Vec<Fault> {
        use Fault::*;
        let messages = [WrongId, WrongQuestion, Truncated, CutShort, Loop, Silent, Garbage];
        let proofs = [Alert, Stranger, Expired, OtherName];
        let streams = [Oversized, Reset, Drip, Closes];
        let http = [Unavailable, Redirect, Html];
        let more: &[&[Fault]] = match self {
            Self::Udp => &[],
            Self::Tcp => &[&streams],
            Self::Tls | Self::Quic => &[&streams, &proofs],
            Self::Https | Self::H3 => &[&streams, &proofs, &http],
        };
        // A message behind its length cannot be longer than it may be.
        let all = messages.into_iter().chain(more.iter().copied().flatten().copied());
        all.filter(|&fault| fault != Oversized || !matches!(self, Self::Tcp | Self::Tls)).collect()
    }
}

/// An authority of the test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// TLS for a server called `name`, until so many seconds after 1970.
    fn identity(&self, name: &str, alpn: &str, end: i64) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = OffsetDateTime::from_unix_timestamp(0).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(end).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], secret);
        let mut config = config.unwrap();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// A server; its tasks end with the test's runtime.
pub struct Server {
    pub leg: Leg,
    pub fault: Option<Fault>,
    pub address: SocketAddr,
    state: Arc<State>,
}

/// What a server says to a question.
type Say = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

struct State {
    /// Says this whatever the fault.
    say: Option<Box<Say>>,
    fault: Option<Fault>,
    mended: AtomicBool,
    /// How long a connection may rest.
    rest: Option<Duration>,
    last: [u8; 4],
    connections: AtomicUsize,
    questions: AtomicUsize,
    log: Mutex<Vec<Vec<u8>>>,
}

impl Server {
    /// A good server that answers everything with 192.0.2.`octet` and closes connections that rest for `rest`.
    pub async fn good(leg: Leg, octet: u8, authority: &Authority, rest: Option<Duration>) -> Self {
        Self::start(leg, authority, State { rest, ..State::new(octet) }).await
    }

    /// One that is well but for its messages, which `say` makes of each question.
    pub async fn saying(
        leg: Leg,
        authority: &Authority,
        say: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start(leg, authority, State { say: Some(Box::new(say)), ..State::new(9) }).await
    }

    /// One that is broken until it is mended; then it answers with 192.0.2.9.
    pub async fn broken(leg: Leg, fault: Fault, authority: &Authority) -> Self {
        Self::start(leg, authority, State { fault: Some(fault), ..State::new(9) }).await
    }

    async fn start(leg: Leg, authority: &Authority, state: State) -> Self {
        let (fault, state) = (state.fault, Arc::new(state));
        let address = match leg {
            Leg::Udp => plain(&state).await,
            Leg::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(accept(listener, Arc::clone(&state), None));
                address
            }
            Leg::Tls | Leg::Https => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(accept(listener, Arc::clone(&state), Some((leg, Identities::new(leg, fault, authority)))));
                address
            }
            Leg::H3 | Leg::Quic => quic(leg, &state, &Identities::new(leg, fault, authority)),
        };
        Self { leg, fault, address, state }
    }

    /// The fault is gone.
    pub fn mend(&self) {
        self.state.mended.store(true, Ordering::SeqCst);
    }

    /// Connections so far: over UDP none.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Questions so far, whose octets could be read.
    pub fn questions(&self) -> usize {
        self.state.questions.load(Ordering::SeqCst)
    }

    /// The questions themselves.
    pub fn log(&self) -> Vec<Vec<u8>> {
        self.state.log.lock().unwrap().clone()
    }

    /// As an entry of `servers` with more fields.
    pub fn entry_with(&self, fields: &str) -> String {
        let url = format!("{}://{}", self.leg.scheme(), self.address);
        let ca = if self.leg.alpn().is_empty() { "" } else { "ca = \"ca.pem\", " };
        format!("{{ url = {url:?}, {ca}{fields} }}")
    }

    /// As an entry of `servers`, trusting the authority in `ca.pem` beside the configuration where there is something to trust.
    pub fn entry(&self) -> String {
        let url = format!("{}://{}", self.leg.scheme(), self.address);
        if self.leg.alpn().is_empty() { format!("{url:?}") } else { format!("{{ url = {url:?}, ca = \"ca.pem\" }}") }
    }
}

/// The identity shown while the server is broken, and the good one.
#[derive(Clone)]
struct Identities {
    broken: Arc<rustls::ServerConfig>,
    good: Arc<rustls::ServerConfig>,
}

impl Identities {
    fn new(leg: Leg, fault: Option<Fault>, authority: &Authority) -> Self {
        const FAR: i64 = 4_000_000_000;
        let good = authority.identity("127.0.0.1", leg.alpn(), FAR);
        let broken = match fault {
            Some(Fault::Stranger) => Authority::new().identity("127.0.0.1", leg.alpn(), FAR),
            Some(Fault::Expired) => authority.identity("127.0.0.1", leg.alpn(), 1_600_000_000),
            Some(Fault::OtherName) => authority.identity("dns.example", leg.alpn(), FAR),
            // Over QUIC the alert is about ALPN: others it makes by itself alone.
            Some(Fault::Alert) => authority.identity("127.0.0.1", "none", FAR),
            _ => Arc::clone(&good),
        };
        Self { broken, good }
    }

    fn choose(&self, state: &State) -> Arc<rustls::ServerConfig> {
        Arc::clone(if state.fault().is_some() { &self.broken } else { &self.good })
    }
}

impl State {
    /// Of a good server that answers everything with 192.0.2.`octet`.
    fn new(octet: u8) -> Self {
        Self {
            say: None,
            fault: None,
            mended: AtomicBool::new(false),
            rest: None,
            last: [192, 0, 2, octet],
            connections: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            log: Mutex::default(),
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.filter(|_| !self.mended.load(Ordering::SeqCst))
    }

    /// The message that answers `query`, as wrong as the fault has it; None where nothing is to be said.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.log.lock().unwrap().push(query.to_vec());
        if let Some(say) = &self.say {
            return Some(say(query));
        }
        let mut message = Answer::new().a(300, self.last).to(query);
        let end = question_end(query);
        match self.fault() {
            Some(Fault::Silent) => return None,
            Some(Fault::WrongId) => message[1] ^= 1,
            Some(Fault::WrongQuestion) => message[13] ^= 2,
            Some(Fault::Truncated) => message[2] |= 2,
            Some(Fault::CutShort) => message.truncate(message.len() - 3),
            Some(Fault::Loop) => message[end..end + 2].copy_from_slice(&[0xc0, u8::try_from(end).unwrap()]),
            Some(Fault::Oversized) => message.resize(70_000, 0),
            Some(Fault::Garbage) => message = vec![0xa5; 600],
            _ => {}
        }
        Some(message)
    }

    /// Ends once the connection has rested for longer than the server likes.
    async fn rested(&self, asked: &Mutex<Instant>) {
        let Some(rest) = self.rest else { return std::future::pending().await };
        loop {
            let until = *asked.lock().unwrap() + rest;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// Between two octets of a dripping answer: its whole takes far longer than anyone waits.
const DRIP: Duration = Duration::from_millis(100);

async fn plain(state: &Arc<State>) -> SocketAddr {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = tcp.local_addr().unwrap();
    tokio::spawn(accept(tcp, Arc::clone(state), None));
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            if let Some(answer) = state.answer(&buffer[..length]) {
                udp.send_to(&answer, from).await.ok();
            }
        }
    });
    address
}

async fn accept(listener: TcpListener, state: Arc<State>, secured: Option<(Leg, Identities)>) {
    while let Ok((tcp, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (state, secured) = (Arc::clone(&state), secured.clone());
        tokio::spawn(async move {
            match secured {
                Some((leg, identities)) => secure(tcp, leg, &identities, state).await,
                None => converse(linger(tcp, &state), state).await,
            }
        });
    }
}

/// Closed by a reset where that is the fault.
fn linger(tcp: TcpStream, state: &State) -> TcpStream {
    tcp.set_nodelay(true).unwrap();
    if state.fault() == Some(Fault::Reset) {
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
    tcp
}

async fn secure(tcp: TcpStream, leg: Leg, identities: &Identities, state: Arc<State>) {
    let mut tcp = linger(tcp, &state);
    match state.fault() {
        Some(Fault::Closes) => return,
        Some(Fault::Alert) => {
            tcp.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.ok();
            tcp.read_to_end(&mut Vec::new()).await.ok();
            return;
        }
        _ => {}
    }
    let acceptor = tokio_rustls::TlsAcceptor::from(identities.choose(&state));
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    if leg == Leg::Tls { converse(stream, state).await } else { serve_http(stream, state).await }
}

/// Messages behind their length, answered one after the other.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: Arc<State>) {
    let asked = Mutex::new(Instant::now());
    loop {
        if state.fault() == Some(Fault::Closes) {
            return;
        }
        let query = tokio::select! {
            query = read_framed(&mut stream) => query,
            () = state.rested(&asked) => None,
        };
        let Some(query) = query else { return };
        *asked.lock().unwrap() = Instant::now();
        let Some(answer) = state.answer(&query) else { continue };
        let framed = [&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat();
        let sent = match state.fault() {
            Some(Fault::Reset) => {
                stream.write_all(&framed[..9]).await.ok();
                stream.flush().await.ok();
                return;
            }
            Some(Fault::Drip) => drip(&mut stream, &framed).await,
            Some(Fault::Garbage) => {
                stream.write_all(&answer).await.ok();
                stream.flush().await.ok();
                return;
            }
            _ => send_framed(&mut stream, &answer).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn drip<S: AsyncWrite + Unpin>(stream: &mut S, octets: &[u8]) -> std::io::Result<()> {
    for octet in octets {
        stream.write_all(&[*octet]).await?;
        stream.flush().await?;
        sleep(DRIP).await;
    }
    Ok(())
}

/// A body in pieces with a pause before each, that ends well or does not.
struct Pieces {
    left: VecDeque<Bytes>,
    pause: Option<Pin<Box<Sleep>>>,
    breaks: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            pause.as_mut().reset(Instant::now() + DRIP);
        }
        let piece = self.left.pop_front().map(|piece| Ok(Frame::data(piece)));
        Poll::Ready(piece.or_else(|| self.breaks.then(|| Err(std::io::ErrorKind::ConnectionReset.into()))))
    }
}

/// Head and body of the response to `query`; None: no response at all.
fn respond(state: &State, query: &[u8]) -> Option<(Response<()>, Vec<u8>)> {
    let mut response = Response::builder().header("content-type", "application/dns-message");
    match state.fault() {
        Some(Fault::Unavailable) => response = response.status(503),
        Some(Fault::Redirect) => response = response.status(302).header("location", "/elsewhere"),
        Some(Fault::Html) => response = Response::builder().header("content-type", "text/html"),
        _ => {}
    }
    Some((response.body(()).unwrap(), state.answer(query)?))
}

async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut stream: S, state: Arc<State>) {
    if state.fault() == Some(Fault::Garbage) {
        stream.write_all(&[0xa5; 600]).await.ok();
        stream.flush().await.ok();
        stream.read_to_end(&mut Vec::new()).await.ok();
        return;
    }
    let asked = Arc::new(Mutex::new(Instant::now()));
    let (shared, stamp) = (Arc::clone(&state), Arc::clone(&asked));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (state, stamp) = (Arc::clone(&shared), Arc::clone(&stamp));
        async move {
            let query = request.into_body().collect().await?.to_bytes();
            *stamp.lock().unwrap() = Instant::now();
            let Some((head, body)) = respond(&state, &query) else { return std::future::pending().await };
            let fault = state.fault();
            let is_slow = fault == Some(Fault::Drip);
            let mut left: VecDeque<Bytes> =
                body.chunks(if is_slow { 1 } else { 20 }).map(Bytes::copy_from_slice).collect();
            left.truncate(if fault == Some(Fault::Reset) { 1 } else { usize::MAX });
            let pause = is_slow.then(|| Box::pin(sleep(DRIP)));
            Ok::<_, hyper::Error>(head.map(|()| Pieces { left, pause, breaks: fault == Some(Fault::Reset) }))
        }
    });
    let serving =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        () = state.rested(&asked) => {}
    }
}

fn quic(leg: Leg, state: &Arc<State>, identities: &Identities) -> SocketAddr {
    let config = |tls: &Arc<rustls::ServerConfig>| {
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(Arc::clone(tls)).unwrap();
        Arc::new(quinn::ServerConfig::with_crypto(Arc::new(crypto)))
    };
    let (broken, good) = (config(&identities.broken), config(&identities.good));
    let endpoint = quinn::Endpoint::server((*good).clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let state = Arc::clone(state);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            state.connections.fetch_add(1, Ordering::SeqCst);
            let config = Arc::clone(if state.fault().is_some() { &broken } else { &good });
            let Ok(connecting) = incoming.accept_with(config) else { continue };
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let Ok(connection) = connecting.await else { return };
                match (state.fault(), leg) {
                    (Some(Fault::Closes), _) => connection.close(2_u8.into(), b""),
                    (Some(Fault::Garbage), _) | (_, Leg::Quic) => serve_doq(connection, state).await,
                    _ => serve_h3(connection, state).await,
                }
            });
        }
    });
    address
}

async fn serve_doq(connection: quinn::Connection, state: Arc<State>) {
    let asked = Arc::new(Mutex::new(Instant::now()));
    loop {
        let (mut sending, mut receiving) = tokio::select! {
            streams = connection.accept_bi() => match streams {
                Ok(streams) => streams,
                Err(_) => return,
            },
            () = state.rested(&asked) => return connection.close(0_u8.into(), b""),
        };
        *asked.lock().unwrap() = Instant::now();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            if state.fault() == Some(Fault::Garbage) {
                sending.write_all(&[0xa5; 600]).await.ok();
                sending.finish().ok();
                return;
            }
            let Ok(query) = receiving.read_to_end(65_537).await else { return };
            let Some(answer) = query.get(2..).and_then(|query| state.answer(query)) else {
                return std::future::pending().await;
            };
            let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
            match state.fault() {
                Some(Fault::Reset) => {
                    sending.write_all(&framed[..9]).await.ok();
                    sending.reset(1_u8.into()).ok();
                    return;
                }
                Some(Fault::Drip) => drip(&mut sending, &framed).await.unwrap_or_default(),
                _ => sending.write_all(&framed).await.unwrap_or_default(),
            }
            sending.finish().ok();
        });
    }
}

async fn serve_h3(connection: quinn::Connection, state: Arc<State>) {
    let wrapped = h3_quinn::Connection::new(connection.clone());
    let Ok(mut server) = h3::server::builder().build::<_, Bytes>(wrapped).await else { return };
    let asked = Arc::new(Mutex::new(Instant::now()));
    loop {
        let resolver = tokio::select! {
            accepted = server.accept() => match accepted {
                Ok(Some(resolver)) => resolver,
                _ => return,
            },
            () = state.rested(&asked) => return connection.close(0x100_u32.into(), b""),
        };
        *asked.lock().unwrap() = Instant::now();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let Ok((_, mut stream)) = resolver.resolve_request().await else { return };
            let mut query = Vec::new();
            while let Ok(Some(mut part)) = stream.recv_data().await {
                query.extend_from_slice(&part.copy_to_bytes(part.remaining()));
            }
            let Some((head, body)) = respond(&state, &query) else { return std::future::pending().await };
            if stream.send_response(head).await.is_err() {
                return;
            }
            match state.fault() {
                Some(Fault::Reset) => {
                    stream.send_data(Bytes::copy_from_slice(&body[..9])).await.ok();
                    stream.stop_stream(h3::error::Code::H3_INTERNAL_ERROR);
                    return;
                }
                Some(Fault::Drip) => {
                    for octet in body {
                        if stream.send_data(Bytes::copy_from_slice(&[octet])).await.is_err() {
                            return;
                        }
                        sleep(DRIP).await;
                    }
                }
                _ => _ = stream.send_data(body.into()).await,
            }
            stream.finish().await.ok();
        });
    }
}
