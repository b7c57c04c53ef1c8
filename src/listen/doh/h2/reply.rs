//! Writing a response to a stream, and what does not fit its window.
//!
//! `h2` keeps whatever it is given until the client opens its window. A client that never does must not make the gateway keep
//! large answers for it: those wait for room here, with a deadline, and are dropped after it.

use std::future::poll_fn;

use ::h2::server::SendResponse;
use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http::Response;
use tokio::time::timeout;

use crate::listen::deadline;
use crate::listen::http::Ended;

/// A body that the client has no room for yet.
pub(super) struct Rest {
    stream: SendStream<Bytes>,
    body: Bytes,
}

/// Writes `response`; hands back what must wait for room. A stream that the client has reset needs no answer.
pub(super) fn begin(mut respond: SendResponse<Bytes>, response: Response<Bytes>) -> Option<Rest> {
    let (head, body) = response.into_parts();
    let head = Response::from_parts(head, ());
    let Ok(mut stream) = respond.send_response(head, body.is_empty()) else { return None };
    if body.is_empty() {
        return None;
    }
    if body.len() > SMALL {
        stream.reserve_capacity(body.len());
        if stream.capacity() < body.len() {
            return Some(Rest { stream, body });
        }
    }
    _ = stream.send_data(body, true);
    None
}

impl Rest {
    /// Writes it as the client makes room.
    pub(super) async fn deliver(mut self) -> Ended {
        if timeout(deadline::WRITE, self.write()).await.is_err() {
            self.stream.send_reset(Reason::CANCEL);
        }
        Ended::Answered
    }

    async fn write(&mut self) {
        while !self.body.is_empty() {
            let Some(Ok(room)) = poll_fn(|cx| self.stream.poll_capacity(cx)).await else { return };
            let part = self.body.split_to(room.min(self.body.len()));
            if self.stream.send_data(part, self.body.is_empty()).is_err() {
                return;
            }
        }
    }
}

/// Bodies up to this are left to h2: all streams of a connection together keep little.
const SMALL: usize = 2048;
