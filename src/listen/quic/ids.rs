//! Connection ids that say whose they are: worker and process generation, readable only with the key.
//!
//! A datagram that lands on the wrong worker (its client moved, a new process took the port) must be neither served nor answered with
//! a reset, for its connection lives elsewhere. The owner is masked so that ids of one connection cannot be linked (RFC 9000 5.1).
//!
//! Two keyed functions guard an id. The mask is few multiplications, because the kernel has to take it off too (`steering`), and
//! a kernel's filter can do no more; three octets of `SipHash` then say whether the id was made here. What an observer
//! can tell: without the key, two ids of one connection look like two ids of any. Whoever opens many connections and solves
//! the mask's constants from their ids learns which of the workers an id belongs to, never which connection or client: one of a
//! handful of classes that all clients share, and that a source port would tell as well.

use std::fmt;
use std::sync::Arc;

use quinn::{ConnectionId, ConnectionIdGenerator};
use siphasher::sip::SipHasher24;

use super::WorkerId;
use super::mailboxes::Row;

/// Reads and writes ids; the same for all workers that share a port.
#[derive(Clone, Copy)]
pub struct IdKey {
    check: [u8; 16],
    mask: MaskKey,
}

/// The numbers of the mask.
#[derive(Clone, Copy)]
pub(super) struct MaskKey {
    /// Mixed into the nonce first.
    pub start: u32,
    /// Odd, so that nothing is lost.
    pub factors: [u32; 3],
}

impl IdKey {
    /// The key that these octets make.
    #[must_use]
    pub fn new(octets: [u8; 16]) -> Self {
        let number = |label: u8| {
            let [a, b, c, d, ..] = sip(&octets, &[label]);
            u32::from_le_bytes([a, b, c, d])
        };
        let mask = MaskKey { start: number(0), factors: [1, 2, 3].map(|label| number(label) | 1) };
        Self { check: octets, mask }
    }

    /// Whose connection `id` names; `None` if it was not made with this key.
    #[must_use]
    pub fn owner(&self, id: &[u8]) -> Option<WorkerId> {
        let (nonce, owner, check) = parts(id)?;
        (self.check(*nonce, *owner) == *check).then(|| self.unmask(*nonce, *owner))
    }

    /// Is `id` either that of `worker` or of nobody? Cheaper than [`Self::owner`], for every datagram is asked about.
    pub(super) fn may_be(&self, id: &[u8], worker: WorkerId) -> bool {
        parts(id).is_some_and(|(nonce, owner, _)| self.unmask(*nonce, *owner) == worker)
    }

    /// The numbers of the mask, for the kernel.
    pub(super) const fn mask_key(&self) -> MaskKey {
        self.mask
    }

    /// The id of `worker` with this nonce.
    pub(super) fn id(&self, worker: WorkerId, nonce: [u8; NONCE]) -> [u8; LENGTH] {
        let [high, low] = self.mask.of(nonce);
        let owner = [worker.index ^ high, worker.generation ^ low];
        let check = self.check(nonce, owner);
        let mut id = [0; LENGTH];
        for (place, octet) in id.iter_mut().zip(nonce.into_iter().chain(owner).chain(check)) {
            *place = octet;
        }
        id
    }

    fn unmask(&self, nonce: [u8; NONCE], [index, generation]: [u8; OWNER]) -> WorkerId {
        let [high, low] = self.mask.of(nonce);
        WorkerId { index: index ^ high, generation: generation ^ low }
    }

    fn check(&self, nonce: [u8; NONCE], owner: [u8; OWNER]) -> [u8; CHECK] {
        let [n0, n1, n2, n3, n4] = nonce;
        let [o0, o1] = owner;
        let [c0, c1, c2, ..] = sip(&self.check, &[n0, n1, n2, n3, n4, o0, o1]);
        [c0, c1, c2]
    }
}

impl MaskKey {
    /// What is laid over the owner in an id with this nonce: first over the index, then over the generation.
    fn of(self, [n0, n1, n2, n3, n4]: [u8; NONCE]) -> [u8; OWNER] {
        let [first, second, third] = self.factors;
        let mut mixed = (u32::from_be_bytes([n0, n1, n2, n3]) ^ self.start).wrapping_mul(first);
        mixed ^= mixed >> SHIFTS.0;
        mixed = mixed.wrapping_add(n4.into()).wrapping_mul(second);
        mixed ^= mixed >> SHIFTS.1;
        mixed = mixed.wrapping_mul(third);
        mixed ^= mixed >> SHIFTS.2;
        let [.., high, low] = mixed.to_be_bytes();
        [high, low]
    }
}

fn parts(id: &[u8]) -> Option<(&[u8; NONCE], &[u8; OWNER], &[u8; CHECK])> {
    let (nonce, rest) = id.split_first_chunk()?;
    let (owner, rest) = rest.split_first_chunk()?;
    Some((nonce, owner, rest.try_into().ok()?))
}

fn sip(key: &[u8; 16], octets: &[u8]) -> [u8; 8] {
    SipHasher24::new_with_key(key).hash(octets).to_le_bytes()
}

/// The id in `datagram` that says for which connection it is, if it is as long as ours (RFC 9000 17.2, 17.3).
#[must_use]
pub fn destination(datagram: &[u8]) -> Option<&[u8]> {
    let (first, rest) = datagram.split_first()?;
    if first & LONG_HEADER == 0 {
        return rest.get(..LENGTH);
    }
    // Four octets of version, one of length.
    match rest.get(4..)?.split_first()? {
        (&length, rest) if usize::from(length) == LENGTH => rest.get(..LENGTH),
        _ => None,
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey")
    }
}

/// Makes the ids of one worker.
#[derive(Clone, Debug)]
pub struct Ids {
    row: Arc<Row>,
    worker: WorkerId,
}

impl Ids {
    /// The ids of the worker with this index at a door.
    #[must_use]
    pub fn new(row: Arc<Row>, index: u8) -> Self {
        let worker = row.ownership().worker(index);
        Self { row, worker }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.row.ownership().key.id(self.worker, rand::random()))
    }

    /// Whose connection is not known, but would be: such a datagram is answered with a reset. That holds for this worker's own, and
    /// for those of its like in a process that is gone.
    fn validate(&self, id: &ConnectionId) -> Result<(), quinn_proto::InvalidCid> {
        let owner = self.row.ownership().key.owner(id).filter(|owner| owner.index == self.worker.index);
        let gone = |owner: WorkerId| owner.generation == self.worker.generation || self.row.stands_alone();
        if owner.is_some_and(gone) { Ok(()) } else { Err(quinn_proto::InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

pub(super) const NONCE: usize = 5;
pub(super) const OWNER: usize = 2;
const CHECK: usize = 3;

/// Octets of an id.
pub const LENGTH: usize = NONCE + OWNER + CHECK;

/// How far the mask is shifted over itself, step by step.
pub(super) const SHIFTS: (u32, u32, u32) = (15, 13, 16);

/// Set in the first octet of packets that carry the length of their id (RFC 8999 5.1).
pub(super) const LONG_HEADER: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::super::mailboxes::Mailboxes;
    use super::super::ownership::{Ownership, SECRET};
    use super::*;

    fn key() -> IdKey {
        IdKey::new([7; 16])
    }

    #[test]
    fn an_id_names_its_worker_to_whoever_has_the_key() {
        for index in [0, 1, 255] {
            let worker = WorkerId { index, generation: 3 };
            let id = key().id(worker, rand::random());
            assert_eq!(key().owner(&id), Some(worker));
            assert!(key().may_be(&id, worker));
            assert_eq!(IdKey::new([8; 16]).owner(&id), None);
        }
    }

    #[test]
    fn ids_of_others_are_foreign_as_long_as_these_live() {
        let mailboxes = Mailboxes::new(Ownership::new(&[7; SECRET], 3));
        let row = mailboxes.row(([127, 0, 0, 1], 853).into(), 3);
        let mut own = Ids::new(Arc::clone(&row), 1);
        let id = own.generate_cid();
        assert_eq!((id.len(), own.validate(&id).is_ok()), (LENGTH, true));
        let of =
            |index, generation| ConnectionId::new(&row.ownership().key.id(WorkerId { index, generation }, [5; NONCE]));
        assert!(own.validate(&of(2, 3)).is_err(), "another worker's");
        assert!(own.validate(&of(2, 4)).is_err());
        assert!(own.validate(&of(1, 4)).is_ok(), "its like's, in a process that is gone");
        mailboxes.pass_on_to(Some(tokio::sync::mpsc::channel(1).0));
        assert!(own.validate(&of(1, 4)).is_err(), "the same in a process that lives");
        assert!(own.validate(&id).is_ok());
        assert!(own.validate(&ConnectionId::new(&[0; LENGTH])).is_err());
        assert!(own.validate(&ConnectionId::new(&[1; 4])).is_err());
    }

    #[test]
    fn no_bit_of_an_id_can_be_changed() {
        let id = key().id(WorkerId { index: 1, generation: 3 }, [1, 2, 3, 4, 5]);
        for bit in 0..LENGTH * 8 {
            let mut forged = id;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().owner(&forged), None, "bit {bit}");
        }
    }

    /// As far as a count can show it: every octet that an observer sees takes every value, about as often.
    #[test]
    fn ids_of_one_worker_show_nothing_that_they_have_in_common() {
        let worker = WorkerId { index: 1, generation: 3 };
        let mut seen = [[0_u32; 256]; LENGTH];
        for nonce in 0..65_536_u32 {
            // Nonces that differ as little as nonces can.
            let [_, n1, n2, n3] = nonce.to_be_bytes();
            let id = key().id(worker, [7, n1, n2, n3, 9]);
            for (octet, seen) in id.into_iter().zip(&mut seen).skip(NONCE) {
                seen[usize::from(octet)] += 1;
            }
        }
        for (place, seen) in seen.iter().enumerate().skip(NONCE) {
            assert!(seen.iter().all(|count| (128..512).contains(count)), "octet {place}: {seen:?}");
        }
    }

    #[test]
    fn the_destination_is_found_in_both_headers_and_only_where_it_is_whole() {
        let id = key().id(WorkerId { index: 1, generation: 3 }, [1, 2, 3, 4, 5]);
        let short = [&[0x40][..], &id, &[9; 20]].concat();
        let long = [&[0xe0, 0, 0, 0, 1, 10][..], &id, &[9; 20]].concat();
        assert_eq!(destination(&short), Some(&id[..]));
        assert_eq!(destination(&long), Some(&id[..]));
        assert_eq!(destination(&[&[0xc0, 0, 0, 0, 1, 8][..], &id, &[9; 20]].concat()), None);
        for length in 0..=LENGTH {
            assert_eq!(destination(&short[..length]), None);
        }
        for length in 0..6 + LENGTH {
            assert_eq!(destination(&long[..length]), None);
        }
    }
}
