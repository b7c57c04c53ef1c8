//! What a configuration becomes: everything that workers share, made at the start and made anew, of what there is, at each reload.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::GatewayError;
use super::outside::{self, Told};
use crate::answer::Answer;
use crate::clock::Clock;
use crate::config::Config;
use crate::guard::Guard;
use crate::listen::http::pages::Page;
use crate::listen::{DoorKind, Terms};
use crate::peer::DoorId;
use crate::pipeline::{self, Pipeline, Shared};
use crate::telemetry::queries::{Logged, Naming};
use crate::upstream::commons::Commons;
use crate::upstream::timekeeper::Timekeeper;
use crate::upstream::{BuildError, Exchange, Routes};

/// The doors as they are, or will be, open.
pub type DoorList = [(DoorId, DoorKind, SocketAddr)];

/// What all workers share.
pub struct Core {
    /// The pipeline's shared part.
    pub shared: Arc<Shared>,
    /// The upstream servers.
    pub routes: Arc<Routes>,
    /// Permits and rates.
    pub guard: Arc<Guard>,
    /// What upstream servers share.
    pub commons: Commons,
    /// What people see on the DoH doors.
    pages: Arc<[Page]>,
}

impl Core {
    /// With an empty cache and nothing known of any server; connections to servers live on `home`.
    ///
    /// # Errors
    /// An upstream server that cannot be set up.
    pub fn new(
        config: &Config,
        (doors, subjects): (&DoorList, &[String]),
        home: Handle,
        times: &Arc<Timekeeper>,
    ) -> Result<Self, GatewayError> {
        let upstream = upstream(config, doors);
        let commons = Commons::of(&upstream, home)?.with_times(Arc::clone(times));
        let routes = Arc::new(Routes::new(&upstream, &commons)?);
        let guard = Guard::new(config.guard.clone());
        let told = told(config, doors, subjects);
        let exchange = Arc::clone(&routes) as Arc<dyn Exchange>;
        let settings = pipeline::Settings { about: told.about, ..config.pipeline.clone() };
        let shared = Shared::new(settings, config.cache.clone(), Arc::clone(&guard), exchange, Clock::start());
        Ok(Self { shared, routes, guard, commons, pages: told.pages })
    }

    /// What it becomes by another configuration. What is known stays known; nothing changes before [`Core::take_effect`].
    ///
    /// # Errors
    /// An upstream server that cannot be set up.
    pub fn renewed(&self, config: &Config, doors: &DoorList, subjects: &[String]) -> Result<Self, BuildError> {
        let upstream = upstream(config, doors);
        let commons = self.commons.renewed(&upstream)?;
        let routes = Arc::new(self.routes.renewed(&upstream, &commons)?);
        let guard = self.guard.renewed(config.guard.clone());
        let told = told(config, doors, subjects);
        let exchange = Arc::clone(&routes) as Arc<dyn Exchange>;
        let settings = pipeline::Settings { about: told.about, ..config.pipeline.clone() };
        let shared = self.shared.renewed(settings, config.cache.clone(), Arc::clone(&guard), exchange);
        Ok(Self { shared, routes, guard, commons, pages: told.pages })
    }

    /// To be called when it takes the place of `former`.
    pub fn take_effect(&self, former: &Self) {
        self.routes.take_effect();
        self.shared.take_effect(&former.shared);
    }

    /// What holds for the worker of `pipeline`.
    #[must_use]
    pub fn terms(&self, pipeline: Pipeline, config: &Config) -> Terms {
        Terms {
            answer: logged(pipeline, config, &self.guard),
            guard: Arc::clone(&self.guard),
            limits: config.listen.limits,
            paths: config.listen.doh_paths.clone().into(),
            pages: Arc::clone(&self.pages),
        }
    }
}

/// The upstream settings, with our own doors as bound: where the system chose a port, the configuration does not know it.
fn upstream(config: &Config, doors: &DoorList) -> crate::upstream::Settings {
    let own = doors.iter().filter(|(_, kind, _)| *kind == DoorKind::Dns).map(|&(_, _, address)| address);
    crate::upstream::Settings { own: own.collect(), ..config.upstream.clone() }
}

/// What the gateway says of itself, by the doors as bound and the names of the certificate that clients see who send no name.
fn told(config: &Config, doors: &DoorList, subjects: &[String]) -> Told {
    let doors: Vec<_> = doors.iter().map(|&(_, kind, address)| (kind, address)).collect();
    Told::of(&outside::inputs(config, &doors, subjects), config)
}

/// The pipeline, with a query log around it where one is wanted.
fn logged(pipeline: Pipeline, config: &Config, guard: &Arc<Guard>) -> Arc<dyn Answer> {
    let (pipeline, guard) = (Arc::new(pipeline), Arc::clone(guard));
    let naming: Naming = Arc::new(move |peer| guard.know(peer).map(|known| Arc::clone(&known.name)));
    match config.log.queries {
        Some(extent) => Arc::new(Logged::new(pipeline, extent, naming)),
        None => pipeline,
    }
}
