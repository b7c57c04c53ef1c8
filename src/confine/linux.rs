//! The steps on Linux, in the order in which each still has the rights that it needs.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{AccessFlags, access, geteuid};

use super::account::Account;
use super::{ConfineError, Places, Sandbox, Settings, Standing, calls, files, keep};
use crate::telemetry::confinement::Part;

pub use files::has_landlock;

/// Why the user that the settings name cannot be had on this machine, whoever asks; `None` where nothing is amiss.
#[must_use]
pub fn missing_account(settings: &Settings) -> Option<ConfineError> {
    Account::find(settings).err()
}

/// Becomes the user, then gives up what serving has no use for. Files that the user will not be able to read again are named in the log.
///
/// # Errors
/// The user cannot be had, or a part of a sandbox that is required. The process may be confined in part then, and is to end.
pub fn confine(settings: &Settings, places: &Places) -> Result<Standing, ConfineError> {
    let account = Account::find(settings)?;
    if account.is_none() && settings.sandbox == Sandbox::Off {
        return Ok(Standing::default());
    }
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(ConfineError::Threads);
    }
    let mut standing = Standing::default();
    if let Some(account) = &account {
        account.adopt(places)?;
        account.become_it()?;
        account.try_places(places)?;
    }
    drop_capabilities(account.as_ref(), &mut standing)?;
    // Part of dropping privileges as much as of the sandbox: no set-user-id program gives them back.
    match prctl::set_no_new_privs() {
        Ok(()) => standing.has(Part::NoNewPrivileges),
        Err(error) => standing.lacks(Part::NoNewPrivileges, error),
    }
    if settings.sandbox != Sandbox::Off {
        files::restrict(places, &mut standing);
        calls::restrict(places.programs, &mut standing);
    }
    if settings.sandbox == Sandbox::Require && !standing.absent.is_empty() {
        return Err(ConfineError::Wanting(standing.absent));
    }
    keep(&standing);
    Ok(standing)
}

/// An ordinary user has no use for capabilities once the doors are open; root's files may belong to others, so that root keeps its own.
fn drop_capabilities(account: Option<&Account>, standing: &mut Standing) -> Result<(), ConfineError> {
    if geteuid().is_root() {
        standing.told.push("user root: process.user names nobody else".to_owned());
        return Ok(());
    }
    // The ambient set first: it cannot hold what the permitted set does not.
    let sets = [caps::CapSet::Ambient, caps::CapSet::Inheritable, caps::CapSet::Effective, caps::CapSet::Permitted];
    let dropped = sets.into_iter().try_for_each(|set| caps::clear(None, set));
    match (dropped, account) {
        (Ok(()), account) => {
            let name = account.map_or_else(|| geteuid().to_string(), |account| account.name.clone());
            standing.told.push(format!("user {name}, no capabilities"));
            standing.has(Part::User);
        }
        (Err(error), None) => standing.lacks(Part::User, error),
        (Err(error), Some(account)) => {
            return Err(account.refused("its capabilities cannot be dropped", std::io::Error::other(error)));
        }
    }
    Ok(())
}

impl Account {
    /// Tries, as the user, what will be needed later: a start that fails is better than a snapshot or a renewal that does.
    fn try_places(&self, places: &Places) -> Result<(), ConfineError> {
        let usable = access(&places.state_dir, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK);
        usable.map_err(|error| ConfineError::StateDir {
            user: self.name.clone(),
            folder: places.state_dir.clone(),
            source: error.into(),
        })?;
        for file in &places.named {
            if access(file, AccessFlags::R_OK) == Err(Errno::EACCES) {
                let file = file.display();
                tracing::warn!(%file, user = self.name, "this user may not read the file: changes of it will not be taken over");
            }
        }
        Ok(())
    }
}
