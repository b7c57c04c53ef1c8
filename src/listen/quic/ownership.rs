//! Whose the connections of a process are: what its workers write into connection ids, and what proves a reset to be theirs.
//!
//! Kept in `state_dir`, the keys outlive the process: a client whose connection died with it hears so at its next datagram, by a
//! stateless reset (RFC 9000 10.3), instead of waiting out its timeout. They are one instance's own and go to no other:
//! whoever has them can end its connections.

use std::path::Path;
use std::sync::Arc;

use quinn::crypto::{CryptoError, HmacKey};
use siphasher::sip128::SipHasher24;

use super::WorkerId;
use super::ids::IdKey;
use crate::identity::IdentityError;
use crate::identity::state_dir::{StateDir, read_if_there};

/// What all workers of a process own.
#[derive(Clone, Copy, Debug)]
pub struct Ownership {
    /// Reads and writes connection ids.
    pub key: IdKey,
    /// The process: a number that changes with each that takes the port over.
    pub generation: u8,
    resets: ResetKey,
}

impl Ownership {
    /// That of a process whose keys are `secret`: processes that hand a port over share it, and differ in generation.
    #[must_use]
    pub fn new(secret: &[u8; SECRET], generation: u8) -> Self {
        let (first, second) = secret.split_at(SECRET / 2);
        let half = |octets: &[u8]| octets.try_into().unwrap_or_default();
        Self { key: IdKey::new(half(first)), generation, resets: ResetKey(half(second)) }
    }

    /// That of a process that forgets its keys when it ends.
    #[must_use]
    pub fn passing() -> Self {
        Self::new(&rand::random(), rand::random())
    }

    /// That of a process with the keys that are kept in `state_dir`, made there where there are none.
    #[must_use]
    pub fn kept(state_dir: &Path) -> Self {
        match secret(state_dir) {
            Ok(secret) => Self::new(&secret, rand::random()),
            Err(error) => {
                tracing::warn!(%error, "QUIC clients will not be told of a restart");
                Self::passing()
            }
        }
    }

    /// The same in the process with this number.
    #[must_use]
    pub const fn in_generation(self, generation: u8) -> Self {
        Self { generation, ..self }
    }

    /// The worker with this index.
    #[must_use]
    pub const fn worker(&self, index: u8) -> WorkerId {
        WorkerId { index, generation: self.generation }
    }

    /// The key of the resets of one worker: no worker can end another's connections.
    pub(super) fn reset_key(&self, index: u8) -> Arc<dyn HmacKey> {
        Arc::new(ResetKey(self.resets.code(&[index])))
    }
}

fn secret(state_dir: &Path) -> Result<[u8; SECRET], IdentityError> {
    let directory = StateDir::open(state_dir)?;
    let lock = directory.lock()?;
    let kept = read_if_there(&directory.file(FILE))?;
    if let Some(secret) = kept.and_then(|octets| octets.try_into().ok()) {
        return Ok(secret);
    }
    let fresh: [u8; SECRET] = rand::random();
    directory.write(&lock, FILE, &fresh)?;
    Ok(fresh)
}

/// Makes the token by which a client knows a reset (RFC 9000 10.3.2): a keyed function of the connection id, 16 octets long.
#[derive(Clone, Copy)]
struct ResetKey([u8; 16]);

impl ResetKey {
    fn code(self, octets: &[u8]) -> [u8; 16] {
        SipHasher24::new_with_key(&self.0).hash(octets).as_bytes()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        for (place, octet) in signature_out.iter_mut().zip(self.code(data)) {
            *place = octet;
        }
    }

    fn signature_len(&self) -> usize {
        16
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // As long for a wrong one as for the right one.
        let differs = self.code(data).iter().zip(signature).fold(0, |differs, (one, other)| differs | (one ^ other));
        if differs == 0 && signature.len() == self.signature_len() { Ok(()) } else { Err(CryptoError) }
    }
}

impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKey")
    }
}

/// Octets of the keys of connection ids and of resets, in this order.
pub const SECRET: usize = 32;

/// Where they are kept (0600).
const FILE: &str = "quic-key";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token(ownership: &Ownership, index: u8) -> [u8; 16] {
        let mut token = [0; 16];
        ownership.reset_key(index).sign(b"id", &mut token);
        token
    }

    #[test]
    fn qui_05_keys_outlive_the_process_and_nobody_else_may_read_them() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("new");
        let [before, after] = [(); 2].map(|()| Ownership::kept(&directory));
        let id = before.key.id(before.worker(3), [1; 5]);
        assert_eq!(after.key.owner(&id), Some(before.worker(3)));
        assert_eq!(token(&before, 3), token(&after, 3));
        let mode = directory.join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn resets_of_one_worker_are_not_those_of_another_or_of_another_instance() {
        let ownership = Ownership::new(&[1; SECRET], 0);
        assert_ne!(token(&ownership, 0), token(&ownership, 1));
        assert_ne!(token(&ownership, 0), token(&Ownership::new(&[2; SECRET], 0), 0));
        let key = ownership.reset_key(0);
        assert!(key.verify(b"id", &token(&ownership, 0)).is_ok());
        for wrong in [&token(&ownership, 1)[..], &token(&ownership, 0)[..15], &[]] {
            assert!(key.verify(b"id", wrong).is_err());
        }
    }

    #[test]
    fn a_damaged_file_is_made_anew_and_a_directory_that_cannot_be_had_stops_nobody() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), b"short").unwrap();
        let [first, second] = [(); 2].map(|()| Ownership::kept(state.path()));
        assert_eq!(token(&first, 0), token(&second, 0));
        let [third, fourth] = [(); 2].map(|()| Ownership::kept(&state.path().join(FILE).join("below")));
        assert_ne!(token(&third, 0), token(&fourth, 0));
    }
}
