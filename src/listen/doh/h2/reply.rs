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
use crate::listen::unread::{Kept, Unread};

/// A body that the client has no room for yet.
pub(super) struct Rest {
    stream: SendStream<Bytes>,
    body: Bytes,
    _kept: Kept,
}

/// What became of a response at once.
pub(super) enum Begun {
    /// All of it is on its way, or its client is gone.
    Done,
    /// The rest must wait for room.
    Waits(Rest),
    /// Its client leaves too much unread: the stream has been reset.
    Dropped,
}

/// Writes `response` as far as there is room. A stream that the client has reset needs no answer.
pub(super) fn begin(mut respond: SendResponse<Bytes>, response: Response<Bytes>, unread: &Unread) -> Begun {
    let (head, body) = response.into_parts();
    let head = Response::from_parts(head, ());
    let Ok(mut stream) = respond.send_response(head, body.is_empty()) else { return Begun::Done };
    if body.is_empty() {
        return Begun::Done;
    }
    if body.len() > SMALL {
        stream.reserve_capacity(body.len());
        if stream.capacity() < body.len() {
            let Some(kept) = unread.keep(body.len()) else {
                stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                return Begun::Dropped;
            };
            return Begun::Waits(Rest { stream, body, _kept: kept });
        }
    }
    _ = stream.send_data(body, true);
    Begun::Done
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
