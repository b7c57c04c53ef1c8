//! A request that cannot be answered in place: its body, or its answer, is still to come.

use std::future::poll_fn;
use std::sync::Arc;

use ::h2::RecvStream;
use ::h2::server::SendResponse;
use bytes::{Bytes, BytesMut};
use http::Response;
use tokio::time::timeout;

use super::super::Visit;
use super::reply::{self, Begun};
use crate::listen::deadline;
use crate::listen::http::{Ended, Outcome, Refusal, Shape};
use crate::reply::Pending;
use crate::wire::MAX_MESSAGE;

/// See above. Leaves when its client resets the stream; what it waited for is dropped with it.
pub(super) struct Guest {
    pub(super) respond: SendResponse<Bytes>,
    pub(super) shape: Shape,
    pub(super) visit: Arc<Visit>,
}

/// Why a body ends without a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// There is nobody left to answer.
    Gone,
    /// The client is told.
    Refused(Refusal),
}

/// Appends the body to `question` until its end. Cancel-safe: what has come is in `question`.
///
/// The window is given back when the body is whole, so that all unfinished bodies of a connection hold no more than its window.
pub(super) async fn gather(body: &mut RecvStream, question: &mut BytesMut) -> Result<(), Halt> {
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Halt::Gone)?;
        if question.len() + data.len() > MAX_MESSAGE {
            return Err(Halt::Refused(Refusal::TooLarge));
        }
        question.extend_from_slice(&data);
    }
    // Only fails where the stream is gone, and the window with it.
    _ = body.flow_control().release_capacity(question.len());
    Ok(())
}

impl Guest {
    /// Waits for the rest of the body, then for the answer.
    pub(super) async fn read_on(self, mut body: RecvStream, mut question: BytesMut) -> Ended {
        let gathered = timeout(deadline::REQUEST, gather(&mut body, &mut question)).await;
        match gathered.unwrap_or(Err(Halt::Refused(Refusal::Slow))) {
            Err(Halt::Gone) => return self.visit.desk.taken_back(self.shape),
            Err(Halt::Refused(refusal)) => {
                let shape = self.shape;
                return self.send(refusal.response(shape)).await;
            }
            Ok(()) => {}
        }
        let desk = &self.visit.desk;
        match desk.answer(&question, desk.moment(), self.shape, &mut BytesMut::new()) {
            Outcome::Ready(response) => self.send(response).await,
            Outcome::Later(pending) => self.wait(pending).await,
        }
    }

    /// Waits for the answer.
    pub(super) async fn wait(mut self, pending: Pending) -> Ended {
        let verdict = tokio::select! {
            verdict = pending => verdict,
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => return self.visit.desk.taken_back(self.shape),
        };
        let response = self.visit.desk.conclude(verdict, self.shape);
        self.send(response).await
    }

    async fn send(self, response: Response<Bytes>) -> Ended {
        match reply::begin(self.respond, response, &self.visit.unread) {
            Begun::Done => Ended::Answered,
            Begun::Waits(rest) => rest.deliver().await,
            Begun::Dropped => {
                self.visit.context.dropped_for(&self.visit.desk.peer());
                Ended::Abandoned
            }
        }
    }
}
