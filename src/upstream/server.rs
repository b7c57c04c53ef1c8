//! One server, whatever it is spoken to over: where its URL becomes a transport, and where one attempt is made and told.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Ask;
use super::address::Scheme;
use super::delivery::{Delivered, Facts, Window};
use super::dial::Dialer;
use super::doh::{Doh, Version};
use super::doh3::Doh3;
use super::doq::Doq;
use super::dot::Dot;
use super::error::{Cause, ExchangeError};
use super::flight::Flight;
use super::health::{Change, Health, Outcome};
use super::http::{Cover, Target};
use super::kept::{Home, Kept};
use super::probe;
use super::quic::{Protocol, Quic};
use super::resolve::Addresses;
use super::settings::Server;
use super::tally::Tally;
use super::tcp::Tcp;
use super::tls::{Tls, TlsError, Trust};
use super::udp::{self, Heard};
use super::verdict::{Verdict, judge};
use crate::peer::Transport;
use crate::trail::{Attempt, AttemptEnd, Attempts, UpstreamId};

/// Why a server of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("upstream {url}: {fault}")]
pub struct BuildError {
    /// Its URL.
    pub url: String,
    /// What is wrong.
    #[source]
    pub fault: BuildFault,
}

/// What is wrong with a server's settings.
#[derive(Debug, thiserror::Error)]
pub enum BuildFault {
    /// Its TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its path.
    #[error("the path cannot be used in HTTP: {0}")]
    Path(#[from] http::Error),
    /// More servers than ids.
    #[error("too many servers")]
    TooMany,
}

/// A server that can be asked.
#[derive(Debug)]
pub struct Upstream {
    id: UpstreamId,
    url: String,
    trusted: bool,
    line: Line,
    tally: Arc<Tally>,
    health: Health,
    weight: u16,
    /// Where it is probed from, and how long a probe may take.
    runtime: Handle,
    patience: Duration,
    /// Itself, once it belongs to a pool: what a probe holds on to.
    own: OnceLock<Weak<Self>>,
}

#[derive(Debug)]
enum Line {
    Udp(Plain),
    Tcp(Kept<Tcp>),
    Tls(Kept<Dot>),
    Http(Kept<Doh>),
    H3(Kept<Doh3>),
    Quic(Kept<Doq>),
}

/// A plain server: UDP, and TCP where UDP will not do.
#[derive(Debug)]
struct Plain {
    addresses: Addresses,
    tcp: Kept<Tcp>,
    /// Sockets in use at once.
    flights: Semaphore,
}

/// UDP questions at one server at once: each has a socket.
const SOCKETS: usize = 1024;

impl Upstream {
    /// Makes `server` ready to be asked; nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with its settings.
    pub fn new(server: &Server, id: UpstreamId, home: &Home) -> Result<Self, BuildError> {
        let tally = Arc::default();
        let line = match server.url.scheme {
            Scheme::Udp => Ok(Line::Udp(Plain {
                addresses: Addresses::of(server, &home.commons),
                tcp: tcp(server, home, &tally),
                flights: Semaphore::new(SOCKETS),
            })),
            Scheme::Tcp => Ok(Line::Tcp(tcp(server, home, &tally))),
            Scheme::Tls => dot(server, home, &tally),
            Scheme::Https => doh(server, Version::Http2, Cover::Tls, home, &tally),
            Scheme::H3 => doh3(server, home, &tally),
            Scheme::Quic => doq(server, home, &tally),
        };
        Self::of_line(server, id, line.map(|line| (line, home)), tally)
    }

    /// A DoH server asked over another HTTP than its URL can say: for `hushgate query` and the demo.
    ///
    /// # Errors
    /// As [`Upstream::new`].
    pub fn over_http(server: &Server, version: Version, cover: Cover, home: &Home) -> Result<Self, BuildError> {
        let tally = Arc::default();
        let line = doh(server, version, cover, home, &tally);
        Self::of_line(server, UpstreamId::default(), line.map(|line| (line, home)), tally)
    }

    fn of_line(
        server: &Server,
        id: UpstreamId,
        line: Result<(Line, &Home), BuildFault>,
        tally: Arc<Tally>,
    ) -> Result<Self, BuildError> {
        let url = server.url.to_string();
        match line {
            Ok((line, home)) => Ok(Self {
                id,
                trusted: line.is_trusted(server.url.scheme),
                url,
                line,
                tally,
                health: Health::default(),
                weight: server.weight,
                runtime: home.commons.runtime.clone(),
                patience: home.patience,
                own: OnceLock::new(),
            }),
            Err(fault) => Err(BuildError { url, fault }),
        }
    }

    /// Its index in the roster.
    #[must_use]
    pub const fn id(&self) -> UpstreamId {
        self.id
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Is it authenticated, so that its AD bit means something (SEC-07)?
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// What it has cost and brought.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Its share where shares count.
    #[must_use]
    pub const fn weight(&self) -> u16 {
        self.weight
    }

    /// How long an attempt there may take.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// How it does.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Makes one attempt and writes it, with any detour, to `attempts`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn attempt(
        &self,
        ask: &Arc<Ask>,
        window: Window,
        attempts: &mut Attempts,
    ) -> Result<(Delivered, Verdict), ExchangeError> {
        self.tally.questions.add_one();
        let flight = Flight::depart(self);
        let mut log = Log { upstream: self.id, since: Instant::now(), attempts };
        let outcome = timeout_at(window.until, self.line.ask(ask, window, &mut log)).await;
        match outcome.unwrap_or(Err(Cause::Timeout)) {
            Ok(delivered) => {
                let verdict = judge(&delivered.message);
                let (count, end, outcome) = match verdict {
                    Verdict::Final => (&self.tally.answers, AttemptEnd::Answered, Outcome::Answered),
                    Verdict::Elsewhere => (&self.tally.failures, AttemptEnd::Failed, Outcome::Failed),
                };
                count.add_one();
                log.end(end);
                flight.land(outcome);
                Ok((delivered, verdict))
            }
            Err(cause) => {
                let error = ExchangeError { upstream: self.id, cause };
                self.tally.failures.add_one();
                log.end(error.end());
                flight.land(Outcome::Lost(cause));
                Err(error)
            }
        }
    }

    /// Asks once, for no client: neither counted nor part of what it owes.
    ///
    /// # Errors
    /// Why there is no answer; any answer at all proves that it lives.
    pub async fn probe(&self, ask: &Arc<Ask>, until: Instant) -> Result<(), Cause> {
        let mut attempts = Attempts::default();
        let mut log = Log { upstream: self.id, since: Instant::now(), attempts: &mut attempts };
        self.line.ask(ask, Window { until, sends: 1 }, &mut log).await.map(drop)
    }

    /// Takes it into a pool: from now on it is probed while it is not asked. `has_others`: the pool has more than this one.
    pub fn adopt(self: &Arc<Self>, has_others: bool) {
        _ = self.own.set(Arc::downgrade(self));
        if has_others {
            self.health.has_others();
        }
    }

    /// Logs a change of its health, once, and has it probed where it needs to be.
    pub fn announce(&self, change: Change) {
        let (upstream, own) = (self.url.as_str(), self.own.get());
        let unwatched = match change {
            Change::None => return,
            Change::Closed => {
                tracing::info!(upstream, "upstream answers again");
                false
            }
            Change::Suspected { unwatched } => {
                tracing::warn!(upstream, "upstream has fallen silent: its questions are asked elsewhere");
                unwatched
            }
            Change::Opened { cause, unwatched } => {
                self.tally.opened.add_one();
                tracing::warn!(upstream, ?cause, "upstream is down: only probes go there while there are others");
                unwatched
            }
        };
        if let Some(own) = own.filter(|_| unwatched) {
            self.runtime.spawn(probe::watch(Weak::clone(own)));
        }
    }
}

fn tcp(server: &Server, home: &Home, tally: &Arc<Tally>) -> Kept<Tcp> {
    Kept::new(Tcp::new(Dialer::new(server, home)), home.clone(), tally)
}

fn dot(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let dot = Dot::new(Dialer::new(server, home), &Trust::new(server, &home.commons.times)?)?;
    Ok(Line::Tls(Kept::new(dot, home.clone(), tally)))
}

fn doh(server: &Server, version: Version, cover: Cover, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let target = Target::new(&server.url, server.method, cover)?;
    let tls = match cover {
        Cover::Tls => Some(Tls::new(&Trust::new(server, &home.commons.times)?, version.alpn().as_bytes())?),
        Cover::Clear => None,
    };
    let doh = Doh::new(Dialer::new(server, home), target, version, tls);
    Ok(Line::Http(Kept::new(doh, home.clone(), tally)))
}

fn doh3(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let target = Target::new(&server.url, server.method, Cover::Tls)?;
    let quic =
        Quic::new(Addresses::of(server, &home.commons), &Trust::new(server, &home.commons.times)?, Protocol::H3)?;
    Ok(Line::H3(Kept::new(Doh3::new(quic, target), home.clone(), tally)))
}

fn doq(server: &Server, home: &Home, tally: &Arc<Tally>) -> Result<Line, BuildFault> {
    let quic =
        Quic::new(Addresses::of(server, &home.commons), &Trust::new(server, &home.commons.times)?, Protocol::Doq)?;
    Ok(Line::Quic(Kept::new(Doq::new(quic), home.clone(), tally)))
}

impl Line {
    async fn ask(&self, ask: &Arc<Ask>, window: Window, log: &mut Log<'_>) -> Result<Delivered, Cause> {
        match self {
            Self::Udp(plain) => plain.ask(ask, window, log).await,
            Self::Tcp(tcp) => tcp.exchange(ask, window).await,
            Self::Tls(dot) => dot.exchange(ask, window).await,
            Self::Http(doh) => doh.exchange(ask, window).await,
            Self::H3(doh3) => doh3.exchange(ask, window).await,
            Self::Quic(doq) => doq.exchange(ask, window).await,
        }
    }

    fn is_trusted(&self, scheme: Scheme) -> bool {
        match self {
            Self::Http(doh) => matches!(doh.carrier().cover(), Cover::Tls),
            Self::Udp(_) | Self::Tcp(_) | Self::Tls(_) | Self::H3(_) | Self::Quic(_) => scheme.is_encrypted(),
        }
    }
}

impl Plain {
    async fn ask(&self, ask: &Arc<Ask>, window: Window, log: &mut Log<'_>) -> Result<Delivered, Cause> {
        if ask.prefer_stream {
            match self.tcp.exchange(ask, window).await {
                // No TCP there: the server is one of `udp://`, and a client of a stream is served as well as another.
                Err(Cause::Connect) => log.end(AttemptEnd::Connect),
                outcome => return outcome,
            }
        }
        let _flight = self.flights.try_acquire().map_err(|_| Cause::Busy)?;
        let heard = self.addresses.in_turn(window.until, |address, until| async move {
            let window = Window { until, ..window };
            udp::ask(ask, address, window).await.map(|heard| (heard, address))
        });
        let (end, cause) = match heard.await? {
            (Heard::Answer(message), address) => {
                let facts = Facts { address, transport: Transport::Udp, secured: None };
                return Ok(Delivered { message, age: 0, facts });
            }
            (Heard::Truncated, _) => (AttemptEnd::Truncated, Cause::Truncated),
            (Heard::Besieged, _) => (AttemptEnd::Malformed, Cause::Mismatched),
        };
        log.end(end);
        match timeout_at(window.until, self.tcp.exchange(ask, window)).await {
            Ok(Ok(delivered)) => Ok(delivered),
            Ok(Err(_)) | Err(_) => Err(cause),
        }
    }
}

/// Where attempts are written.
struct Log<'a> {
    upstream: UpstreamId,
    since: Instant,
    attempts: &'a mut Attempts,
}

impl Log<'_> {
    /// Writes how the attempt under way ended; what follows is another.
    fn end(&mut self, end: AttemptEnd) {
        let micros = u32::try_from(self.since.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.attempts.push(Attempt { upstream: self.upstream, end, micros, ..Attempt::default() });
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Respond, ask as question, attempt, datagrams, listener, plain, reply, reply_as, serve_stream, udp_server,
    };
    use super::*;
    use crate::wire::{Flags, Header};

    /// UDP that sends `times` of `respond`, and TCP that answers with AA, on one port.
    async fn both(respond: Respond, times: usize) -> std::net::SocketAddr {
        loop {
            let (listener, address) = listener().await;
            let Ok(socket) = tokio::net::UdpSocket::bind(address).await else { continue };
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                    for _ in 0..times {
                        socket.send_to(&respond(&buffer[..length]), peer).await.unwrap();
                    }
                }
            });
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve_stream(stream, |query| reply(query, Flags::AA)));
                }
            });
            return address;
        }
    }

    async fn truncating() -> std::net::SocketAddr {
        both(|query| reply(query, Flags::TC), 1).await
    }

    fn ends(attempts: &Attempts) -> Vec<AttemptEnd> {
        attempts.kept().iter().map(|attempt| attempt.end).collect()
    }

    #[tokio::test]
    async fn tcf_01_04_a_truncated_answer_is_asked_for_again_over_tcp() {
        let (result, attempts) = attempt(&plain("udp", truncating().await), &question("big.example")).await;
        let delivered = result.unwrap();
        assert_eq!(delivered.facts.transport, Transport::Tcp);
        assert!(Header::parse(&delivered.message).unwrap().flags.has(Flags::AA));
        assert_eq!(ends(&attempts), [AttemptEnd::Truncated, AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn spf_06_a_question_under_siege_moves_to_tcp() {
        let address = both(|query| reply_as(!u16::from_be_bytes([query[0], query[1]]), query), 10).await;
        let (result, attempts) = attempt(&plain("udp", address), &question("a.example")).await;
        assert_eq!(result.unwrap().facts.transport, Transport::Tcp);
        assert_eq!(ends(&attempts), [AttemptEnd::Malformed, AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn prg_06_a_question_from_a_stream_goes_over_tcp_at_once() {
        let ask = Arc::new(Ask { prefer_stream: true, ..(*question("a.example")).clone() });
        let (result, attempts) = attempt(&plain("udp", truncating().await), &ask).await;
        assert_eq!(result.unwrap().facts.transport, Transport::Tcp);
        assert_eq!(ends(&attempts), [AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn a_question_from_a_stream_goes_over_udp_where_the_server_has_no_tcp() {
        let (address, _) = udp_server(|query| reply(query, 0)).await;
        let ask = Arc::new(Ask { prefer_stream: true, ..(*question("a.example")).clone() });
        let (result, attempts) = attempt(&plain("udp", address), &ask).await;
        assert_eq!(result.unwrap().facts.transport, Transport::Udp);
        assert_eq!(ends(&attempts), [AttemptEnd::Connect, AttemptEnd::Answered]);
    }

    #[tokio::test]
    async fn tcf_05_a_truncated_answer_without_tcp_stays_truncated() {
        let (address, _) = udp_server(|query| reply(query, Flags::TC)).await;
        let (result, attempts) = attempt(&plain("udp", address), &question("big.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Truncated);
        assert_eq!(ends(&attempts), [AttemptEnd::Truncated, AttemptEnd::Truncated]);
    }

    #[tokio::test]
    async fn a_closed_port_is_known_at_once() {
        let (socket, address) = datagrams().await;
        drop(socket);
        let (result, _) = attempt(&plain("udp", address), &question("a.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Connect);
    }
}
