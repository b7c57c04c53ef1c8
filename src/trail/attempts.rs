//! The part of the road that leads through upstream servers: who was asked, why, and how that ended.

use super::UpstreamId;

/// How one attempt at one upstream ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With an answer.
    #[default]
    Answered,
    /// With TC over UDP, and so with another attempt over TCP.
    Truncated,
    /// Out of time.
    Timeout,
    /// No connection.
    Connect,
    /// Nobody could say where it is.
    Unknown,
    /// It had too many questions to take this one.
    Busy,
    /// No trust, or no common TLS ground.
    Tls,
    /// Closed under us.
    Closed,
    /// With bytes that are no answer to the question.
    Malformed,
    /// With an RCODE that says: ask someone else.
    Failed,
    /// Another server answered first, and this one was let go: no failure of its own.
    Overtaken,
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Why {
    /// The question had to go somewhere; with `race`, two places.
    #[default]
    First,
    /// Another attempt had failed.
    Retry,
    /// Another server took longer than it usually does.
    Hedge,
    /// Another server owed many answers and had fallen silent.
    Rescue,
    /// No server of the pool answered, so a fallback server was asked.
    Fallback,
    /// A server had denied what was there a moment ago, so another was asked whether that is so.
    Doubt,
    /// What was asked for does not exist, but can be made of something else (RFC 6147).
    Dns64,
}

impl Why {
    /// For logs and people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Rescue => "rescue",
            Self::Fallback => "fallback",
            Self::Doubt => "doubt",
            Self::Dns64 => "dns64",
        }
    }
}

/// What a server was told of the client's network (RFC 7871).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing: no such option was sent.
    #[default]
    Nothing,
    /// That it is to tell others nothing either (7.1.2).
    OptOut,
    /// So many bits of its address.
    Bits(u8),
    /// A network that is the same for all clients.
    Fixed,
}

/// One attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// At whom.
    pub upstream: UpstreamId,
    /// Why.
    pub why: Why,
    /// What it was told of the client's network.
    pub told: Told,
    /// How it ended.
    pub end: AttemptEnd,
    /// After how many microseconds.
    pub micros: u32,
}

/// The attempts of one question: the first three and the last in full, all of them counted. Only the last can have brought the
/// answer, unless it was made in doubt of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    kept: [Attempt; 4],
    made: u8,
    overtaken: u8,
}

impl Attempts {
    /// Adds one.
    pub fn push(&mut self, attempt: Attempt) {
        let last = self.kept.len() - 1;
        if let Some(place) = self.kept.get_mut(usize::from(self.made).min(last)) {
            *place = attempt;
        }
        self.made = self.made.saturating_add(1);
        self.overtaken = self.overtaken.saturating_add((attempt.end == AttemptEnd::Overtaken).into());
    }

    /// Adds what another record tells of, as made for the reason `why`.
    pub fn append(&mut self, others: &Self, why: Why) {
        self.take_in(others, |attempt| Attempt { why, ..attempt });
    }

    /// Adds what another record tells of, as it tells it.
    pub fn follow(&mut self, others: &Self) {
        self.take_in(others, |attempt| attempt);
    }

    fn take_in(&mut self, others: &Self, tell: impl Fn(Attempt) -> Attempt) {
        let (made, overtaken) =
            (self.made.saturating_add(others.made), self.overtaken.saturating_add(others.overtaken));
        others.kept().iter().for_each(|attempt| self.push(tell(*attempt)));
        // Those that are not told of in full were made all the same.
        (self.made, self.overtaken) = (made, overtaken);
    }

    /// The first three and the last, in order.
    #[must_use]
    pub fn kept(&self) -> &[Attempt] {
        self.kept.get(..usize::from(self.made)).unwrap_or(&self.kept)
    }

    /// How many were made.
    #[must_use]
    pub const fn made(&self) -> u8 {
        self.made
    }

    /// How many of them were let go because another server answered first.
    #[must_use]
    pub const fn overtaken(&self) -> u8 {
        self.overtaken
    }

    /// The last: the only one that can have brought the answer.
    #[must_use]
    pub fn last(&self) -> Option<&Attempt> {
        self.kept().last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_taken_in_are_all_counted_though_four_are_kept() {
        let attempt = |end, micros| Attempt { end, micros, ..Attempt::default() };
        let mut others = Attempts::default();
        (1..=6).for_each(|micros| others.push(attempt(AttemptEnd::Overtaken, micros)));
        others.push(attempt(AttemptEnd::Answered, 7));
        let mut all = Attempts::default();
        all.push(attempt(AttemptEnd::Timeout, 0));
        all.follow(&others);
        assert_eq!((all.made(), all.overtaken()), (8, 6));
        assert_eq!([0, 1, 2, 7], *all.kept().iter().map(|attempt| attempt.micros).collect::<Vec<_>>());
        let mut retried = Attempts::default();
        retried.append(&others, Why::Retry);
        assert_eq!((retried.made(), retried.overtaken(), retried.kept().len()), (7, 6, 4));
        assert!(retried.kept().iter().all(|attempt| attempt.why == Why::Retry));
    }
}
