//! The control thread: the admin server, readiness, certificates. It does what is slow, and holds nothing that a worker waits for.

mod certificates;
mod explain;
mod gauges;
mod hands;
pub mod keys;
mod lookup;
mod memory;
pub mod probe;
mod reload;
mod secrets;
pub mod snapshot;
mod upkeep;
mod witness;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;

use self::hands::Hands;
use self::snapshot::Snapshot;
use crate::admin::{Admin, DoorFacts, Handles};
use crate::gateway::reload::Reloader;
use crate::guard::Guard;
use crate::identity::Identity;
use crate::identity::acme::Acme;
use crate::listen::DoorKind;
use crate::peer::DoorId;
use crate::pipeline::{Pipeline, Shared};
use crate::shutdown::{Drain, Stop};
use crate::telemetry::Counters;
use crate::upstream::Routes;
use crate::upstream::timekeeper::Timekeeper;

/// What the control thread looks after.
pub struct Control {
    /// What a reload replaces.
    pub force: Force,
    /// Who does that.
    pub reloader: Arc<Reloader>,
    /// The time that certificates are judged by.
    pub times: Arc<Timekeeper>,
    /// Certificates.
    pub identity: Arc<Identity>,
    /// The one by ACME; none: it is off.
    pub acme: Option<Arc<Acme>>,
    /// Every worker's counters, this thread's own last.
    pub counters: Vec<Arc<Counters>>,
    /// What the stopping thread says.
    pub state: Arc<State>,
    /// How many workers serve.
    pub workers: usize,
    /// The cache over a restart.
    pub snapshot: Arc<Snapshot>,
    /// The doors, as this thread finds them.
    pub findings: probe::Findings,
    /// Does it knock at them?
    pub probing: Probing,
}

/// What holds from one configuration to the next, as the control thread sees it.
pub struct InForce {
    /// The pipeline's shared part.
    pub shared: Arc<Shared>,
    /// The control thread's own pipeline.
    pub pipeline: Pipeline,
    /// The upstream servers.
    pub routes: Arc<Routes>,
    /// Permits and rates.
    pub guard: Arc<Guard>,
    /// The doors, by id.
    pub doors: Vec<(DoorId, DoorKind, SocketAddr)>,
    /// Where the secrets of server cookies are, if they are not made here.
    pub secrets_file: Option<PathBuf>,
    /// Where the secrets of the fleet are, if it has any.
    pub fleet_file: Option<PathBuf>,
    /// Octets of memory this process may take, if that is known.
    pub memory: Option<usize>,
    /// What clients are told to know the gateway by; None: what the default certificate is for.
    pub name: Option<String>,
}

/// Whether the control thread knocks at the gateway's own doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// It does not.
    Off,
    /// As a client that knows the gateway by its name.
    On,
}

impl std::fmt::Debug for InForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InForce").field("doors", &self.doors).finish_non_exhaustive()
    }
}

/// The one cell that all of the control thread reads it from.
pub type Force = Arc<ArcSwap<InForce>>;

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
            tokio::spawn(upkeep::watch_upstream(Arc::clone(&control)));
            tokio::spawn(certificates::keep(Arc::clone(&control)));
            tokio::spawn(certificates::order(Arc::clone(&control)));
            if control.probing == Probing::On {
                tokio::spawn(probe::keep(Arc::clone(&control)));
            }
            tokio::spawn(memory::watch(Arc::clone(&control)));
            tokio::spawn(crate::service::watch(control.counters.clone(), control.workers));
            tokio::spawn(upkeep::keep_time(Arc::clone(&control.times)));
            tokio::spawn(secrets::keep(Arc::clone(&control.force), control.own_counters()));
            tokio::spawn(keys::keep(Arc::clone(&control)));
            tokio::spawn(reload::watch(Arc::clone(&control.reloader)));
            let keeping = tokio::spawn(snapshot::keep(Arc::clone(&control.snapshot), drain.clone()));
            let (close, closing) = Stop::new();
            let mut leaving = drain.clone();
            tokio::spawn(async move {
                // Whoever has taken over answers from now on.
                leaving.leaving().await;
                close.begin();
            });
            let serving = tokio::spawn(admin.serve(handles, closing));
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

fn handles(control: &Arc<Control>) -> Handles {
    let [gauging, judging, explaining, handling, listing, telling] =
        [control, control, control, control, control, control].map(Arc::clone);
    let hands = Hands::default();
    Handles {
        counters: control.counters.clone(),
        gauges: Arc::new(move || gauging.gauges()),
        vitals: Arc::new(move || judging.vitals()),
        explain: Arc::new(move |request| explain::explain(Arc::clone(&explaining), request)),
        cache: Arc::new(move |request| Box::pin(hands.clone().serve(Arc::clone(&handling), request))),
        reload: reload::handle(&control.reloader),
        keys: Arc::new(move || telling.reloader.keys()),
        doors: Arc::new(move || {
            let doors = listing.force.load();
            doors.doors.iter().map(|&(_, kind, address)| DoorFacts { speaks: speaks(kind), address }).collect()
        }),
    }
}

const fn speaks(kind: DoorKind) -> &'static str {
    match kind {
        DoorKind::Dns => "dns",
        DoorKind::Dot => "dot",
        DoorKind::Doh => "doh",
        DoorKind::DohTcp => "doh without http/3",
        DoorKind::DohClear => "doh in clear text",
        DoorKind::Doq => "doq",
    }
}
