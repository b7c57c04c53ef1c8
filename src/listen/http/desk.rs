//! Where one connection's requests are taken in and answered, whichever HTTP they came by.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard as Loaded};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};

use super::pages;
use super::{Asked, Ended, Refusal, Shape, forwarded, request, response};
use crate::clock::Moment;
use crate::guard::{Clients, Guard};
use crate::listen::{Context, Terms};
use crate::peer::Peer;
use crate::query::Query;
use crate::reply::{Now, Out, Pending, Verdict};
use crate::telemetry::Limited;
use crate::telemetry::proxies::Forwarding;

/// What a connection needs to answer its requests.
pub struct Desk {
    context: Context,
    /// Another when the client has moved.
    peer: ArcSwap<Peer>,
    alt_svc: Option<HeaderValue>,
}

/// What a request has come to once its head is judged.
pub enum Read {
    /// A question that has been read. Its reply is to look like this.
    Question(Shape),
    /// A question that its body holds, which has this length if it says so. Its reply is to look like this.
    InBody(Shape, Option<usize>),
    /// Its response: it asked for a page, or for nothing that there is.
    Answered(Response<Bytes>),
}

/// The immediate outcome of a question.
pub enum Outcome {
    /// The response.
    Ready(Response<Bytes>),
    /// It must wait.
    Later(Pending),
}

/// Who asks by one request.
enum Asker {
    /// The peer of the connection.
    Peer(Loaded<Arc<Peer>>),
    /// One for whom it speaks.
    Other(Box<Peer>),
}

impl Deref for Asker {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        match self {
            Self::Peer(peer) => peer,
            Self::Other(peer) => peer,
        }
    }
}

impl Desk {
    /// A desk for `peer`; `alt_svc` goes with its replies (RFC 7838 3).
    #[must_use]
    pub fn new(context: &Context, peer: Peer, alt_svc: Option<HeaderValue>) -> Self {
        Self { context: context.clone(), peer: ArcSwap::from_pointee(peer), alt_svc }
    }

    /// Who asks: for whoever knows that this has changed.
    #[must_use]
    pub const fn whereabouts(&self) -> &ArcSwap<Peer> {
        &self.peer
    }

    /// Whose requests these are.
    #[must_use]
    pub fn peer(&self) -> Loaded<Arc<Peer>> {
        self.peer.load()
    }

    /// The moment to stamp on arriving questions; read once a turn.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.context.terms().answer.moment()
    }

    /// Judges the head of `request`; the question of a GET ends up in `question`, which is emptied first.
    pub fn read<B>(&self, request: &Request<B>, question: &mut BytesMut) -> Read {
        question.clear();
        let shape = Shape::of(request.method());
        let forwarded = match self.forwarded(request.headers()) {
            Ok(forwarded) => forwarded,
            Err(refusal) => return Read::Answered(refusal.response(shape)),
        };
        let terms = self.context.terms();
        let bearer = |clients: &Clients| request::bearer(request.uri().path(), &terms.paths, clients);
        let shape = Shape { client: terms.guard.clients().and_then(bearer), forwarded, ..shape };
        let judged = request::judge(request, &terms.paths, shape.client, question);
        if self.is_shut_out(&terms, shape) {
            return Read::Answered(Refusal::Limit.response(shape));
        }
        if judged != Err(Refusal::Path) && self.is_strange(&terms.guard, shape) {
            self.context.counters.strangers.add_one();
            return Read::Answered(Refusal::Access.response(shape));
        }
        match judged {
            Ok(Asked::Here(form)) => Read::Question(Shape { form, ..shape }),
            Ok(Asked::InBody(announced)) => Read::InBody(shape, announced),
            Err(Refusal::Path) => {
                Read::Answered(self.elsewhere(request, shape).unwrap_or_else(|other| other.response(shape)))
            }
            Err(refusal) => Read::Answered(refusal.response(shape)),
        }
    }

    /// Is this one of those that are refused whatever they ask, and wherever from? All of them in the same words.
    fn is_strange(&self, guard: &Guard, shape: Shape) -> bool {
        guard.refuses_strangers() && guard.know(&self.asker(shape)).is_none()
    }

    /// Is this one whom a web server speaks for, and who has taken back too much? Its connection is not the asker's to lose.
    fn is_shut_out(&self, terms: &Terms, shape: Shape) -> bool {
        if shape.forwarded.is_none() {
            return false;
        }
        let asker = self.asker(shape);
        let is_out = terms.guard.is_shut_out(&asker, terms.answer.moment());
        if is_out {
            self.context.counters.limit(Limited::ShutOut, asker.transport);
        }
        is_out
    }

    /// A request of this shape has been taken back. Where a web server speaks for whoever did that, it is counted against them.
    #[must_use]
    pub fn taken_back(&self, shape: Shape) -> Ended {
        if shape.forwarded.is_none() {
            return Ended::Abandoned;
        }
        // From the limit on they are refused (`is_shut_out`), and nobody else is.
        let _ = self.context.bears_reset_by(&self.asker(shape));
        Ended::TakenBackByOther
    }

    /// What is at a path that no DNS is answered at.
    fn elsewhere<B>(&self, request: &Request<B>, shape: Shape) -> Result<Response<Bytes>, Refusal> {
        let terms = self.context.terms();
        let peer = self.asker(shape);
        if !terms.guard.hears(&peer, terms.guard.know(&peer)) {
            return Err(Refusal::Path);
        }
        pages::at(&terms.pages, request.uri().path(), request.method())
    }

    /// Who asks by a request with `headers`, if it is another than the peer of the connection.
    fn forwarded(&self, headers: &HeaderMap) -> Result<Option<IpAddr>, Refusal> {
        let (terms, peer) = (self.context.terms(), self.peer.load());
        let door = peer.door;
        let Some(header) = terms.guard.forwarder(door, peer.shown_ip()) else { return Ok(None) };
        let client = forwarded::client(headers, header, |hop| terms.guard.forwarder(door, hop).is_some());
        self.context.counters.forwarded(match client {
            Ok(Some(_)) => Forwarding::Accepted,
            Ok(None) => Forwarding::Absent,
            Err(forwarded::Unnamed) => Forwarding::Unusable,
        });
        client.map_err(|forwarded::Unnamed| Refusal::Unnamed)
    }

    /// Who asks by a request of this shape. A web server does not tell its client's port.
    fn asker(&self, shape: Shape) -> Asker {
        let peer = self.peer.load();
        let other = match (shape.forwarded, shape.client) {
            (None, None) => return Asker::Peer(peer),
            (Some(client), _) => Peer::clone(&peer).speaking_for(SocketAddr::new(client, 0)),
            (None, Some(_)) => Peer::clone(&peer),
        };
        Asker::Other(Box::new(Peer { client: shape.client.or(other.client), ..other }))
    }

    /// Answers the DNS message `question`; `replies` is where replies are made, empty before and after.
    pub fn answer(&self, question: &[u8], arrival: Moment, shape: Shape, replies: &mut BytesMut) -> Outcome {
        if replies.capacity() < COMMON_REPLY {
            replies.reserve(REPLIES);
        }
        let peer = self.asker(shape);
        let asked = Query::parse(question, &peer, arrival);
        match self.context.terms().answer.now(asked, &peer, &mut Out::bare(replies)) {
            Now::Sent(facts) => {
                let message = replies.split().freeze();
                Outcome::Ready(response::carrying(message, facts.freshness, shape, self.alt_svc.as_ref()))
            }
            Now::Dropped(why) => Outcome::Ready(Refusal::from(why).response(shape)),
            Now::Later(pending) => Outcome::Later(pending),
        }
    }

    /// The response to a question that had to wait.
    #[must_use]
    pub fn conclude(&self, verdict: Verdict, shape: Shape) -> Response<Bytes> {
        match verdict {
            Verdict::Sent(reply) => {
                let message = reply.message.freeze();
                response::carrying(message, reply.facts.freshness, shape, self.alt_svc.as_ref())
            }
            Verdict::Dropped(why) => Refusal::from(why).response(shape),
        }
    }
}

/// With less room than this, new room is made first: growing in the middle of a message would copy it.
const COMMON_REPLY: usize = 512;

/// Room for replies, made at once.
const REPLIES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::rehearsal::Rehearsal;
    use crate::peer::{DoorId, Transport};

    #[test]
    fn a_page_is_for_those_who_may_ask_and_to_others_there_is_none() {
        let rehearsal = Rehearsal::new();
        let read = |door, path: &str| {
            let peer = Peer { door: DoorId(door), ..Rehearsal::peer(Transport::Doh2) };
            let request = Request::get(path).version(http::Version::HTTP_2).body(()).unwrap();
            match Desk::new(&rehearsal.context, peer, None).read(&request, &mut BytesMut::new()) {
                Read::Answered(response) => (response.status().as_u16(), response.into_body()),
                Read::Question(_) | Read::InBody(..) => panic!("no question was asked"),
            }
        };
        assert_eq!(read(0, "/set-up").0, 200);
        assert_eq!(read(1, "/set-up"), read(1, "/nowhere"));
        assert_eq!(read(1, "/set-up").0, 404);
    }
}
