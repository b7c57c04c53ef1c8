//! What a change of the configuration comes to, key by key: what `/api/reload` answers and `hushgate diff` prints.

use serde::{Deserialize, Serialize};

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Takes {
    /// With the reload.
    Reload,
    /// Not before the gateway is started anew: until then the old value holds.
    Restart,
}

/// One key whose value is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Dotted.
    pub key: String,
    /// What holds now, as TOML; None: nothing is said.
    pub old: Option<String>,
    /// What the file says.
    pub new: Option<String>,
    /// When it takes effect.
    pub takes: Takes,
}

/// One key of the running configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Dotted.
    pub key: String,
    /// What holds, as TOML.
    pub value: String,
    /// Who said it.
    pub from: String,
}

/// What a reload came to, or would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Is it in force?
    pub applied: bool,
    /// Was it only tried?
    pub dry_run: bool,
    /// The number of configurations there have been, the one in force now among them.
    pub generation: u64,
    /// What is different.
    pub changes: Vec<Change>,
    /// Why it cannot be put in force; all is as it was then.
    pub problems: Vec<String>,
}

impl Reloaded {
    /// Could it be, or is it, in force?
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}
