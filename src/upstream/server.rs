//! One server, whatever it is spoken to over: where its URL becomes a transport, and where one attempt is made and told.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::ask::Telling;
use super::delivery::{Delivered, Window};
use super::doh::Version;
use super::error::{Cause, ExchangeError};
use super::flight::Flight;
use super::former::Identity;
use super::health::{Change, Health, Outcome};
use super::hop::Hop;
use super::http::Cover;
use super::kept::Home;
use super::line::Line;
use super::probe;
use super::proof::Proof;
use super::proxy::ProxyError;
use super::settings::{Server, SubnetRule};
use super::spell::Spell;
use super::tally::Tally;
use super::tls::TlsError;
use super::verdict::{Verdict, judge};
use super::{Ask, Basis};
use crate::trail::{Attempt, AttemptEnd, Attempts, Told, UpstreamId};

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
    /// Its proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
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
    /// It has answered only without EDNS lately.
    without_edns: Spell,
    tally: Arc<Tally>,
    health: Health,
    weight: u16,
    ecs: SubnetRule,
    /// Where it is probed from, and how long a probe may take.
    runtime: Handle,
    patience: Duration,
    /// Itself, once it belongs to a pool: what a probe holds on to.
    own: OnceLock<Weak<Self>>,
    /// What it was made of, where it may be carried over into another configuration.
    identity: Option<Identity>,
}

/// How long a server that does not know EDNS is asked without: it may be replaced.
const WITHOUT_EDNS: Duration = Duration::from_mins(10);

impl Upstream {
    /// Makes `server` ready to be asked; nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with its settings.
    pub fn new(server: &Server, id: UpstreamId, home: &Home) -> Result<Self, BuildError> {
        let tally = Arc::default();
        let line = Line::new(server, home, &tally);
        Self::of_line(server, id, line.map(|line| (line, home)), tally)
    }

    /// A DoH server asked over another HTTP than its URL can say: for `hushgate query` and the demo.
    ///
    /// # Errors
    /// As [`Upstream::new`].
    pub fn over_http(server: &Server, version: Version, cover: Cover, home: &Home) -> Result<Self, BuildError> {
        let tally = Arc::default();
        let line = Line::over_http(server, version, cover, home, &tally);
        Self::of_line(server, UpstreamId::default(), line.map(|line| (line, home)), tally)
    }

    fn of_line(
        server: &Server,
        id: UpstreamId,
        line: Result<(Line, &Home), BuildFault>,
        tally: Arc<Tally>,
    ) -> Result<Self, BuildError> {
        let url = server.url.shown().to_string();
        match line {
            Ok((line, home)) => Ok(Self {
                id,
                trusted: line.is_trusted(server.url.scheme),
                url,
                line,
                without_edns: Spell::default(),
                tally,
                health: Health::default(),
                weight: server.weight,
                ecs: server.ecs,
                runtime: home.commons.runtime.clone(),
                patience: home.patience,
                own: OnceLock::new(),
                identity: None,
            }),
            Err(fault) => Err(BuildError { url, fault }),
        }
    }

    /// The same, to be known again by `identity`.
    #[must_use]
    pub fn known_by(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// What it was made of, if it was told.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Its number among all servers there have been.
    #[must_use]
    pub const fn id(&self) -> UpstreamId {
        self.id
    }

    /// Its URL as logs, metrics and people are shown it (see [`super::Address::shown`]).
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Is it authenticated, so that its AD bit means something (SEC-07)?
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// What is known of its proof; None for a plain server.
    #[must_use]
    pub fn proof(&self) -> Option<&Proof> {
        self.line.proof()
    }

    /// How its last failed attempt ended, in words; None before one has.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.health.report(Instant::now()).last_failure.map(|cause| self.told(cause))
    }

    /// `cause` in words; of a failed proof the server's own is known.
    fn told(&self, cause: Cause) -> String {
        let fault = self.proof().and_then(Proof::fault).filter(|_| cause == Cause::Tls);
        fault.map_or_else(|| cause.words().to_owned(), |fault| fault.to_string())
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

    /// What it is told of clients' networks.
    #[must_use]
    pub const fn ecs(&self) -> SubnetRule {
        self.ecs
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

    /// Makes one attempt, telling of the client what this server may know, and writes it, with any detour, to `attempts`.
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
        let mut log = Log { upstream: self.id, told: Told::Nothing, since: Instant::now(), attempts };
        match self.ask(&self.ecs.narrow(ask), window, &mut log).await {
            Ok(delivered) => {
                // It lives and spoke to the question: what cannot be read may be the fault of that name's own servers.
                let Ok(verdict) = judge(&delivered.message) else {
                    return Err(self.lose(Cause::Malformed, Outcome::Failed, flight, log));
                };
                let (count, end, outcome) = match verdict {
                    Verdict::Final => (&self.tally.answers, AttemptEnd::Answered, Outcome::Answered),
                    Verdict::Elsewhere => (&self.tally.failures, AttemptEnd::Failed, Outcome::Failed),
                };
                count.add_one();
                log.end(end);
                flight.land(outcome);
                Ok((delivered, verdict))
            }
            Err(cause) => Err(self.lose(cause, Outcome::Lost(cause), flight, log)),
        }
    }

    fn lose(&self, cause: Cause, outcome: Outcome, flight: Flight<'_>, mut log: Log<'_>) -> ExchangeError {
        let error = ExchangeError { upstream: self.id, cause };
        self.tally.failures.add_one();
        log.end(error.end());
        flight.land(outcome);
        error
    }

    /// Asks for no client: neither counted nor part of what it owes. A kept connection that has died
    /// meanwhile says nothing of it, so a fresh one is tried; a datagram is sent once.
    ///
    /// # Errors
    /// Why there is no answer; any answer that can be read proves that it lives.
    pub async fn probe(&self, ask: &Arc<Ask>, until: Instant) -> Result<(), Cause> {
        let mut attempts = Attempts::default();
        let mut log = Log { upstream: self.id, told: Told::Nothing, since: Instant::now(), attempts: &mut attempts };
        let sends = if self.line.is_kept() { 2 } else { 1 };
        let delivered = self.line.ask(&self.ecs.narrow(ask), Window { until, sends }, &mut log).await?;
        judge(&delivered.message).map(drop).map_err(|_| Cause::Malformed)
    }

    /// Takes it into a pool: from now on it is probed while it is not asked. `has_others`: the pool has more than this one.
    pub fn adopt(self: &Arc<Self>, has_others: bool) {
        _ = self.own.set(Arc::downgrade(self));
        self.health.has_others(has_others);
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
                let reason = self.told(cause);
                tracing::warn!(upstream, reason, "upstream is down: only probes go there while there are others");
                unwatched
            }
        };
        if let Some(own) = own.filter(|_| unwatched) {
            self.runtime.spawn(probe::watch(Weak::clone(own)));
        }
    }

    /// Asks, without EDNS where the server turns out not to know it (EDN-16, RFC 6891 6.2.2).
    ///
    /// A client that wants DNSSEC records cannot be served without EDNS: then the server has failed.
    async fn ask(&self, ask: &Arc<Ask>, window: Window, log: &mut Log<'_>) -> Result<Delivered, Cause> {
        let without = || Arc::new(Ask { without_edns: true, ..(**ask).clone() });
        if !ask.dnssec_ok && self.without_edns.lasts() {
            return self.line.ask(&without(), window, log).await;
        }
        log.told = ask.subnet.map_or(Told::Nothing, Telling::noted);
        let refused = self.line.ask(ask, window, log).await?;
        if !Hop::read(&refused.message).is_without_edns() {
            return Ok(refused);
        }
        if ask.dnssec_ok {
            return Err(Cause::Malformed);
        }
        log.end(AttemptEnd::Failed);
        log.told = Told::Nothing;
        let delivered = self.line.ask(&without(), Window { sends: 1, ..window }, log).await?;
        // The same again: the question itself is what the server takes exception to. An option of the client's may be, too.
        let is_our_own = ask.passed.is_none() && ask.subnet.is_none_or(|told| told.basis != Basis::Client);
        if is_our_own && !Hop::read(&delivered.message).is_without_edns() {
            self.without_edns.begin(WITHOUT_EDNS);
        }
        Ok(delivered)
    }
}

/// Where attempts are written.
pub(super) struct Log<'a> {
    upstream: UpstreamId,
    told: Told,
    since: Instant,
    attempts: &'a mut Attempts,
}

impl Log<'_> {
    /// Writes how the attempt under way ended; what follows is another.
    pub(super) fn end(&mut self, end: AttemptEnd) {
        let micros = u32::try_from(self.since.elapsed().as_micros()).unwrap_or(u32::MAX);
        let Self { upstream, told, .. } = *self;
        self.attempts.push(Attempt { upstream, told, end, micros, ..Attempt::default() });
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::testing::{ask as question, home, plain, reply, tcp_server, udp_server, window};
    use super::*;
    use crate::upstream::Telling;
    use crate::upstream::ask::Passed;
    use crate::wire::{Flags, Header, Subnet};

    /// FORMERR to whatever has an OPT, as servers of before 1999 say it.
    fn old(query: &[u8]) -> Vec<u8> {
        let edns = Header::parse(query).unwrap().additionals > 0;
        reply(query, if edns { 1 } else { Flags::AA })
    }

    fn upstream(server: &Server) -> Upstream {
        Upstream::new(server, UpstreamId(7), &home()).unwrap()
    }

    #[tokio::test]
    async fn a_probe_goes_on_to_a_fresh_connection_where_the_kept_one_has_died() {
        let (listener, address) = super::super::testing::listener().await;
        tokio::spawn(async move {
            use super::super::testing::{read_frame, serve_stream, write_frame};
            let (mut stream, _) = listener.accept().await.unwrap();
            let query = read_frame(&mut stream).await.unwrap();
            write_frame(&mut stream, &reply(&query, 0)).await;
            read_frame(&mut stream).await.unwrap();
            drop(stream);
            let (stream, _) = listener.accept().await.unwrap();
            serve_stream(stream, |query| reply(query, 0)).await;
        });
        let upstream = upstream(&plain("tcp", address));
        assert_eq!(attempt(&upstream, &question("a.example")).await.0, Ok(0));
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(upstream.probe(&question("b.example"), until).await, Ok(()));
    }

    /// How an attempt with plenty of time ended, and what the server was asked for it.
    async fn attempt(upstream: &Upstream, ask: &Arc<Ask>) -> (Result<u16, Cause>, u8) {
        let mut attempts = Attempts::default();
        let result = upstream.attempt(ask, window(10_000, 2), &mut attempts).await;
        let result = result.map(|(delivered, _)| Header::parse(&delivered.message).unwrap().flags.0 & 0x40f);
        (result.map_err(|error| error.cause), attempts.made())
    }

    #[tokio::test]
    async fn edn_16_a_server_without_edns_is_asked_once_more_without_and_so_from_then_on() {
        let (address, heard) = udp_server(old).await;
        for server in [plain("udp", address), plain("tcp", tcp_server(old).await)] {
            let upstream = upstream(&server);
            assert_eq!(attempt(&upstream, &question("a.example")).await, (Ok(Flags::AA), 2));
            assert_eq!(attempt(&upstream, &question("b.example")).await, (Ok(Flags::AA), 1));
            let signed = Arc::new(Ask { dnssec_ok: true, ..(*question("a.example")).clone() });
            assert_eq!(attempt(&upstream, &signed).await, (Err(Cause::Malformed), 1));
        }
        assert_eq!(heard.load(Ordering::SeqCst), 4);
    }

    /// FORMERR to whatever tells of a client's network.
    fn averse(query: &[u8]) -> Vec<u8> {
        let tells = query.windows(8).any(|octets| octets == [0, 8, 0, 7, 0, 1, 24, 0]);
        reply(query, if tells { 1 } else { Flags::AA })
    }

    #[tokio::test]
    async fn edn_16_what_a_client_tells_of_itself_does_not_have_all_others_asked_without_edns() {
        let upstream = upstream(&Server { ecs: SubnetRule::Forward, ..plain("tcp", tcp_server(averse).await) });
        let subnet = Some(Telling { subnet: Subnet::of([198, 51, 100, 0].into()).within(24), basis: Basis::Client });
        let passed =
            Some(Arc::new(Passed { codes: [8].into(), octets: [0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100].into() }));
        let plain = question("a.example");
        for telling in [Ask { subnet, ..(*plain).clone() }, Ask { passed, ..(*plain).clone() }] {
            assert_eq!(attempt(&upstream, &Arc::new(telling)).await, (Ok(Flags::AA), 2));
            assert!(!upstream.without_edns.lasts());
        }
    }

    #[tokio::test]
    async fn ecs_16_a_probe_tells_what_every_question_there_does() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = std::sync::Mutex::new(Some(tell));
        let heard = move |query: &[u8]| {
            if let Some(tell) = tell.lock().unwrap().take() {
                tell.send(query.to_vec()).unwrap();
            }
            reply(query, 0)
        };
        let (address, _) = udp_server(heard).await;
        let upstream = upstream(&Server { ecs: SubnetRule::OptOut, ..plain("udp", address) });
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(upstream.probe(&probe::question(), until).await, Ok(()));
        assert!(told.await.unwrap().windows(8).any(|octets| octets == [0, 8, 0, 4, 0, 1, 0, 0]));
    }

    #[tokio::test]
    async fn edn_16_an_error_that_has_nothing_to_do_with_edns_stands_and_nothing_is_remembered() {
        let (address, heard) = udp_server(|query| reply(query, 4)).await;
        let upstream = upstream(&plain("udp", address));
        for _ in 0..2 {
            assert_eq!(attempt(&upstream, &question("a.example")).await, (Ok(4), 2));
        }
        assert_eq!(heard.load(Ordering::SeqCst), 4);
    }
}
