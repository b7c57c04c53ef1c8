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

use crate::admin::{Admin, AdminError, Place};
use crate::answer::Answer;
use crate::clock::Clock;
use crate::config::{Config, Problem};
use crate::control::probe::Findings;
use crate::control::snapshot::Snapshot;
use crate::control::{self, Control, Probing, State};
use crate::guard::Guard;
use crate::identity::acme::{Acme, AcmeError};
use crate::identity::{Identity, IdentityError};
use crate::listen::bind::{self, BindError, BoundDoor};
use crate::listen::http::pages::Page;
use crate::listen::quic::WorkerId;
use crate::listen::{Context, DoorKind, Terms};
use crate::pipeline::{self, Pipeline, Shared};
use crate::plan;
use crate::shutdown::{Company, Drain, Stop};
use crate::telemetry::Counters;
use crate::telemetry::queries::{Logged, Naming};
use crate::upstream::commons::Commons;
use crate::upstream::timekeeper::{Timekeeper, WallClock};
use crate::upstream::{BuildError, Exchange, Routes};
use crate::worker::{self, Post, Station};

pub mod outside;

use outside::Told;

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
    /// An upstream server.
    #[error(transparent)]
    Upstream(#[from] BuildError),
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
}

/// A gateway that holds its sockets and serves nobody yet.
pub struct Bound {
    config: Config,
    identity: Arc<Identity>,
    acme: Option<Arc<Acme>>,
    times: Arc<Timekeeper>,
    doors: Vec<BoundDoor>,
    admin: Admin,
}

/// A gateway that serves.
pub struct Running {
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    state: Arc<State>,
    stop: Stop,
    stop_control: Stop,
    delay: Duration,
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
        Ok(Self { config, identity, acme, times })
    }

    /// Binds every address. Privileges may drop afterwards.
    ///
    /// # Errors
    /// [`GatewayError::Bind`] or [`GatewayError::Admin`], naming the address.
    pub fn bind(self) -> Result<Bound, GatewayError> {
        let Self { config, identity, acme, times } = self;
        let doors = bind::bind(&config.listen.doors, config.workers, config.absent)?;
        let admin = Admin::bind(&config.admin)?;
        acme.as_ref().map_or(Ok(()), |acme| acme.bind())?;
        Ok(Bound { config, identity, acme, times, doors, admin })
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
        self.identity.authority_path().map(Into::into)
    }

    /// Starts the workers and the control thread.
    ///
    /// # Errors
    /// [`GatewayError::Upstream`] for a server that cannot be set up, [`GatewayError::System`] where threads cannot be had.
    pub fn serve(self) -> Result<Running, GatewayError> {
        let Self { config, identity, acme, times, doors, admin } = self;
        let runtimes = (0..config.workers.max(1)).map(|_| runtime()).collect::<Result<Vec<_>, _>>()?;
        let control_runtime = runtime()?;
        // The first worker is the home of upstream connections.
        let home = runtimes.first().unwrap_or(&control_runtime).handle().clone();
        let told = told(&config, &doors, &identity);
        let core = Core::new(&config, (&doors, told), home, &times, runtimes.len())?;
        let facts = doors.iter().map(|door| (door.id, door.kind, door.address)).collect();
        let posts = plan::posts(doors, &identity, runtimes.len());
        control::keys::lend(identity.keys(), &core.shared, config.secrets_file.is_some());
        let (stop, drain) = Stop::new();
        let workers = core.start_workers(&config, runtimes.into_iter().zip(posts), (&drain, &identity))?;
        let (stop_control, drain_control) = Stop::new();
        let Core { shared, routes, guard, clock, counters, state, .. } = core;
        let snapshot = Snapshot::new(
            config.cache.clone(),
            config.state_dir.clone(),
            Arc::clone(&shared),
            Arc::clone(&routes),
            Arc::clone(&times),
        );
        let control = Control {
            snapshot: Arc::new(snapshot),
            secrets_file: config.secrets_file,
            fleet_file: config.tls.fleet.file,
            shared,
            routes,
            times,
            guard,
            identity,
            acme,
            counters: counters.clone(),
            state: Arc::clone(&state),
            doors: facts,
            findings: Findings::default(),
            probing: if config.admin.self_probe { Probing::As(config.advertise.name) } else { Probing::Off },
            workers: workers.len(),
        };
        let control = control::start(control_runtime, admin, control, drain_control).map_err(GatewayError::System)?;
        let delay = config.shutdown.delay;
        Ok(Running { workers, control: Some(control), state, stop, stop_control, delay, clock, counters })
    }
}

/// What all workers share, made once.
struct Core {
    shared: Arc<Shared>,
    routes: Arc<Routes>,
    guard: Arc<Guard>,
    clock: Clock,
    /// One a worker, and the control thread's last.
    counters: Vec<Arc<Counters>>,
    state: Arc<State>,
    /// What people see on the DoH doors.
    pages: Arc<[Page]>,
}

impl Core {
    fn new(
        config: &Config,
        (doors, told): (&[BoundDoor], Told),
        home: tokio::runtime::Handle,
        times: &Arc<Timekeeper>,
        workers: usize,
    ) -> Result<Self, GatewayError> {
        let mut upstream = config.upstream.clone();
        // As bound: where the system chose a port, the configuration does not know it.
        upstream.own = doors.iter().filter(|door| door.kind == DoorKind::Dns).map(|door| door.address).collect();
        let routes = Arc::new(Routes::new(&upstream, &Commons::of(&upstream, home)?.with_times(Arc::clone(times)))?);
        let guard = Guard::new(config.guard.clone());
        let clock = Clock::start();
        let exchange = Arc::clone(&routes) as Arc<dyn Exchange>;
        let settings = pipeline::Settings { about: told.about, ..config.pipeline.clone() };
        let cache = config.cache.clone();
        let shared = Shared::new(settings, cache, Arc::clone(&guard), exchange, clock.clone());
        let counters = (0..=workers).map(|_| Arc::default()).collect();
        let state = Arc::new(State::starting());
        Ok(Self { shared, routes, guard, clock, counters, state, pages: told.pages })
    }

    fn start_workers(
        &self,
        config: &Config,
        stations: impl Iterator<Item = (Runtime, Vec<Post>)>,
        (drain, identity): (&Drain, &Identity),
    ) -> Result<Vec<JoinHandle<()>>, GatewayError> {
        let paths: Arc<[String]> = config.listen.doh_paths.clone().into();
        let generation = rand::random();
        let company = Company::new();
        let mut workers = Vec::new();
        for ((index, (runtime, posts)), counters) in (0..=u8::MAX).zip(stations).zip(&self.counters) {
            let pipeline = Pipeline::new(Arc::clone(&self.shared), Arc::clone(counters));
            // The first worker is home to the upstream connections, and so to what is asked for nobody.
            runtime.spawn(pipeline.clone().run_errands());
            let terms = Terms {
                answer: logged(Arc::new(pipeline), config, &self.guard),
                guard: Arc::clone(&self.guard),
                limits: config.listen.limits,
                paths: Arc::clone(&paths),
                pages: Arc::clone(&self.pages),
            };
            let terms = Arc::new(ArcSwap::from_pointee(terms));
            let context = Context::new(terms, Arc::clone(counters), drain.clone()).proving(identity.challenges());
            let id = WorkerId { index, generation };
            let station = Station { id, context, posts, grace: config.shutdown.grace, company: company.clone() };
            workers.push(worker::start(runtime, station).map_err(GatewayError::System)?);
        }
        Ok(workers)
    }
}

impl Running {
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
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to drain.
            let _ = worker.join();
        }
        self.stop_control.begin();
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
    }

    fn begin_stop(&self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        std::thread::sleep(self.delay);
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

/// What the gateway says of itself, by the doors as bound and the certificate that clients see who send no name.
fn told(config: &Config, doors: &[BoundDoor], identity: &Identity) -> Told {
    let doors: Vec<_> = doors.iter().map(|door| (door.kind, door.address)).collect();
    let subjects = identity.certificates().into_iter().find(|facts| facts.default).map(|facts| facts.names);
    Told::of(&outside::inputs(config, &doors, &subjects.unwrap_or_default()), config)
}

/// The pipeline, with a query log around it where one is wanted.
fn logged(pipeline: Arc<Pipeline>, config: &Config, guard: &Arc<Guard>) -> Arc<dyn Answer> {
    let guard = Arc::clone(guard);
    let naming: Naming = Arc::new(move |peer| guard.know(peer).map(|known| Arc::clone(&known.name)));
    match config.log.queries {
        Some(extent) => Arc::new(Logged::new(pipeline, extent, naming)),
        None => pipeline,
    }
}

fn runtime() -> Result<Runtime, GatewayError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatewayError::System)
}
