//! The control thread: the admin server, readiness, certificates. It does what is slow, and holds nothing that a worker waits for.

mod certificates;
mod hands;
pub mod keys;
mod lookup;
pub mod probe;
mod secrets;
pub mod snapshot;
mod witness;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use self::snapshot::Snapshot;
use crate::admin::{
    Admin, Asked, DoorFacts, ExplainRefused, ExplainRequest, Explained, Explaining, Handles, Reached, Vitals, explained,
};
use crate::answer::Answer as _;
use crate::guard::{self, Guard};
use crate::identity::acme::Acme;
use crate::identity::keys::Doors;
use crate::identity::{Identity, Reloads};
use crate::listen::DoorKind;
use crate::peer::{DoorId, Peer, Transport};
use crate::pipeline::{Pipeline, Shared};
use crate::query::Query;
use crate::reply::{Now, Out, Verdict};
use crate::shutdown::Drain;
use crate::telemetry::{CertificateGauge, Counters, Gauges};
use crate::trail::UpstreamId;
use crate::upstream::facts::facts;
use crate::upstream::timekeeper::Timekeeper;
use crate::upstream::{Exchange as _, Routes};
use hands::Hands;

/// What the control thread looks after.
pub struct Control {
    /// The pipeline's shared part.
    pub shared: Arc<Shared>,
    /// The upstream servers.
    pub routes: Arc<Routes>,
    /// The time that certificates are judged by.
    pub times: Arc<Timekeeper>,
    /// Permits and rates.
    pub guard: Arc<Guard>,
    /// Certificates.
    pub identity: Arc<Identity>,
    /// The one by ACME; none: it is off.
    pub acme: Option<Arc<Acme>>,
    /// Every worker's counters, this thread's own last.
    pub counters: Vec<Arc<Counters>>,
    /// What the stopping thread says.
    pub state: Arc<State>,
    /// The doors, by id.
    pub doors: Vec<(DoorId, DoorKind, SocketAddr)>,
    /// How many workers serve.
    pub workers: usize,
    /// The cache over a restart.
    pub snapshot: Arc<Snapshot>,
    /// The doors, as this thread finds them.
    pub findings: probe::Findings,
    /// Does it knock at them?
    pub probing: Probing,
    /// Where the secrets of server cookies are, if they are not made here.
    pub secrets_file: Option<PathBuf>,
    /// Where the secrets of the fleet are, if it has any.
    pub fleet_file: Option<PathBuf>,
}

/// Whether the control thread knocks at the gateway's own doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probing {
    /// It does not.
    Off,
    /// As a client that knows the gateway by this name; None: by the first that the default certificate is for.
    As(Option<String>),
}

/// What the control thread and the stopping thread share.
#[derive(Debug)]
pub struct State {
    /// Seconds since 1970 when serving began.
    pub started: u64,
    /// Has an upstream of the default pool answered yet?
    pub answered: AtomicBool,
    /// Did an upstream answer the last probe?
    pub alive: AtomicBool,
    /// Has stopping begun?
    pub stopping: AtomicBool,
}

impl State {
    /// The state of a gateway that starts now.
    #[must_use]
    pub fn starting() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            started: since.as_secs(),
            answered: AtomicBool::new(false),
            alive: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }
}

/// Starts the control thread; it ends when `drain` says so.
///
/// # Errors
/// Where the system gives no thread.
pub fn start(
    runtime: Runtime,
    admin: Admin,
    control: Control,
    mut drain: Drain,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("control".into()).spawn(move || {
        let control = Arc::new(control);
        runtime.block_on(async {
            let handles = handles(&control);
            tokio::spawn(watch_upstream(Arc::clone(&control)));
            tokio::spawn(certificates::keep(Arc::clone(&control)));
            tokio::spawn(certificates::order(Arc::clone(&control)));
            if let Probing::As(name) = &control.probing {
                tokio::spawn(probe::keep(Arc::clone(&control), name.clone()));
            }
            tokio::spawn(keep_time(Arc::clone(&control.times)));
            let file = control.secrets_file.clone();
            tokio::spawn(secrets::keep(Arc::clone(&control.shared), file, control.own_counters()));
            tokio::spawn(keys::keep(Arc::clone(&control)));
            let keeping = tokio::spawn(snapshot::keep(Arc::clone(&control.snapshot), drain.clone()));
            let serving = tokio::spawn(admin.serve(handles, drain.clone()));
            drain.wanted().await;
            // The admin server finishes the requests it has; nobody waits for more than that.
            let _ = tokio::time::timeout(ADMIN_GRACE, serving).await;
            if tokio::time::timeout(snapshot::GRACE, keeping).await.is_err() {
                control.snapshot.give_up();
            }
            if let Err(error) = control.times.remember_last() {
                tracing::warn!(%error, "the time is not remembered");
            }
        });
        runtime.shutdown_background();
    })
}

/// How long requests to the admin server may take once everything else has ended.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// Time between two looks at how the upstreams do, once one has answered.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Looks without a question from anyone before an upstream is asked for its own sake.
const QUIET_LOOKS: u32 = 6;

/// The same while none has: doubles from here.
const FIRST_PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two looks at whether a newer time has been proven.
const TIME_INTERVAL: Duration = Duration::from_mins(1);

/// Keeps up whether an upstream of the default pool lives, for `/readyz`: a named pool that dies takes a few domains with it, not
/// the gateway. What clients' questions came to tells it for nothing; an upstream is asked only until one has answered, while none
/// does, and after a long silence.
async fn watch_upstream(control: Arc<Control>) {
    let mut wait = FIRST_PROBE_INTERVAL;
    let mut quiet = QUIET_LOOKS;
    let mut before = control.asked_and_answered();
    loop {
        let now = control.asked_and_answered();
        let (asked, answered) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        quiet = if asked > 0 { 0 } else { quiet + 1 };
        let alive = match answered {
            0 if quiet >= QUIET_LOOKS || asked > 0 || !control.state.alive.load(Ordering::Relaxed) => {
                quiet = 0;
                control.routes.is_alive(Instant::now() + PROBE_TIMEOUT).await
            }
            _ => true,
        };
        // After the probe, which is no question from anyone.
        before = control.asked_and_answered();
        control.state.alive.store(alive, Ordering::Relaxed);
        if alive && !control.state.answered.swap(true, Ordering::Relaxed) {
            tracing::info!("an upstream has answered");
        }
        wait = if alive { LOOK_INTERVAL } else { (wait * 2).min(LOOK_INTERVAL) };
        tokio::time::sleep(wait).await;
    }
}

/// Remembers the time over a restart, soon after it is first proven: a machine may lose its power within the hour, every day.
async fn keep_time(times: Arc<Timekeeper>) {
    let mut failed = false;
    loop {
        tokio::time::sleep(TIME_INTERVAL).await;
        let times = Arc::clone(&times);
        let remembered = tokio::task::spawn_blocking(move || times.remember()).await;
        if let Ok(Err(error)) = &remembered
            && !failed
        {
            tracing::warn!(%error, "the time is not remembered");
        }
        failed = matches!(remembered, Ok(Err(_)));
    }
}

fn handles(control: &Arc<Control>) -> Handles {
    let [gauging, judging, explaining, handling] = [control, control, control, control].map(Arc::clone);
    let hands = Hands::default();
    let pipeline = Arc::new(Pipeline::new(Arc::clone(&control.shared), control.own_counters()));
    Handles {
        counters: control.counters.clone(),
        gauges: Arc::new(move || gauging.gauges()),
        vitals: Arc::new(move || judging.vitals()),
        explain: Arc::new(move |request| explain(Arc::clone(&explaining), Arc::clone(&pipeline), request)),
        cache: Arc::new(move |request| Box::pin(hands.clone().serve(Arc::clone(&handling), request))),
        doors: control.doors.iter().map(|&(_, kind, address)| DoorFacts { speaks: speaks(kind), address }).collect(),
    }
}

const fn speaks(kind: DoorKind) -> &'static str {
    match kind {
        DoorKind::Dns => "dns",
        DoorKind::Dot => "dot",
        DoorKind::Doh => "doh",
        DoorKind::DohClear => "doh in clear text",
        DoorKind::Doq => "doq",
    }
}

impl Control {
    /// Those that this thread writes. It asks as a worker of its own: counters have one writer.
    fn own_counters(&self) -> Arc<Counters> {
        self.counters.last().cloned().unwrap_or_default()
    }

    /// Questions put to servers of the default pool so far, and how many were answered: what a pool for a few domains does tells
    /// nothing of all others.
    fn asked_and_answered(&self) -> (u64, u64) {
        let tallies = self.routes.default_servers().map(|server| server.tally());
        tallies.fold((0, 0), |(asked, answered), tally| {
            (asked + tally.questions.value(), answered + tally.answers.value())
        })
    }

    fn vitals(&self) -> Vitals {
        let state = &self.state;
        Vitals {
            serving: true,
            stopping: state.stopping.load(Ordering::Relaxed),
            upstream_answered: state.answered.load(Ordering::Relaxed),
            upstream_alive: state.alive.load(Ordering::Relaxed),
        }
    }

    /// The name of a server that supplied an answer, maybe before a restart.
    fn named(&self, upstream: UpstreamId) -> Option<String> {
        let former = (upstream == UpstreamId::FORMER).then_some("a server that is no longer configured");
        self.routes.name(upstream).or(former).map(ToOwned::to_owned)
    }

    fn gauges(&self) -> Gauges {
        let cache = self.shared.cache().stats();
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let certificates = self.identity.certificates().into_iter().map(|facts| CertificateGauge {
            names: facts.names,
            source: facts.source.to_string(),
            not_after: facts.not_after,
            days_left: facts.days_left,
            stale: facts.stale,
        });
        let Reloads { taken, refused } = self.identity.reloads();
        Gauges {
            cache_entries: cache.entries,
            cache_bytes: cache.octets_used,
            cache_bytes_limit: cache.octets_allowed,
            cache_limited: cache.limited,
            joins: wide(self.shared.joins_in_flight()),
            clients: self
                .guard
                .clients()
                .into_iter()
                .flat_map(guard::Clients::asked)
                .map(|(name, asked)| (name.to_owned(), asked))
                .collect(),
            connections_held: wide(self.guard.connections()),
            certificates: certificates.collect(),
            certificate_reloads: [taken, refused],
            probes: self.findings.gauges(),
            started: self.state.started,
            ready: false,
            clock_behind: self.times.is_behind(),
            clock_adjusted: self.times.adjusted(),
            time_names_in_plain: self.routes.time_names().asked(),
            workers: wide(self.workers),
            snapshot: self.snapshot.gauge(),
            acme: self.acme.as_ref().map(|acme| acme.gauge()),
            upstreams: facts(&self.routes),
            tickets: Doors::ALL.map(|doors| self.identity.keys().tally().at(doors).values()),
        }
    }

    /// The door that a question over `transport` would come through, and where.
    fn door(&self, transport: Transport) -> Option<(DoorId, SocketAddr)> {
        let serves = |kind: DoorKind| match transport {
            Transport::Udp | Transport::Tcp => kind == DoorKind::Dns,
            Transport::Dot => kind == DoorKind::Dot,
            Transport::Doh1 | Transport::Doh2 => matches!(kind, DoorKind::Doh | DoorKind::DohClear),
            Transport::Doh3 => kind == DoorKind::Doh,
            Transport::Doq => kind == DoorKind::Doq,
        };
        self.doors.iter().find(|(_, kind, _)| serves(*kind)).map(|&(id, _, address)| (id, address))
    }
}

/// Walks a question through a pipeline of the control thread's own and tells the road.
fn explain(control: Arc<Control>, pipeline: Arc<Pipeline>, request: ExplainRequest) -> Explaining {
    Box::pin(async move {
        let open = |transport| control.door(transport).map(|door| (transport, door));
        let found = match request.door {
            Some(transport) => open(transport),
            None => Transport::ALL.into_iter().find_map(open),
        };
        let (transport, (id, address)) = found.ok_or(ExplainRefused::NoSuchDoor)?;
        let client = request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let peer = Peer::new(SocketAddr::new(client, 0), address, id, transport);
        let message = request.to_message();
        // Before the walk, which is a visit of its own.
        let kept = control.shared.kept(&request.question());
        let begun = Instant::now();
        let mut buffer = BytesMut::new();
        let mut out = Out::bare(&mut buffer);
        let verdict = match pipeline.now(Query::parse(&message, &peer, pipeline.moment()), &peer, &mut out) {
            Now::Sent(facts) => Verdict::Sent(crate::reply::Reply { message: buffer, facts }),
            Now::Dropped(why) => Verdict::Dropped(why),
            Now::Later(pending) => pending.await,
        };
        let asked = Asked {
            request: &request,
            client,
            door: address.to_string(),
            route: control.routes.route(&request.question()).fingerprint,
            pool: control.routes.pool_name(&request.question()),
            micros: u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX),
        };
        let mut road = tell(&control, &asked, &verdict);
        // Of the two that may be kept, the one that was served is known by its age.
        let served = |age: u32| kept.iter().flatten().find(|facts| facts.age.abs_diff(age) <= 1);
        road.cache.hits = road.cache.age.and_then(served).map(|facts| facts.hits);
        Ok(road)
    })
}

fn tell(control: &Control, asked: &Asked<'_>, verdict: &Verdict) -> Explained {
    let reached = match verdict {
        Verdict::Sent(reply) => Reached::Reply(&reply.facts, &reply.message),
        Verdict::Dropped(why) => Reached::Silence(*why),
    };
    explained(asked, reached, &|upstream| control.named(upstream))
}
