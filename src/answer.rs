//! The seam between the front doors and the pipeline.

use crate::clock::Moment;
use crate::peer::Peer;
use crate::query::{Query, Reject};
use crate::reply::{Now, Out, Why};

/// Answers questions. Cannot fail: an error is an answer, silence is a verdict.
pub trait Answer: Send + Sync {
    /// Answers `asked` at once into `out` if memory holds the answer, else hands back the future that will.
    ///
    /// Called in place by a front-end for each question it has read. Synchronous, no allocation on a hit.
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now;

    /// Answers a question that `now` would have wait where its front door has no room for that: says so in `out`, or nothing.
    fn decline(&self, _asked: Result<Query<'_>, Reject<'_>>, _peer: &Peer, _out: &mut Out<'_>) -> Now {
        Now::Dropped(Why::Limit)
    }

    /// The moment to stamp on arriving questions; a front-end reads it once a turn.
    fn moment(&self) -> Moment;
}
