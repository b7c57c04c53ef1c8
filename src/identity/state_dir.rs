//! Files of the private authority: a directory for nobody else, written whole or not at all, by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::IdentityError;

/// Certificates and keys are a few KiB; more is a mistaken path.
const MAX_FILE: u64 = 1 << 20;

/// A directory that this process keeps secrets in.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// The right to write, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl StateDir {
    /// The directory, made (0700) where it is missing. One that exists keeps its mode: it may be shared on purpose.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        let unwritable = |source| IdentityError::Unwritable { file: path.into(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unwritable)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(unwritable(error)),
        }
        Ok(Self { path: path.into() })
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits until no other process writes here.
    ///
    /// # Errors
    /// The lock file cannot be made or locked.
    pub fn lock(&self) -> Result<Lock, IdentityError> {
        let path = self.file("lock");
        let unwritable = |source| IdentityError::Unwritable { file: path.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(unwritable)?;
        file.lock().map_err(unwritable)?;
        Ok(Lock { _file: file })
    }

    /// Writes `content` to `name` so that a reader sees all of it or nothing, also after a crash.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, _lock: &Lock, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        let path = self.file(name);
        let fresh = self.file(&format!("{name}.new"));
        let written = || -> io::Result<()> {
            // Left by a crash: nobody else writes while we hold the lock.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|source| IdentityError::Unwritable { file: path.clone(), source })
    }
}

/// The content of a small file.
///
/// # Errors
/// It cannot be read, and is named.
pub fn read(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let reading = || -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let length = File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut content)? as u64;
        if length > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any certificate or key"));
        }
        Ok(content)
    };
    reading().map_err(|source| IdentityError::Unreadable { file: file.into(), source })
}

/// The content of a small file, `None` where there is none.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_if_there(file: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match read(file) {
        Err(IdentityError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// May users other than the owner read this file?
#[must_use]
pub fn is_open_to_others(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
