//! Where one connection's requests are taken in and answered, whichever HTTP they came by.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response};

use super::pages;
use super::{Asked, Refusal, Shape, request, response};
use crate::clock::Moment;
use crate::guard::{Clients, Guard};
use crate::listen::Context;
use crate::peer::{ClientId, Peer};
use crate::query::Query;
use crate::reply::{Now, Out, Pending, Verdict};

/// What a connection needs to answer its requests.
pub struct Desk {
    context: Context,
    peer: Peer,
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

impl Desk {
    /// A desk for `peer`; `alt_svc` goes with its replies (RFC 7838 3).
    #[must_use]
    pub fn new(context: &Context, peer: Peer, alt_svc: Option<HeaderValue>) -> Self {
        Self { context: context.clone(), peer, alt_svc }
    }

    /// The moment to stamp on arriving questions; read once a turn.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.context.terms().answer.moment()
    }

    /// Judges the head of `request`; the question of a GET ends up in `question`, which is emptied first.
    pub fn read<B>(&self, request: &Request<B>, question: &mut BytesMut) -> Read {
        question.clear();
        let terms = self.context.terms();
        let bearer = |clients: &Clients| request::bearer(request.uri().path(), &terms.paths, clients);
        let client = terms.guard.clients().and_then(bearer);
        let shape = Shape { client, ..Shape::of(request.method()) };
        let judged = request::judge(request, &terms.paths, client, question);
        if judged != Err(Refusal::Path) && self.is_strange(&terms.guard, client) {
            self.context.counters.strangers.add_one();
            return Read::Answered(Refusal::Access.response(shape));
        }
        match judged {
            Ok(Asked::Here(form)) => Read::Question(Shape { form, ..shape }),
            Ok(Asked::InBody(announced)) => Read::InBody(shape, announced),
            Err(Refusal::Path) => Read::Answered(self.elsewhere(request).unwrap_or_else(|other| other.response(shape))),
            Err(refusal) => Read::Answered(refusal.response(shape)),
        }
    }

    /// Is this one of those that are refused whatever they ask, and wherever from? All of them in the same words.
    fn is_strange(&self, guard: &Guard, client: Option<ClientId>) -> bool {
        guard.refuses_strangers() && guard.know(&self.asker(client)).is_none()
    }

    /// Who asks: the client whose token came with the request, or else whoever the connection is of.
    fn asker(&self, client: Option<ClientId>) -> Cow<'_, Peer> {
        match client {
            Some(_) => Cow::Owned(Peer { client, ..self.peer.clone() }),
            None => Cow::Borrowed(&self.peer),
        }
    }

    /// What is at a path that no DNS is answered at.
    fn elsewhere<B>(&self, request: &Request<B>) -> Result<Response<Bytes>, Refusal> {
        let terms = self.context.terms();
        if !terms.guard.hears(&self.peer, terms.guard.know(&self.peer)) {
            return Err(Refusal::Path);
        }
        pages::at(&terms.pages, request.uri().path(), request.method())
    }

    /// Answers the DNS message `question`; `replies` is where replies are made, empty before and after.
    pub fn answer(&self, question: &[u8], arrival: Moment, shape: Shape, replies: &mut BytesMut) -> Outcome {
        if replies.capacity() < COMMON_REPLY {
            replies.reserve(REPLIES);
        }
        let peer = self.asker(shape.client);
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
