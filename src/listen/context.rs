//! What every front door of one worker shares: whom it asks, whom it lets in, how long it waits, when it stops.

use std::sync::Arc;

use super::Limits;
use super::http::pages::Page;
use crate::answer::Answer;
use crate::guard::Guard;
use crate::shutdown::Drain;
use crate::telemetry::Counters;

/// One worker's surroundings, cloned into each loop and connection.
#[derive(Clone)]
pub struct Context {
    /// The pipeline.
    pub answer: Arc<dyn Answer>,
    /// Permits for connections.
    pub guard: Arc<Guard>,
    /// This worker's counters.
    pub counters: Arc<Counters>,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// Paths that DoH answers at.
    pub paths: Arc<[String]>,
    /// Pages on the DoH doors, at other paths than those.
    pub pages: Arc<[Page]>,
    /// The word to stop.
    pub drain: Drain,
}
