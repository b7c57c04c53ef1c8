//! The guard itself: access by door, connection permits, question rates.

use std::net::IpAddr;
use std::sync::Arc;

use super::Settings;
use crate::clock::Moment;
use crate::peer::DoorId;

/// Access and limits, shared by all workers.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
}

/// The right to hold one connection; given back on drop.
#[derive(Debug)]
pub struct Permit {
    _guard: Arc<Guard>,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its network may not ask here.
    Access,
    /// All permits are out.
    Full,
    /// Its network holds as many as it may.
    ClientFull,
}

/// What the limiter says of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// The client is exempt, or limits are off.
    Exempt,
    /// Within its rate.
    Within,
    /// Over its rate, but not over twice its rate.
    Over,
    /// Over twice its rate.
    FarOver,
}

impl Guard {
    /// A guard by these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings })
    }

    /// May `client` ask at `door`?
    pub fn may_ask(&self, door: DoorId, client: IpAddr) -> bool {
        self.settings.allow.get(usize::from(door.0)).is_some_and(|list| list.iter().any(|net| net.contains(client)))
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn admit(self: &Arc<Self>, door: DoorId, client: IpAddr) -> Result<Permit, Refusal> {
        if self.may_ask(door, client) { Ok(Permit { _guard: Arc::clone(self) }) } else { Err(Refusal::Access) }
    }

    /// Takes one token of `client`'s network.
    pub fn rate(&self, _client: IpAddr, _now: Moment) -> Rate {
        Rate::Exempt
    }

    /// How refused clients hear of it over UDP.
    pub fn refuse(&self) -> super::Refuse {
        self.settings.refuse
    }
}
