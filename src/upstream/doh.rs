//! DNS over HTTPS toward servers, on HTTP/2 (RFC 8484); HTTP/1.1 and cleartext for `hushgate query` alone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Ask;
use super::delivery::{Delivered, Facts, check_stream};
use super::error::Cause;
use super::http::{Cover, Target, check_head};
use super::kept::Carrier;
use super::resolve::Addresses;
use super::tcp::connect;
use super::tls::Tls;
use crate::peer::Transport;
use crate::wire::MAX_MESSAGE;

/// The version of HTTP on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1: one question at a time, one a connection.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Its ALPN name.
    #[must_use]
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// A server asked over HTTP.
#[derive(Debug)]
pub struct Doh {
    addresses: Addresses,
    target: Target,
    version: Version,
    /// None: cleartext.
    tls: Option<Tls>,
}

/// A connection to it.
pub struct Connection {
    sender: Sender,
    facts: Facts,
}

enum Sender {
    /// Gone once it has been used.
    One(Mutex<Option<http1::SendRequest<Full<Bytes>>>>),
    Many(http2::SendRequest<Full<Bytes>>),
}

/// A stream's window: any answer fits.
const STREAM_WINDOW: u32 = 128 * 1024;

/// All streams' window.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The longest header block that we read.
const HEADER_LIMIT: u32 = 16 * 1024;

impl Doh {
    /// A server at `addresses` asked at `target`, under TLS unless `tls` is missing.
    #[must_use]
    pub const fn new(addresses: Addresses, target: Target, version: Version, tls: Option<Tls>) -> Self {
        Self { addresses, target, version, tls }
    }

    /// Is there TLS around it?
    #[must_use]
    pub const fn cover(&self) -> Cover {
        if self.tls.is_some() { Cover::Tls } else { Cover::Clear }
    }

    async fn reach(&self, address: std::net::SocketAddr) -> Result<Connection, Cause> {
        let stream = connect(address).await?;
        let transport = match self.version {
            Version::Http1 => Transport::Doh1,
            Version::Http2 => Transport::Doh2,
        };
        let mut facts = Facts { address, transport, secured: None };
        let Some(tls) = &self.tls else { return Ok(Connection { sender: self.start(stream).await?, facts }) };
        let (stream, secured) = tls.secure(stream).await?;
        if secured.alpn != Some(self.version.alpn()) {
            return Err(Cause::Tls);
        }
        facts.secured = Some(secured);
        Ok(Connection { sender: self.start(stream).await?, facts })
    }

    /// Starts HTTP; the connection's task ends when its sender is dropped and its requests are done.
    async fn start<S>(&self, stream: S) -> Result<Sender, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        match self.version {
            Version::Http1 => {
                let (sender, driver) = http1::handshake(io).await.map_err(|_| Cause::Connect)?;
                tokio::spawn(driver);
                Ok(Sender::One(Mutex::new(Some(sender))))
            }
            Version::Http2 => {
                let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_header_list_size(HEADER_LIMIT)
                    .handshake(io)
                    .await
                    .map_err(|_| Cause::Connect)?;
                tokio::spawn(driver);
                Ok(Sender::Many(sender))
            }
        }
    }
}

impl Sender {
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Cause> {
        let sent = match self {
            Self::One(place) => {
                let taken = place.lock().unwrap_or_else(PoisonError::into_inner).take();
                taken.ok_or(Cause::Closed)?.send_request(request).await
            }
            Self::Many(sender) => sender.clone().send_request(request).await,
        };
        sent.map_err(|error| if error.is_parse() { Cause::Malformed } else { Cause::Closed })
    }
}

impl Carrier for Doh {
    type Connection = Connection;

    async fn open(&self, until: Instant) -> Result<Connection, Cause> {
        self.addresses.in_turn(until, |address, _| self.reach(address)).await
    }

    fn is_open(&self, connection: &Connection) -> bool {
        match &connection.sender {
            Sender::One(place) => place.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
            Sender::Many(sender) => !sender.is_closed(),
        }
    }

    async fn ask(&self, connection: &Connection, ask: &Arc<Ask>) -> Result<Delivered, Cause> {
        let (mut request, body) = self.target.request(ask)?;
        if self.version == Version::Http1 {
            origin_form(&mut request)?;
        }
        let response = connection.sender.send(request.map(|()| Full::new(body))).await?;
        let age = check_head(response.status(), response.headers())?;
        let body = Limited::new(response.into_body(), MAX_MESSAGE).collect().await;
        let message =
            body.map_err(|error| if error.is::<hyper::Error>() { Cause::Closed } else { Cause::Malformed })?;
        let message = message.to_bytes();
        check_stream(ask, &message, 0)?;
        Ok(Delivered { message, age, facts: connection.facts })
    }
}

/// HTTP/1.1 names the authority in a Host header, and only the path in its request line (RFC 9112 3.2.1).
fn origin_form(request: &mut Request<()>) -> Result<(), Cause> {
    let uri = request.uri();
    let host = uri.authority().and_then(|authority| authority.as_str().parse().ok()).ok_or(Cause::Malformed)?;
    let path = uri.path_and_query().cloned().ok_or(Cause::Malformed)?;
    *request.uri_mut() = path.into();
    request.headers_mut().insert(http::header::HOST, host);
    Ok(())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.facts).finish()
    }
}
