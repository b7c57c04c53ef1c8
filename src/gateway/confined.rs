//! What a bound gateway goes on to need, told to [`confine`] before its threads start.

use super::Bound;
use crate::admin::Place;
use crate::config::Config;
use crate::confine::{self, ConfineError, Places, Programs};
use crate::identity::acme::Method;
use crate::identity::state_dir::StateDir;

impl Bound {
    /// Gives up what serving does not need, for the whole process and for good: for a program whose only work this gateway is. Says in the
    /// log what holds from now on.
    ///
    /// # Errors
    /// `process.user` cannot be had, or `process.sandbox = "require"` and a part of it cannot.
    pub fn confine(&self) -> Result<(), ConfineError> {
        let sockets = self.admin.addresses().into_iter().filter_map(|place| match place {
            Place::Unix(path) => Some(path),
            Place::Address(_) => None,
        });
        // What is missing once the fence is up cannot be made behind it. Who needs it says so, if it cannot be had.
        let _ = StateDir::open(&self.config.state_dir);
        let places = Places { sockets: sockets.collect(), ..places(&self.config) };
        let standing = confine::confine(&self.config.process, &places)?;
        if !standing.told.is_empty() {
            tracing::info!("confined: {}", standing.told.join(", "));
        }
        if !standing.absent.is_empty() {
            tracing::warn!("not confined by {}", standing.absent.join("; "));
        }
        Ok(())
    }
}

fn places(config: &Config) -> Places {
    let runs_hook = config.acme.as_ref().is_some_and(|acme| matches!(acme.method, Method::Dns(_)));
    Places {
        named: config.named.clone(),
        state_dir: config.state_dir.clone(),
        sockets: Vec::new(),
        programs: if runs_hook { Programs::Hook } else { Programs::None },
    }
}
