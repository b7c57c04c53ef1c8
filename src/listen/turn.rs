//! One turn of a connection: what is done for it, in place, before others get theirs.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Questions of one connection in one turn.
pub const TURN: usize = 32;

/// Polls `future` once and answers its output if it was ready.
///
/// Nothing is woken by what it waited for, so it must be cancel-safe and whoever gets `None` must poll anew with a real waker.
pub fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
