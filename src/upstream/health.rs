//! How one server does: its usual speed, what it owes, and whether it is asked at all.

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is.
    #[default]
    Closed,
    /// It has failed too often: only probes go there.
    Open,
    /// It owes many answers and gives none: asked only if there is nobody else.
    Suspect,
}

impl State {
    /// For metrics and people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "up",
            Self::Open => "down",
            Self::Suspect => "suspect",
        }
    }
}

/// The health of one server.
#[derive(Debug, Default)]
pub struct Health {}

impl Health {
    /// Whether it is asked.
    #[must_use]
    pub const fn state(&self) -> State {
        State::Closed
    }

    /// The time within which nineteen of twenty of its answers come, in microseconds; None before it is known.
    #[must_use]
    pub const fn p95_micros(&self) -> Option<u32> {
        None
    }

    /// How its last failed attempt ended, in words; None before one has.
    #[must_use]
    pub const fn last_failure(&self) -> Option<&'static str> {
        None
    }
}
