//! Finds the addresses of servers that are given by name, ahead of the questions that need them.
//!
//! A name is looked up when it is first dialled and again, in the background, when its time to live is nearly over. Old addresses
//! are used until there are new ones: no question waits for a refresh, and none pays for a look-up of its own.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::bootstrap::{self, Found, LookUpError};
use super::error::Cause;
use super::hosts::Machine;
use super::known::Known;
use super::server::Upstream;

/// Finds names by one set of servers, and remembers them.
pub struct Resolver {
    runtime: Handle,
    means: Means,
    known: Arc<Known>,
    /// By name; names come from the configuration alone.
    entries: Mutex<HashMap<Box<str>, Entry>>,
}

/// Who is asked.
#[derive(Debug)]
pub enum Means {
    /// These servers, in order.
    Servers(Vec<Arc<Upstream>>),
    /// Those the machine asks.
    Machine(Machine),
}

/// A look-up under way.
type Finding<'a> = Pin<Box<dyn Future<Output = Result<Found, LookUpError>> + Send + 'a>>;

/// What is known of one name.
#[derive(Debug)]
struct Entry {
    addresses: Vec<IpAddr>,
    /// Has this process found them itself, or are they those of an earlier one?
    confirmed: bool,
    /// When to look again.
    due: Instant,
    /// Look-ups that failed since the last that did not.
    failures: u32,
    /// Open while a look-up is under way: closed by its end, however that comes about.
    flight: Option<watch::Receiver<()>>,
    /// Why the last look-up failed, as far as the log has told: it is asked every few seconds, and said once.
    told: Option<LookUpError>,
}

/// What the end of a look-up has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// No more than the one before it.
    Nothing,
    /// There is an address again.
    Found,
    /// There is none, or no newer one, for this reason.
    Lost(LookUpError),
}

/// What a dial does about a name.
#[derive(Debug)]
enum Step {
    Use(Vec<IpAddr>),
    /// Wait for the look-up under way; with these addresses in hand, not for long.
    Wait(watch::Receiver<()>, Vec<IpAddr>),
    /// A look-up has failed a moment ago.
    Fail,
}

/// Bounds of a time to live: nobody is asked more often, and nothing is believed longer.
const TTL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(24));

/// How long a look-up may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a look-up has for itself before addresses from before the restart are used.
const HEAD_START: Duration = Duration::from_millis(300);

/// The longest wait after failures: with addresses to go on with, and with none.
const BACKOFF: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(4));

impl Resolver {
    /// Asks by `means`, on `runtime`.
    #[must_use]
    pub fn new(means: Means, known: Arc<Known>, runtime: Handle) -> Self {
        Self { runtime, means, known, entries: Mutex::default() }
    }

    /// The addresses of `name`.
    ///
    /// # Errors
    /// [`Cause::Unknown`] where there is none, [`Cause::Timeout`].
    pub async fn resolve(self: &Arc<Self>, name: &str, until: Instant) -> Result<Vec<IpAddr>, Cause> {
        if is_loopback_name(name) {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        match self.step(name) {
            Step::Use(addresses) => Ok(addresses),
            Step::Fail => Err(Cause::Unknown),
            Step::Wait(mut flight, remembered) => {
                let until = if remembered.is_empty() { until } else { until.min(Instant::now() + HEAD_START) };
                // Nothing is ever sent: the end of the sender is the word.
                let ended = timeout_at(until, flight.changed()).await;
                let now_known = self.with_entries(|entries| entries.get(name).map(|entry| entry.addresses.clone()));
                match now_known.filter(|addresses| !addresses.is_empty()) {
                    Some(addresses) => Ok(addresses),
                    None if ended.is_ok() => Err(Cause::Unknown),
                    None => Err(Cause::Timeout),
                }
            }
        }
    }

    /// Decides, and starts a look-up where one is due.
    fn step(self: &Arc<Self>, name: &str) -> Step {
        let now = Instant::now();
        self.with_entries(|entries| {
            let entry = entries.entry(name.into()).or_insert_with(|| Entry::new(self.known.addresses(name), now));
            if entry.is_due(now) {
                let (landed, flight) = watch::channel(());
                entry.flight = Some(flight);
                let (resolver, name) = (Arc::clone(self), Box::from(name));
                self.runtime.spawn(async move {
                    let found = timeout(PATIENCE, resolver.find(&name)).await;
                    resolver.settle(&name, found.unwrap_or(Err(LookUpError::Unanswered)));
                    drop(landed);
                });
            }
            entry.step()
        })
    }

    /// Boxed: a look-up asks servers, which are reached by dials, which look names up.
    fn find<'a>(&'a self, name: &'a str) -> Finding<'a> {
        match &self.means {
            Means::Servers(servers) => Box::pin(bootstrap::look_up(servers, name)),
            Means::Machine(machine) => Box::pin(machine.look_up(name, &self.runtime)),
        }
    }

    fn settle(&self, name: &str, outcome: Result<Found, LookUpError>) {
        let now = Instant::now();
        if let Ok(found) = &outcome {
            debug!(name, addresses = ?found.addresses, ttl = found.ttl.as_secs(), "upstream found");
            self.known.learn(name, &found.addresses, &self.runtime);
        }
        let settled = self.with_entries(|entries| {
            let entry = entries.get_mut(name)?;
            Some((entry.settle(outcome, now), entry.addresses.len()))
        });
        match settled {
            None | Some((News::Nothing, _)) => {}
            Some((News::Found, _)) => info!(name, "the address of an upstream is found again"),
            Some((News::Lost(why), 0)) => warn!(name, %why, "an upstream has no address and is not asked"),
            Some((News::Lost(why), _)) => {
                warn!(name, %why, "an upstream's address could not be looked up again; the last good one is used");
            }
        }
    }

    fn with_entries<R>(&self, act: impl FnOnce(&mut HashMap<Box<str>, Entry>) -> R) -> R {
        act(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry {
    const fn new(remembered: Vec<IpAddr>, now: Instant) -> Self {
        Self { addresses: remembered, confirmed: false, due: now, failures: 0, flight: None, told: None }
    }

    fn is_under_way(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.has_changed().is_ok())
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.due && !self.is_under_way()
    }

    fn step(&self) -> Step {
        let flight = self.flight.clone().filter(|_| self.is_under_way());
        match flight {
            _ if self.confirmed || (self.failures > 0 && !self.addresses.is_empty()) => {
                Step::Use(self.addresses.clone())
            }
            Some(flight) => Step::Wait(flight, self.addresses.clone()),
            None => Step::Fail,
        }
    }

    fn settle(&mut self, outcome: Result<Found, LookUpError>, now: Instant) -> News {
        match outcome {
            Ok(found) => {
                let ttl = found.ttl.clamp(TTL.0, TTL.1);
                // A little before it ends, so that the new addresses are there when the old have had their time.
                self.due = now + ttl - ttl / 10;
                (self.addresses, self.confirmed, self.failures) = (found.addresses, true, 0);
                self.told.take().map_or(News::Nothing, |_| News::Found)
            }
            Err(why) => {
                let most = if self.addresses.is_empty() { BACKOFF.1 } else { BACKOFF.0 };
                self.due = now + most.min(Duration::from_secs(1 << self.failures.min(6)));
                self.failures = self.failures.saturating_add(1);
                if self.told.replace(why) == Some(why) { News::Nothing } else { News::Lost(why) }
            }
        }
    }
}

/// `localhost` and what is under it is here, whatever a server says (RFC 6761 6.3).
fn is_loopback_name(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

impl Means {
    /// The machine's, with `own` doors left out.
    #[must_use]
    pub fn machine(own: &[SocketAddr]) -> Self {
        Self::Machine(Machine::new(own))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::bootstrap::tests::{answer, here, record, servers};
    use super::super::hosts::tests::machine;
    use super::super::testing::{datagrams, udp_server};
    use super::*;
    use crate::identity::scratch::Scratch;
    use crate::wire::Question;
    use crate::wire::registry::rtype;

    const NAME: &str = "dns.example";

    fn asking(addresses: &[SocketAddr], known: Known) -> Arc<Resolver> {
        Arc::new(Resolver::new(Means::Servers(servers(addresses)), Arc::new(known), Handle::current()))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn found(text: &str, ttl: u64) -> Found {
        Found { addresses: vec![ip(text)], ttl: Duration::from_secs(ttl) }
    }

    async fn heard(count: &AtomicU32, wanted: u32) {
        while count.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn many_dials_share_one_look_up_and_the_next_needs_none() {
        let (address, asked) = udp_server(here).await;
        let resolver = asking(&[address], Known::default());
        let dial = || resolver.resolve(NAME, soon());
        let (one, two, three) = tokio::join!(dial(), dial(), dial());
        for found in [one, two, three, dial().await] {
            assert_eq!(found, Ok(vec![ip("127.0.0.1")]));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "A and AAAA, once");
    }

    #[tokio::test]
    async fn an_old_address_is_used_while_a_new_one_is_found_in_the_background() {
        static MOVED: AtomicU32 = AtomicU32::new(1);
        let (address, asked) = udp_server(|query| {
            let host = u8::try_from(MOVED.load(Ordering::SeqCst)).unwrap();
            match Question::parse(query).unwrap().rtype {
                rtype::A => answer(query, &[record(rtype::A, 60, &[192, 0, 2, host])]),
                _ => answer(query, &[]),
            }
        })
        .await;
        let resolver = asking(&[address], Known::default());
        assert_eq!(resolver.resolve(NAME, soon()).await, Ok(vec![ip("192.0.2.1")]));
        MOVED.store(2, Ordering::SeqCst);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(53)).await;
        assert_eq!(resolver.resolve(NAME, soon()).await, Ok(vec![ip("192.0.2.1")]));
        assert_eq!(asked.load(Ordering::SeqCst), 2, "not yet due");
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
        assert_eq!(resolver.resolve(NAME, soon()).await, Ok(vec![ip("192.0.2.1")]), "nobody waits");
        heard(&asked, 4).await;
        while resolver.resolve(NAME, soon()).await != Ok(vec![ip("192.0.2.2")]) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_failed_refresh_leaves_the_old_addresses_in_use() {
        let mut entry = Entry::new(Vec::new(), Instant::now());
        entry.settle(Ok(found("192.0.2.1", 60)), Instant::now());
        let later = Instant::now() + Duration::from_mins(10);
        assert!(entry.is_due(later));
        entry.settle(Err(LookUpError::NoSuchName), later);
        assert!(matches!(entry.step(), Step::Use(addresses) if addresses == [ip("192.0.2.1")]));
        assert!(!entry.is_due(later), "not asked again at once");
        assert!(entry.is_due(later + Duration::from_secs(1)));
        for _ in 0..20 {
            entry.settle(Err(LookUpError::Unanswered), later);
        }
        assert!(!entry.is_due(later + Duration::from_secs(59)) && entry.is_due(later + BACKOFF.0));
    }

    #[tokio::test]
    async fn a_name_that_stays_lost_is_told_once_and_so_is_its_return() {
        let now = Instant::now();
        let mut entry = Entry::new(Vec::new(), now);
        let (lost, silent) = (LookUpError::NoSuchName, LookUpError::Unanswered);
        for (outcome, news) in [
            (Ok(found("192.0.2.1", 60)), News::Nothing),
            (Err(lost), News::Lost(lost)),
            (Err(lost), News::Nothing),
            (Err(silent), News::Lost(silent)),
            (Err(silent), News::Nothing),
            (Ok(found("192.0.2.1", 60)), News::Found),
            (Ok(found("192.0.2.1", 60)), News::Nothing),
            (Err(silent), News::Lost(silent)),
        ] {
            assert_eq!(entry.settle(outcome, now), news);
        }
    }

    #[tokio::test]
    async fn times_to_live_are_kept_within_reason() {
        let now = Instant::now();
        let mut entry = Entry::new(Vec::new(), now);
        for (ttl, due) in [(0, 27), (100, 90), (u64::from(u32::MAX), 77_760)] {
            entry.settle(Ok(found("192.0.2.1", ttl)), now);
            assert_eq!(entry.due - now, Duration::from_secs(due));
        }
    }

    #[tokio::test]
    async fn a_dial_waits_no_longer_than_it_may_and_a_failure_is_told_at_once_for_a_while() {
        let (silent, address) = datagrams().await;
        let resolver = asking(&[address], Known::default());
        let until = Instant::now() + Duration::from_millis(50);
        assert_eq!(resolver.resolve(NAME, until).await, Err(Cause::Timeout));
        drop(silent);
        let (refusing, asked) = udp_server(|query| super::super::testing::reply(query, 5)).await;
        let resolver = asking(&[refusing], Known::default());
        assert_eq!(resolver.resolve(NAME, soon()).await, Err(Cause::Unknown));
        assert_eq!(resolver.resolve(NAME, soon()).await, Err(Cause::Unknown));
        assert_eq!(asked.load(Ordering::SeqCst), 2, "the second was told of the first's failure");
    }

    fn remembering(scratch: &Scratch, address: &str) -> Known {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Arc::new(Known::read(Some(scratch.path()))).learn(NAME, &[ip(address)], runtime.handle());
        std::thread::spawn(|| drop(runtime)).join().unwrap();
        Known::read(Some(scratch.path()))
    }

    #[tokio::test]
    async fn after_a_restart_the_last_good_addresses_stand_in_for_a_silent_bootstrap_server() {
        let scratch = Scratch::new();
        let (_silent, address) = datagrams().await;
        let resolver = asking(&[address], remembering(&scratch, "192.0.2.7"));
        assert_eq!(resolver.resolve(NAME, soon()).await, Ok(vec![ip("192.0.2.7")]));
    }

    #[tokio::test]
    async fn after_a_restart_a_bootstrap_server_that_answers_is_believed_more_than_the_disk() {
        let scratch = Scratch::new();
        let (address, _) = udp_server(here).await;
        let resolver = asking(&[address], remembering(&scratch, "192.0.2.7"));
        while resolver.resolve(NAME, soon()).await != Ok(vec![ip("127.0.0.1")]) {
            tokio::task::yield_now().await;
        }
        while Known::read(Some(scratch.path())).addresses(NAME) != [ip("127.0.0.1")] {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn doh_25_a_name_that_only_we_could_find_fails_at_once() {
        let scratch = Scratch::new();
        let machine = machine(&scratch, "", "nameserver 127.0.0.1", 53, &["0.0.0.0:53"]);
        let resolver = Arc::new(Resolver::new(Means::Machine(machine), Arc::default(), Handle::current()));
        assert_eq!(resolver.resolve(NAME, soon()).await, Err(Cause::Unknown));
        assert!(resolver.resolve("localhost", soon()).await.unwrap().contains(&ip("127.0.0.1")));
    }
}
