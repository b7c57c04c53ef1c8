//! Where one connection's requests are taken in and answered, whichever HTTP they came by.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response};

use super::{Asked, Refusal, Shape, request, response};
use crate::answer::Answer;
use crate::clock::Moment;
use crate::listen::Context;
use crate::peer::Peer;
use crate::query::Query;
use crate::reply::{Now, Out, Pending, Verdict};

/// What a connection needs to answer its requests.
pub struct Desk {
    pipeline: Arc<dyn Answer>,
    peer: Peer,
    paths: Arc<[String]>,
    alt_svc: Option<HeaderValue>,
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
        Self { pipeline: Arc::clone(&context.answer), peer, paths: Arc::clone(&context.paths), alt_svc }
    }

    /// The moment to stamp on arriving questions; read once a turn.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.pipeline.moment()
    }

    /// Judges the head of `request`; the question of a GET ends up in `question`, which is emptied first.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn read<B>(&self, request: &Request<B>, question: &mut BytesMut) -> Result<Asked, Refusal> {
        question.clear();
        request::judge(request, &self.paths, question)
    }

    /// Answers the DNS message `question`; `replies` is where replies are made, empty before and after.
    pub fn answer(&self, question: &[u8], arrival: Moment, shape: Shape, replies: &mut BytesMut) -> Outcome {
        if replies.capacity() < COMMON_REPLY {
            replies.reserve(REPLIES);
        }
        let asked = Query::parse(question, &self.peer, arrival);
        match self.pipeline.now(asked, &self.peer, &mut Out::bare(replies)) {
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
