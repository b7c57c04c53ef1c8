//! The keys of tickets, tokens and cookies over time: the fleet's file read again while the gateway runs, each epoch begun when its
//! time comes.

use std::sync::Arc;

use super::Control;
use super::secrets::{INTERVAL, Reading};
use crate::config::secrets::read_file;
use crate::identity::{Keys, Secret};
use crate::pipeline::Shared;

/// Looks after the keys for as long as the gateway lives.
pub async fn keep(control: Arc<Control>) {
    let (keys, counters) = (control.identity.keys(), control.own_counters());
    let mut reading = Reading::of("fleet.secret_file");
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Some(file) = control.force.load().fleet_file.clone() {
            let Ok(read) = tokio::task::spawn_blocking(move || read_file(&file)).await else { return };
            let put = |secrets: &[[u8; 32]]| put(keys, secrets, &control);
            reading.take(read, put, &counters);
        }
        match keys.turn(control.times.now()) {
            Ok(false) => continue,
            Ok(true) => tracing::info!("a new epoch of keys has begun"),
            Err(error) => tracing::error!(%error, "no new epoch of keys; those in force stay so"),
        }
        let now = control.force.load();
        lend(keys, &now.shared, now.secrets_file.is_some());
    }
}

fn put(keys: &Keys, secrets: &[[u8; 32]], control: &Control) -> bool {
    let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::new).collect();
    let replaced = keys.replace(&secrets, control.times.now()).is_ok_and(|replaced| replaced);
    if replaced {
        let now = control.force.load();
        lend(keys, &now.shared, now.secrets_file.is_some());
    }
    replaced
}

/// Has cookies made with the keys that a fleet shares, unless they have secrets of their own.
pub fn lend(keys: &Keys, shared: &Shared, have_their_own: bool) {
    if let Some(cookies) = shared.cookies().filter(|_| !have_their_own) {
        cookies.replace(&keys.cookies());
    }
}
