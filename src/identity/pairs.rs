//! The pairs of files that certificates are read from: each is looked at, taken and refused by itself.
//!
//! Whoever writes a pair writes two files: between them chain and key do not fit. That heals by itself, so a pair that is broken is
//! looked at a few more times before it counts as such. What is in force stays in force until there is something better.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;

use super::credential::Credential;
use super::{Chain, IdentityError};

/// All pairs, in the order of the configuration.
#[derive(Debug)]
pub struct Pairs(Vec<Pair>);

/// What a look at all of them came to.
#[derive(Debug, Default)]
pub struct Looked {
    /// Those that can be used and have been read anew, by their place.
    pub read: Vec<(usize, Credential)>,
    /// Why others cannot be used: once for each change.
    pub faults: Vec<IdentityError>,
}

#[derive(Debug)]
struct Pair {
    files: Chain,
    seen: [Stamp; 2],
    standing: Standing,
}

/// What tells one version of a file from another, behind all symbolic links: device, inode, length, time of the last change of its
/// content and of anything else, in nanoseconds. None: it is not there.
type Stamp = Option<[i128; 5]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// What was seen last is what was read.
    Good,
    /// Broken for so many looks: its other half may be on its way.
    Settling(u8),
    /// Broken, and said so.
    Refused,
    /// The same, but that time will mend it.
    Early,
}

impl Pairs {
    /// Those of `chains`, none of them read.
    #[must_use]
    pub fn new(chains: Vec<Chain>) -> Self {
        let pair = |files: Chain| Pair { seen: stamps(&files), files, standing: Standing::Good };
        Self(chains.into_iter().map(pair).collect())
    }

    /// Reads all.
    ///
    /// # Errors
    /// The first file at fault.
    pub fn read(&self, provider: &CryptoProvider, now: SystemTime) -> Result<Vec<Credential>, IdentityError> {
        self.0.iter().map(|pair| Credential::from_files(&pair.files, provider, now)).collect()
    }

    /// Reads those that have changed since the last look.
    pub fn look(&mut self, provider: &CryptoProvider, now: SystemTime) -> Looked {
        self.each(|pair| pair.look(provider, now))
    }

    /// Reads all whether they have changed or not, and waits for nobody's other half.
    pub fn insist(&mut self, provider: &CryptoProvider, now: SystemTime) -> Looked {
        self.each(|pair| {
            pair.seen = stamps(&pair.files);
            pair.standing = Standing::Settling(SETTLING);
            pair.look(provider, now)
        })
    }

    /// Is the pair at `index` broken, so that what is in force is older than it?
    #[must_use]
    pub fn is_stale(&self, index: usize) -> bool {
        let standing = self.0.get(index).map(|pair| pair.standing);
        matches!(standing, Some(Standing::Refused | Standing::Early))
    }

    fn each(&mut self, mut look: impl FnMut(&mut Pair) -> Option<Result<Credential, IdentityError>>) -> Looked {
        let mut looked = Looked::default();
        for (index, pair) in self.0.iter_mut().enumerate() {
            match look(pair) {
                Some(Ok(credential)) => looked.read.push((index, credential)),
                Some(Err(fault)) => looked.faults.push(fault),
                None => {}
            }
        }
        looked
    }
}

impl Pair {
    /// What is new about it: None while that is nothing, or nothing to be told of yet.
    fn look(&mut self, provider: &CryptoProvider, now: SystemTime) -> Option<Result<Credential, IdentityError>> {
        // Before the files are read: a change while they are is seen next time.
        let stamps = stamps(&self.files);
        let has_changed = stamps != self.seen;
        self.seen = stamps;
        if !has_changed && matches!(self.standing, Standing::Good | Standing::Refused) {
            return None;
        }
        let fault = match Credential::from_files(&self.files, provider, now) {
            Ok(credential) => {
                self.standing = Standing::Good;
                return Some(Ok(credential));
            }
            Err(fault) => fault,
        };
        let (standing, is_told) = match self.standing {
            Standing::Early if !has_changed => (Standing::Early, false),
            Standing::Good | Standing::Refused | Standing::Early => (Standing::Settling(1), false),
            Standing::Settling(looks) if looks < SETTLING => (Standing::Settling(looks + 1), false),
            Standing::Settling(_) if matches!(fault, IdentityError::NotYetValid { .. }) => (Standing::Early, true),
            Standing::Settling(_) => (Standing::Refused, true),
        };
        self.standing = standing;
        is_told.then_some(Err(fault))
    }
}

/// Looks that a broken pair may take to heal.
const SETTLING: u8 = 2;

fn stamps(files: &Chain) -> [Stamp; 2] {
    [&files.chain, &files.key].map(|file| stamp(file))
}

fn stamp(file: &Path) -> Stamp {
    let data = fs::metadata(file).ok()?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let changed = nanoseconds(data.mtime(), data.mtime_nsec());
    let touched = nanoseconds(data.ctime(), data.ctime_nsec());
    Some([data.dev().into(), data.ino().into(), data.len().into(), changed, touched])
}
