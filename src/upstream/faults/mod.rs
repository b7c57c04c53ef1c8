//! What faulty, slow and hostile servers do over HTTP and QUIC, and what becomes of the question and of the connection.
//!
//! The legs are asked here without what keeps and replaces their connections, so that one connection can be watched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::delivery::Delivered;
use super::dial::Dialer;
use super::doh::{self, Doh, Version};
use super::doh3::{self, Doh3};
use super::doq::Doq;
use super::error::Cause;
use super::http::{Cover, Target};
use super::kept::Carrier;
use super::quic::{Protocol, Quic};
use super::resolve::Addresses;
use super::settings::Server;
use super::testing::{Authority, ask, home, reply};
use super::tls::{Agreement, Tls, Trust};

mod answers;
mod closings;
mod endless;
mod floods;
mod h2_server;
mod h3_server;
mod limits;
mod sessions;
mod streams;

/// The versions of HTTP that carry DNS here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Web {
    H2,
    H3,
}

/// Both.
const WEB: [Web; 2] = [Web::H2, Web::H3];

/// What a server does with one request.
#[derive(Clone)]
struct Script {
    /// Interim responses before the one.
    interim: usize,
    head: Option<Response<()>>,
    body: Vec<u8>,
    trailers: bool,
    end: End,
}

/// How it ends the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Reset(u32),
    Never,
}

/// What a server makes of a query.
type Play = fn(&[u8]) -> Script;

/// What a server has seen.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Connection,
    Question(String),
    /// A response nobody waits for any more.
    Cancelled,
}

impl Script {
    fn of(body: Vec<u8>) -> Self {
        let head = Response::builder().header("content-type", "application/dns-message").body(()).unwrap();
        Self { interim: 0, head: Some(head), body, trailers: false, end: End::Fin }
    }

    fn status(mut self, status: StatusCode) -> Self {
        *self.head.as_mut().unwrap().status_mut() = status;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.head.as_mut().unwrap().headers_mut().insert(name, value.parse().unwrap());
        self
    }

    fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    fn headless(end: End) -> Self {
        Self { interim: 0, head: None, body: Vec::new(), trailers: false, end }
    }
}

/// The good answer that follows every fault.
fn good(query: &[u8]) -> Script {
    Script::of(reply(query, 0))
}

/// One connection to a server.
enum Leg {
    H2(Doh, doh::Connection),
    H3(Doh3, doh3::Connection),
    Quic(Doq, <Doq as Carrier>::Connection),
}

impl Leg {
    async fn open(server: &Server) -> Self {
        let until = Instant::now() + Duration::from_secs(10);
        let trust = Trust::new(server, &Arc::default()).unwrap();
        let home = home();
        let quic = |protocol| Quic::new(Addresses::of(server, &home.commons), &trust, protocol).unwrap();
        let target = || Target::new(&server.url, server.method, Cover::Tls).unwrap();
        match server.url.scheme {
            super::Scheme::Https => {
                let tls = Some(Tls::new(&trust, b"h2", Agreement::Needed).unwrap());
                let carrier = Doh::new(Dialer::new(server, &home).unwrap(), target(), Version::Http2, tls);
                let connection = carrier.open(until).await.unwrap();
                Self::H2(carrier, connection)
            }
            super::Scheme::H3 => {
                let carrier = Doh3::new(quic(Protocol::H3), target());
                let connection = carrier.open(until).await.unwrap();
                Self::H3(carrier, connection)
            }
            _ => {
                let carrier = Doq::new(quic(Protocol::Doq));
                let connection = carrier.open(until).await.unwrap();
                Self::Quic(carrier, connection)
            }
        }
    }

    /// Another connection to the same server, and the end of this one.
    async fn reopen(self) -> Self {
        let until = Instant::now() + Duration::from_secs(10);
        match self {
            Self::H2(carrier, _) => {
                let connection = carrier.open(until).await.unwrap();
                Self::H2(carrier, connection)
            }
            Self::H3(carrier, _) => {
                let connection = carrier.open(until).await.unwrap();
                Self::H3(carrier, connection)
            }
            Self::Quic(carrier, _) => {
                let connection = carrier.open(until).await.unwrap();
                Self::Quic(carrier, connection)
            }
        }
    }

    async fn ask(&self, name: &str) -> Result<Delivered, Cause> {
        let ask = ask(name);
        let asking = async {
            match self {
                Self::H2(carrier, connection) => carrier.ask(connection, &ask).await,
                Self::H3(carrier, connection) => carrier.ask(connection, &ask).await,
                Self::Quic(carrier, connection) => carrier.ask(connection, &ask).await,
            }
        };
        timeout(Duration::from_secs(20), asking).await.unwrap_or(Err(Cause::Timeout))
    }

    fn is_open(&self) -> bool {
        match self {
            Self::H2(carrier, connection) => carrier.is_open(connection),
            Self::H3(carrier, connection) => carrier.is_open(connection),
            Self::Quic(carrier, connection) => carrier.is_open(connection),
        }
    }

    /// How many questions it takes at once, if its server has said.
    fn capacity(&self) -> Option<usize> {
        match self {
            Self::H2(_, connection) => Doh::terms(connection).flights,
            Self::H3(_, connection) => Doh3::terms(connection).flights,
            Self::Quic(_, connection) => Doq::terms(connection).flights,
        }
    }

    /// Waits until no more questions should go over it.
    async fn until_closed(&self) {
        let waiting = async {
            while self.is_open() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), waiting).await.expect("the connection stays open");
    }
}

/// A server over `web` that does `play` with every question but those for `good`, and allows so many streams at once.
async fn web_server(
    authority: &Authority,
    web: Web,
    play: Play,
    streams: u32,
) -> (Server, mpsc::UnboundedReceiver<Seen>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = match web {
        Web::H2 => {
            let (config, _) = authority.identity(&["127.0.0.1"], &["h2"]);
            authority.server("https", h2_server::start(config, play, streams, tell).await)
        }
        Web::H3 => {
            let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
            authority.server("h3", h3_server::start(config, play, streams, tell))
        }
    };
    (server, told)
}

/// What becomes of a question that a server does `play` with; afterwards the connection must be good for another.
async fn outcome(web: Web, play: Play) -> Result<Delivered, Cause> {
    let authority = Authority::new();
    let (server, _told) = web_server(&authority, web, play, 100).await;
    let leg = Leg::open(&server).await;
    let outcome = leg.ask("bad.example").await;
    assert!(leg.is_open(), "{web:?}: the connection was given up");
    leg.ask("good.example").await.expect("another question is answered");
    outcome
}

/// Where a DoQ server listens that hands each connection to `serve`.
fn doq_server<F, R>(authority: &Authority, streams: u32, serve: F) -> SocketAddr
where
    F: Fn(quinn::Connection) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
    super::testing::quic_server_with(config, "127.0.0.1:0".parse().unwrap(), streams, serve)
}

/// The message as a stream carries it.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(message);
    frame
}
