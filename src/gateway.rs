//! The gateway's life in three types: [`Gateway`] (built, no socket), [`Bound`] (ports known), [`Running`] (serving until stopped).
//!
//! `main`, the tests and an embedding program take the same steps. Workers serve; a control thread does what is slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::admin::{Admin, AdminError, Former, Key, Place};
use crate::clock::Clock;
use crate::config::{Config, EffectiveRow, Problem, Source, changes};
use crate::confine::ConfineError;
use crate::control::probe::Findings;
use crate::control::snapshot::Snapshot;
use crate::control::{self, Control, Probing, State};
use crate::handover::HandoverError;
use crate::handover::estate::Estate;
use crate::identity::acme::{Acme, AcmeError};
use crate::identity::{Identity, IdentityError, Prepared};
use crate::listen::bind::{self, BindError, BoundDoor};
use crate::listen::quic::mailboxes::Mailboxes;
use crate::listen::quic::ownership::Ownership;
use crate::listen::quic::tokens::Tokens;
use crate::listen::{Context, DoorKind};
use crate::pipeline::Pipeline;
use crate::plan;
use crate::shutdown::{Company, Drain, Stop};
use crate::telemetry::Counters;
use crate::upstream::BuildError;
use crate::upstream::timekeeper::{Timekeeper, WallClock};
use crate::worker::{self, Post, Station, Tenure};

mod confined;
mod core;
mod doors;
mod ledger;
pub mod outside;
pub mod reload;
mod rules;
mod succession;

use core::Core;
use doors::Doors;
use reload::{Fixtures, Hand, ORDERS, Reloader, Standing};
use succession::{Predecessor, Succession};

/// Why a gateway does not start. Each names the file, address or server at fault.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Certificates or the private authority.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The listener for ACME.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// A front door's address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin listener's address.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The configuration itself: only where it was made in code.
    #[error("the configuration has {} problem(s), the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Config(Vec<Problem>),
    /// The process that is to be replaced.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// An upstream server.
    #[error(transparent)]
    Upstream(#[from] BuildError),
    /// The user to become, or a sandbox that is required.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// No thread or runtime from the system.
    #[error("the system gave no thread or event queue: {0}; raise the limit on processes or open files")]
    System(#[source] std::io::Error),
}

/// A gateway that has read its keys and opened nothing.
pub struct Gateway {
    config: Config,
    identity: Arc<Identity>,
    acme: Option<Arc<Acme>>,
    times: Arc<Timekeeper>,
    source: Option<Source>,
    text: Option<Vec<u8>>,
    keys: Vec<Key>,
}

/// A gateway that holds its sockets and serves nobody yet.
pub struct Bound {
    config: Config,
    identity: Arc<Identity>,
    acme: Option<Arc<Acme>>,
    times: Arc<Timekeeper>,
    source: Option<Source>,
    text: Option<Vec<u8>>,
    keys: Vec<Key>,
    doors: Vec<BoundDoor>,
    admin: Admin,
    predecessor: Option<Predecessor>,
}

/// A gateway that serves.
pub struct Running {
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    reloader: Arc<Reloader>,
    state: Arc<State>,
    stop: Stop,
    stop_control: Stop,
    delay: Duration,
    succession: Succession,
    clock: Clock,
    counters: Vec<Arc<Counters>>,
}

impl Gateway {
    /// Reads certificates, or makes the private authority.
    ///
    /// # Errors
    /// [`GatewayError::Identity`].
    pub fn build(config: Config) -> Result<Self, GatewayError> {
        Self::build_by(config, WallClock::default())
    }

    /// The same on a machine whose time of day `clock` tells.
    ///
    /// # Errors
    /// As [`Gateway::build`].
    pub fn build_by(config: Config, clock: WallClock) -> Result<Self, GatewayError> {
        let times = Arc::new(Timekeeper::new(clock, config.upstream.state_dir.as_deref()));
        let identity = Identity::load_at(config.tls.clone(), times.now())?;
        let open = |settings| Acme::open(settings, Arc::clone(&identity), times.now());
        let acme = config.acme.clone().map(open).transpose()?;
        Ok(Self { config, identity, acme, times, source: None, text: None, keys: Vec::new() })
    }

    /// Says where the configuration came from, what the file held and what it says key by key: there it is read again by a reload.
    #[must_use]
    pub fn read_from(self, source: Source, text: Option<Vec<u8>>, effective: &[EffectiveRow]) -> Self {
        Self { source: Some(source), text, keys: changes::keys(effective), ..self }
    }

    /// Binds every address. Privileges may drop afterwards.
    ///
    /// # Errors
    /// [`GatewayError::Bind`] or [`GatewayError::Admin`], naming the address.
    pub fn bind(self) -> Result<Bound, GatewayError> {
        self.bind_after(None)
    }

    /// The same with the sockets of the process before, where it hands them over; what it does not have is bound.
    ///
    /// # Errors
    /// As [`Gateway::bind`].
    pub fn bind_after(self, estate: Option<Estate>) -> Result<Bound, GatewayError> {
        let Self { config, identity, acme, times, source, text, keys } = self;
        let (predecessor, inherited, former) = match estate.map(Predecessor::of) {
            Some((predecessor, doors, admin)) => (Some(predecessor), doors, Former::Process(admin)),
            None => (None, Vec::new(), Former::Nobody),
        };
        let doors = bind::bind_with(&config.listen.doors, config.workers, config.absent, inherited)?;
        let admin = Admin::bind_after(&config.admin, former)?;
        acme.as_ref().map_or(Ok(()), |acme| acme.bind())?;
        Ok(Bound { config, identity, acme, times, source, text, keys, doors, admin, predecessor })
    }
}

impl Bound {
    /// The doors in the order of their ids, with the ports in use.
    #[must_use]
    pub fn doors(&self) -> Vec<(DoorKind, SocketAddr)> {
        self.doors.iter().map(|door| (door.kind, door.address)).collect()
    }

    /// The admin listener's TCP addresses.
    #[must_use]
    pub fn admin_addresses(&self) -> Vec<SocketAddr> {
        let places = self.admin.addresses().into_iter();
        places
            .filter_map(|place| match place {
                Place::Address(address) => Some(address),
                Place::Unix(_) => None,
            })
            .collect()
    }

    /// Where HTTP-01 challenges are answered.
    #[must_use]
    pub fn acme_addresses(&self) -> Vec<SocketAddr> {
        self.acme.as_ref().map(|acme| acme.http_addresses()).unwrap_or_default()
    }

    /// The private authority's certificate file, if there is one.
    #[must_use]
    pub fn authority(&self) -> Option<std::path::PathBuf> {
        self.identity.authority_path()
    }

    /// Starts the workers and the control thread.
    ///
    /// # Errors
    /// [`GatewayError::Upstream`] for a server that cannot be set up, [`GatewayError::System`] where threads cannot be had.
    pub fn serve(self) -> Result<Running, GatewayError> {
        let Self { config, identity, acme, times, doors, admin, source, text, keys, predecessor } = self;
        let runtimes = (0..config.workers.max(1)).map(|_| runtime()).collect::<Result<Vec<_>, _>>()?;
        let control_runtime = runtime()?;
        // The first worker is the home of upstream connections.
        let home = runtimes.first().unwrap_or(&control_runtime).handle().clone();
        let mut open = Doors::opened(&config.listen.doors, &doors);
        let kept = succession::keep(&config, &mut open, &doors, &admin).map_err(GatewayError::System)?;
        let list: Vec<_> = open.iter().map(|open| (open.id, open.door.kind, open.address)).collect();
        let core = Core::new(&config, (&list, &identity.subjects(&Prepared::NONE)), home, &times)?;
        let counters: Vec<Arc<Counters>> = (0..=runtimes.len()).map(|_| Arc::default()).collect();
        let own = Pipeline::new(Arc::clone(&core.shared), counters.last().cloned().unwrap_or_default());
        let exchange = plan::Exchange {
            mailboxes: Arc::new(Mailboxes::new(ownership(&config, predecessor.as_ref()))),
            tokens: Tokens::new(Arc::clone(identity.keys())),
        };
        let succession = Succession::new(&exchange.mailboxes, predecessor, kept, config.shutdown.handover_grace);
        let succession = succession.map_err(GatewayError::System)?;
        let posts = plan::posts(doors, &identity, runtimes.len(), &exchange);
        let posts = posts.into_iter().map(|posts| reload::manned(posts, open.iter()));
        control::keys::lend(identity.keys(), &core.shared, config.secrets_file.is_some());
        let (stop, drain) = Stop::new();
        let (workers, hands) =
            start_workers(&config, &core, runtimes.into_iter().zip(posts), &counters, (&drain, &identity))?;
        let (stop_control, drain_control) = Stop::new();
        let (clock, state) = (core.shared.clock().clone(), Arc::new(State::starting()));
        let force = Arc::new(ArcSwap::from_pointee(reload::in_force(&core, own, &config, list)));
        let snapshot =
            Snapshot::new(config.cache.clone(), config.state_dir.clone(), Arc::clone(&force), Arc::clone(&times));
        let (delay, rules) = (config.shutdown.delay, rules::of(&config.guard));
        let probing = if config.admin.self_probe { Probing::On } else { Probing::Off };
        let fixtures = Fixtures {
            source,
            identity: Arc::clone(&identity),
            times: Arc::clone(&times),
            hands,
            exchange,
            force: Arc::clone(&force),
        };
        let reloader = Arc::new(Reloader::new(fixtures, Standing { config, keys, doors: open, rules, core }, text));
        let control = Control {
            snapshot: Arc::new(snapshot),
            force,
            reloader: Arc::clone(&reloader),
            times,
            identity,
            acme,
            counters: counters.clone(),
            state: Arc::clone(&state),
            findings: Findings::default(),
            probing,
            workers: workers.len(),
        };
        let control = control::start(control_runtime, admin, control, drain_control).map_err(GatewayError::System)?;
        let control = Some(control);
        Ok(Running { workers, control, reloader, state, stop, stop_control, delay, succession, clock, counters })
    }
}

fn start_workers(
    config: &Config,
    core: &Core,
    stations: impl Iterator<Item = (Runtime, Vec<(Post, Tenure)>)>,
    counters: &[Arc<Counters>],
    (drain, identity): (&Drain, &Identity),
) -> Result<(Vec<JoinHandle<()>>, Vec<Hand>), GatewayError> {
    let company = Company::new();
    let (mut workers, mut hands) = (Vec::new(), Vec::new());
    for ((index, (runtime, posts)), counters) in (0..=u8::MAX).zip(stations).zip(counters) {
        let pipeline = Pipeline::new(Arc::clone(&core.shared), Arc::clone(counters));
        let terms = Arc::new(ArcSwap::from_pointee(core.terms(pipeline.clone(), config)));
        let (pipeline, current) = watch::channel(pipeline);
        // The first worker is home to the upstream connections, and so to what is asked for nobody.
        runtime.spawn(Pipeline::run_errands(current));
        let context = Context::new(Arc::clone(&terms), Arc::clone(counters), drain.clone());
        let context = context.proving(identity.challenges());
        let (orders, heard) = mpsc::channel(ORDERS);
        let grace = config.shutdown.grace;
        let station = Station { index, context, posts, orders: heard, grace, company: company.clone() };
        workers.push(worker::start(runtime, station).map_err(GatewayError::System)?);
        hands.push(Hand { terms, pipeline, orders });
    }
    Ok((workers, hands))
}

impl Running {
    /// Who puts another configuration in force.
    #[must_use]
    pub const fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// The clock that answers are aged by.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Every worker's counters, the control thread's last.
    #[must_use]
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Stops: not ready for `shutdown.delay` while still serving, then drains, then ends. Blocks until all threads have ended.
    pub fn stop(mut self) {
        self.begin_stop();
        self.end();
    }

    /// Waits for what has been told to stop.
    fn end(&mut self) {
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to drain.
            let _ = worker.join();
        }
        self.stop_control.begin();
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
    }

    fn begin_stop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        std::thread::sleep(self.delay);
        self.let_go();
        self.stop.begin();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A gateway that is dropped instead of stopped still ends its threads, without waiting for them.
        self.stop.begin();
        self.stop_control.begin();
    }
}

/// The keys of QUIC's connection ids, and the number of this process among those that have shared the doors.
fn ownership(config: &Config, predecessor: Option<&Predecessor>) -> Ownership {
    let kept = Ownership::kept(&config.state_dir);
    predecessor.map_or(kept, |predecessor| kept.in_generation(predecessor.generation.wrapping_add(1)))
}

fn runtime() -> Result<Runtime, GatewayError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatewayError::System)
}
