//! What `h3` may keep for one connection: it waits for whole frames, however long they say they are (RFC 9114 10.5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The octets read of one connection that `h3` may still hold.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Held>);

#[derive(Default)]
struct Held {
    /// Of requests that are not over.
    requests: AtomicUsize,
    /// Of control streams, less what the requests since then excuse.
    control: AtomicUsize,
    exceeded: AtomicBool,
}

/// One stream's part; given back when the stream is over.
pub(super) struct Account {
    ledger: Ledger,
    kind: Kind,
    taken: usize,
}

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request.
    Request,
    /// Control, QPACK, or something unknown that is ignored.
    Control,
}

/// More was read than may be held.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess;

impl Ledger {
    /// An account for a stream.
    pub(super) fn open(&self, kind: Kind) -> Account {
        Account { ledger: self.clone(), kind, taken: 0 }
    }

    /// Notes that the client went over a bound, or broke a rule that `h3` does not know of.
    pub(super) fn exceed(&self) {
        self.0.exceeded.store(true, Ordering::Relaxed);
    }

    /// Has it?
    pub(super) fn is_exceeded(&self) -> bool {
        self.0.exceeded.load(Ordering::Relaxed)
    }

    /// A request has come: its client may say something about it on the control stream.
    pub(super) fn excuse(&self) {
        let control = &self.0.control;
        control.store(control.load(Ordering::Relaxed).saturating_sub(EXCUSED), Ordering::Relaxed);
    }
}

impl Account {
    /// Notes `octets` read.
    pub(super) fn take(&mut self, octets: usize) -> Result<(), Excess> {
        self.taken = self.taken.saturating_add(octets);
        let (held, most) = match self.kind {
            Kind::Request => (&self.ledger.0.requests, REQUESTS),
            Kind::Control => (&self.ledger.0.control, CONTROL),
        };
        let before = held.fetch_add(octets, Ordering::Relaxed);
        let excess = before.saturating_add(octets) > most || self.kind == Kind::Request && self.taken > REQUEST;
        if excess {
            self.ledger.exceed();
            return Err(Excess);
        }
        Ok(())
    }

    /// As [`Ledger::exceed`].
    pub(super) fn exceed(&self) {
        self.ledger.exceed();
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.kind == Kind::Request {
            self.ledger.0.requests.fetch_sub(self.taken, Ordering::Relaxed);
        }
    }
}

/// Of one request: the longest message, one octet more in a last piece, headers, and frames to ignore.
const REQUEST: usize = 160 * 1024;

/// Of all requests of a connection.
const REQUESTS: usize = 1024 * 1024;

/// Of control streams.
const CONTROL: usize = 64 * 1024;

/// Of control streams, a request.
const EXCUSED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dh3_10_one_request_and_all_together_are_bounded_and_what_ends_gives_back() {
        let ledger = Ledger::default();
        let mut first = ledger.open(Kind::Request);
        assert_eq!(first.take(REQUEST), Ok(()));
        assert_eq!(first.take(1), Err(Excess));
        drop(first);
        let mut open: Vec<_> = (0..REQUESTS / REQUEST).map(|_| ledger.open(Kind::Request)).collect();
        assert!(open.iter_mut().all(|account| account.take(REQUEST).is_ok()));
        let mut last = ledger.open(Kind::Request);
        assert_eq!(last.take(REQUEST), Err(Excess));
        open.clear();
        drop(last);
        assert_eq!(ledger.open(Kind::Request).take(REQUEST), Ok(()));
    }

    #[test]
    fn dh3_10_control_streams_may_say_some_and_a_little_more_for_each_request() {
        let ledger = Ledger::default();
        assert_eq!(ledger.open(Kind::Control).take(CONTROL), Ok(()));
        ledger.excuse();
        assert_eq!(ledger.open(Kind::Control).take(EXCUSED), Ok(()));
        assert_eq!(ledger.open(Kind::Control).take(1), Err(Excess));
    }
}
