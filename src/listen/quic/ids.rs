//! Connection ids that say whose they are: worker and process generation, readable only with the key.
//!
//! A datagram that lands on the wrong worker (its client moved, a new process took the port) must be neither served nor answered with
//! a reset, for its connection lives elsewhere. The owner is masked so that ids of one connection cannot be linked (RFC 9000 5.1).

use std::fmt;
use std::sync::OnceLock;

use quinn::{ConnectionId, ConnectionIdGenerator};
use siphasher::sip::SipHasher24;

use super::WorkerId;

/// Reads and writes ids; the same for all workers that share a port.
#[derive(Clone, Copy)]
pub struct IdKey([u8; 16]);

impl IdKey {
    /// The key of this process.
    #[must_use]
    pub fn of_process() -> Self {
        static KEY: OnceLock<IdKey> = OnceLock::new();
        *KEY.get_or_init(|| Self(rand::random()))
    }

    /// A key with these octets: for processes that hand a port over.
    #[must_use]
    pub const fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Whose connection `id` names; `None` if it was not made with this key.
    #[must_use]
    pub fn owner(&self, id: &[u8]) -> Option<WorkerId> {
        let (nonce, rest) = id.split_first_chunk::<NONCE>()?;
        let (masked, check) = rest.split_first_chunk::<OWNER>()?;
        if self.check(*nonce, *masked) != *check {
            return None;
        }
        let [index, generation] = self.mask(*nonce, *masked);
        Some(WorkerId { index, generation })
    }

    /// The id of `worker` with this nonce.
    fn id(&self, worker: WorkerId, nonce: [u8; NONCE]) -> [u8; LENGTH] {
        let masked = self.mask(nonce, [worker.index, worker.generation]);
        let check = self.check(nonce, masked);
        let mut id = [0; LENGTH];
        for (place, octet) in id.iter_mut().zip(nonce.into_iter().chain(masked).chain(check)) {
            *place = octet;
        }
        id
    }

    /// Masks an owner, and takes the mask off.
    fn mask(&self, nonce: [u8; NONCE], [index, generation]: [u8; OWNER]) -> [u8; OWNER] {
        let [first, second, ..] = self.hash(&nonce);
        [index ^ first, generation ^ second]
    }

    fn check(&self, nonce: [u8; NONCE], masked: [u8; OWNER]) -> [u8; CHECK] {
        let [n0, n1, n2, n3, n4] = nonce;
        let [m0, m1] = masked;
        let [c0, c1, c2, ..] = self.hash(&[n0, n1, n2, n3, n4, m0, m1]);
        [c0, c1, c2]
    }

    /// Mask and check differ by the length of what is hashed.
    fn hash(&self, octets: &[u8]) -> [u8; 8] {
        SipHasher24::new_with_key(&self.0).hash(octets).to_le_bytes()
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey")
    }
}

/// Makes the ids of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    key: IdKey,
    worker: WorkerId,
}

impl Ids {
    /// The ids of `worker`.
    #[must_use]
    pub const fn new(key: IdKey, worker: WorkerId) -> Self {
        Self { key, worker }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.key.id(self.worker, rand::random()))
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), quinn_proto::InvalidCid> {
        if self.key.owner(id) == Some(self.worker) { Ok(()) } else { Err(quinn_proto::InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

const NONCE: usize = 5;
const OWNER: usize = 2;
const CHECK: usize = 3;

/// Octets of an id.
pub const LENGTH: usize = NONCE + OWNER + CHECK;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: IdKey = IdKey::new([7; 16]);

    #[test]
    fn an_id_names_its_worker_to_whoever_has_the_key() {
        for index in [0, 1, 255] {
            let worker = WorkerId { index, generation: 3 };
            let id = Ids::new(KEY, worker).generate_cid();
            assert_eq!(id.len(), LENGTH);
            assert_eq!(KEY.owner(&id), Some(worker));
            assert_eq!(IdKey::new([8; 16]).owner(&id), None);
        }
    }

    #[test]
    fn ids_of_others_are_foreign() {
        let worker = WorkerId { index: 1, generation: 3 };
        let own = Ids::new(KEY, worker);
        assert!(own.validate(&Ids::new(KEY, worker).generate_cid()).is_ok());
        for other in [WorkerId { index: 2, generation: 3 }, WorkerId { index: 1, generation: 4 }] {
            assert!(own.validate(&Ids::new(KEY, other).generate_cid()).is_err());
        }
        assert!(own.validate(&ConnectionId::new(&[0; LENGTH])).is_err());
        assert!(own.validate(&ConnectionId::new(&[1; 4])).is_err());
    }

    #[test]
    fn no_bit_of_an_id_can_be_changed() {
        let id = KEY.id(WorkerId { index: 1, generation: 3 }, [1, 2, 3, 4, 5]);
        for bit in 0..LENGTH * 8 {
            let mut forged = id;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(KEY.owner(&forged), None, "bit {bit}");
        }
    }

    #[test]
    fn the_owner_is_masked_differently_in_each_id() {
        let worker = WorkerId { index: 1, generation: 3 };
        let [first, second] = [1, 2].map(|nonce| KEY.id(worker, [nonce; NONCE]));
        assert_ne!(first[NONCE..NONCE + OWNER], second[NONCE..NONCE + OWNER]);
    }
}
