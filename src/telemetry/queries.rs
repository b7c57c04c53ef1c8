//! The query log (`log.queries`): one event a question, made from its trail. Off unless asked for, and then the hot path pays for it.
//!
//! It stands around the pipeline as an [`Answer`] of its own, so that a gateway without a query log has nothing of it in its path.

use std::sync::Arc;

use crate::answer::Answer;
use crate::clock::Moment;
use crate::peer::Peer;
use crate::query::{Query, Reject};
use crate::reply::{Facts, Now, Out, Pending, Verdict, Why};
use crate::trail::Decision;
use crate::wire::name::{self, Shown};
use crate::wire::registry::rcode;

const ONION: &[u8] = b"\x05onion\0";

/// Which questions are logged, and how much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those that failed: neither NOERROR nor NXDOMAIN. With names, without clients.
    Errors,
    /// All, without names and clients.
    Anonymous,
    /// All, with names and clients.
    Full,
}

/// An [`Answer`] that logs what passes.
pub struct Logged {
    inner: Arc<dyn Answer>,
    extent: Extent,
    naming: Naming,
}

/// The name of a client, if the operator has given it one.
pub type Naming = Arc<dyn Fn(&Peer) -> Option<Arc<str>> + Send + Sync>;

/// What is remembered of a question until its answer is known.
#[derive(Debug)]
struct Line {
    extent: Extent,
    /// The name and type; absent where the extent leaves them out or the message had none.
    question: Option<(Box<[u8]>, u16)>,
    peer: Peer,
    /// The client's name, where clients are logged and it has one.
    known: Option<Arc<str>>,
    arrival: Moment,
}

impl Logged {
    /// Logs what `inner` answers; `naming` knows the clients that have a name.
    #[must_use]
    pub fn new(inner: Arc<dyn Answer>, extent: Extent, naming: Naming) -> Self {
        Self { inner, extent, naming }
    }

    fn line(&self, asked: &Result<Query<'_>, Reject<'_>>, peer: &Peer) -> Line {
        let (message, question, arrival) = match asked {
            Ok(query) => (query.message(), query.question(), query.arrival()),
            Err(reject) => (reject.message, reject.fault.question, reject.arrival),
        };
        let named = question.filter(|_| self.extent != Extent::Anonymous);
        let question = named.map(|question| (self.shown(question.name(message)).into(), question.rtype));
        let known = if self.extent == Extent::Full { (self.naming)(peer) } else { None };
        Line { extent: self.extent, question, peer: peer.clone(), known, arrival }
    }

    /// `qname`, or of the name of a hidden service that it is one: who leaks it to a resolver should not find it in a log as well
    /// (SUD-05).
    fn shown<'a>(&self, qname: &'a [u8]) -> &'a [u8] {
        if self.extent != Extent::Full && name::is_under(qname, ONION) { ONION } else { qname }
    }
}

impl Answer for Logged {
    fn now(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        let line = self.line(&asked, peer);
        match self.inner.now(asked, peer, out) {
            Now::Sent(facts) => {
                line.answered(&facts, self.moment());
                Now::Sent(facts)
            }
            Now::Dropped(why) => {
                line.dropped(why);
                Now::Dropped(why)
            }
            Now::Later(pending) => Now::Later(watch(Arc::clone(&self.inner), line, pending)),
        }
    }

    fn decline(&self, asked: Result<Query<'_>, Reject<'_>>, peer: &Peer, out: &mut Out<'_>) -> Now {
        let line = self.line(&asked, peer);
        let declined = self.inner.decline(asked, peer, out);
        match &declined {
            Now::Sent(facts) => line.answered(facts, self.moment()),
            Now::Dropped(why) => line.dropped(*why),
            Now::Later(_) => {}
        }
        declined
    }

    fn moment(&self) -> Moment {
        self.inner.moment()
    }
}

fn watch(clock: Arc<dyn Answer>, line: Line, pending: Pending) -> Pending {
    Box::pin(async move {
        let verdict = pending.await;
        match &verdict {
            Verdict::Sent(reply) => line.answered(&reply.facts, clock.moment()),
            Verdict::Dropped(why) => line.dropped(*why),
        }
        verdict
    })
}

impl Line {
    fn answered(&self, facts: &Facts, now: Moment) {
        if self.extent == Extent::Errors && matches!(facts.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
            return;
        }
        let (name, rtype) = self.asked();
        tracing::info!(
            target: TARGET,
            transport = self.peer.transport.name(),
            client = self.client(),
            known = self.known.as_deref(),
            name,
            rtype,
            rcode = facts.rcode,
            ede = facts.trail.ede,
            source = facts.source.name(),
            here = here(facts.trail.decision),
            sudden = facts.trail.sudden.name(),
            attempts = facts.trail.attempts.made(),
            last_attempt = facts.trail.attempts.last().map(|attempt| attempt.why.name()),
            millis = u64::try_from(now.since(self.arrival).as_millis()).unwrap_or(u64::MAX),
            "query"
        );
    }

    fn dropped(&self, why: Why) {
        let (name, rtype) = self.asked();
        let why = match why {
            Why::NotAQuery => "not a query",
            Why::Access => "access",
            Why::Limit => "limit",
        };
        tracing::info!(
            target: TARGET,
            transport = self.peer.transport.name(),
            client = self.client(),
            known = self.known.as_deref(),
            name,
            rtype,
            dropped = why,
            "query"
        );
    }

    fn asked(&self) -> (Option<String>, Option<u16>) {
        self.question.as_ref().map(|(name, rtype)| (Shown(name).to_string(), *rtype)).unzip()
    }

    fn client(&self) -> Option<String> {
        (self.extent == Extent::Full).then(|| self.peer.ip().to_string())
    }
}

const fn here(decision: Decision) -> Option<&'static str> {
    match decision {
        Decision::Local(here) => Some(here.name()),
        Decision::Rejected | Decision::Forward => None,
    }
}

/// The target of query events, so that they can be told from the rest of the log.
pub const TARGET: &str = "hushgate::queries";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{DoorId, Transport};
    use crate::wire::{Flags, Header};

    struct Silent;

    impl Answer for Silent {
        fn now(&self, _: Result<Query<'_>, Reject<'_>>, _: &Peer, _: &mut Out<'_>) -> Now {
            Now::Dropped(Why::Limit)
        }

        fn moment(&self) -> Moment {
            Moment(0)
        }
    }

    /// The name that is logged of a question about `text`.
    fn logged(extent: Extent, text: &str) -> Option<String> {
        let address = |text: &str| text.parse().unwrap();
        let peer = Peer::new(address("192.0.2.9:5353"), address("192.0.2.1:53"), DoorId(0), Transport::Udp);
        let mut message = Header { flags: Flags(Flags::RD), questions: 1, ..Header::default() }.to_octets().to_vec();
        message.extend(name::from_text(text).unwrap());
        message.extend([0, 1, 0, 1]);
        let line = Logged::new(Arc::new(Silent), extent, Arc::new(|_| None))
            .line(&Query::parse(&message, &peer, Moment(0)), &peer);
        line.asked().0
    }

    #[test]
    fn sud_05_names_of_hidden_services_are_logged_where_everything_is_and_nowhere_else() {
        for (extent, onion, other) in [
            (Extent::Errors, Some("onion."), Some("www.xonion.")),
            (Extent::Anonymous, None, None),
            (Extent::Full, Some("www.abc.Onion."), Some("www.xonion.")),
        ] {
            assert_eq!(logged(extent, "www.abc.Onion").as_deref(), onion);
            assert_eq!(logged(extent, "www.xonion").as_deref(), other);
        }
    }
}
