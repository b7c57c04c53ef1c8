//! The last good addresses of servers that are given by name, kept on disk: what a restart goes by while nobody tells better.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tracing::warn;

use super::bootstrap::MOST;
use crate::identity::IdentityError;
use crate::identity::state_dir::{self, StateDir};
use crate::wire::name;

/// The file in the state directory.
pub const FILE: &str = "upstream-addresses";

/// Its first line.
const HEAD: &str = "hushgate upstream addresses, version 1";

/// Names read of a file, which has one for each server at most.
const MOST_NAMES: usize = 4096;

/// Addresses by name, on disk where there is a place for them.
#[derive(Debug, Default)]
pub struct Known {
    directory: Option<PathBuf>,
    names: Mutex<Names>,
    /// One writes at a time, the latest last.
    writing: Mutex<()>,
}

type Names = BTreeMap<Box<str>, Vec<IpAddr>>;

impl Known {
    /// What is known in `directory`. A file that cannot be read or understood is left aside, with a word in the log.
    #[must_use]
    pub fn read(directory: Option<&Path>) -> Self {
        let names = directory.map(|directory| load(&directory.join(FILE))).unwrap_or_default();
        Self { directory: directory.map(Into::into), names: Mutex::new(names), writing: Mutex::default() }
    }

    /// The last good addresses of `name`.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.with_names(|names| names.get(name).cloned()).unwrap_or_default()
    }

    /// Remembers `addresses`, and writes them where they differ from those before; off the worker that calls.
    pub fn learn(self: &Arc<Self>, name: &str, addresses: &[IpAddr], runtime: &Handle) {
        // Servers turn their addresses around with each answer: that alone is no change.
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        let changed = self.with_names(|names| names.insert(name.into(), sorted.clone()).as_ref() != Some(&sorted));
        if let (true, Some(directory)) = (changed, self.directory.clone()) {
            let known = Arc::clone(self);
            runtime.spawn_blocking(move || {
                if let Err(error) = known.write(&directory) {
                    warn!(%error, "the addresses of upstreams will not survive a restart");
                }
            });
        }
    }

    fn write(&self, directory: &Path) -> Result<(), IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.with_names(|names| show(names));
        let directory = StateDir::open(directory)?;
        let lock = directory.lock()?;
        directory.write(&lock, FILE, text.as_bytes())
    }

    fn with_names<R>(&self, act: impl FnOnce(&mut Names) -> R) -> R {
        act(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn load(file: &Path) -> Names {
    match state_dir::read_if_there(file) {
        Ok(None) => Names::new(),
        Ok(Some(content)) => parse(&content).unwrap_or_else(|| {
            warn!(file = %file.display(), "damaged, and so left aside: addresses of upstreams are found anew");
            Names::new()
        }),
        Err(error) => {
            warn!(%error, "addresses of upstreams are found anew");
            Names::new()
        }
    }
}

/// A line a name: the name, then its addresses.
fn show(names: &Names) -> String {
    let mut text = format!("{HEAD}\n");
    for (name, addresses) in names {
        text.push_str(name);
        for address in addresses {
            text.push(' ');
            text.push_str(&address.to_string());
        }
        text.push('\n');
    }
    text.push_str(".\n");
    text
}

/// None for anything but what [`show`] writes: half a file is not better than none. A single dot ends it.
fn parse(content: &[u8]) -> Option<Names> {
    let body = std::str::from_utf8(content).ok()?.strip_prefix(HEAD)?.strip_prefix('\n')?.strip_suffix(".\n")?;
    let mut names = Names::new();
    for line in body.lines() {
        let mut words = line.split(' ');
        let name = words.next().filter(|name| name::from_text(name).is_ok())?;
        let addresses: Vec<IpAddr> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let fits = (1..=MOST).contains(&addresses.len()) && names.len() < MOST_NAMES;
        names.insert(name.into(), Some(addresses).filter(|_| fits)?);
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::identity::scratch::Scratch;

    fn some() -> Vec<IpAddr> {
        vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()]
    }

    #[test]
    fn addresses_survive_a_restart_in_a_file_for_nobody_else() {
        let scratch = Scratch::new();
        let state = scratch.path().join("state");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Arc::new(Known::read(Some(&state))).learn("dns.example", &some(), runtime.handle());
        // Waits for what it was given to write.
        drop(runtime);
        let mut addresses = Known::read(Some(&state)).addresses("dns.example");
        addresses.reverse();
        assert_eq!(addresses, some());
        assert_eq!(state.join(FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_same_addresses_in_another_order_are_not_written_again() {
        let scratch = Scratch::new();
        let known = Arc::new(Known::read(Some(scratch.path())));
        let file = scratch.path().join(FILE);
        let learn = |addresses: &[IpAddr]| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            known.learn("dns.example", addresses, runtime.handle());
        };
        learn(&some());
        std::fs::remove_file(&file).unwrap();
        learn(&some().into_iter().rev().collect::<Vec<_>>());
        assert!(!file.exists());
        learn(some().get(..1).unwrap());
        assert!(file.exists());
    }

    #[test]
    fn a_damaged_file_is_left_aside() {
        let names = Names::from([("dns.example".into(), some())]);
        let whole = show(&names);
        assert_eq!(parse(whole.as_bytes()), Some(names));
        for cut in 0..whole.len() {
            assert_eq!(parse(whole.get(..cut).unwrap().as_bytes()), None, "cut at {cut}");
        }
        for damaged in
            [whole.replace("192", "x"), whole.replace("version 1", "version 2"), whole.replace(".example", "..")]
        {
            assert_eq!(parse(damaged.as_bytes()), None, "{damaged}");
        }
        let scratch = Scratch::new();
        scratch.write(FILE, [0xff; 9]);
        assert!(Known::read(Some(scratch.path())).addresses("dns.example").is_empty());
    }
}
