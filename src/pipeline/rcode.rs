//! THE map from what went wrong to RCODE and extended error (RFC 8914); nowhere else chooses one.
//!
//! Texts are short and fixed: they name a kind of trouble, never an address, a name or a rule (EDE-02, EDE-04).

use super::digest::Flaw;
use super::settings::Settings;
use crate::cache::Failure;
use crate::reply::Meta;
use crate::upstream::ExchangeError;
use crate::upstream::error::Cause;
use crate::wire::FaultKind;
use crate::wire::registry::{ede, rcode};

/// An extended error as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT, 64 octets at most.
    pub text: &'static str,
}

/// The extended errors of one reply, the one that matters most first.
pub type Extras = [Option<Extended>; 2];

/// What a UDP client is told beside the RCODE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing.
    No,
    /// TC and NOERROR: ask again over a stream. Other clients get the RCODE.
    OverStream,
}

/// A reply without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The RCODE, extended bits included.
    pub rcode: u16,
    /// Why.
    pub extras: Extras,
    /// What a UDP client is told instead.
    pub retry: Retry,
}

impl Problem {
    const fn plain(rcode: u16) -> Self {
        Self { rcode, extras: [None, None], retry: Retry::No }
    }

    const fn with(rcode: u16, code: u16, text: &'static str) -> Self {
        Self { rcode, extras: [Some(Extended { code, text }), None], retry: Retry::No }
    }

    const fn over_stream(self) -> Self {
        Self { retry: Retry::OverStream, ..self }
    }

    /// The first INFO-CODE.
    #[must_use]
    pub fn ede(&self) -> Option<u16> {
        self.extras.iter().flatten().map(|extended| extended.code).next()
    }
}

/// Every INFO-CODE that is given by these `settings`, ascending: what RESINFO tells of (RFC 9606 5).
#[must_use]
pub fn extended_errors(settings: &Settings) -> Vec<u16> {
    let made = settings.dns64.as_ref().map(|_| ede::SYNTHESIZED);
    ALWAYS.into_iter().chain(made).collect()
}

/// Those given here or with a stale answer, whatever is configured.
const ALWAYS: [u16; 8] = [
    ede::OTHER,
    ede::STALE,
    ede::CACHED_ERROR,
    ede::PROHIBITED,
    ede::STALE_NXDOMAIN,
    ede::NOT_SUPPORTED,
    ede::NO_REACHABLE_AUTHORITY,
    ede::NETWORK_ERROR,
];

/// A question-less query that asked for a cookie alone (RFC 7873 5.4).
pub const COOKIE_ALONE: Problem = Problem::plain(rcode::NOERROR);
/// A client that must show a valid server cookie.
pub const BAD_COOKIE: Problem = Problem::plain(rcode::BADCOOKIE);
/// A client whose network may not ask here.
pub const NOT_ALLOWED: Problem = Problem::with(rcode::REFUSED, ede::PROHIBITED, "");
/// A client over its rate.
pub const OVER_RATE: Problem = Problem::with(rcode::REFUSED, ede::PROHIBITED, "rate limit");
/// A client over its rate that may only be spoofed: a stream proves that it is not.
pub const PROVE_ADDRESS: Problem = OVER_RATE.over_stream();
/// A zone transfer: neither answered nor forwarded (GEN-24).
pub const TRANSFER: Problem = Problem::with(rcode::REFUSED, ede::NOT_SUPPORTED, "zone transfer");
/// A datagram that asks for all there is: a stream shows that its sender is who will get it (ANY-01).
pub const ANY: Problem = Problem::plain(rcode::NOERROR).over_stream();
/// Too many questions wait for upstreams.
pub const OVERLOADED: Problem = Problem::with(rcode::SERVFAIL, ede::OTHER, "too many questions in flight");
/// Too many questions of this client wait for upstreams. Forged ones do not count with those over a stream.
pub const TOO_MANY: Problem =
    Problem::with(rcode::REFUSED, ede::PROHIBITED, "too many questions in flight").over_stream();
/// Too many questions about one domain wait for upstreams. Other, for nothing has been learned of the name: nobody was asked, so
/// nobody was unreachable (22, 23), and who asks is not to blame (18).
pub const CROWDED: Problem =
    Problem::with(rcode::SERVFAIL, ede::OTHER, "too many questions about this domain in flight");
/// The client's time is over before any upstream answered.
pub const TIMED_OUT: Problem = Problem::with(rcode::SERVFAIL, ede::NO_REACHABLE_AUTHORITY, "upstream timed out");
/// Every server that could be asked is known to be down.
pub const NOBODY_UP: Problem = Problem::with(rcode::SERVFAIL, ede::NO_REACHABLE_AUTHORITY, "upstream is down");
/// The exchange ended without an outcome.
pub const LOST: Problem = Problem::with(rcode::SERVFAIL, ede::OTHER, "internal error");
/// The upstream's answer cannot be read, or is no answer to the question (PRG-09).
pub const MALFORMED: Problem = Problem::with(rcode::SERVFAIL, ede::NETWORK_ERROR, "malformed upstream answer");
/// The upstream's answer is incomplete where it must not be (TCF-05, TCF-06).
pub const INCOMPLETE: Problem = Problem::with(rcode::SERVFAIL, ede::NETWORK_ERROR, "truncated upstream answer");
/// An answer that leaves no room for our OPT in the largest message there is.
pub const TOO_LARGE: Problem = Problem::with(rcode::SERVFAIL, ede::OTHER, "answer too large");

/// A message that is no query to answer as asked.
#[must_use]
pub const fn of_fault(kind: FaultKind) -> Problem {
    match kind {
        FaultKind::Opcode => Problem::with(rcode::NOTIMP, ede::NOT_SUPPORTED, "opcode"),
        FaultKind::Signed => Problem::with(rcode::NOTIMP, ede::NOT_SUPPORTED, "signed message"),
        // Bare: of another version it is not known how it writes options, and the RCODE says all there is (RFC 6891 6.1.3).
        FaultKind::Version => Problem::plain(rcode::BADVERS),
        // Short messages and responses are never answered; FORMERR stands here only to keep the map total.
        FaultKind::Short | FaultKind::Response => Problem::plain(rcode::FORMERR),
        FaultKind::QuestionCount => Problem::with(rcode::FORMERR, ede::OTHER, "not one question"),
        FaultKind::Malformed => Problem::with(rcode::FORMERR, ede::OTHER, "malformed message"),
        FaultKind::Opt => Problem::with(rcode::FORMERR, ede::OTHER, "malformed EDNS"),
        FaultKind::OptionContent => Problem::with(rcode::FORMERR, ede::OTHER, "malformed EDNS option"),
    }
}

/// An exchange that brought no answer.
#[must_use]
pub const fn of_error(error: ExchangeError) -> Problem {
    const fn unreachable(text: &'static str) -> Problem {
        Problem::with(rcode::SERVFAIL, ede::NO_REACHABLE_AUTHORITY, text)
    }
    const fn network(text: &'static str) -> Problem {
        Problem::with(rcode::SERVFAIL, ede::NETWORK_ERROR, text)
    }
    match error.cause {
        Cause::Timeout => TIMED_OUT,
        Cause::Connect => unreachable("no connection to the upstream"),
        Cause::Tls => network("TLS with the upstream failed"),
        Cause::Closed => network("upstream closed the connection"),
        Cause::Malformed => MALFORMED,
        Cause::Mismatched => network("answer to another question"),
        Cause::Truncated => INCOMPLETE.over_stream(),
        Cause::Busy => OVERLOADED,
        Cause::Unknown => unreachable("no upstream address"),
    }
}

/// An upstream's answer that cannot be used.
#[must_use]
pub const fn of_flaw(flaw: Flaw) -> Problem {
    match flaw {
        Flaw::Malformed => MALFORMED,
        Flaw::Truncated => INCOMPLETE,
    }
}

/// A failure that is not tried again yet (EDE-06).
#[must_use]
pub fn of_failure(failure: Failure) -> Problem {
    let original = (failure.ede != ede::OTHER).then_some(Extended { code: failure.ede, text: "" });
    let cached = Extended { code: ede::CACHED_ERROR, text: "" };
    Problem { rcode: failure.rcode, extras: [Some(cached), original], retry: Retry::No }
}

/// A failure that an upstream told of another question, which stands for this one.
#[must_use]
pub fn of_answer(meta: &Meta) -> Problem {
    let reason = meta.ede.map(|code| Extended { code, text: "" });
    Problem { rcode: meta.rcode, extras: [reason, None], retry: Retry::No }
}

/// The RCODE a client sees for an upstream's: what belongs to the hop between us and the upstream, as BADVERS and BADCOOKIE
/// do, is a failure of that hop (EDN-15).
#[must_use]
pub const fn relayed(upstream: u16) -> u16 {
    if upstream > 15 { rcode::SERVFAIL } else { upstream }
}

/// Does an upstream's RCODE mean that the question could not be resolved (RFC 9520 2.1)?
#[must_use]
pub const fn is_failure(relayed: u16) -> bool {
    !matches!(relayed, rcode::NOERROR | rcode::NXDOMAIN)
}

/// Is this end of an exchange remembered as a failure to resolve? Our own bounds and truncation say nothing of the name:
/// the next client may fare better (TTL-06).
#[must_use]
pub const fn is_remembered(cause: Cause) -> bool {
    match cause {
        Cause::Timeout | Cause::Connect | Cause::Tls | Cause::Closed | Cause::Malformed | Cause::Mismatched => true,
        Cause::Truncated | Cause::Busy | Cause::Unknown => false,
    }
}

/// The same of an answer that cannot be used.
#[must_use]
pub const fn is_flaw_remembered(flaw: Flaw) -> bool {
    match flaw {
        Flaw::Malformed => true,
        Flaw::Truncated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::UpstreamId;

    const CAUSES: [Cause; 9] = [
        Cause::Timeout,
        Cause::Connect,
        Cause::Tls,
        Cause::Closed,
        Cause::Malformed,
        Cause::Mismatched,
        Cause::Truncated,
        Cause::Busy,
        Cause::Unknown,
    ];

    fn problem(cause: Cause) -> Problem {
        of_error(ExchangeError { upstream: UpstreamId(0), cause })
    }

    #[test]
    fn ede_07_unreachable_is_22_and_transport_trouble_is_23() {
        let codes = CAUSES.map(|cause| problem(cause).ede().unwrap());
        assert_eq!(codes, [22, 22, 23, 23, 23, 23, 23, 0, 22]);
    }

    #[test]
    fn res_02_every_extended_error_made_here_is_told_of_and_in_order() {
        let own = [NOT_ALLOWED, OVER_RATE, TRANSFER, OVERLOADED, CROWDED, NOBODY_UP, LOST, TOO_LARGE];
        let faults = [FaultKind::Opcode, FaultKind::Signed, FaultKind::Malformed].map(of_fault);
        let recalled = of_failure(Failure { rcode: 2, ede: ede::NETWORK_ERROR, left: 1, left_alone: 1 });
        let made = own.into_iter().chain(faults).chain(CAUSES.map(problem)).chain([recalled]);
        for extended in made.flat_map(|problem| problem.extras).flatten() {
            assert!(ALWAYS.contains(&extended.code), "{extended:?}");
        }
        assert!(ALWAYS.is_sorted());
    }

    #[test]
    fn ede_02_04_texts_are_short_and_fixed() {
        for extended in CAUSES.iter().flat_map(|&cause| problem(cause).extras).flatten() {
            assert!(extended.text.len() <= 64 && !extended.text.is_empty(), "{}", extended.text);
        }
    }

    #[test]
    fn ede_01_every_error_made_here_says_why_but_those_whose_rcode_does() {
        let faults = [
            (FaultKind::Opcode, Some(21)),
            (FaultKind::QuestionCount, Some(0)),
            (FaultKind::Malformed, Some(0)),
            (FaultKind::Opt, Some(0)),
            (FaultKind::OptionContent, Some(0)),
            (FaultKind::Version, None),
            (FaultKind::Signed, Some(21)),
        ];
        for (kind, code) in faults {
            assert_eq!(of_fault(kind).ede(), code, "{kind:?}");
        }
        let refusals =
            [NOT_ALLOWED, OVER_RATE, PROVE_ADDRESS, TRANSFER, OVERLOADED, CROWDED, TIMED_OUT, NOBODY_UP, LOST];
        let all = refusals.into_iter().chain([MALFORMED, INCOMPLETE, TOO_LARGE]).chain(CAUSES.map(problem));
        for problem in all.chain(faults.map(|(kind, _)| of_fault(kind))) {
            assert!(problem.ede().is_some() || problem.rcode == rcode::BADVERS, "{problem:?}");
            assert!(problem.extras.iter().flatten().all(|extended| extended.text.len() <= 64), "EDE-02");
        }
        assert_eq!((BAD_COOKIE.ede(), COOKIE_ALONE.ede()), (None, None), "the one says itself, the other is no error");
    }

    #[test]
    fn ede_06_a_recalled_failure_names_itself_first_and_its_reason_second() {
        let codes =
            |ede| of_failure(Failure { rcode: 2, ede, left: 1, left_alone: 1 }).extras.map(|e| e.map(|e| e.code));
        assert_eq!(codes(22), [Some(13), Some(22)]);
        assert_eq!(codes(0), [Some(13), None]);
    }

    #[test]
    fn ede_15_nothing_made_here_speaks_of_validation() {
        let dnssec = [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27];
        assert!(CAUSES.iter().filter_map(|&cause| problem(cause).ede()).all(|code| !dnssec.contains(&code)));
    }

    #[test]
    fn edn_15_extended_rcodes_of_the_upstream_hop_become_servfail() {
        assert_eq!([0, 2, 3, 5, 15, 16, 23, 4095].map(relayed), [0, 2, 3, 5, 15, 2, 2, 2]);
    }

    #[test]
    fn ttl_06_truncation_and_our_own_bounds_are_not_remembered() {
        let forgotten: Vec<_> = CAUSES.into_iter().filter(|&cause| !is_remembered(cause)).collect();
        assert_eq!(forgotten, [Cause::Truncated, Cause::Busy, Cause::Unknown]);
    }
}
