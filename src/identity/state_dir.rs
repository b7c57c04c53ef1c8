//! Files of the private authority: a directory for nobody else, written whole or not at all, by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{IdentityError, plain_file};

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
    pub fn write(&self, lock: &Lock, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        self.pour(lock, name, |file| file.write_all(content))
    }

    /// The same for content that `fill` writes piece by piece; where it fails, what was there stays.
    ///
    /// # Errors
    /// It cannot be written, or `fill` failed.
    pub fn pour<T>(
        &self,
        _lock: &Lock,
        name: &str,
        fill: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> Result<T, IdentityError> {
        let path = self.file(name);
        let fresh = self.file(&format!("{name}.new"));
        let written = || -> io::Result<T> {
            // Left by a crash: nobody else writes while we hold the lock.
            remove_if_there(&fresh)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            let filled = fill(&mut file).and_then(|filled| file.sync_all().map(|()| filled)).inspect_err(|_| {
                // The error that led here is the one to tell.
                let _ = remove_if_there(&fresh);
            })?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()?;
            Ok(filled)
        };
        written().map_err(|source| IdentityError::Unwritable { file: path.clone(), source })
    }
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The content of a small file.
///
/// # Errors
/// It cannot be read, and is named.
pub fn read(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let reading = || -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let length = plain_file::open(file)?.take(MAX_FILE + 1).read_to_end(&mut content)? as u64;
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
