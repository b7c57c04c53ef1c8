//! `check --live`: asks every configured server once, with the client code and the settings that `serve` asks it with.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::handshake::{KEYS, Shown, explain};
use super::super::query::{cipher_name, rcode_name, version_name, warm_up};
use crate::trail::Attempts;
use crate::upstream::address::Host;
use crate::upstream::commons::Commons;
use crate::upstream::delivery::{Facts, Window};
use crate::upstream::error::Cause;
use crate::upstream::kept::Home;
use crate::upstream::probe;
use crate::upstream::proof::Proof;
use crate::upstream::server::{BuildFault, Upstream};
use crate::upstream::timekeeper::{Timekeeper, WallClock};
use crate::upstream::{Ask, BuildError, Pool, PoolSettings, Server, Settings};
use crate::wire::Header;
use crate::wire::registry::rtype;

/// What a server is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is asked first.
    Server,
    /// It is asked while none of the first answers.
    Fallback,
    /// It finds the others.
    Bootstrap,
}

impl Role {
    /// For people and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Fallback => "fallback",
            Self::Bootstrap => "bootstrap",
        }
    }
}

/// A server, and what came of asking it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The name of its pool; the default one is `upstream`, as in the file.
    pub pool: Arc<str>,
    /// What it is there for.
    pub role: Role,
    /// Its URL.
    pub url: String,
    /// Who knows its address: `given`, `proxy`, `bootstrap` or `system`.
    pub found_by: &'static str,
    /// An answer, or why there is none and what to do next.
    pub outcome: Result<Told, String>,
}

/// How a server answered.
#[derive(Clone, Debug)]
pub struct Told {
    /// The connection.
    pub facts: Facts,
    /// What it proved itself with.
    pub certificate: Option<Shown>,
    /// NOERROR or NXDOMAIN.
    pub rcode: String,
    /// From the look-up of its name to the answer.
    pub first: Duration,
    /// The same question once more over what is open now; None where that failed.
    pub again: Option<Duration>,
}

/// Servers tried at once.
const AT_ONCE: usize = 32;

/// One server and what it is to be asked.
struct Trial {
    tried: Tried,
    upstream: Arc<Upstream>,
    ask: Arc<Ask>,
    timeout: Duration,
    /// Is a proxy between?
    is_proxied: bool,
}

/// Asks every server of `settings`; `progress` hears how many of how many are done. Must run on a tokio runtime.
///
/// # Errors
/// A server that `serve` would not start with.
pub async fn try_all(settings: &Settings, progress: impl Fn(usize, usize)) -> Result<Vec<Tried>, BuildError> {
    let times = Timekeeper::new(WallClock::default(), settings.state_dir.as_deref());
    // As `serve` would ask them, but a look leaves nothing in the state directory, which may be another user's.
    let forgetful = Settings { state_dir: None, ..settings.clone() };
    let commons = Commons::of(&forgetful, Handle::current())?.with_times(Arc::new(times));
    let mut trials = trials("upstream", &settings.default, &probe::question(), &commons)?;
    for (index, named) in settings.pools.iter().enumerate() {
        let domain = settings.forwards.iter().find(|forward| forward.pool == index).and_then(|f| f.domains.first());
        let ask = domain.map_or_else(probe::question, |domain| Arc::new(Ask::new(domain, rtype::SOA)));
        trials.extend(self::trials(&named.name, &named.pool, &ask, &commons)?);
    }
    warm_up();
    let (total, turns) = (trials.len(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut running = JoinSet::new();
    for (index, trial) in trials.into_iter().enumerate() {
        let turns = Arc::clone(&turns);
        running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (index, trial.run().await)
        });
    }
    let mut done = Vec::with_capacity(total);
    progress(0, total);
    while let Some(ended) = running.join_next().await {
        done.extend(ended);
        progress(done.len(), total);
    }
    done.sort_by_key(|&(index, _)| index);
    Ok(done.into_iter().map(|(_, tried)| tried).collect())
}

fn trials(name: &str, pool: &PoolSettings, ask: &Arc<Ask>, commons: &Commons) -> Result<Vec<Trial>, BuildError> {
    let name: Arc<str> = name.into();
    let trial = |server: &Server, role, upstream: Arc<Upstream>, ask: &Arc<Ask>| {
        let found_by = match server.url.host {
            Host::Name(_) if !server.addresses.is_empty() => "given",
            Host::Name(_) if server.proxy.is_some() => "proxy",
            Host::Name(_) if pool.bootstrap.is_empty() => "system",
            Host::Name(_) => "bootstrap",
            Host::Address(_) => "given",
        };
        let (pool_name, url) = (Arc::clone(&name), server.url.to_string());
        let tried = Tried { pool: pool_name, role, url, found_by, outcome: Err(String::new()) };
        Trial { tried, upstream, ask: Arc::clone(ask), timeout: pool.timeout, is_proxied: server.proxy.is_some() }
    };
    let ready = Pool::new(pool, commons)?;
    let servers = pool.servers.iter().map(|server| (server, Role::Server));
    let servers = servers.chain(pool.fallback.iter().map(|server| (server, Role::Fallback)));
    let mut trials: Vec<Trial> = servers
        .zip(ready.servers())
        .map(|((server, role), upstream)| trial(server, role, Arc::clone(upstream), ask))
        .collect();
    let (home, roots) = (Home::new(commons, pool.attempt_timeout), probe::question());
    for server in &pool.bootstrap {
        let id = commons.next_id().ok_or(BuildFault::TooMany);
        let id = id.map_err(|fault| BuildError { url: server.url.to_string(), fault })?;
        trials.push(trial(server, Role::Bootstrap, Arc::new(Upstream::new(server, id, &home)?), &roots));
    }
    Ok(trials)
}

impl Trial {
    async fn run(self) -> Tried {
        let outcome = self.ask().await;
        Tried { outcome, ..self.tried }
    }

    async fn ask(&self) -> Result<Told, String> {
        let start = Instant::now();
        let window = Window { until: start + self.timeout, sends: 2 };
        let asking = || async { self.upstream.attempt(&self.ask, window, &mut Attempts::default()).await };
        let proof = self.upstream.proof();
        let (delivered, _) = asking().await.map_err(|error| match error.cause {
            Cause::Connect if self.is_proxied => BEHIND_PROXY.to_owned(),
            cause => explain(cause, proof.and_then(Proof::fault).as_ref(), KEYS),
        })?;
        let first = start.elapsed();
        let rcode = Header::parse(&delivered.message).unwrap_or_default().flags.rcode();
        if !matches!(rcode, NOERROR | NXDOMAIN) {
            let rcode = rcode_name(rcode);
            return Err(format!("it answers {rcode}. Ask its operator whether this machine may use it as a resolver"));
        }
        let since = Instant::now();
        let again = asking().await.is_ok().then(|| since.elapsed());
        let certificate = proof.and_then(Proof::certificate).as_ref().and_then(Shown::of);
        Ok(Told { facts: delivered.facts, certificate, rcode: rcode_name(rcode), first, again })
    }
}

const BEHIND_PROXY: &str =
    "cannot connect through its `proxy`: nothing listens there, it refuses, or it cannot reach the server";

const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl Tried {
    /// One object.
    #[must_use]
    pub fn json(&self) -> Json {
        let told = self.outcome.as_ref().ok();
        let tls = told.and_then(|told| told.facts.secured.map(|secured| (told, secured))).map(|(told, secured)| {
            json!({
                "version": version_name(secured.version),
                "cipher": secured.cipher.map(cipher_name),
                "alpn": secured.alpn,
                "certificate": told.certificate.as_ref().map(Shown::json),
            })
        });
        json!({
            "pool": &*self.pool,
            "role": self.role.name(),
            "url": self.url,
            "ok": told.is_some(),
            "address": told.map(|told| told.facts.address.to_string()),
            "found_by": self.found_by,
            "transport": told.map(|told| told.facts.transport.name()),
            "tls": tls,
            "rcode": told.map(|told| &told.rcode),
            "time_ms": told.map(|told| millis(told.first)),
            "again_ms": told.and_then(|told| told.again).map(millis),
            "error": self.outcome.as_ref().err(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::settings::Datagrams;
    use crate::upstream::testing::{cookie_of, plain, reply, udp_server};

    #[tokio::test]
    async fn servers_are_tried_as_serve_would_ask_them_and_nothing_is_left_on_disk() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (address, _) = udp_server(move |query| {
            tell.send(cookie_of(query)).unwrap();
            reply(query, 0)
        })
        .await;
        let state = tempfile::tempdir().unwrap();
        let settings = Settings {
            datagrams: Datagrams { cookies: false, ..Datagrams::DEFAULT },
            state_dir: Some(state.path().join("state")),
            ..Settings::new(PoolSettings::new(vec![plain("udp", address)]))
        };
        let tried = try_all(&settings, |_, _| ()).await.unwrap();
        assert!(tried[0].outcome.is_ok(), "{:?}", tried[0].outcome);
        assert_eq!(told.recv().await, Some(Vec::new()), "a cookie, though none is to be shown");
        assert!(!state.path().join("state").exists());
    }
}
