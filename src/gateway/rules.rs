//! What the guard knows of each door, as one thing: the lists go by door ids, which the configuration does not know.

use crate::guard::{Network, Settings, Trust, clients};
use crate::peer::DoorId;

/// The rules of one door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorRules {
    /// Who may ask.
    allow: Vec<Network>,
    /// Whose word about other addresses is taken.
    trust: Trust,
    /// Can a client show there who it is?
    shows: bool,
}

/// The rules of all doors in `settings`, in the order of its lists.
#[must_use]
pub fn of(settings: &Settings) -> Vec<DoorRules> {
    let trust = settings.trust.iter().cloned().chain(std::iter::repeat(Trust::default()));
    let shows = |id| settings.clients.as_ref().is_some_and(|clients| clients.showing.contains(&DoorId(id)));
    let doors = (0..).zip(settings.allow.iter().cloned()).zip(trust);
    doors.map(|((id, allow), trust)| DoorRules { allow, trust, shows: shows(id) }).collect()
}

/// `settings` with these in place of its own.
#[must_use]
pub fn with(settings: Settings, rules: &[DoorRules]) -> Settings {
    let (allow, trust) = rules.iter().map(|door| (door.allow.clone(), door.trust.clone())).unzip();
    let showing = || (0..).map(DoorId).zip(rules).filter(|(_, door)| door.shows).map(|(id, _)| id).collect();
    let clients = settings.clients.map(|clients| clients::Settings { showing: showing(), ..clients });
    Settings { allow, trust, clients, ..settings }
}
