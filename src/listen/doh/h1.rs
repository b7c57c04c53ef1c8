//! HTTP/1.1: one request at a time on a kept connection, read and written by hyper (RFC 9112).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Visit;
use super::line::Line;
use crate::listen::deadline;
use crate::listen::http::{Outcome, Read, Refusal};
use crate::wire::MAX_MESSAGE;

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(line: Line<S>, visit: Arc<Visit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut drain = visit.context.drain.clone();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Runs from the moment a request may come: it bounds idleness too.
        .header_read_timeout(visit.context.limits().idle_timeout)
        .half_close(true)
        .keep_alive(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER);
    let service = service_fn(move |request| {
        let visit = Arc::clone(&visit);
        async move { Ok::<_, Infallible>(answer(&visit, request).await.map(Full::new)) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(line), service));
    tokio::select! {
        // What ends a connection early is the client's doing, and nobody is left to tell.
        _ = connection.as_mut() => return,
        () = drain.wanted() => connection.as_mut().graceful_shutdown(),
    }
    _ = connection.await;
}

async fn answer(visit: &Visit, request: Request<Incoming>) -> Response<Bytes> {
    let mut question = BytesMut::new();
    let shape = match visit.desk.read(&request, &mut question) {
        Read::Question(shape) => shape,
        Read::InBody(shape, _) => {
            let gathered = timeout(deadline::REQUEST, gather(request.into_body(), &mut question)).await;
            match gathered.unwrap_or(Err(Refusal::Slow)) {
                Ok(()) => shape,
                Err(refusal) => return refusal.response(shape),
            }
        }
        Read::Answered(response) => return response,
    };
    match visit.desk.answer(&question, visit.desk.moment(), shape, &mut BytesMut::new()) {
        Outcome::Ready(response) => response,
        Outcome::Later(pending) => visit.desk.conclude(pending.await, shape),
    }
}

async fn gather(mut body: Incoming, question: &mut BytesMut) -> Result<(), Refusal> {
    while let Some(frame) = body.frame().await {
        // A body that breaks off is no query, whatever its octets say.
        let frame = frame.map_err(|_| Refusal::NotAQuery)?;
        let data = frame.into_data().unwrap_or_default();
        if question.len() + data.len() > MAX_MESSAGE {
            return Err(Refusal::TooLarge);
        }
        question.extend_from_slice(&data);
    }
    Ok(())
}

/// Header fields of a request.
const MAX_HEADERS: usize = 64;

/// Octets of a request head, and of what is read or written at a time.
const MAX_BUFFER: usize = 16 * 1024;
