//! Another configuration for a running gateway, as a whole or not at all.
//!
//! Everything that can fail is done first and beside what runs: the file is read, certificates are loaded, new doors bound, servers
//! set up, and every worker has said that it is there. Then the new terms are put in place, a pointer a worker; new doors open under
//! them and closed ones drain. Questions in flight end as they began. What is kept: the cache, failures, cookies, sessions,
//! connections of either side, permits and rates.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc::sync_channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::core::Core;
use super::doors::{self, DoorFault, Doors, Moves, Open};
use super::ledger::{self, Ledger};
use super::rules::{self, DoorRules};
use crate::admin::{Change, Key, Reloaded};
use crate::config::{self, Config, Loaded, Severity, Source, changes};
use crate::control::keys::lend;
use crate::control::{Force, InForce};
use crate::identity::{Identity, IdentityError, Prepared};
use crate::listen::bind::{self, BindCause, BindError, BoundDoor, Inherited};
use crate::listen::{DoorKind, Terms};
use crate::peer::DoorId;
use crate::pipeline::Pipeline;
use crate::plan;
use crate::service::{self, Notice};
use crate::telemetry::ReloadGauge;
use crate::upstream::BuildError;
use crate::upstream::timekeeper::Timekeeper;
use crate::worker::{Order, Post, Tenure};

/// Is a configuration to be put in force, or only tried?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Put in force, if it can be.
    Apply,
    /// Everything but that; what was opened for it is closed again.
    Try,
}

/// A worker, as seen from here.
pub struct Hand {
    /// What holds for its doors.
    pub terms: Arc<ArcSwap<Terms>>,
    /// Its pipeline, for errands.
    pub pipeline: watch::Sender<Pipeline>,
    /// What it is told.
    pub orders: mpsc::Sender<Order>,
}

/// What stays the same over all reloads.
pub struct Fixtures {
    /// Where the configuration is read from again; None where it was made in code.
    pub source: Option<Source>,
    /// Certificates.
    pub identity: Arc<Identity>,
    /// The time they are judged by.
    pub times: Arc<Timekeeper>,
    /// The workers.
    pub hands: Vec<Hand>,
    /// What QUIC doors share.
    pub exchange: plan::Exchange,
    /// What the control thread goes by.
    pub force: Force,
}

/// The configuration in force, and what came of it.
pub struct Standing {
    /// As it is in force.
    pub config: Config,
    /// The same, key by key.
    pub keys: Vec<Key>,
    /// The doors.
    pub doors: Doors,
    /// What the guard knows of each door, by id.
    pub rules: Vec<DoorRules>,
    /// All else.
    pub core: Core,
}

/// Replaces the configuration of a running gateway. One at a time.
pub struct Reloader {
    fixtures: Fixtures,
    standing: Mutex<Standing>,
    /// What the file held when it was last taken over, or refused.
    text: Mutex<Option<Vec<u8>>>,
    ledger: Ledger,
}

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
enum ReloadFault {
    #[error(transparent)]
    Door(#[from] DoorFault),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(
        "{0} (a door that this configuration takes away may still hold it: take it away first, then add the new one)"
    )]
    StillHeld(BindError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Upstream(#[from] BuildError),
    #[error("its sockets could not be duplicated: {0}; raise the limit on open files")]
    Files(#[source] std::io::Error),
    #[error("a worker does not answer; nothing has been changed")]
    Worker,
}

/// A configuration that is ready to be put in force.
struct Next {
    config: Config,
    moves: Moves,
    bound: Vec<BoundDoor>,
    added: Vec<Open>,
    rules: Vec<DoorRules>,
    prepared: Prepared,
    core: Core,
}

/// Which certificates the next configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certificates {
    /// Those that it names.
    Read,
    /// Those in force.
    Keep,
}

/// How long a worker may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Orders that may wait for a worker: more than a reload has doors.
pub const ORDERS: usize = 1024;

impl Reloader {
    /// Of a gateway that has just been started by a file that held `text`.
    #[must_use]
    pub fn new(fixtures: Fixtures, standing: Standing, text: Option<Vec<u8>>) -> Self {
        Self { fixtures, standing: Mutex::new(standing), text: Mutex::new(text), ledger: Ledger::new() }
    }

    /// Reads the file again, and puts in force what it says now. Blocks for as long as reading, binding and resolving take.
    pub fn reload(&self, way: Way) -> Reloaded {
        match &self.fixtures.source {
            Some(source) if way == Way::Apply => {
                service::tell(Notice::Reloading);
                let mut loaded = config::load(source);
                let text = loaded.text.take();
                let reloaded = self.take_over(loaded, way);
                self.note(text);
                service::tell(Notice::Ready);
                reloaded
            }
            Some(source) => self.take_over(config::load(source), way),
            None => {
                self.refused(way, Vec::new(), vec!["this gateway was started without a configuration to read".into()])
            }
        }
    }

    /// Puts `loaded` in force.
    pub fn take_over(&self, loaded: Loaded, way: Way) -> Reloaded {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let new_keys = changes::keys(&loaded.effective);
        let changed = changes::between(&standing.keys, &new_keys);
        let Some(config) = loaded.config else {
            let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error);
            return self.refused(way, changed, errors.map(ToString::to_string).collect());
        };
        let config = changes::hold_back(&standing.config, config);
        let next = match self.prepare(&standing, config, Certificates::Read) {
            Ok(next) => next,
            Err(fault) => return self.refused(way, changed, vec![fault.to_string()]),
        };
        if way == Way::Try {
            return Reloaded {
                dry_run: true,
                generation: self.ledger.generation(),
                changes: changed,
                ..Reloaded::default()
            };
        }
        if let Err(fault) = self.muster() {
            return self.refused(way, changed, vec![fault.to_string()]);
        }
        self.commit(&mut standing, next);
        standing.keys = changes::in_force(&standing.keys, new_keys);
        drop(standing);
        let generation = self.ledger.applied();
        ledger::announce(&changed, generation);
        Reloaded { applied: true, generation, changes: changed, ..Reloaded::default() }
    }

    /// Tells anew what depends on the names of certificates, which have changed.
    pub fn retell(&self) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.prepare(&standing, standing.config.clone(), Certificates::Keep) {
            Ok(next) => self.commit(&mut standing, next),
            Err(error) => tracing::error!(%error, "discovery still tells the names of the certificate before"),
        }
    }

    /// The configuration in force, key by key.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    /// The doors that are open, as bound.
    #[must_use]
    pub fn doors(&self) -> Vec<(DoorKind, SocketAddr)> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.doors.iter().map(|open| (open.door.kind, open.address)).collect()
    }

    /// Does the file hold something else than when it was last taken over, or refused?
    #[must_use]
    pub fn is_news(&self, text: &[u8]) -> bool {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).as_deref() != Some(text)
    }

    /// A file that could not be read tells nothing.
    fn note(&self, text: Option<Vec<u8>>) {
        if text.is_some() {
            *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }

    /// The file that is to be watched; None where none is.
    #[must_use]
    pub fn watched(&self) -> Option<std::path::PathBuf> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        self.fixtures.source.as_ref().and_then(|source| source.file.clone()).filter(|_| standing.config.watch)
    }

    /// Where another process may ask for the doors; None: nowhere.
    #[must_use]
    pub fn hands_over_in(&self) -> Option<std::path::PathBuf> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        Some(standing.config.state_dir.clone()).filter(|_| standing.config.handover)
    }

    /// The generation of this process, and duplicates of the sockets of its doors.
    ///
    /// # Errors
    /// No more open files.
    pub fn offer(&self) -> std::io::Result<(u8, Vec<Inherited>)> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((self.exchange().mailboxes.ownership().generation, standing.doors.kept()?))
    }

    /// Closes the duplicates that are kept for that.
    pub fn let_go(&self) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).doors.let_go();
    }

    /// What QUIC doors share.
    #[must_use]
    pub const fn exchange(&self) -> &plan::Exchange {
        &self.fixtures.exchange
    }

    /// What is measured.
    #[must_use]
    pub fn gauge(&self) -> ReloadGauge {
        self.ledger.gauge()
    }

    fn refused(&self, way: Way, changes: Vec<Change>, problems: Vec<String>) -> Reloaded {
        let dry_run = way == Way::Try;
        if !dry_run {
            self.ledger.refused();
            for problem in &problems {
                tracing::error!(%problem, "the configuration is not taken over; the one before stays in force");
            }
        }
        Reloaded { applied: false, dry_run, generation: self.ledger.generation(), changes, problems }
    }

    /// All that can fail.
    fn prepare(&self, standing: &Standing, mut config: Config, which: Certificates) -> Result<Next, ReloadFault> {
        let Fixtures { identity, times, hands, .. } = &self.fixtures;
        let moves = standing.doors.moves(&config.listen.doors)?;
        let bound = bind::bind_numbered(moves.added.iter().copied(), hands.len(), config.absent)
            .map_err(|error| explain(error, &standing.doors, &moves))?;
        let opened = |&(id, door): &(DoorId, _)| doors::opened(id, door, &bound);
        let mut added: Vec<Open> = moves.added.iter().filter_map(opened).collect();
        if config.handover {
            added.iter_mut().try_for_each(|open| open.keep(&bound)).map_err(ReloadFault::Files)?;
        }
        let list = standing.doors.after(&moves, &added);
        let prepared = match which {
            Certificates::Read => identity.prepare(config.tls.clone(), times.now())?,
            Certificates::Keep => Prepared::NONE,
        };
        let lists = match which {
            Certificates::Read => rules::of(&config.guard),
            Certificates::Keep => moves.ids.iter().map(|id| of_door(&standing.rules, *id)).collect(),
        };
        let rules = Doors::by_id(&moves, lists, &standing.rules);
        config.guard = rules::with(config.guard, &rules);
        let core = standing.core.renewed(&config, &list, &identity.subjects(&prepared))?;
        Ok(Next { config, moves, bound, added, rules, prepared, core })
    }

    /// Every worker says that it is there, and has room for what it will be told.
    fn muster(&self) -> Result<(), ReloadFault> {
        let hands = &self.fixtures.hands;
        let (here, heard) = sync_channel(hands.len());
        for hand in hands {
            hand.orders.try_send(Order::Answer(here.clone())).map_err(|_| ReloadFault::Worker)?;
        }
        let until = Instant::now() + PATIENCE;
        for _ in hands {
            let left = until.saturating_duration_since(Instant::now());
            heard.recv_timeout(left).map_err(|_| ReloadFault::Worker)?;
        }
        Ok(())
    }

    /// Puts `next` in force. Nothing here fails.
    fn commit(&self, standing: &mut Standing, next: Next) {
        let Next { config, moves, bound, added, rules, prepared, core } = next;
        let Fixtures { identity, hands, exchange, force, .. } = &self.fixtures;
        identity.adopt(prepared);
        core.take_effect(&standing.core);
        // Cookies that are made anew begin with a secret that the fleet does not know.
        lend(identity.keys(), &core.shared, config.secrets_file.is_some());
        for hand in hands {
            let pipeline = hand.pipeline.borrow().renewed(Arc::clone(&core.shared));
            hand.terms.store(Arc::new(core.terms(pipeline.clone(), &config)));
            hand.pipeline.send_replace(pipeline);
        }
        let own = force.load().pipeline.renewed(Arc::clone(&core.shared));
        force.store(Arc::new(in_force(&core, own, &config, standing.doors.after(&moves, &added))));
        // Who comes through a new door must find its access list.
        let posts = plan::posts(bound, identity, hands.len(), exchange);
        for (hand, posts) in hands.iter().zip(posts) {
            for (post, tenure) in manned(posts, &added) {
                if hand.orders.try_send(Order::Open(post, tenure)).is_err() {
                    tracing::error!("a worker has ended: a new door is served by the others alone");
                }
            }
        }
        standing.doors.apply(&moves, added);
        (standing.config, standing.rules, standing.core) = (config, rules, core);
    }
}

/// What the control thread goes by.
#[must_use]
pub fn in_force(
    core: &Core,
    pipeline: Pipeline,
    config: &Config,
    doors: Vec<(DoorId, DoorKind, SocketAddr)>,
) -> InForce {
    InForce {
        shared: Arc::clone(&core.shared),
        pipeline,
        routes: Arc::clone(&core.routes),
        guard: Arc::clone(&core.guard),
        doors,
        secrets_file: config.secrets_file.clone(),
        fleet_file: config.tls.fleet.file.clone(),
        memory: config.memory,
        name: config.advertise.name.clone(),
    }
}

/// Each post with the tenure of its door.
#[must_use]
pub fn manned<'a>(posts: Vec<(Post, DoorId)>, doors: impl IntoIterator<Item = &'a Open>) -> Vec<(Post, Tenure)> {
    let doors: Vec<&Open> = doors.into_iter().collect();
    let tenure = |id: DoorId| doors.iter().find(|open| open.id == id).map(|open| open.tenure());
    posts.into_iter().filter_map(|(post, id)| Some((post, tenure(id)?))).collect()
}

fn of_door(rules: &[DoorRules], id: DoorId) -> DoorRules {
    rules.get(usize::from(id.0)).cloned().unwrap_or_default()
}

/// An address in use may be one of our own that is about to be closed.
fn explain(error: BindError, doors: &Doors, moves: &Moves) -> ReloadFault {
    let is_ours = |open: &Open| moves.removed.contains(&open.id) && open.address.port() == error.address.port();
    match error.cause {
        BindCause::InUse if doors.iter().any(is_ours) => ReloadFault::StillHeld(error),
        _ => ReloadFault::Bind(error),
    }
}
