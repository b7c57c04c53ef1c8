//! Scripted servers for the tests of this folder: real sockets on loopback, real TLS, certificates made on the spot.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::commons::Commons;
use super::delivery::{Delivered, Window};
use super::doh::Version;
use super::error::ExchangeError;
use super::hop::Hop;
use super::kept::Home;
use super::server::Upstream;
use super::{Ask, Server};
use crate::trail::{Attempts, UpstreamId};
use crate::wire::registry::{option, rtype};
use crate::wire::{Flags, Header, OptWriter, Question, name, patch};

/// The question for A of `name`.
pub fn ask(name: &str) -> Arc<Ask> {
    Arc::new(Ask::new(&name::from_text(name).unwrap(), rtype::A))
}

/// An empty answer to `query` with `flags` beside QR.
pub fn reply(query: &[u8], flags: u16) -> Vec<u8> {
    let header = Header::parse(query).unwrap();
    let head = Header { id: header.id, flags: Flags(Flags::QR | flags), questions: 1, ..Header::default() };
    let mut message = head.to_octets().to_vec();
    message.extend(Question::parse(query).unwrap().octets(query));
    message
}

/// The same with another id.
pub fn reply_as(id: u16, query: &[u8]) -> Vec<u8> {
    let mut message = reply(query, 0);
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

/// The COOKIE option of a query or reply, empty where there is none.
pub fn cookie_of(message: &[u8]) -> Vec<u8> {
    Hop::read(message).cookie.map(|data| data.of(message).to_vec()).unwrap_or_default()
}

/// A reply with an OPT: `rcode`, and the client's cookie with `server` behind it where it sent one.
pub fn cookied(query: &[u8], rcode: u16, server: &[u8]) -> Vec<u8> {
    let mut message = reply(query, rcode & 0xf);
    let mut writer = OptWriter::start(&mut message, 1232, rcode, false);
    if let Some(client) = cookie_of(query).get(..8) {
        writer.option(option::COOKIE, &[client, server]);
    }
    writer.finish();
    patch::add_additional(&mut message);
    message
}

/// The first label asked for.
pub fn label(query: &[u8]) -> String {
    let length = usize::from(query[12]);
    String::from_utf8(query[13..13 + length].to_vec()).unwrap()
}

pub fn home() -> Home {
    Home::new(&Commons::new(Handle::current()), Duration::from_secs(5))
}

/// A window that ends in `millis`.
pub fn window(millis: u64, sends: u8) -> Window {
    Window { until: Instant::now() + Duration::from_millis(millis), sends }
}

/// One attempt with plenty of time at `server`.
pub async fn attempt(server: &Server, ask: &Arc<Ask>) -> (Result<Delivered, ExchangeError>, Attempts) {
    let upstream = Upstream::new(server, UpstreamId(7), &home()).unwrap();
    let mut attempts = Attempts::default();
    let result = upstream.attempt(ask, window(10_000, 2), &mut attempts).await;
    (result.map(|(delivered, _)| delivered), attempts)
}

/// What a server sends back for the octets of a query.
pub type Respond = fn(&[u8]) -> Vec<u8>;

/// An authority of its own, its certificate in a file that goes away with it.
pub struct Authority {
    pub file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let unique = format!("{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(format!("hushgate-upstream-{unique}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { file, issuer: Issuer::new(params, key) }
    }

    /// TLS for a server with a certificate for `names`; also its public key, as a pin digests it.
    pub fn identity(&self, names: &[&str], alpn: &[&str]) -> (Arc<ServerConfig>, Vec<u8>) {
        self.identity_for(names, alpn, (0, 4_000_000_000))
    }

    /// The same, valid from and to a time in seconds since 1970.
    pub fn identity_for(&self, names: &[&str], alpn: &[&str], life: (i64, i64)) -> (Arc<ServerConfig>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
        params.not_before = OffsetDateTime::from_unix_timestamp(life.0).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(life.1).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], secret)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        (Arc::new(config), key.subject_public_key_info())
    }

    /// `server` at `address` over `scheme`, trusting this authority alone.
    pub fn server(&self, scheme: &str, address: SocketAddr) -> Server {
        let mut server = plain(scheme, address);
        server.ca = Some(self.file.clone());
        server
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// `address` over `scheme`.
pub fn plain(scheme: &str, address: SocketAddr) -> Server {
    Server::new(format!("{scheme}://{address}").parse().unwrap())
}

pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub async fn datagrams() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The next message on a stream, `None` at its end.
pub async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

pub async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) {
    let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(message);
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
}

/// Answers every message on `stream` with what `respond` makes of it.
pub async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, respond: Respond) {
    while let Some(query) = read_frame(&mut stream).await {
        write_frame(&mut stream, &respond(&query)).await;
    }
}

/// A port where connections are refused for as long as the socket is held: bound, so that nobody else comes to listen there.
pub fn refusing() -> (socket2::Socket, SocketAddr) {
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = held.local_addr().unwrap().as_socket().unwrap();
    (held, address)
}

/// A port where datagrams meet an ICMP error for as long as the socket is held: it hears none but its own.
pub async fn unheard() -> (UdpSocket, SocketAddr) {
    let (held, address) = datagrams().await;
    held.connect(address).await.unwrap();
    (held, address)
}

/// One port of 127.0.0.1 for datagrams and for TCP, where nobody listens and nobody else can.
pub async fn deaf_pair() -> (UdpSocket, socket2::Socket, SocketAddr) {
    loop {
        let (socket, address) = datagrams().await;
        let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        if deaf.bind(&address.into()).is_ok() {
            return (socket, deaf, address);
        }
    }
}

/// A plain server on UDP that answers each datagram; none where `respond` answers nothing. Counts what it hears.
///
/// Nobody takes connections at its port.
pub async fn udp_server(respond: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> (SocketAddr, Arc<AtomicU32>) {
    let (socket, deaf, address) = deaf_pair().await;
    let heard = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&heard);
    tokio::spawn(async move {
        let _deaf = deaf;
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = respond(&buffer[..length]);
            if !answer.is_empty() {
                socket.send_to(&answer, peer).await.unwrap();
            }
        }
    });
    (address, heard)
}

/// A TLS server that hands each secured stream to `serve`.
pub async fn tls_server<F, R>(config: Arc<ServerConfig>, serve: F) -> SocketAddr
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream));
            }
        }
    });
    address
}

/// What an HTTP server makes of a request.
pub type Handler = fn(&Request<()>, &[u8]) -> Response<Bytes>;

/// A DoH server on HTTP/1.1 and HTTP/2, whichever ALPN chose.
pub async fn https_server(config: Arc<ServerConfig>, handler: Handler) -> SocketAddr {
    tls_server(config, move |stream| async move {
        let old = stream.get_ref().1.alpn_protocol() == Some(b"http/1.1");
        serve_http(stream, if old { Version::Http1 } else { Version::Http2 }, handler).await;
    })
    .await
}

/// Answers every request on an HTTP connection.
pub async fn serve_http<S>(stream: S, version: Version, handler: Handler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(handler(&Request::from_parts(head, ()), &body).map(Full::new))
    });
    let io = TokioIo::new(stream);
    // A client that leaves is no fault of the server's.
    let _ = match version {
        Version::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        Version::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
}

/// A plain server on TCP.
pub async fn tcp_server(respond: Respond) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_stream(stream, respond));
        }
    });
    address
}

/// Answers every stream of a DoQ connection with `respond`'s message.
pub async fn serve_doq(connection: quinn::Connection, respond: Respond) {
    while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
        let query = receiving.read_to_end(65_537).await.unwrap();
        let answer = respond(&query[2..]);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        sending.write_all(&[&length[..], &answer].concat()).await.unwrap();
        sending.finish().unwrap();
    }
}

/// A QUIC server that hands each connection to `serve`.
pub fn quic_server<F, R>(config: Arc<ServerConfig>, serve: F) -> SocketAddr
where
    F: Fn(quinn::Connection) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    quic_server_with(config, "127.0.0.1:0".parse().unwrap(), 100, serve)
}

/// The same at `bind`, with so many streams allowed at once.
pub fn quic_server_with<F, R>(config: Arc<ServerConfig>, bind: SocketAddr, streams: u32, serve: F) -> SocketAddr
where
    F: Fn(quinn::Connection) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut limits = quinn::TransportConfig::default();
    limits.max_concurrent_bidi_streams(streams.into());
    config.transport_config(Arc::new(limits));
    let endpoint = quinn::Endpoint::server(config, bind).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            if let Ok(connection) = incoming.await {
                tokio::spawn(serve(connection));
            }
        }
    });
    address
}

/// Answers every request on an HTTP/3 connection.
pub async fn serve_h3(connection: quinn::Connection, handler: Handler) {
    let mut server = h3::server::builder().build::<_, Bytes>(h3_quinn::Connection::new(connection)).await.unwrap();
    while let Ok(Some(resolver)) = server.accept().await {
        let (request, mut stream) = resolver.resolve_request().await.unwrap();
        let mut body = Vec::new();
        while let Some(mut part) = stream.recv_data().await.unwrap() {
            body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
        }
        let (head, body) = handler(&request, &body).into_parts();
        stream.send_response(Response::from_parts(head, ())).await.unwrap();
        stream.send_data(body).await.unwrap();
        stream.finish().await.unwrap();
    }
}

/// A success that carries `message`.
pub fn dns_response(message: Vec<u8>) -> Response<Bytes> {
    Response::builder().header("content-type", "application/dns-message").body(message.into()).unwrap()
}

/// Answers a request that is all a DoH request should be and no more, DOH-28.
pub fn strict(request: &Request<()>, body: &[u8]) -> Response<Bytes> {
    let headers = request.headers();
    let get = request.uri().query().and_then(|query| query.strip_prefix("dns="));
    let query = get.map_or(body.to_vec(), |text| URL_SAFE_NO_PAD.decode(text).unwrap());
    let known = ["accept", "content-type", "content-length", "host"];
    let plain = headers.keys().all(|name| known.contains(&name.as_str()));
    let typed = headers.get("content-type").is_none_or(|value| value == "application/dns-message");
    let sound = plain
        && typed
        && headers["accept"] == "application/dns-message"
        && request.uri().path() == "/dns-query"
        && query.len() == 128
        && query[..2] == [0, 0];
    if sound { dns_response(reply(&query, 0)) } else { Response::builder().status(400).body(Bytes::new()).unwrap() }
}
