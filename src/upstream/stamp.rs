//! The file `clock` in `state_dir`: the latest time that was proven, one line of seconds since 1970 (0600, written whole).

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::identity::IdentityError;
use crate::identity::state_dir::StateDir;

/// A place for one time.
#[derive(Clone, Debug)]
pub struct Stamp {
    directory: PathBuf,
}

/// Why a stamp is not believed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct Unbelievable {
    /// Which.
    pub file: PathBuf,
    /// Why.
    #[source]
    pub why: Doubt,
}

/// What is wrong with a stamp.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is no number.
    #[error("it is damaged: there should be one number, of seconds since 1970")]
    Damaged,
    /// It is too far ahead of the build for this program to be still in use.
    #[error("it is more than twenty years later than this program")]
    Absurd,
}

const NAME: &str = "clock";

/// Longer is no stamp.
const MAX_FILE: u64 = 64;

/// How much later than the build a stamp may be, in seconds.
const LIFE: u64 = 20 * 365 * 86_400;

impl Stamp {
    /// The stamp in `directory`, which need not exist.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.into() }
    }

    /// Seconds since 1970, None where there is no stamp; `built` is when this program was.
    ///
    /// # Errors
    /// It is there and cannot be believed.
    pub fn read(&self, built: u64) -> Result<Option<u64>, Unbelievable> {
        let file = self.directory.join(NAME);
        match read(&file, built) {
            Err(Doubt::Unreadable(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(why) => Err(Unbelievable { file, why }),
        }
    }

    /// Writes it, and makes the directory (0700) where it is missing.
    ///
    /// # Errors
    /// It cannot be written, and is named.
    pub fn write(&self, seconds: u64) -> Result<(), IdentityError> {
        let directory = StateDir::open(&self.directory)?;
        let lock = directory.lock()?;
        directory.write(&lock, NAME, format!("{seconds}\n").as_bytes())
    }
}

fn read(file: &Path, built: u64) -> Result<u64, Doubt> {
    let mut octets = Vec::new();
    fs::File::open(file)?.take(MAX_FILE).read_to_end(&mut octets)?;
    let text = std::str::from_utf8(&octets).map_err(|_| Doubt::Damaged)?;
    let seconds = text.trim().parse::<u64>().map_err(|_| Doubt::Damaged)?;
    if seconds > built.saturating_add(LIFE) { Err(Doubt::Absurd) } else { Ok(seconds) }
}
