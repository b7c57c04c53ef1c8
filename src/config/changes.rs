//! The difference of two configurations, key by key, and what of it a running gateway cannot take over.

use std::collections::BTreeMap;

use super::{Config, EffectiveRow};
use crate::admin::{Change, Key, Takes};

/// Keys, or sections with all in them, that hold until the gateway is started anew.
const UNTIL_RESTART: &[&str] = &[
    "state_dir",
    "workers",
    "tls.min_version",
    "admin.",
    "shutdown.",
    "cache.size",
    "cache.domain_share",
    "cache.snapshot",
    "process.",
    "log.level",
    "log.format",
];

/// When a change of `key` takes effect.
#[must_use]
pub fn takes(key: &str) -> Takes {
    let is_held = |held: &str| if held.ends_with('.') { key.starts_with(held) } else { key == held };
    if UNTIL_RESTART.iter().any(|held| is_held(held)) { Takes::Restart } else { Takes::Reload }
}

/// The running configuration as it is told to others.
#[must_use]
pub fn keys(rows: &[EffectiveRow]) -> Vec<Key> {
    let key = |row: &EffectiveRow| Key { key: row.key.clone(), value: row.value.to_toml(), from: row.from.clone() };
    rows.iter().map(key).collect()
}

/// What is different in `new`, in the order of the file.
#[must_use]
pub fn between(old: &[Key], new: &[Key]) -> Vec<Change> {
    let index = |keys: &[Key]| -> BTreeMap<String, String> {
        keys.iter().map(|key| (key.key.clone(), key.value.clone())).collect()
    };
    let (before, after) = (index(old), index(new));
    let change = |key: &str| Change {
        key: key.to_owned(),
        old: before.get(key).cloned(),
        new: after.get(key).cloned(),
        takes: takes(key),
    };
    let gone = old.iter().filter(|key| !after.contains_key(&key.key));
    let changes = new.iter().chain(gone).map(|key| change(&key.key));
    changes.filter(|change| change.old != change.new).collect()
}

/// What is in force once `new` has been taken over: the keys that wait for a restart are as in `old`.
#[must_use]
pub fn in_force(old: &[Key], new: Vec<Key>) -> Vec<Key> {
    let held = old.iter().filter(|key| takes(&key.key) == Takes::Restart).cloned();
    new.into_iter().filter(|key| takes(&key.key) == Takes::Reload).chain(held).collect()
}

/// Gives `new` the values of `running` wherever a restart would be needed.
#[must_use]
pub fn hold_back(running: &Config, mut new: Config) -> Config {
    new.workers = running.workers;
    new.state_dir.clone_from(&running.state_dir);
    new.tls.state_dir.clone_from(&running.tls.state_dir);
    new.tls.min_version = running.tls.min_version;
    new.upstream.state_dir.clone_from(&running.upstream.state_dir);
    new.admin = running.admin.clone();
    new.shutdown = running.shutdown;
    new.cache.size = running.cache.size;
    new.cache.domain_share = running.cache.domain_share;
    new.cache.snapshot = running.cache.snapshot;
    // No key of the file.
    new.cache.spread = running.cache.spread;
    new.log.events = running.log.events;
    new.process = running.process.clone();
    new.handover = running.handover;
    new
}
