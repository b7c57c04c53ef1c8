//! What the process gives up between binding its doors and serving them: its user's rights, files, system calls.
//!
//! Bytes from strangers are parsed by memory-safe code, but not all code below it is ours. Whoever gets hold of the process finds an
//! ordinary user without capabilities (`process.user`), who sees the files that the configuration named (landlock) and cannot start
//! programs, trace, mount or load anything (seccomp). Threads inherit all of it, so it happens before the first is started. Every part
//! but the user is what the kernel has to offer: it is said in the log which are in force, and `sandbox = "require"` wants them all.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::telemetry::confinement::{Part, Parts};

#[cfg(target_os = "linux")]
mod account;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
#[path = "portable.rs"]
mod linux;

pub use linux::{confine, has_landlock, missing_account};

/// `[process]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who to be once the doors are open: a name or a number. Default: who started it.
    pub user: Option<String>,
    /// Its group. Default: the user's own.
    pub group: Option<String>,
    /// How much of the rest is wanted. Default [`Sandbox::Auto`].
    pub sandbox: Sandbox,
}

/// How much of the sandbox is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// What the kernel has.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// All of it, or no start.
    Require,
}

/// What the process goes on to need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files and directories that the configuration names; a file's directory counts, so that it may be replaced.
    pub named: Vec<PathBuf>,
    /// Where state is kept: given to the user, read and written.
    pub state_dir: PathBuf,
    /// Unix sockets that are bound: given to the user, removed at the end.
    pub sockets: Vec<PathBuf>,
    /// Whether programs are started.
    pub programs: Programs,
}

/// Does the process start programs?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Programs {
    /// Never.
    #[default]
    None,
    /// A hook of the operator's. What it needs nobody knows: it may read and run everything that its user may.
    Hook,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The parts in force.
    pub parts: Parts,
    /// For people: who it is, what it may touch.
    pub told: Vec<String>,
    /// The parts that are wanted and cannot be had, and why.
    pub absent: Vec<String>,
}

/// Why the process cannot be confined as it is told to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Nobody has that name or number.
    #[error("process.user = \"{0}\": there is no such user; make it (useradd --system {0}) or name another")]
    NoUser(String),
    /// No group has that name or number.
    #[error("process.group = \"{0}\": there is no such group")]
    NoGroup(String),
    /// The user's number is in no table, and so is its group.
    #[error("process.user = \"{0}\": nobody has that number here, so process.group must say its group")]
    GroupMissing(String),
    /// The rights would stay.
    #[error("process.user = \"{0}\" is root: name an ordinary user, or nobody")]
    IsRoot(String),
    /// Only root can become somebody else.
    #[error(
        "process.user = \"{user}\": only root may become another user, and this is user {uid}; start it as root or as that user"
    )]
    NotRoot {
        /// Who it should be.
        user: String,
        /// Who it is.
        uid: u32,
    },
    /// The system did not allow it.
    #[error("process.user = \"{user}\": {step}: {source}")]
    Refused {
        /// Who it should be.
        user: String,
        /// What failed.
        step: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The user has a state directory that it cannot use.
    #[error(
        "process.user = \"{user}\" cannot write to {}: {source}; choose a state_dir whose parents it may enter, such as /var/lib/hushgate", folder.display()
    )]
    StateDir {
        /// Who.
        user: String,
        /// Where.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Threads that run already would stay as they are.
    #[error("this process has threads already, and they would not be confined")]
    Threads,
    /// `sandbox = "require"`, and the kernel does not have it.
    #[error("process.sandbox = \"require\", and this cannot be had: {}", .0.join("; "))]
    Wanting(Vec<String>),
}

impl Settings {
    /// What `hushgate serve` would do on this machine, for people; `None` where nothing is wanted of it.
    #[must_use]
    pub fn plan(&self) -> Option<String> {
        let user = self.user.as_ref().map(|user| format!("as user {user} without capabilities"));
        let sandbox = match self.sandbox {
            Sandbox::Off => None,
            Sandbox::Auto | Sandbox::Require if has_landlock() => {
                Some("with landlock, seccomp and no new privileges".to_owned())
            }
            Sandbox::Auto | Sandbox::Require => {
                Some("with seccomp and no new privileges; this kernel has no landlock".to_owned())
            }
        };
        let parts: Vec<String> = user.into_iter().chain(sandbox).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl Standing {
    fn has(&mut self, part: Part) {
        for (known, is_in_force) in Part::ALL.iter().zip(&mut self.parts) {
            *is_in_force |= *known == part;
        }
    }

    fn lacks(&mut self, part: Part, why: impl fmt::Display) {
        self.absent.push(format!("{}: {why}", part.name()));
    }
}

/// The directories that must stay open so that `path` can be read again, also once it has been replaced: its own, and that of what a
/// symbolic link leads to. Nothing for what does not exist or is no file.
fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(found) = path.canonicalize() else { return Vec::new() };
    if found.is_dir() {
        return vec![found];
    }
    if !found.is_file() {
        return Vec::new();
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    // A file directly below the root opens itself alone, not the world.
    let above = |file: &Path| file.parent().filter(|parent| parent.parent().is_some()).unwrap_or(file).to_owned();
    let mut folders = vec![above(&absolute), above(&found)];
    folders.dedup();
    folders
}

/// A process is confined once; what holds it is a fact of the process, not of a gateway in it.
static STANDING: OnceLock<Parts> = OnceLock::new();

/// The parts in force in this process.
#[must_use]
pub fn in_force() -> Parts {
    STANDING.get().copied().unwrap_or_default()
}

/// Does landlock hold this process to the files that it was told of?
#[must_use]
pub fn is_fenced() -> bool {
    Part::ALL.into_iter().zip(in_force()).any(|held| held == (Part::Landlock, true))
}

fn keep(standing: &Standing) {
    // Were it confined a second time, the first would still hold.
    let _ = STANDING.set(standing.parts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_and_the_target_of_a_link_stay_readable() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for folder in ["live", "archive"] {
            std::fs::create_dir(home.join(folder)).unwrap();
        }
        std::fs::write(home.join("archive/key1.pem"), "").unwrap();
        std::os::unix::fs::symlink("../archive/key1.pem", home.join("live/key.pem")).unwrap();
        assert_eq!(folders(&home.join("live/key.pem")), [home.join("live"), home.join("archive")]);
        assert_eq!(folders(&home.join("archive/key1.pem")), [home.join("archive")]);
        assert_eq!(folders(&home.join("live")), [home.join("live")]);
        assert!(folders(&home.join("missing")).is_empty());
    }

    #[test]
    fn the_plan_names_what_is_wanted() {
        let settings = Settings { user: Some("hushgate".into()), ..Settings::default() };
        let plan = settings.plan().unwrap();
        assert!(plan.starts_with("as user hushgate without capabilities, ") && plan.contains("seccomp"), "{plan}");
        assert_eq!(Settings { sandbox: Sandbox::Off, ..Settings::default() }.plan(), None);
    }
}
