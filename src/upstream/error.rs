//! Why an exchange brought no answer: names the upstream, says whether to ask again and where.

use crate::trail::{AttemptEnd, UpstreamId};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// The certificate or the handshake failed: never answered over anything weaker.
    Tls,
    /// The connection closed with the question unanswered.
    Closed,
    /// Bytes that are no DNS message, or an HTTP status or media type that carries none.
    Malformed,
    /// A message that answers another question.
    Mismatched,
    /// Still truncated over a stream, or TCP could not be reached after TC.
    Truncated,
    /// Our own bound on questions in flight was reached.
    Busy,
    /// No server is configured, or its address is not known.
    Unknown,
}

impl Cause {
    /// How much it tells a client, where several servers failed each for its own reason: a server that was there and failed us
    /// (RFC 8914 4.24) tells more than one that could not be reached (4.23), and our own bounds tell least of all. A truncated
    /// answer comes first: it is there to be had over a stream.
    #[must_use]
    pub const fn weight(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Busy => 1,
            Self::Timeout => 2,
            Self::Connect => 3,
            Self::Closed => 4,
            Self::Malformed | Self::Mismatched => 5,
            Self::Tls => 6,
            Self::Truncated => 7,
        }
    }

    /// What happened, for logs and people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Timeout => "no answer in time",
            Self::Connect => "no connection",
            Self::Tls => "the TLS handshake failed",
            Self::Closed => "the connection was closed without an answer",
            Self::Malformed => "the answer was no DNS message, or an HTTP error",
            Self::Mismatched => "the answer belonged to another question",
            Self::Truncated => "the answer was truncated and not to be had whole",
            Self::Busy => "too many questions at once",
            Self::Unknown => "its address is not known",
        }
    }
}

/// Where the question may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// At another server.
    Elsewhere,
    /// At the same one too: the failure was the connection's.
    Same,
    /// Nowhere.
    Never,
}

/// An exchange without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upstream {}: {cause:?}", upstream.0)]
pub struct ExchangeError {
    /// At whom.
    pub upstream: UpstreamId,
    /// What.
    pub cause: Cause,
}

impl ExchangeError {
    /// May it be asked again, and where?
    #[must_use]
    pub const fn again(&self) -> Again {
        match self.cause {
            Cause::Closed => Again::Same,
            Cause::Timeout
            | Cause::Connect
            | Cause::Tls
            | Cause::Malformed
            | Cause::Mismatched
            | Cause::Truncated
            | Cause::Busy => Again::Elsewhere,
            Cause::Unknown => Again::Never,
        }
    }

    /// The same, as the trail tells it.
    #[must_use]
    pub const fn end(&self) -> AttemptEnd {
        match self.cause {
            Cause::Timeout => AttemptEnd::Timeout,
            Cause::Connect => AttemptEnd::Connect,
            Cause::Unknown => AttemptEnd::Unknown,
            Cause::Busy => AttemptEnd::Busy,
            Cause::Tls => AttemptEnd::Tls,
            Cause::Closed => AttemptEnd::Closed,
            Cause::Malformed | Cause::Mismatched => AttemptEnd::Malformed,
            Cause::Truncated => AttemptEnd::Truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_that_has_its_own_remedy_is_told_apart() {
        let end = |cause| ExchangeError { upstream: UpstreamId::default(), cause }.end();
        let ends = [Cause::Connect, Cause::Unknown, Cause::Busy, Cause::Tls].map(end);
        assert_eq!(ends, [AttemptEnd::Connect, AttemptEnd::Unknown, AttemptEnd::Busy, AttemptEnd::Tls]);
    }
}
