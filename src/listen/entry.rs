//! Who is let in at a front door, and what is made of those who misbehave inside: asked of the guard, and counted.

use super::Context;
use crate::guard::{Beginning, Fault, Permit, Refusal, Source};
use crate::peer::Peer;
use crate::telemetry::Limited;
use crate::telemetry::proxies::Introduction;

impl Context {
    /// Lets `peer`, whose address is proven, begin a conversation.
    ///
    /// # Errors
    /// The [`Refusal`], for the caller to count by [`Context::refused`].
    pub fn admit(&self, peer: &Peer, beginning: Beginning) -> Result<Permit, Refusal> {
        if self.terms().guard.may_connect(peer.door, peer.ip()) && self.begin(peer, beginning, Source::Proven).is_err()
        {
            return Err(Refusal::TooOften);
        }
        self.terms().guard.admit(peer.door, peer.ip())
    }

    /// The same for who has begun already, and at another door maybe; `None` if it may not, which is counted.
    #[must_use]
    pub fn permit(&self, peer: &Peer) -> Option<Permit> {
        let admitted = self.terms().guard.admit(peer.door, peer.ip());
        admitted.inspect_err(|&refusal| self.refused(peer, refusal)).ok()
    }

    /// Counts that `peer` was turned away.
    pub fn refused(&self, peer: &Peer, refusal: Refusal) {
        self.counters.connections_refused.add_one();
        match refusal {
            // Counted by the limit that it has reached.
            Refusal::Access | Refusal::TooOften => {}
            Refusal::Untrusted => self.counters.introduced(Introduction::Untrusted),
            Refusal::Full | Refusal::ClientFull => self.counters.limit(Limited::Open, peer.transport),
        }
    }

    /// May `peer` begin a conversation, by the rates?
    ///
    /// # Errors
    /// The limit that it has reached, which is counted.
    pub fn begin(&self, peer: &Peer, beginning: Beginning, source: Source) -> Result<(), Limited> {
        let terms = self.terms();
        let begun = terms.guard.may_begin(peer, beginning, source, terms.answer.moment());
        begun.inspect_err(|&limited| self.counters.limit(limited, peer.transport))
    }

    /// Counts that `peer` took a question back: may its connection go on?
    #[must_use]
    pub fn bears_reset_by(&self, peer: &Peer) -> bool {
        self.fault(peer, Fault::Reset)
    }

    /// Counts that `peer` broke its protocol, for which its connection ends.
    pub fn broken_by(&self, peer: &Peer) {
        self.counters.protocol_errors.add_one();
        self.fault(peer, Fault::Error);
    }

    /// Counts an answer that is not kept because its client leaves too much unread.
    pub fn dropped_for(&self, peer: &Peer) {
        self.counters.overflow.add_one();
        self.counters.limit(Limited::Octets, peer.transport);
    }

    fn fault(&self, peer: &Peer, fault: Fault) -> bool {
        let terms = self.terms();
        let borne = terms.guard.fault(peer, fault, terms.answer.moment());
        borne.inspect_err(|&limited| self.counters.limit(limited, peer.transport)).is_ok()
    }
}
