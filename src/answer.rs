//! The seam between the front doors and the pipeline.

use crate::clock::Moment;
use crate::peer::Peer;
use crate::query::{Query, Reject};
use crate::reply::{Now, Out};

/// Answers questions. Cannot fail: an error is an answer, silence is a verdict.
pub trait Answer: Send + Sync {
    /// Answers `asked` at once into `out` if memory holds the answer, else hands back the future that will.
    ///
    /// Called in place by a front-end for each question it has read. Synchronous, no allocation on a hit.
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now;

    /// The moment to stamp on arriving questions; a front-end reads it once a turn.
    fn moment(&self) -> Moment;
}
