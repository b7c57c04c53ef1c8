//! What every front door of one worker shares: what holds for its questions now, its counters, the word to stop.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard as Loaded};

use super::Limits;
use super::http::pages::Page;
use crate::answer::Answer;
use crate::guard::{Guard, Strain};
use crate::identity::acme::Challenges;
use crate::shutdown::Drain;
use crate::telemetry::Counters;

/// What holds from one configuration to the next: whom a worker's doors ask, whom they let in, how long they wait.
#[derive(Clone)]
pub struct Terms {
    /// The pipeline.
    pub answer: Arc<dyn Answer>,
    /// Access and permits.
    pub guard: Arc<Guard>,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// Paths that DoH answers at.
    pub paths: Arc<[String]>,
    /// Pages on the DoH doors, at other paths than those.
    pub pages: Arc<[Page]>,
}

/// One worker's surroundings, cloned into each loop and connection.
#[derive(Clone)]
pub struct Context {
    /// The terms in force. One cell a worker, so that no core waits for another's cache line.
    terms: Arc<ArcSwap<Terms>>,
    /// This worker's counters.
    pub counters: Arc<Counters>,
    /// The word to stop.
    pub drain: Drain,
    /// What validators of an authority are answered by.
    pub challenges: Arc<Challenges>,
}

impl Context {
    /// A worker's surroundings; whoever has `terms` may put others in their place.
    #[must_use]
    pub fn new(terms: Arc<ArcSwap<Terms>>, counters: Arc<Counters>, drain: Drain) -> Self {
        Self { terms, counters, drain, challenges: Arc::default() }
    }

    /// The same where validators are answered by `challenges`.
    #[must_use]
    pub fn proving(self, challenges: Arc<Challenges>) -> Self {
        Self { challenges, ..self }
    }

    /// The same with a word to stop of its own.
    #[must_use]
    pub fn draining_by(self, drain: Drain) -> Self {
        Self { drain, ..self }
    }

    /// What holds now. For the moment: a question, a turn, an accept; whoever keeps it keeps what may have been replaced.
    #[must_use]
    pub fn terms(&self) -> Loaded<Arc<Terms>> {
        self.terms.load()
    }

    /// Bounds and deadlines as they are now: shorter ones while memory is short.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let terms = self.terms();
        match terms.guard.strain() {
            Strain::None => terms.limits,
            Strain::Short | Strain::Out => terms.limits.strained(),
        }
    }
}
