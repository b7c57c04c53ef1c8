//! Questions that memory does not answer: each takes a place of its client's, and becomes a future that owns all it needs.

use std::sync::Arc;

use bytes::BytesMut;

use super::keys::Keys;
use super::walk::Walk;
use super::{Pipeline, admission, rcode};
use crate::guard::Waiting;
use crate::peer::Peer;
use crate::query::Query;
use crate::reply::{Now, Out, Pending, Reply, Verdict};
use crate::telemetry::Limited;
use crate::trail::{Join, Stale};

impl Pipeline {
    /// Has a question wait for the rest of the way, if its client has a place left for one.
    pub(super) fn put_off(
        &self,
        (query, peer): (&Query<'_>, &Peer),
        mut walk: Walk<'_>,
        keys: Keys,
        out: &mut Out<'_>,
    ) -> Now {
        let source = admission::source(&walk);
        if let Some(place) = self.shared.guard.wait(peer, source) {
            return Now::Later(self.later(query, &walk, keys, place));
        }
        self.counters.limit(Limited::Waiting, peer.transport);
        walk.trail.join = Join::Full;
        Now::Sent(self.stand_in_or_refuse(&keys, &mut walk, (Stale::Full, &rcode::TOO_MANY), out))
    }

    /// The rest of the way, as a future that owns all it needs, its place among those that wait included.
    fn later(&self, query: &Query<'_>, walk: &Walk<'_>, keys: Keys, place: Waiting) -> Pending {
        let (pipeline, kept, keys) = (self.clone(), query.to_kept(), Arc::new(keys));
        let (transport, limit, cookie) = (walk.transport, walk.limit, walk.cookie);
        let (told, is_hurried, trail) = (walk.told, walk.is_hurried, walk.trail);
        Box::pin(async move {
            let _place = place;
            let query = kept.query();
            let mut walk = Walk { limit, cookie, told, is_hurried, trail, ..Walk::of_query(&query, transport, limit) };
            let mut message = BytesMut::new();
            let facts = pipeline.fetch(keys, &mut walk, &mut Out::bare(&mut message)).await;
            Verdict::Sent(Reply { message, facts })
        })
    }
}
