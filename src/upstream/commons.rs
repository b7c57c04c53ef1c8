//! What all servers of a gateway share: the runtime that owns their connections, how names are found, what time it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::kept::Home;
use super::known::Known;
use super::names::Means;
use super::resolve::Resolver;
use super::server::{BuildError, Upstream};
use super::settings::{Datagrams, Server, Settings};
use super::sockets::Sockets;
use super::timekeeper::Timekeeper;
use crate::trail::UpstreamId;

/// Shared by the servers of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commons {
    /// The home runtime.
    pub runtime: Handle,
    /// Where the addresses of names come from.
    pub resolver: Arc<Resolver>,
    /// The time that certificates are judged by.
    pub times: Arc<Timekeeper>,
    /// The sockets of questions over UDP.
    pub sockets: Arc<Sockets>,
    /// Are plain servers shown cookies?
    pub cookies: bool,
    ids: Arc<AtomicU32>,
    finding: Arc<Finding>,
}

/// What finding names goes by.
#[derive(Debug, Default)]
struct Finding {
    /// Our own plain doors.
    own: Vec<SocketAddr>,
    /// The servers that `resolver` asks; none: the machine's.
    bootstrap: Vec<Server>,
    known: Arc<Known>,
}

/// How long a connection to a bootstrap server may take.
const PATIENCE: Duration = Duration::from_secs(3);

impl Commons {
    /// Servers that live on `runtime`, found by the system's means, under the system's clock.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self::found_by(Means::machine(&[]), Finding::default(), runtime)
    }

    /// The same for a gateway: found by the servers that `settings` name for it, and remembered on disk.
    ///
    /// # Errors
    /// A bootstrap server that cannot be used.
    pub fn of(settings: &Settings, runtime: Handle) -> Result<Self, BuildError> {
        let known = Arc::new(Known::read(settings.state_dir.as_deref()));
        let finding = Finding { own: settings.own.clone(), bootstrap: Vec::new(), known };
        // Bootstrap servers are plain servers too.
        let commons =
            Self::found_by(Means::machine(&settings.own), finding, runtime).with_datagrams(settings.datagrams);
        commons.with_bootstrap(&settings.default.bootstrap)
    }

    /// For servers that are known by address: a name is not looked up at all.
    #[must_use]
    pub fn alone(runtime: Handle) -> Self {
        Self::found_by(Means::Servers(Vec::new()), Finding::default(), runtime)
    }

    /// The same, with names found by `bootstrap` if there are any, as before if there are none.
    ///
    /// # Errors
    /// A bootstrap server that cannot be used.
    pub fn with_bootstrap(&self, bootstrap: &[Server]) -> Result<Self, BuildError> {
        if bootstrap.is_empty() || bootstrap == self.finding.bootstrap {
            return Ok(self.clone());
        }
        // They are known by address and look nothing up.
        let nobody = Self::alone(self.runtime.clone()).resolver;
        let home = Home::new(&Self { resolver: nobody, ..self.clone() }, PATIENCE);
        let ready = |server| Upstream::new(server, UpstreamId::default(), &home).map(Arc::new);
        let servers = bootstrap.iter().map(ready).collect::<Result<_, _>>()?;
        let known = Arc::clone(&self.finding.known);
        let resolver = Resolver::new(Means::Servers(servers), Arc::clone(&known), self.runtime.clone());
        let finding = Finding { own: self.finding.own.clone(), bootstrap: bootstrap.to_vec(), known };
        Ok(Self { resolver: Arc::new(resolver), finding: Arc::new(finding), ..self.clone() })
    }

    /// The same runtime, sockets, times and remembered addresses for other settings; names are found anew where it is by other means.
    /// Ids given out here are given out again by another that is made of `self`: only one of them may come into use.
    ///
    /// # Errors
    /// As [`Commons::of`].
    pub fn renewed(&self, settings: &Settings) -> Result<Self, BuildError> {
        let ids = Arc::new(AtomicU32::new(self.ids.load(Ordering::Relaxed)));
        let same = Self { ids, cookies: settings.datagrams.cookies, ..self.clone() };
        let Finding { own, bootstrap, known } = &*self.finding;
        if *own == settings.own && *bootstrap == settings.default.bootstrap {
            return Ok(same);
        }
        let resolver = Resolver::new(Means::machine(&settings.own), Arc::clone(known), self.runtime.clone());
        let finding = Finding { own: settings.own.clone(), bootstrap: Vec::new(), known: Arc::clone(known) };
        Self { resolver: Arc::new(resolver), finding: Arc::new(finding), ..same }
            .with_bootstrap(&settings.default.bootstrap)
    }

    /// Our own plain doors, which are never asked to find a server.
    #[must_use]
    pub fn own(&self) -> &[SocketAddr] {
        &self.finding.own
    }

    fn found_by(means: Means, finding: Finding, runtime: Handle) -> Self {
        let resolver = Arc::new(Resolver::new(means, Arc::clone(&finding.known), runtime.clone()));
        Self {
            runtime,
            resolver,
            times: Arc::default(),
            sockets: Arc::new(Sockets::new(Datagrams::DEFAULT.sockets)),
            cookies: Datagrams::DEFAULT.cookies,
            ids: Arc::default(),
            finding: Arc::new(finding),
        }
    }

    fn with_datagrams(self, datagrams: Datagrams) -> Self {
        Self { sockets: Arc::new(Sockets::new(datagrams.sockets)), cookies: datagrams.cookies, ..self }
    }

    /// The same, with certificates judged by `times`.
    #[must_use]
    pub fn with_times(self, times: Arc<Timekeeper>) -> Self {
        Self { times, ..self }
    }

    /// The next server's id; None when all are given out.
    #[must_use]
    pub fn next_id(&self) -> Option<UpstreamId> {
        u16::try_from(self.ids.fetch_add(1, Ordering::Relaxed)).ok().map(UpstreamId)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::settings::PoolSettings;
    use super::super::testing::{cookie_of, plain, udp_server};
    use super::*;

    #[tokio::test]
    async fn bootstrap_servers_are_asked_as_all_plain_servers_are() {
        for cookies in [true, false] {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let (bootstrap, _) = udp_server(move |query| {
                tell.send(!cookie_of(query).is_empty()).unwrap();
                super::super::bootstrap::tests::here(query)
            })
            .await;
            let pool = PoolSettings { bootstrap: vec![plain("udp", bootstrap)], ..PoolSettings::new(Vec::new()) };
            let datagrams = Datagrams { cookies, ..Datagrams::DEFAULT };
            let settings = Settings { datagrams, ..Settings::new(pool) };
            let commons = Commons::of(&settings, Handle::current()).unwrap();
            let until = Instant::now() + Duration::from_secs(10);
            assert!(commons.resolver.resolve("dns.example", until).await.is_ok());
            assert_eq!(told.recv().await, Some(cookies));
        }
    }
}
