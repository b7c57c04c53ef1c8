//! One request from its head to the end of its response.

use std::future::pending;
use std::sync::{Arc, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::Response;
use tokio::time::timeout;

use super::Visit;
use super::carrier::{Carrier, Stop};
use super::stream::Bidi;
use crate::clock::Moment;
use crate::listen::deadline;
use crate::listen::http::{Outcome, Read, Refusal, Shape};
use crate::reply::Pending;
use crate::wire::MAX_MESSAGE;

/// A request whose head is still to be read.
pub(super) type Resolver = RequestResolver<Carrier, Bytes>;

/// A request whose head has been read.
type Stream = RequestStream<Bidi, Bytes>;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a response.
    Answered,
    /// Without one: the client gave it up, broke it, or did not take it.
    Abandoned,
    /// The same, before its header had been read.
    Headless,
}

/// Why there is nothing to answer.
enum Halt {
    /// The client is gone, or `h3` has told it what it did wrong.
    Gone,
    /// The body is not as long as announced (RFC 9114 4.1.2).
    Malformed,
    /// The client is told in a response.
    Refused(Refusal),
}

/// Serves a request until it is answered or `stop` says that its client wants no answer.
pub(super) async fn serve(resolver: Resolver, stop: Stop, visit: Arc<Visit>) -> End {
    tokio::select! {
        biased;
        end = answer(resolver, &visit) => end,
        () = stop => End::Abandoned,
    }
}

async fn answer(resolver: Resolver, visit: &Visit) -> End {
    let arrival = visit.desk.moment();
    let (request, mut stream) = match timeout(deadline::REQUEST, resolver.resolve_request()).await {
        Ok(Ok(head)) => head,
        // Has been answered by h3 with 431.
        Ok(Err(StreamError::HeaderTooBig { .. })) => return End::Answered,
        Ok(Err(_)) | Err(_) => return End::Headless,
    };
    let mut question = BytesMut::new();
    let (shape, asked) = match visit.desk.read(&request, &mut question) {
        Read::InBody(shape, announced) => {
            let gathered = gather(&mut stream, announced, &mut question).await;
            visit.follow();
            (shape, gathered)
        }
        Read::Question(shape) => (shape, Ok(())),
        Read::Answered(response) => return deliver(stream, response, visit).await,
    };
    let response = match asked {
        Ok(()) => reply(&mut stream, &question, (shape, arrival), visit).await,
        Err(Halt::Refused(refusal)) => Some(refusal.response(shape)),
        Err(Halt::Malformed) => {
            stream.stop_stream(Code::H3_MESSAGE_ERROR);
            return End::Abandoned;
        }
        Err(Halt::Gone) => None,
    };
    if let Some(response) = response {
        return deliver(stream, response, visit).await;
    }
    stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    End::Abandoned
}

/// Appends the body to `question` until its end.
async fn gather(stream: &mut Stream, announced: Option<usize>, question: &mut BytesMut) -> Result<(), Halt> {
    let read = async {
        while let Some(mut data) = stream.recv_data().await.map_err(|_| Halt::Gone)? {
            if question.len() + data.remaining() > MAX_MESSAGE {
                return Err(Halt::Refused(Refusal::TooLarge));
            }
            question.put(data.copy_to_bytes(data.remaining()));
        }
        Ok(())
    };
    timeout(deadline::REQUEST, read).await.unwrap_or(Err(Halt::Refused(Refusal::Slow)))?;
    if announced.is_some_and(|announced| announced != question.len()) { Err(Halt::Malformed) } else { Ok(()) }
}

/// The response to `question`; `None` if the client is gone before there is one.
async fn reply(
    stream: &mut Stream,
    question: &[u8],
    (shape, arrival): (Shape, Moment),
    visit: &Visit,
) -> Option<Response<Bytes>> {
    match now(question, (shape, arrival), visit) {
        Outcome::Ready(response) => Some(response),
        Outcome::Later(answer) => later(stream, answer, shape, visit).await,
    }
}

fn now(question: &[u8], (shape, arrival): (Shape, Moment), visit: &Visit) -> Outcome {
    let mut replies = visit.replies.lock().unwrap_or_else(PoisonError::into_inner);
    replies.clear();
    visit.desk.answer(question, arrival, shape, &mut replies)
}

async fn later(stream: &mut Stream, answer: Pending, shape: Shape, visit: &Visit) -> Option<Response<Bytes>> {
    tokio::select! {
        verdict = answer => Some(visit.desk.conclude(verdict, shape)),
        () = given_up(stream) => None,
    }
}

/// Ready when the client takes its request back. Nothing else that it sends after the question is read.
async fn given_up(stream: &mut Stream) {
    if stream.recv_data().await.is_ok() {
        pending::<()>().await;
    }
}

async fn deliver(mut stream: Stream, response: Response<Bytes>, visit: &Visit) -> End {
    let Some(_kept) = visit.unread.keep(response.body().len()) else {
        visit.context.counters.overflow.add_one();
        stream.stop_stream(Code::H3_EXCESSIVE_LOAD);
        return End::Abandoned;
    };
    if matches!(timeout(deadline::WRITE, write(&mut stream, response)).await, Ok(Ok(()))) {
        return End::Answered;
    }
    stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    End::Abandoned
}

async fn write(stream: &mut Stream, response: Response<Bytes>) -> Result<(), StreamError> {
    let (head, body) = response.into_parts();
    stream.send_response(Response::from_parts(head, ())).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await
}
