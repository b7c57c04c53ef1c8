//! Clients for all seven transports that send the bytes they are given: one question a connection, or a connection to keep.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hushgate::peer::Transport;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;

use super::Rig;

/// How long a client waits before it calls a question lost: on a busy machine a good one may take seconds. Less than connections
/// may rest.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// What came back.
#[derive(Clone, Debug)]
pub struct Answered {
    pub message: Vec<u8>,
    /// Status and headers, on DoH.
    pub http: Option<(u16, HeaderMap)>,
}

/// TLS that trusts the authority in `pem` alone.
pub fn trust(pem: &[u8], alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A TLS connection to `address` as `localhost`.
pub async fn tls(address: SocketAddr, config: rustls::ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// A QUIC connection to `address` as `localhost`, and the endpoint that carries it.
pub async fn quic(
    address: SocketAddr,
    config: rustls::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let endpoint = endpoint();
    let connection = quic_from(&endpoint, address, config).await?;
    Ok((endpoint, connection))
}

/// Where QUIC connections begin. It has buffers of megabytes, until the last packets of its last connection can have come.
pub fn endpoint() -> quinn::Endpoint {
    quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// A QUIC connection from `endpoint` to `address` as `localhost`.
pub async fn quic_from(
    endpoint: &quinn::Endpoint,
    address: SocketAddr,
    config: rustls::ClientConfig,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    endpoint.connect_with(config, address, "localhost").unwrap().await
}

impl Rig {
    /// Asks `message` over `transport` on a connection of its own; panics if no answer comes.
    pub async fn ask(&self, transport: Transport, message: &[u8]) -> Answered {
        self.try_ask(transport, message).await.unwrap_or_else(|| panic!("no answer over {}", transport.name()))
    }

    /// Asks `message`; `None` where the gateway closes or resets instead of answering. Panics when nothing at all happens.
    pub async fn try_ask(&self, transport: Transport, message: &[u8]) -> Option<Answered> {
        let asking = async {
            match transport {
                Transport::Udp => self.over_udp(message).await,
                Transport::Tcp => {
                    let mut stream = TcpStream::connect(self.dns()).await.unwrap();
                    framed(&mut stream, message).await
                }
                Transport::Dot => framed(&mut self.dot_stream().await, message).await,
                Transport::Doh1 | Transport::Doh2 | Transport::Doh3 => {
                    let (status, headers, body) = self.http(transport, self.post(message)).await?;
                    Some(Answered { message: body.to_vec(), http: Some((status, headers)) })
                }
                Transport::Doq => self.over_doq(message).await,
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answered) => answered,
            Err(late) => panic!("neither an answer nor an end over {}: {late}", transport.name()),
        }
    }

    /// Sends `message` in a datagram and waits for one back.
    pub async fn over_udp(&self, message: &[u8]) -> Option<Answered> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.dns()).await.unwrap();
        socket.send(message).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let length = socket.recv(&mut buffer).await.ok()?;
        buffer.truncate(length);
        Some(Answered { message: buffer, http: None })
    }

    /// A DoT connection.
    pub async fn dot_stream(&self) -> TlsStream<TcpStream> {
        tls(self.dot(), trust(&self.authority(), &[b"dot"])).await.unwrap()
    }

    /// A DoQ connection.
    pub async fn doq_connection(&self) -> (quinn::Endpoint, quinn::Connection) {
        quic(self.doq(), trust(&self.authority(), &[b"doq"])).await.unwrap()
    }

    async fn over_doq(&self, message: &[u8]) -> Option<Answered> {
        let (_endpoint, connection) = self.doq_connection().await;
        doq_exchange(&connection, message).await
    }

    /// `POST /dns-query` with `message`.
    pub fn post(&self, message: &[u8]) -> Request<Full<Bytes>> {
        Request::builder()
            .method(Method::POST)
            .uri(self.doh_uri("/dns-query"))
            .header("content-type", "application/dns-message")
            .body(Full::new(Bytes::copy_from_slice(message)))
            .unwrap()
    }

    /// `GET /dns-query?dns=` with `message`.
    pub fn get(&self, message: &[u8]) -> Request<Full<Bytes>> {
        use base64::Engine as _;
        let value = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(message);
        Request::builder().uri(self.doh_uri(&format!("/dns-query?dns={value}"))).body(Full::new(Bytes::new())).unwrap()
    }

    /// A URI of the DoH door.
    pub fn doh_uri(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.doh().port())
    }

    /// One HTTP request over a connection of its own.
    pub async fn http(&self, transport: Transport, request: Request<Full<Bytes>>) -> Option<(u16, HeaderMap, Bytes)> {
        match transport {
            Transport::Doh1 => {
                let stream = tls(self.doh(), trust(&self.authority(), &[b"http/1.1"])).await.unwrap();
                http1(stream, request).await
            }
            Transport::Doh2 => {
                let stream = tls(self.doh(), trust(&self.authority(), &[b"h2"])).await.unwrap();
                http2(stream, request).await
            }
            _ => http3(quic(self.doh(), trust(&self.authority(), &[b"h3"])).await.ok()?, request).await,
        }
    }
}

/// Sends `message` behind its length and reads one back; `None` at the end of the stream.
pub async fn framed<S>(stream: &mut S, message: &[u8]) -> Option<Answered>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    send_framed(stream, message).await.ok()?;
    Some(Answered { message: read_framed(stream).await?, http: None })
}

/// Sends `message` behind its length.
pub async fn send_framed<S: tokio::io::AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> std::io::Result<()> {
    let framed = [&(message.len() as u16).to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await?;
    stream.flush().await
}

/// Reads one message behind its length; `None` at the end of the stream.
pub async fn read_framed<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// One question on a stream of `connection`; the id is 0 as RFC 9250 4.2.1 has it.
pub async fn doq_exchange(connection: &quinn::Connection, message: &[u8]) -> Option<Answered> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    let mut message = message.to_vec();
    if let Some(id) = message.get_mut(..2) {
        id.fill(0);
    }
    send.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).await.ok()?;
    send.finish().ok()?;
    let bytes = receive.read_to_end(65_537).await.ok()?;
    let (prefix, message) = bytes.split_at_checked(2)?;
    assert_eq!(usize::from(u16::from_be_bytes([prefix[0], prefix[1]])), message.len(), "one whole message and FIN");
    Some(Answered { message: message.to_vec(), http: None })
}

async fn collect(response: Response<hyper::body::Incoming>) -> Option<(u16, HeaderMap, Bytes)> {
    let (head, body) = response.into_parts();
    Some((head.status.as_u16(), head.headers, body.collect().await.ok()?.to_bytes()))
}

/// One request over HTTP/1.1 on `stream`.
pub async fn http1<S>(stream: S, mut request: Request<Full<Bytes>>) -> Option<(u16, HeaderMap, Bytes)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let uri = request.uri().clone();
    if let Some(authority) = uri.authority() {
        let host = authority.as_str().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
    }
    *request.uri_mut() = uri.path_and_query().unwrap().as_str().parse().unwrap();
    collect(sender.send_request(request).await.ok()?).await
}

/// One request over HTTP/2 on `stream`.
pub async fn http2<S>(stream: S, request: Request<Full<Bytes>>) -> Option<(u16, HeaderMap, Bytes)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    collect(sender.send_request(request).await.ok()?).await
}

/// One request over HTTP/3.
pub async fn http3(
    (_endpoint, connection): (quinn::Endpoint, quinn::Connection),
    request: Request<Full<Bytes>>,
) -> Option<(u16, HeaderMap, Bytes)> {
    let (mut driver, mut sender) = h3::client::new(h3_quinn::Connection::new(connection)).await.ok()?;
    let driving = tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut stream = sender.send_request(Request::from_parts(head, ())).await.ok()?;
    // A server may answer before it has heard all, and stop listening: the answer counts.
    if body.is_empty() || stream.send_data(body).await.is_ok() {
        _ = stream.finish().await;
    }
    let response = stream.recv_response().await.ok()?;
    let mut whole = Vec::new();
    while let Ok(Some(mut chunk)) = stream.recv_data().await {
        whole.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    driving.abort();
    Some((response.status().as_u16(), response.headers().clone(), whole.into()))
}
