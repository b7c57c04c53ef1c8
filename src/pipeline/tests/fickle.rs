//! A gateway whose upstream changes its ways, for tests of what stands in meanwhile.

use std::sync::{Arc, Mutex};

use super::rig::{Gateway, Plan, Play};
use crate::upstream::Ask;

/// What the upstream does with a question for now.
pub type Script = fn(&Ask) -> Play;

pub struct Fickle {
    pub gateway: Gateway,
    script: Arc<Mutex<Script>>,
}

impl Fickle {
    pub fn with(plan: Plan, script: Script) -> Self {
        let script = Arc::new(Mutex::new(script));
        let now = Arc::clone(&script);
        Self { gateway: Gateway::with(plan, move |ask| (*now.lock().unwrap())(ask)), script }
    }

    /// From here on it does as `script` says.
    pub fn now(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }
}
