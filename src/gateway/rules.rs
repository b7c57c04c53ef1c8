//! What the guard knows of each door, as one thing: the lists go by door ids, which the configuration does not know.

use crate::guard::{Network, Settings, Trust};

/// The rules of one door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorRules {
    /// Who may ask.
    allow: Vec<Network>,
    /// Whose word about other addresses is taken.
    trust: Trust,
}

/// The rules of all doors in `settings`, in the order of its lists.
#[must_use]
pub fn of(settings: &Settings) -> Vec<DoorRules> {
    let trust = settings.trust.iter().cloned().chain(std::iter::repeat(Trust::default()));
    settings.allow.iter().cloned().zip(trust).map(|(allow, trust)| DoorRules { allow, trust }).collect()
}

/// `settings` with these in place of its own.
#[must_use]
pub fn with(settings: Settings, rules: &[DoorRules]) -> Settings {
    let (allow, trust) = rules.iter().map(|door| (door.allow.clone(), door.trust.clone())).unzip();
    Settings { allow, trust, ..settings }
}
