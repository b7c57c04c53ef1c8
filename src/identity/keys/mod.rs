//! Keys that make a client known again: of session tickets, of address validation in QUIC, of server cookies.
//!
//! All come from one root, by epochs of `fleet.rotate`. With `fleet.secret_file` the root is the operator's and the epochs are
//! those of Unix time, so that every instance has the same keys without a word to the others. Without, each epoch has a random
//! root of its own, which is gone with it. The epoch that is now signs; the one before is accepted until it ends, and of a shared
//! root the one to come as well, for clocks differ (TLS-06, TLS-07; RFC 9325 3.4). Keys of stateless resets are never made here:
//! who could tell one instance's would end the connections of all (RFC 9000 21.11).

mod epoch;
pub mod tickets;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use self::epoch::EpochKeys;
pub use self::tickets::{Doors, Tally};

/// A root that instances share: 32 octets, shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// These octets.
    #[must_use]
    pub const fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a fleet is told (`[fleet]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Where the secrets are read from again while the gateway runs.
    pub file: Option<PathBuf>,
    /// The first signs, all verify; none: random ones are made.
    pub secrets: Vec<Secret>,
    /// How long an epoch is, in whole seconds; one a second at most. Only a new start applies another.
    pub rotate: Duration,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { file: None, secrets: Vec::new(), rotate: Duration::from_hours(24) }
    }
}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library made no keys")]
pub struct NoKeys;

impl From<aws_lc_rs::error::Unspecified> for NoKeys {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

/// The keys in force, for all doors and workers of a gateway. One thread at a time changes them.
pub struct Keys {
    ring: ArcSwap<Ring>,
    rotate: u64,
    tally: Tally,
}

/// The keys of the epochs that are accepted; the first signs.
struct Ring {
    /// The roots that are shared; none where each epoch has its own.
    shared: Box<[Secret]>,
    epoch: u64,
    epochs: Box<[Arc<EpochKeys>]>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = self.ring.load().epochs.len();
        f.debug_struct("Keys").field("epochs", &epochs).finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys for the epoch of `now`.
    ///
    /// # Errors
    /// Where the library makes none.
    pub fn new(fleet: &Fleet, now: SystemTime) -> Result<Self, NoKeys> {
        let rotate = fleet.rotate.as_secs().max(1);
        let epoch = epoch_of(now, rotate);
        let ring = match fleet.secrets.as_slice() {
            [] => Ring { shared: Box::default(), epoch, epochs: [Arc::new(EpochKeys::random()?)].into() },
            shared => Ring::shared(shared, epoch, rotate)?,
        };
        Ok(Self { ring: ArcSwap::from_pointee(ring), rotate, tally: Tally::default() })
    }

    /// How long a ticket or a token is good for: half an epoch, because one may be made in an epoch's last second and is accepted
    /// throughout the next (TLS-06, DOQ-29).
    #[must_use]
    pub const fn life(&self) -> Duration {
        Duration::from_secs(self.rotate / 2)
    }

    /// Goes on to the epoch of `now` if it is another; true where it did. Keys that are no longer accepted are gone then.
    ///
    /// # Errors
    /// Where the library makes no keys; those in force stay so.
    pub fn turn(&self, now: SystemTime) -> Result<bool, NoKeys> {
        let (ring, epoch) = (self.ring.load(), epoch_of(now, self.rotate));
        if ring.epoch == epoch {
            return Ok(false);
        }
        let next = if ring.shared.is_empty() {
            let fresh = Arc::new(EpochKeys::random()?);
            // After a sleep of more than an epoch nothing of before it is good any longer.
            let before = ring.epochs.first().filter(|_| ring.epoch.abs_diff(epoch) == 1).map(Arc::clone);
            Ring { shared: Box::default(), epoch, epochs: [fresh].into_iter().chain(before).collect() }
        } else {
            Ring::shared(&ring.shared, epoch, self.rotate)?
        };
        self.ring.store(Arc::new(next));
        Ok(true)
    }

    /// Puts other shared secrets in the place of those in force; false where they are the same, none, or none were shared before.
    ///
    /// # Errors
    /// Where the library makes no keys; those in force stay so.
    pub fn replace(&self, secrets: &[Secret], now: SystemTime) -> Result<bool, NoKeys> {
        let ring = self.ring.load();
        if ring.shared.is_empty() || secrets.is_empty() || *ring.shared == *secrets {
            return Ok(false);
        }
        let next = Ring::shared(secrets, epoch_of(now, self.rotate), self.rotate)?;
        self.ring.store(Arc::new(next));
        Ok(true)
    }

    /// The secrets of server cookies of a fleet, the signing one first; none where nothing is shared.
    #[must_use]
    pub fn cookies(&self) -> Vec<[u8; 16]> {
        let ring = self.ring.load();
        let shared = !ring.shared.is_empty();
        ring.epochs.iter().filter(|_| shared).map(|keys| keys.cookie()).collect()
    }

    /// Seals a token of address validation in place and puts the key's name behind it; `nonce` is never the same twice.
    ///
    /// # Errors
    /// Where the library refuses; `data` is of no use then.
    pub fn seal_token(&self, nonce: &[u8], data: &mut Vec<u8>) -> Result<(), NoKeys> {
        self.ring.load().epochs.first().ok_or(NoKeys)?.seal_token(nonce, data)
    }

    /// Opens what [`Keys::seal_token`] made here, or at another instance that shares the secret.
    #[must_use]
    pub fn open_token<'a>(&self, nonce: &[u8], data: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (sealed, name) = data.split_last_chunk_mut::<{ epoch::TOKEN_NAME }>()?;
        let ring = self.ring.load();
        ring.epochs.iter().find(|keys| keys.names_token(*name))?.open_token(nonce, sealed)
    }

    /// What has become of tickets.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    fn seal_ticket(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.ring.load().epochs.first()?.seal_ticket(plain)
    }

    fn open_ticket(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, sealed) = ticket.split_first_chunk()?;
        self.ring.load().epochs.iter().find(|keys| keys.names_ticket(*name))?.open_ticket(sealed)
    }
}

impl Ring {
    /// Of each root the epoch that is now, the one before and the one to come.
    fn shared(secrets: &[Secret], epoch: u64, rotate: u64) -> Result<Self, NoKeys> {
        let accepted = [Some(epoch), epoch.checked_sub(1), epoch.checked_add(1)];
        let pairs = secrets.iter().flat_map(|secret| accepted.into_iter().flatten().map(move |epoch| (secret, epoch)));
        let epochs: Result<_, NoKeys> =
            pairs.map(|(Secret(root), epoch)| EpochKeys::derive(root, epoch, rotate).map(Arc::new)).collect();
        Ok(Self { shared: secrets.into(), epoch, epochs: epochs? })
    }
}

/// The number of the epoch that `now` is in; that of 1970 for clocks that are before it.
fn epoch_of(now: SystemTime, rotate: u64) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / rotate
}

#[cfg(test)]
mod tests;
