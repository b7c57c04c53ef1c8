//! The rig: a scripted upstream, a gateway on ports of its own, clients for every transport, certificates made by the gateway.

pub mod acme;
pub mod client;
pub mod message;
pub mod mutation;
pub mod raw;
pub mod servers;
pub mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use hushgate::admin::Reloaded;
use hushgate::config::{self, Config, Source};
use hushgate::gateway::reload::Way;
use hushgate::gateway::{Gateway, Running};
use hushgate::listen::DoorKind;
use hushgate::peer::Transport;
use hushgate::upstream::timekeeper::WallClock;

pub use message::{Answer, Ask};
pub use upstream::{Act, Upstream};

/// Streams and HTTP alike: every transport but UDP.
pub const STREAMS: [Transport; 6] =
    [Transport::Tcp, Transport::Dot, Transport::Doh1, Transport::Doh2, Transport::Doh3, Transport::Doq];

/// The encrypted ones.
pub const ENCRYPTED: [Transport; 5] =
    [Transport::Dot, Transport::Doh1, Transport::Doh2, Transport::Doh3, Transport::Doq];

/// A gateway under test with its upstream.
pub struct Rig {
    pub upstream: Upstream,
    running: Option<Running>,
    doors: Vec<(DoorKind, SocketAddr)>,
    admin: SocketAddr,
    acme: Vec<SocketAddr>,
    state: tempfile::TempDir,
}

/// A configuration before its gateway is built.
pub struct Adjusting<'a> {
    pub config: &'a mut Config,
    pub folder: &'a std::path::Path,
    /// Where the scripted upstream is.
    pub upstream: SocketAddr,
}

impl Rig {
    /// A gateway with the defaults, on loopback, in front of a scripted upstream.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// The same with more configuration: TOML whose tables must not repeat `[listen]`, `[admin]` or `[upstream]` (see [`Rig::set`]).
    pub async fn with(extra: &str) -> Self {
        Self::set(extra, &[]).await
    }

    /// The same with `--set` overrides.
    pub async fn set(extra: &str, sets: &[&str]) -> Self {
        Self::adjusted(extra, sets, WallClock::default(), |_| {}).await
    }

    /// The same beside files that the configuration speaks of: their names and what they hold.
    pub async fn beside(files: &[(&str, &str)], extra: &str, sets: &[&str]) -> Self {
        Self::built(files, extra, sets, WallClock::default(), |_| {}).await
    }

    /// The same on a machine with this clock, with a configuration that `adjust` has changed; it is handed the rig's folder and the
    /// address of its upstream too.
    pub async fn adjusted(extra: &str, sets: &[&str], clock: WallClock, adjust: impl FnOnce(Adjusting<'_>)) -> Self {
        Self::built(&[], extra, sets, clock, adjust).await
    }

    #[allow(clippy::too_many_arguments, reason = "all that a gateway under test is made of")]
    async fn built(
        files: &[(&str, &str)],
        extra: &str,
        sets: &[&str],
        clock: WallClock,
        adjust: impl FnOnce(Adjusting<'_>),
    ) -> Self {
        let upstream = Upstream::start().await;
        let state = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(state.path().join(name), content).unwrap();
        }
        let file = state.path().join("hushgate.toml");
        let text = format!(
            "state_dir = {:?}\nworkers = 2\n[listen]\ndns = [\"127.0.0.1:0\"]\ndot = [\"127.0.0.1:0\"]\n\
             doh = [\"127.0.0.1:0\", {{ address = \"127.0.0.1:0\", tls = false }}]\ndoq = [\"127.0.0.1:0\"]\n\
             [admin]\nlisten = [\"127.0.0.1:0\"]\n[upstream]\ntimeout = \"20s\"\nattempt_timeout = \"15s\"\nservers = [\"udp://{}\"]\nfallback = []\n{extra}\n",
            state.path().join("state").display().to_string(),
            upstream.address
        );
        std::fs::write(&file, text).unwrap();
        let sets = sets.iter().map(ToString::to_string).collect();
        let source = Source { file: Some(file), environment: None, sets };
        let loaded = config::load(&source);
        let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        let mut config = loaded.config.unwrap_or_else(|| panic!("bad test configuration: {problems:#?}"));
        // Tests count the seconds of a TTL.
        config.cache.spread = false;
        // And connections.
        config.admin.self_probe = false;
        adjust(Adjusting { config: &mut config, folder: state.path(), upstream: upstream.address });
        let gateway = Gateway::build_by(config, clock).unwrap().read_from(source, loaded.text, &loaded.effective);
        let bound = gateway.bind().unwrap();
        let doors = bound.doors();
        let admin = bound.admin_addresses()[0];
        let acme = bound.acme_addresses();
        let running = bound.serve().unwrap();
        Self { upstream, running: Some(running), doors, admin, acme, state }
    }

    fn door(&self, kind: DoorKind) -> SocketAddr {
        self.doors.iter().find(|(found, _)| *found == kind).map(|(_, address)| *address).unwrap()
    }

    pub fn dns(&self) -> SocketAddr {
        self.door(DoorKind::Dns)
    }

    pub fn dot(&self) -> SocketAddr {
        self.door(DoorKind::Dot)
    }

    pub fn doh(&self) -> SocketAddr {
        self.door(DoorKind::Doh)
    }

    /// The DoH door behind a proxy.
    pub fn doh_tcp(&self) -> SocketAddr {
        self.door(DoorKind::DohTcp)
    }

    pub fn doh_clear(&self) -> SocketAddr {
        self.door(DoorKind::DohClear)
    }

    pub fn doq(&self) -> SocketAddr {
        self.door(DoorKind::Doq)
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where HTTP-01 challenges are answered.
    pub fn acme(&self) -> SocketAddr {
        self.acme[0]
    }

    /// The private authority's certificate, PEM.
    pub fn authority(&self) -> Vec<u8> {
        std::fs::read(self.state.path().join("state/authority.pem")).unwrap()
    }

    /// The folder that holds the configuration and the state.
    pub fn folder(&self) -> &std::path::Path {
        self.state.path()
    }

    /// Writes the configuration anew, as `edit` has it.
    pub fn rewrite(&self, edit: impl FnOnce(String) -> String) {
        let file = self.state.path().join("hushgate.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, edit(text)).unwrap();
    }

    /// Takes it over, or tries whether that could be done.
    pub async fn reload(&self, way: Way) -> Reloaded {
        let reloader = std::sync::Arc::clone(self.running.as_ref().unwrap().reloader());
        tokio::task::spawn_blocking(move || reloader.reload(way)).await.unwrap()
    }

    /// The doors that are open now.
    pub fn doors_now(&self) -> Vec<(DoorKind, SocketAddr)> {
        self.running.as_ref().unwrap().reloader().doors()
    }

    /// Lets `seconds` pass for every TTL in the gateway.
    pub fn pass(&self, seconds: u64) {
        self.running.as_ref().unwrap().clock().advance(Duration::from_secs(seconds));
    }

    /// Stops the gateway as SIGTERM would, and waits for its end off this thread.
    pub fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        let running = self.running.take().unwrap();
        tokio::task::spawn_blocking(move || {
            running.stop();
        })
    }
}

/// Runs `$body` for each transport, naming it when it fails.
#[macro_export]
macro_rules! over_all {
    ($transports:expr, |$transport:ident| $body:expr) => {
        for $transport in $transports {
            eprintln!("over {}", $transport.name());
            $body;
        }
    };
}
