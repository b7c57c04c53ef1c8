//! Several servers as one: asked in order within one deadline, the fallback ones only when nobody else answers.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::delivery::Window;
use super::error::{Cause, ExchangeError};
use super::kept::Home;
use super::server::{BuildError, BuildFault, Upstream};
use super::settings::{Server, Settings};
use super::verdict::Verdict;
use super::{Answered, Ask, Ended, Exchange, Exchanging};
use crate::trail::{Attempts, UpstreamId};
use crate::wire::registry::{class, rtype};

/// A pool of servers.
#[derive(Clone, Debug)]
pub struct Pool {
    roster: Arc<Roster>,
}

#[derive(Debug)]
struct Roster {
    servers: Vec<Upstream>,
    fallback: Vec<Upstream>,
    timeout: Duration,
    attempt_timeout: Duration,
    fingerprint: u64,
}

/// Sends a pass over the servers may use at each: together the three that RFC 9520 3.1 allows (NEG-15).
const PASSES: [u8; 2] = [2, 1];

impl Pool {
    /// Makes the servers of `settings` ready; their connections will live on `home`. Nothing is sent yet.
    ///
    /// # Errors
    /// The server, and file, at fault.
    pub fn new(settings: &Settings, home: Handle) -> Result<Self, BuildError> {
        let home = Home::new(home, settings.attempt_timeout);
        let mut ids = 0..=u16::MAX;
        let mut enlist = |server: &Server| {
            let id = ids.next().ok_or(BuildFault::TooMany);
            let id = id.map_err(|fault| BuildError { url: server.url.to_string(), fault })?;
            Upstream::new(server, UpstreamId(id), &home)
        };
        let roster = Roster {
            servers: settings.servers.iter().map(&mut enlist).collect::<Result<_, _>>()?,
            fallback: settings.fallback.iter().map(&mut enlist).collect::<Result<_, _>>()?,
            timeout: settings.timeout,
            attempt_timeout: settings.attempt_timeout,
            fingerprint: fingerprint(settings),
        };
        Ok(Self { roster: Arc::new(roster) })
    }

    /// The servers' URLs, by id.
    pub fn names(&self) -> impl Iterator<Item = (UpstreamId, &str)> {
        self.roster.all().map(|upstream| (upstream.id(), upstream.url()))
    }

    /// Does any server answer one cheap question (`. NS`) by `deadline`?
    pub async fn is_alive(&self, deadline: Instant) -> bool {
        let [type_high, type_low] = rtype::NS.to_be_bytes();
        let [class_high, class_low] = class::IN.to_be_bytes();
        let ask = Ask {
            question: Box::new([0, type_high, type_low, class_high, class_low]),
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            dnssec_ok: false,
            padding: true,
            prefer_stream: false,
        };
        self.exchange(Arc::new(ask), deadline).await.result.is_ok()
    }
}

/// The same for the same servers in every process: two settings that differ here may answer differently.
fn fingerprint(settings: &Settings) -> u64 {
    let mut hasher = SipHasher13::new();
    for server in settings.servers.iter().chain(&settings.fallback) {
        server.url.to_string().hash(&mut hasher);
        server.addresses.hash(&mut hasher);
        server.tls_name.hash(&mut hasher);
    }
    settings.servers.len().hash(&mut hasher);
    hasher.finish()
}

impl Exchange for Pool {
    fn exchange(&self, ask: Arc<Ask>, deadline: Instant) -> Exchanging {
        let roster = Arc::clone(&self.roster);
        Box::pin(async move {
            let until = deadline.min(Instant::now() + roster.timeout);
            let mut round = Round::new(&roster, ask, until);
            let result = round.run().await;
            Ended { result, attempts: round.attempts }
        })
    }

    fn fingerprint(&self) -> u64 {
        self.roster.fingerprint
    }

    fn name(&self, upstream: UpstreamId) -> Option<&str> {
        self.roster.all().nth(upstream.0.into()).map(Upstream::url)
    }
}

impl Roster {
    fn all(&self) -> impl Iterator<Item = &Upstream> {
        self.servers.iter().chain(&self.fallback)
    }
}

/// One question's way through the servers.
struct Round<'a> {
    roster: &'a Roster,
    ask: Arc<Ask>,
    until: Instant,
    attempts: Attempts,
    /// A failure that a server did answer: better than none.
    second_best: Option<Answered>,
    error: ExchangeError,
    /// Servers whose failure would only repeat itself, by id.
    hopeless: Vec<UpstreamId>,
}

impl<'a> Round<'a> {
    fn new(roster: &'a Roster, ask: Arc<Ask>, until: Instant) -> Self {
        let error = ExchangeError { upstream: UpstreamId(0), cause: Cause::Unknown };
        Self { roster, ask, until, attempts: Attempts::default(), second_best: None, error, hopeless: Vec::new() }
    }

    async fn run(&mut self) -> Result<Answered, ExchangeError> {
        for sends in PASSES {
            for group in [&self.roster.servers, &self.roster.fallback] {
                if let Some(answered) = self.ask_group(group, sends).await {
                    return Ok(answered);
                }
                if let Some(answered) = self.second_best.take() {
                    return Ok(answered);
                }
            }
        }
        Err(self.error)
    }

    async fn ask_group(&mut self, group: &[Upstream], sends: u8) -> Option<Answered> {
        for upstream in group {
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            if self.hopeless.contains(&upstream.id()) {
                continue;
            }
            let window = Window { until: self.until.min(now + self.roster.attempt_timeout), sends };
            match upstream.attempt(&self.ask, window, &mut self.attempts).await {
                Ok((delivered, verdict)) => {
                    let (upstream, trusted) = (upstream.id(), upstream.is_trusted());
                    let answered = Answered { message: delivered.message, upstream, age: delivered.age, trusted };
                    if verdict == Verdict::Final {
                        return Some(answered);
                    }
                    self.second_best = Some(answered);
                }
                Err(error) => {
                    self.error = error;
                    if !is_worth_repeating(error.cause) {
                        self.hopeless.push(error.upstream);
                    }
                }
            }
        }
        None
    }
}

/// Might the same server answer the same question a moment later?
const fn is_worth_repeating(cause: Cause) -> bool {
    match cause {
        Cause::Timeout | Cause::Connect | Cause::Closed | Cause::Busy => true,
        Cause::Tls | Cause::Malformed | Cause::Mismatched | Cause::Truncated | Cause::Unknown => false,
    }
}
