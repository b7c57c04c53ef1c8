//! Names of time servers, which may be asked for in plain DNS while the clock has never been right.
//!
//! Stands in front of the routes. A clock so wrong that no certificate holds cannot be set without DNS: `time_servers_plain` lists
//! the names that are worth their secrecy then. They go the usual way first; only where no server answers, and only as long as no
//! server has proven itself under our clock, are their addresses asked of the `bootstrap` servers, never of the system's. What comes
//! so is nobody's word: it is never trusted with AD, and kept for a minute at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tracing::info;

use super::commons::Commons;
use super::delivery::Window;
use super::kept::Home;
use super::server::{BuildError, BuildFault, Upstream};
use super::settings::Server;
use super::tally::Count;
use super::timekeeper::Timekeeper;
use super::verdict::Verdict;
use super::{Answered, Ask, Ended, Exchanging, Settings};
use crate::trail::UpstreamId;
use crate::wire::registry::rtype;
use crate::wire::{Header, Records, name, patch};

/// The exception, and whom it goes to.
#[derive(Clone, Debug)]
pub struct TimeNames {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// As wire names, and whether the log has told of each.
    names: Vec<(Box<[u8]>, AtomicBool)>,
    servers: Vec<Upstream>,
    /// What `servers` were made of.
    bootstrap: Vec<Server>,
    attempt_timeout: Duration,
    times: Arc<Timekeeper>,
    asked: Count,
}

/// The longest that a plain answer is kept, in seconds: by then the clock is set, or it is worth asking again.
const MAX_TTL: u32 = 60;

impl TimeNames {
    /// The names and bootstrap servers of `settings`. Nothing is sent yet.
    ///
    /// # Errors
    /// More servers than ids.
    pub fn new(settings: &Settings, commons: &Commons) -> Result<Self, BuildError> {
        let names = &settings.time_servers_plain;
        let bootstrap = if names.is_empty() { &[][..] } else { &settings.default.bootstrap };
        let home = Home::new(commons, settings.default.attempt_timeout);
        let enlist = |server| {
            let id = commons.next_id().ok_or(BuildFault::TooMany);
            let id = id.map_err(|fault| BuildError { url: format!("{server:?}"), fault })?;
            Upstream::new(server, id, &home)
        };
        let inner = Inner {
            names: names.iter().map(|name| (name.clone(), AtomicBool::new(false))).collect(),
            servers: bootstrap.iter().map(enlist).collect::<Result<_, _>>()?,
            bootstrap: settings.default.bootstrap.clone(),
            attempt_timeout: settings.default.attempt_timeout,
            times: Arc::clone(&commons.times),
            asked: Count::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Would `settings` make the same?
    #[must_use]
    pub fn is_of(&self, settings: &Settings) -> bool {
        let Inner { names, bootstrap, attempt_timeout, .. } = &*self.inner;
        let is_same_time = *attempt_timeout == settings.default.attempt_timeout;
        let names = names.iter().map(|(name, _)| name);
        is_same_time && *bootstrap == settings.default.bootstrap && names.eq(&settings.time_servers_plain)
    }

    /// Asks by `usual`, and what that does not answer the bootstrap servers, where the exception holds.
    pub fn around(
        &self,
        ask: Arc<Ask>,
        deadline: Instant,
        usual: impl FnOnce(Arc<Ask>, Instant) -> Exchanging,
    ) -> Exchanging {
        if !self.inner.excepts(&ask.question) {
            return usual(ask, deadline);
        }
        let now = Instant::now();
        // Servers that only fall silent must leave time for the others.
        let usual = usual(Arc::clone(&ask), now + deadline.saturating_duration_since(now) / 2);
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let ended = usual.await;
            if ended.result.is_ok() || inner.times.is_right() {
                ended
            } else {
                inner.ask_plainly(ask, deadline, ended).await
            }
        })
    }

    /// The bootstrap server with this id.
    #[must_use]
    pub fn server(&self, id: UpstreamId) -> Option<&str> {
        self.inner.servers.iter().find(|server| server.id() == id).map(Upstream::url)
    }

    /// The greatest id of a bootstrap server.
    #[must_use]
    pub fn last_id(&self) -> Option<u16> {
        self.inner.servers.iter().map(|server| server.id().0).max()
    }

    /// Questions that left in plain text so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.inner.asked.value()
    }
}

impl Inner {
    /// Is this the address of a time server, and nobody's proof has come under our clock?
    fn excepts(&self, question: &[u8]) -> bool {
        if self.servers.is_empty() || self.times.is_right() {
            return false;
        }
        let Some((name, &[high, low, _, _])) = question.split_last_chunk::<4>() else { return false };
        let is_address = matches!(u16::from_be_bytes([high, low]), rtype::A | rtype::AAAA);
        is_address && self.names.iter().any(|(listed, _)| name::is_under(name, listed))
    }

    async fn ask_plainly(&self, ask: Arc<Ask>, deadline: Instant, mut ended: Ended) -> Ended {
        self.tell(&ask.question);
        for server in &self.servers {
            let now = Instant::now();
            if now >= deadline || self.times.is_right() {
                break;
            }
            self.asked.add_one();
            let window = Window { until: deadline.min(now + self.attempt_timeout), sends: 1 };
            match server.attempt(&ask, window, &mut ended.attempts).await {
                Ok((delivered, verdict)) => {
                    let message = short_lived(&delivered.message);
                    let (upstream, age) = (server.id(), delivered.age);
                    // Those who are asked in plain text are told nothing of anybody.
                    ended.result = Ok(Answered { message, upstream, age, trusted: false, told: None });
                    if verdict == Verdict::Final {
                        break;
                    }
                }
                Err(error) if ended.result.is_err() => ended.result = Err(error),
                Err(_) => {}
            }
        }
        ended
    }

    /// Tells the log, once for each name that is listed: that is the operator's word, what was asked is a client's.
    fn tell(&self, question: &[u8]) {
        let name = question.split_last_chunk::<4>().map_or(question, |(name, _)| name);
        let found = self.names.iter().find(|(listed, _)| name::is_under(name, listed));
        if let Some((listed, told)) = found
            && !told.swap(true, Ordering::Relaxed)
        {
            info!(
                name = %name::Shown(listed),
                "a time server is looked up in plain DNS: no server has answered, and the clock has never been right"
            );
        }
    }
}

/// `message` with no TTL above [`MAX_TTL`]; unchanged where it cannot be read, which is for others to judge.
fn short_lived(message: &Bytes) -> Bytes {
    let Ok(header) = Header::parse(message) else { return message.clone() };
    let Ok(records) = Records::new(message, &header) else { return message.clone() };
    let long = records.map_while(Result::ok).filter(|record| record.rtype != rtype::OPT && record.ttl > MAX_TTL);
    let offsets: Vec<u8> = long.flat_map(|record| record.ttl_at.to_be_bytes()).collect();
    let mut shortened = BytesMut::from(&message[..]);
    patch::set_ttls(&mut shortened, &offsets, MAX_TTL);
    shortened.freeze()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, AtomicU64};
    use std::time::SystemTime;

    use tokio::runtime::Handle;

    use super::super::error::{Cause, ExchangeError};
    use super::super::testing::{ask, plain, reply, udp_server};
    use super::super::timekeeper::{WallClock, built};
    use super::super::{PoolSettings, Server};
    use super::*;
    use crate::trail::{Attempt, AttemptEnd, Attempts};

    const LONG: Duration = Duration::from_secs(10);

    /// A clock in 1970 and its hand, with the exception for `pool.example` toward `bootstrap`.
    fn set_up(bootstrap: Vec<Server>) -> (TimeNames, Arc<Timekeeper>, Arc<AtomicU64>) {
        let hand = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&hand);
        let clock = WallClock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(read.load(Ordering::SeqCst)));
        let times = Arc::new(Timekeeper::new(clock, None));
        let mut settings = Settings::new(PoolSettings { bootstrap, ..PoolSettings::new(Vec::new()) });
        settings.time_servers_plain = vec![name::from_text("pool.example").unwrap().into()];
        let commons = Commons::new(Handle::current()).with_times(Arc::clone(&times));
        (TimeNames::new(&settings, &commons).unwrap(), times, hand)
    }

    /// The usual way, where nobody answers.
    fn nobody(_: Arc<Ask>, _: Instant) -> Exchanging {
        let upstream = UpstreamId(99);
        let mut attempts = Attempts::default();
        attempts.push(Attempt { upstream, end: AttemptEnd::Tls, micros: 1, ..Attempt::default() });
        Box::pin(async move { Ended { result: Err(ExchangeError { upstream, cause: Cause::Tls }), attempts } })
    }

    async fn asked(names: &TimeNames, ask: Arc<Ask>) -> Ended {
        names.around(ask, Instant::now() + LONG, nobody).await
    }

    fn ends(ended: &Ended) -> Vec<(u16, AttemptEnd)> {
        ended.attempts.kept().iter().map(|attempt| (attempt.upstream.0, attempt.end)).collect()
    }

    /// A server with an address of a day's life, and how often it was asked.
    async fn time_server() -> (SocketAddr, Arc<AtomicU32>) {
        udp_server(|query| {
            let mut message = reply(query, 0);
            message[7] = 1;
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4, 192, 0, 2, 123]);
            message
        })
        .await
    }

    #[tokio::test]
    async fn a_time_server_is_asked_for_in_plain_dns_while_nobody_answers_and_kept_a_minute() {
        let (address, heard) = time_server().await;
        let (names, ..) = set_up(vec![plain("udp", address)]);
        for name in ["pool.example", "2.POOL.example"] {
            let ended = asked(&names, ask(name)).await;
            assert_eq!(ends(&ended), [(99, AttemptEnd::Tls), (0, AttemptEnd::Answered)]);
            let answered = ended.result.unwrap();
            let header = Header::parse(&answered.message).unwrap();
            let ttls: Vec<u32> = Records::new(&answered.message, &header).unwrap().map(|r| r.unwrap().ttl).collect();
            assert_eq!((ttls, answered.trusted), (vec![MAX_TTL], false));
            assert_eq!(names.server(answered.upstream), Some(format!("udp://{address}").as_str()));
        }
        assert_eq!((names.asked(), heard.load(Ordering::SeqCst)), (2, 2));
    }

    #[tokio::test]
    async fn other_names_and_other_types_never_leave_in_plain_text() {
        let (address, heard) = time_server().await;
        let (names, ..) = set_up(vec![plain("udp", address)]);
        for name in ["example", "notpool.example", "pool.example.net", "www.example"] {
            assert_eq!(asked(&names, ask(name)).await.result.unwrap_err().cause, Cause::Tls, "{name}");
        }
        let mut mail = (*ask("pool.example")).clone();
        let at = mail.question.len() - 3;
        mail.question[at] = 15;
        assert!(asked(&names, Arc::new(mail)).await.result.is_err());
        assert_eq!((names.asked(), heard.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test]
    async fn once_the_clock_has_been_right_the_exception_is_over_for_good() {
        let (address, heard) = time_server().await;
        let (names, times, hand) = set_up(vec![plain("udp", address)]);
        times.witness();
        assert!(asked(&names, ask("pool.example")).await.result.is_ok(), "a proof under a wrong clock says nothing");
        hand.store(built(), Ordering::SeqCst);
        times.witness();
        hand.store(0, Ordering::SeqCst);
        assert!(asked(&names, ask("pool.example")).await.result.is_err());
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_usual_way_goes_first_and_its_answer_holds() {
        let (address, heard) = time_server().await;
        let (names, ..) = set_up(vec![plain("udp", address)]);
        let usual = |_: Arc<Ask>, _| -> Exchanging {
            let message = Bytes::from_static(b"any");
            let answered = Answered { message, upstream: UpstreamId(99), age: 0, trusted: true, told: None };
            Box::pin(async { Ended { result: Ok(answered), attempts: Attempts::default() } })
        };
        let ended = names.around(ask("pool.example"), Instant::now() + LONG, usual).await;
        assert!(ended.result.unwrap().trusted);
        assert_eq!(heard.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_usual_way_has_half_the_time_and_the_next_bootstrap_server_follows_the_first() {
        let (refusing, _) = udp_server(|query| reply(query, 5)).await;
        let (address, _) = time_server().await;
        let (names, ..) = set_up(vec![plain("udp", refusing), plain("udp", address)]);
        let deadline = Instant::now() + LONG;
        let usual = |ask, until: Instant| {
            assert!(until <= deadline - LONG / 2 + Duration::from_secs(1), "half of what is left");
            nobody(ask, until)
        };
        let ended = names.around(ask("pool.example"), deadline, usual).await;
        assert_eq!(ended.result.unwrap().upstream, UpstreamId(1));
    }

    #[tokio::test]
    async fn without_bootstrap_servers_there_is_no_exception() {
        let (names, ..) = set_up(Vec::new());
        assert!(asked(&names, ask("pool.example")).await.result.is_err());
        assert_eq!(names.asked(), 0);
    }
}
