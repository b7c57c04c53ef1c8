//! Where a server is, and which of its addresses to try first: literal ones, configured ones, or found by the [`Resolver`].

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::address::Host;
use super::commons::Commons;
use super::error::Cause;
use super::eyeballs;
pub use super::names::Resolver;
use super::origin::Origin;
use super::settings::{Proxy, Server};

/// The addresses of one server, or of its proxy, and what is remembered of them. Cheap to clone; clones share the memory.
#[derive(Clone, Debug)]
pub struct Addresses {
    place: Place,
    origin: Origin,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Clone, Debug)]
enum Place {
    /// Known without asking.
    Known(Vec<SocketAddr>),
    /// A name that must be looked up.
    Named { name: Box<str>, port: u16, resolver: Arc<Resolver> },
}

/// How the addresses have done.
#[derive(Debug, Default)]
struct Memory {
    /// Worked last: tried first.
    good: Option<SocketAddr>,
    /// Failed, and when: at most [`eyeballs::MOST`].
    bad: Vec<(SocketAddr, Instant)>,
}

/// How long an address that failed is passed over while there are others.
const SHUNNED: Duration = Duration::from_secs(30);

/// What silent addresses still have once a server at another could not prove itself: that is to be told, not "no answer in time".
const LAST_WORD: Duration = Duration::from_secs(1);

impl Addresses {
    /// Where `server` is, as far as its settings say.
    #[must_use]
    pub fn of(server: &Server, commons: &Commons) -> Self {
        Self::at(&server.url.host, &server.addresses, server.url.port, server.source, commons)
    }

    /// Where `proxy` is; what goes there leaves from `source`.
    #[must_use]
    pub fn of_proxy(proxy: &Proxy, source: Option<IpAddr>, commons: &Commons) -> Self {
        Self::at(&proxy.host, &[], proxy.port, source, commons)
    }

    fn at(host: &Host, given: &[IpAddr], port: u16, source: Option<IpAddr>, commons: &Commons) -> Self {
        let at = |&address: &IpAddr| SocketAddr::new(address, port);
        let place = match host {
            Host::Address(address) => Place::Known(vec![at(address)]),
            Host::Name(_) if !given.is_empty() => Place::Known(given.iter().map(at).collect()),
            Host::Name(name) => Place::Named { name: name.clone(), port, resolver: Arc::clone(&commons.resolver) },
        };
        Self { place, origin: Origin::new(source), memory: Arc::default() }
    }

    /// Where what goes there leaves from.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// Tries `reach` at all addresses by [`eyeballs`]; the first to succeed wins and is tried first next time.
    ///
    /// # Errors
    /// Why the last one failed; [`Cause::Unknown`] where there is no address, [`Cause::Timeout`].
    pub async fn race<T, F, R>(&self, until: Instant, reach: F) -> Result<T, Cause>
    where
        F: Fn(SocketAddr) -> R + Send + Sync,
        R: Future<Output = Result<T, Cause>> + Send,
    {
        let candidates = self.list(until).await?;
        let (reach, disproven) = (&reach, &Notify::new());
        let race = eyeballs::race(candidates, |address| async move {
            let reached = reach(address).await;
            self.note(address, reached.as_ref().err().copied());
            if reached.as_ref().err() == Some(&Cause::Tls) {
                disproven.notify_one();
            }
            reached
        });
        let enough = async {
            disproven.notified().await;
            sleep(LAST_WORD).await;
        };
        tokio::select! {
            raced = timeout_at(until, race) => {
                let Ok(raced) = raced else {
                    self.with_memory(|memory| memory.good = None);
                    return Err(Cause::Timeout);
                };
                raced.map_err(|failures| most_telling(&failures))
            }
            () = enough => Err(Cause::Tls),
        }
    }

    /// Tries `reach` at each address in turn until one succeeds, giving each an even share of the time that is left. One that
    /// failed lately is passed over while there are others.
    ///
    /// # Errors
    /// Why the last one failed; [`Cause::Unknown`] where there is no address.
    pub async fn in_turn<T, F, R>(&self, until: Instant, reach: F) -> Result<T, Cause>
    where
        F: Fn(SocketAddr, Instant) -> R + Send + Sync,
        R: Future<Output = Result<T, Cause>> + Send,
    {
        let addresses = self.without_bad(self.list(until).await?);
        let mut failure = Cause::Unknown;
        let mut left = u32::try_from(addresses.len()).unwrap_or(1);
        for address in addresses {
            let now = Instant::now();
            let end = now + until.saturating_duration_since(now) / left.max(1);
            left = left.saturating_sub(1);
            let reached = timeout_at(end, reach(address, end)).await.unwrap_or(Err(Cause::Timeout));
            self.note(address, reached.as_ref().err().copied());
            match reached {
                Ok(reached) => return Ok(reached),
                Err(cause) => failure = cause,
            }
        }
        Err(failure)
    }

    async fn list(&self, until: Instant) -> Result<Vec<SocketAddr>, Cause> {
        let found = match &self.place {
            Place::Known(addresses) => addresses.clone(),
            Place::Named { name, port, resolver } => {
                let found = resolver.resolve(name, until).await?;
                found.into_iter().map(|address| SocketAddr::new(address, *port)).collect()
            }
        };
        let usable: Vec<_> = found.into_iter().filter(|address| self.origin.suits(*address)).collect();
        Ok(eyeballs::order(&usable, self.with_memory(|memory| memory.good)))
    }

    fn without_bad(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let now = Instant::now();
        let bad: Vec<SocketAddr> = self.with_memory(|memory| {
            memory.bad.retain(|(_, at)| now.saturating_duration_since(*at) < SHUNNED);
            memory.bad.iter().map(|(address, _)| *address).collect()
        });
        let fine: Vec<_> = addresses.iter().copied().filter(|address| !bad.contains(address)).collect();
        if fine.is_empty() { addresses } else { fine }
    }

    /// Remembers how `address` did. The want of files and the like is ours, and says nothing of it.
    fn note(&self, address: SocketAddr, failure: Option<Cause>) {
        if failure == Some(Cause::Busy) {
            return;
        }
        self.with_memory(|memory| {
            memory.bad.retain(|(other, _)| *other != address);
            if failure.is_none() {
                memory.good = Some(address);
                return;
            }
            memory.good = memory.good.filter(|good| *good != address);
            if memory.bad.len() >= eyeballs::MOST {
                memory.bad.remove(0);
            }
            memory.bad.push((address, Instant::now()));
        });
    }

    fn with_memory<R>(&self, act: impl FnOnce(&mut Memory) -> R) -> R {
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A server that could not prove itself is worth knowing, whatever became of its other addresses.
pub(super) fn most_telling(failures: &[Cause]) -> Cause {
    if failures.contains(&Cause::Tls) {
        return Cause::Tls;
    }
    failures.last().copied().unwrap_or(Cause::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Addresses {
        let mut server = Server::new("tls://dns.example".parse().unwrap());
        server.addresses = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        Addresses::of(&server, &Commons::new(tokio::runtime::Handle::current()))
    }

    fn is_first(address: SocketAddr) -> bool {
        address.to_string() == "192.0.2.1:853"
    }

    #[tokio::test]
    async fn addresses_are_tried_in_turn_until_one_works() {
        let until = Instant::now() + Duration::from_secs(5);
        let reached = two()
            .in_turn(
                until,
                |address, _| async move { if is_first(address) { Err(Cause::Connect) } else { Ok(address) } },
            )
            .await;
        assert_eq!(reached.unwrap().to_string(), "192.0.2.2:853");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_leaves_time_for_the_next_and_is_passed_over_for_a_while() {
        let addresses = two();
        let ask = |silent: bool| {
            addresses.in_turn(Instant::now() + Duration::from_secs(2), move |address, _| async move {
                if silent && is_first(address) {
                    std::future::pending::<()>().await;
                }
                Ok(address)
            })
        };
        for expected in [Duration::from_secs(1), Duration::ZERO] {
            let start = Instant::now();
            assert_eq!(ask(true).await.unwrap().to_string(), "192.0.2.2:853");
            assert_eq!(start.elapsed(), expected);
        }
        tokio::time::advance(SHUNNED).await;
        assert_eq!(ask(false).await.unwrap().to_string(), "192.0.2.2:853", "what worked last comes first");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_failed_is_tried_again_when_all_have() {
        let addresses = two();
        let until = Instant::now() + Duration::from_secs(2);
        let failed: Result<(), _> = addresses.in_turn(until, |_, _| async { Err(Cause::Connect) }).await;
        assert_eq!(failed, Err(Cause::Connect));
        assert!(addresses.in_turn(until, |address, _| async move { Ok(address) }).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_winner_of_a_race_goes_first_the_next_time() {
        let addresses = two();
        for expected in [eyeballs::HEAD_START, Duration::ZERO] {
            let start = Instant::now();
            let reached = addresses.race(start + Duration::from_secs(2), |address| async move {
                if is_first(address) {
                    std::future::pending::<()>().await;
                }
                Ok(address)
            });
            assert!(!is_first(reached.await.unwrap()));
            assert_eq!(start.elapsed(), expected);
        }
    }

    #[tokio::test]
    async fn an_address_is_not_blamed_for_our_own_want() {
        let (addresses, until) = (two(), Instant::now() + Duration::from_secs(5));
        let second = |address| async move { if is_first(address) { Err(Cause::Connect) } else { Ok(address) } };
        let good = addresses.race(until, second).await.unwrap();
        let failed: Result<(), _> = addresses.race(until, |_| async { Err(Cause::Busy) }).await;
        assert_eq!(failed, Err(Cause::Busy));
        assert_eq!(addresses.list(until).await.unwrap().first(), Some(&good), "what worked last comes first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_proof_is_told_before_a_closed_port() {
        let until = Instant::now() + Duration::from_secs(2);
        let failed: Result<(), _> = two()
            .race(until, |address| async move { Err(if is_first(address) { Cause::Tls } else { Cause::Connect }) })
            .await;
        assert_eq!(failed, Err(Cause::Tls));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_proof_is_told_although_another_address_is_silent() {
        let start = Instant::now();
        let failed: Result<(), _> = two()
            .race(start + Duration::from_secs(4), |address| async move {
                if is_first(address) {
                    std::future::pending::<()>().await;
                }
                Err(Cause::Tls)
            })
            .await;
        assert_eq!(failed, Err(Cause::Tls));
        assert_eq!(start.elapsed(), eyeballs::HEAD_START + LAST_WORD);
    }

    #[tokio::test]
    async fn only_addresses_of_the_sources_family_are_tried() {
        let mut server = Server::new("tls://dns.example".parse().unwrap());
        server.addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        server.source = Some("192.0.2.7".parse().unwrap());
        let addresses = Addresses::of(&server, &Commons::new(tokio::runtime::Handle::current()));
        let list = addresses.list(Instant::now()).await.unwrap();
        assert_eq!(list, ["192.0.2.1:853".parse().unwrap()]);
    }
}
