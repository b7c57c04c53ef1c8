//! Where the answers stand that are for some networks only (RFC 7871 7.3): each under a key of its own, the longest prefix first.
//!
//! What lengths of prefix have ever been kept is remembered for the cache as a whole, so that few keys are tried: servers use few.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cache, Key, Reach};
use crate::wire::Subnet;

/// The lengths of prefix that something has been kept under since the start, as bits: of IPv4, of IPv6. Bit 0, which stands for no
/// prefix, says that something has been kept for those who tell just the same.
#[derive(Debug, Default)]
pub struct Lengths([AtomicU64; 2]);

impl Lengths {
    /// Something is about to be kept under `key`.
    pub fn note(&self, key: &Key) {
        let (subnet, bit) = match key.reach() {
            Some(Reach::Within(subnet)) => (subnet, 1 << subnet.length()),
            Some(Reach::Only(subnet)) => (subnet, ONLY),
            Some(Reach::Everyone) | None => return,
        };
        let lengths = self.of(subnet);
        if lengths.load(Ordering::Relaxed) & bit == 0 {
            lengths.fetch_or(bit, Ordering::Relaxed);
        }
    }

    const fn of(&self, subnet: Subnet) -> &AtomicU64 {
        let [v4, v6] = &self.0;
        if subnet.is_v6() { v6 } else { v4 }
    }
}

impl Cache {
    /// The keys of what may be kept of the question of `key` for a client in `subnet` and not for everyone: the longest prefix first
    /// (RFC 7871 7.3.2).
    pub fn near<'a>(&'a self, key: &'a Key, subnet: Subnet) -> impl Iterator<Item = Key> + 'a {
        let lengths = self.lengths.of(subnet).load(Ordering::Relaxed);
        let kept = (1..=subnet.length()).rev().filter(move |length| lengths >> length & 1 == 1);
        let prefixes = kept.map(move |length| Reach::Within(subnet.within(length)));
        let only = (lengths & ONLY != 0).then_some(Reach::Only(subnet));
        only.into_iter().chain(prefixes).map(|reach| key.reaching(reach))
    }
}

/// The bit of what is kept for those who tell just the same.
const ONLY: u64 = 1;

#[cfg(test)]
mod tests {
    use super::super::{Bits, Settings};
    use super::*;
    use crate::clock::Moment;
    use crate::reply::{Kind, Meta, Stored};

    fn subnet(data: &[u8]) -> Subnet {
        Subnet::read(data).unwrap().0
    }

    fn keep(cache: &Cache, key: &Key) {
        let meta = Meta { lifetime: 60, kind: Kind::Positive, ..Meta::default() };
        cache.insert(key, Stored { meta, message: b"kept", ttls: &[] }, Moment(0));
    }

    #[test]
    fn ecs_10_the_longest_prefix_comes_first_and_lengths_never_kept_are_not_tried() {
        let cache = Cache::new(&Settings { size: 1 << 20, ..Settings::default() });
        let key = Key::new(b"\x03www\x07example\0\0\x01\0\x01", Bits::default(), 0, 7);
        let client = subnet(&[0, 1, 24, 0, 198, 51, 100]);
        let reaches = |client| cache.near(&key, client).map(|key| key.reach().unwrap()).collect::<Vec<_>>();
        assert_eq!(reaches(client), []);
        let other = subnet(&[0, 1, 24, 0, 9, 9, 9]);
        keep(&cache, &key.reaching(Reach::Within(other.within(16))));
        keep(&cache, &key.reaching(Reach::Within(other)));
        let all = [Reach::Only(client), Reach::Within(client), Reach::Within(client.within(16))];
        assert_eq!(reaches(client), all[1..]);
        keep(&cache, &key.reaching(Reach::Only(other)));
        assert_eq!(reaches(client), all);
        assert_eq!(reaches(client.within(20)), [Reach::Only(client.within(20)), all[2]]);
        let six = subnet(&[0, 2, 24, 0, 0x20, 1, 0xd]);
        assert_eq!(reaches(six), [], "families do not mix");
        let (mut kept, now) = (cache.near(&key, client), Moment(0));
        assert!(kept.all(|key| cache.lookup(&key, now, |_| ()).is_none()), "nothing of another network");
    }

    #[test]
    fn ecs_14_a_name_with_a_flood_of_subnets_stays_within_the_size_and_others_keep_their_place() {
        let settings = Settings { size: 1 << 20, domain_share: 0.25, ..Settings::default() };
        let cache = Cache::new(&settings);
        let other =
            |n: u8| Key::new(&[b"\x01", &[b'a' + n][..], b"\x07example\0\0\x01\0\x01"].concat(), Bits::default(), 0, 7);
        for n in 0..20 {
            keep(&cache, &other(n));
            cache.lookup(&other(n), Moment(0), |_| ());
        }
        let key = Key::new(b"\x03www\x04evil\0\0\x01\0\x01", Bits::default(), 0, 7);
        for n in 0..30_000_u32 {
            let [a, b, c, _] = n.wrapping_mul(0x9e37_7900).to_be_bytes();
            keep(&cache, &key.reaching(Reach::Within(subnet(&[0, 1, 24, 0, a, b, c]))));
        }
        let stats = cache.stats();
        assert!(stats.evicted > 0 && cache.footprint() <= 1 << 20, "{stats:?}");
        assert!((0..20).all(|n| cache.lookup(&other(n), Moment(0), |_| ()).is_some()));
    }
}
