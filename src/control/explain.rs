//! A question's road through a pipeline of the control thread's own, for `/api/explain`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Control;
use crate::admin::{Asked, ExplainRefused, ExplainRequest, Explained, Explaining, Reached, explained};
use crate::answer::Answer as _;
use crate::peer::{Peer, Transport};
use crate::query::Query;
use crate::reply::{Now, Out, Verdict};
use crate::upstream::Exchange as _;

/// Walks a question through a pipeline of the control thread's own and tells the road.
pub fn explain(control: Arc<Control>, request: ExplainRequest) -> Explaining {
    Box::pin(async move {
        let now = control.force.load_full();
        let pipeline = &now.pipeline;
        let open = |transport| control.door(transport).map(|door| (transport, door));
        let found = match request.door {
            Some(transport) => open(transport),
            None => Transport::ALL.into_iter().find_map(open),
        };
        let (transport, (id, address)) = found.ok_or(ExplainRefused::NoSuchDoor)?;
        let client = request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let peer = Peer::new(SocketAddr::new(client, 0), address, id, transport);
        let message = request.to_message();
        // Before the walk, which is a visit of its own.
        let kept = now.shared.kept(&request.question());
        let begun = Instant::now();
        let mut buffer = BytesMut::new();
        let mut out = Out::bare(&mut buffer);
        let verdict = match pipeline.now(Query::parse(&message, &peer, pipeline.moment()), &peer, &mut out) {
            Now::Sent(facts) => Verdict::Sent(crate::reply::Reply { message: buffer, facts }),
            Now::Dropped(why) => Verdict::Dropped(why),
            Now::Later(pending) => pending.await,
        };
        let asked = Asked {
            request: &request,
            client,
            door: address.to_string(),
            route: now.routes.route(&request.question()).fingerprint,
            pool: now.routes.pool_name(&request.question()),
            micros: u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX),
        };
        let mut road = tell(&control, &asked, &verdict);
        // Of the two that may be kept, the one that was served is known by its age.
        let served = |age: u32| kept.iter().flatten().find(|facts| facts.age.abs_diff(age) <= 1);
        road.cache.hits = road.cache.age.and_then(served).map(|facts| facts.hits);
        Ok(road)
    })
}

fn tell(control: &Control, asked: &Asked<'_>, verdict: &Verdict) -> Explained {
    let reached = match verdict {
        Verdict::Sent(reply) => Reached::Reply(&reply.facts, &reply.message),
        Verdict::Dropped(why) => Reached::Silence(*why),
    };
    explained(asked, reached, &|upstream| control.named(upstream))
}
