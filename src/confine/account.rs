//! The user to become: found, given what it will need, and become for good.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown, lchown};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Group, Uid, User, geteuid, getresgid, getresuid, initgroups, setgroups, setresgid, setresuid};

use super::{ConfineError, Places, Settings};

/// Directories below the state directory; what lies deeper is none of ours.
const DEPTH: u8 = 4;

/// An ordinary user.
#[derive(Clone, Debug)]
pub struct Account {
    /// As the configuration calls it.
    pub name: String,
    uid: Uid,
    gid: Gid,
    /// As the table of users calls it, if it does: what its other groups are looked up by.
    entry: Option<CString>,
}

impl Account {
    /// The user that the settings name; `None` where they name none.
    ///
    /// # Errors
    /// No such user or group; the user is root.
    pub fn find(settings: &Settings) -> Result<Option<Self>, ConfineError> {
        let Some(name) = settings.user.clone() else { return Ok(None) };
        let number = name.parse().ok().map(Uid::from_raw);
        let found = match number {
            Some(uid) => User::from_uid(uid),
            None => User::from_name(&name),
        };
        let found = found.ok().flatten();
        let Some(uid) = number.or(found.as_ref().map(|user| user.uid)) else {
            return Err(ConfineError::NoUser(name));
        };
        if uid.is_root() {
            return Err(ConfineError::IsRoot(name));
        }
        let gid = match &settings.group {
            Some(group) => group_id(group)?,
            None => found.as_ref().ok_or_else(|| ConfineError::GroupMissing(name.clone()))?.gid,
        };
        let entry = found.and_then(|user| CString::new(user.name).ok());
        Ok(Some(Self { name, uid, gid, entry }))
    }

    /// Gives the user what was made here as root: what is in the state directory, and the sockets.
    ///
    /// # Errors
    /// The state directory cannot be given away.
    pub fn adopt(&self, places: &Places) -> Result<(), ConfineError> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let flags = FLAGS | OFlag::O_DIRECTORY;
        let opened = openat(AT_FDCWD, &places.state_dir, flags, Mode::empty()).map_err(io::Error::from);
        let given = opened.and_then(|folder| self.give(&File::from(folder), DEPTH));
        given.map_err(|source| self.refused("its state directory cannot be given to it", source))?;
        for socket in &places.sockets {
            self.give_socket(socket)
                .map_err(|source| self.refused("the admin socket cannot be given to it", source))?;
        }
        Ok(())
    }

    fn give_socket(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Whoever was this user before may have put links here: only what root owns and nothing else links to is given, and the walk holds
    /// on to the directories themselves, not to their names.
    fn give(&self, file: &File, depth: u8) -> io::Result<()> {
        let data = file.metadata()?;
        let is_alone = data.is_dir() || (data.is_file() && data.nlink() == 1);
        if data.uid() == 0 && is_alone {
            fchown(file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
        }
        if !data.is_dir() || depth == 0 {
            return Ok(());
        }
        let names = Dir::from_fd(file.try_clone()?.into())?.into_iter().collect::<Result<Vec<_>, _>>()?;
        for name in names.iter().map(nix::dir::Entry::file_name) {
            if name == c"." || name == c".." {
                continue;
            }
            // A link or a socket cannot be opened like this, and needs no new owner.
            if let Ok(entry) = openat(file, name, FLAGS, Mode::empty()) {
                self.give(&File::from(entry), depth - 1)?;
            }
        }
        Ok(())
    }

    /// Becomes the user, with its groups and no others, for good.
    ///
    /// # Errors
    /// Only root may, and even root may be forbidden to.
    pub fn become_it(&self) -> Result<(), ConfineError> {
        let uid = geteuid();
        if uid == self.uid {
            return Ok(());
        }
        if !uid.is_root() {
            return Err(ConfineError::NotRoot { user: self.name.clone(), uid: uid.as_raw() });
        }
        let step = |step| move |error: nix::Error| self.refused(step, error.into());
        match &self.entry {
            Some(entry) => initgroups(entry, self.gid),
            None => setgroups(&[self.gid]),
        }
        .map_err(step("its groups cannot be set"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(step("its group cannot be taken"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(step("it cannot become that user"))?;
        let users = getresuid().map(|ids| [ids.real, ids.effective, ids.saved]);
        let groups = getresgid().map(|ids| [ids.real, ids.effective, ids.saved]);
        if users == Ok([self.uid; 3]) && groups == Ok([self.gid; 3]) {
            return Ok(());
        }
        Err(self.refused("the system says it is still another", io::ErrorKind::PermissionDenied.into()))
    }

    /// That `step` failed.
    pub fn refused(&self, step: &'static str, source: io::Error) -> ConfineError {
        ConfineError::Refused { user: self.name.clone(), step, source }
    }
}

/// Neither a link nor a pipe can lead astray or hold up who opens.
const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

fn group_id(name: &str) -> Result<Gid, ConfineError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).ok().flatten();
    found.map(|group| group.gid).ok_or_else(|| ConfineError::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn find(user: &str, group: Option<&str>) -> Result<Account, ConfineError> {
        let settings = Settings { user: Some(user.to_owned()), group: group.map(str::to_owned), ..Settings::default() };
        Account::find(&settings).map(Option::unwrap)
    }

    #[test]
    fn users_are_found_by_name_and_by_number_and_root_is_refused() {
        let nobody = find("nobody", None).unwrap();
        assert_eq!(find(&nobody.uid.to_string(), None).unwrap().gid, nobody.gid);
        assert_eq!(find("nobody", Some("4321")).unwrap().gid, Gid::from_raw(4321));
        assert_eq!(find("3999999999", Some("root")).unwrap().gid, Gid::from_raw(0));
        assert!(matches!(find("3999999999", None), Err(ConfineError::GroupMissing(_))));
        assert!(matches!(find("no such user", None), Err(ConfineError::NoUser(_))));
        assert!(matches!(find("nobody", Some("no such group")), Err(ConfineError::NoGroup(_))));
        for root in ["root", "0"] {
            assert!(matches!(find(root, None), Err(ConfineError::IsRoot(_))), "{root}");
        }
    }

    #[test]
    fn what_root_made_is_given_and_what_links_lead_to_is_not() {
        let home = tempfile::tempdir().unwrap();
        let nobody = find("nobody", None).unwrap();
        let [state, outside] = ["state", "outside"].map(|name| home.path().join(name));
        for folder in [&state, &outside, &state.join("acme")] {
            std::fs::create_dir(folder).unwrap();
        }
        for file in [state.join("acme/account"), outside.join("shadow"), outside.join("passwd")] {
            std::fs::write(file, "").unwrap();
        }
        std::fs::hard_link(outside.join("shadow"), state.join("shadow")).unwrap();
        symlink(outside.join("passwd"), state.join("passwd")).unwrap();
        symlink(&outside, state.join("folder")).unwrap();
        let before = std::fs::metadata(outside.join("passwd")).unwrap().uid();
        let places = Places { state_dir: state.clone(), ..Places::default() };
        nobody.adopt(&places).unwrap();
        let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
        let given = if before == 0 { nobody.uid.as_raw() } else { before };
        for path in [&state, &state.join("acme"), &state.join("acme/account")] {
            assert_eq!(owner(path), given, "{}", path.display());
        }
        for path in [outside.clone(), outside.join("shadow"), outside.join("passwd")] {
            assert_eq!(owner(&path), before, "{}", path.display());
        }
    }
}
