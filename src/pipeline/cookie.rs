//! Server cookies: made and checked without any state per client (RFC 7873, in the interoperable form of RFC 9018).
//!
//! A pure check before the limiter: a client that shows a valid one has proven its address.

use std::fmt;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use siphasher::sip::SipHasher24;

use crate::clock::Moment;
use crate::trail;

/// Octets of a client cookie.
const CLIENT: usize = 8;

/// Octets of a client cookie with a version 1 server cookie.
pub const WHOLE: usize = 24;

/// Version 1 and three reserved octets, sent as zero (RFC 9018 4.1, 4.2).
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// Seconds a cookie is good for, seconds it may come from the future, seconds after which it is renewed (RFC 9018 4.3).
const LIFE: i32 = 3600;
const AHEAD: i32 = 300;
const RENEW: i32 = 1800;

/// How long a secret made here signs. RFC 7873 7.1 wants no more than 26 hours; that RFC 9018 5 is content with a month is for the
/// sake of those who carry secrets from server to server.
const REIGN: Duration = Duration::from_hours(24);

/// How long it verifies after that: as long as a cookie of its last second is good, that of a clock ahead of ours included.
const RETREAT: Duration = Duration::from_secs((LIFE + AHEAD).cast_unsigned() as u64);

/// The COOKIE option data that a reply carries.
pub type Data = [u8; WHOLE];

/// Signs and checks server cookies. The secrets may change at any time; who shows no cookie pays nothing for that.
pub struct Cookies {
    ring: ArcSwap<Ring>,
}

/// The secrets in force.
#[derive(Clone, PartialEq, Eq)]
struct Ring {
    signing: [u8; 16],
    retired: Box<[[u8; 16]]>,
    /// When the one that signs was made here; None where the operator has chosen it.
    made: Option<Moment>,
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").field("retired", &self.ring.load().retired.len()).finish_non_exhaustive()
    }
}

impl Cookies {
    /// The first of `secrets` signs, all verify; with none, a random one made `now` does both.
    #[must_use]
    pub fn new(secrets: &[[u8; 16]], now: Moment) -> Self {
        Self { ring: ArcSwap::from_pointee(Ring::of(secrets).unwrap_or_else(|| Ring::made(now, Box::default()))) }
    }

    /// Puts `secrets` in the place of those in force; false where they are the same, or none.
    pub fn replace(&self, secrets: &[[u8; 16]]) -> bool {
        let Some(ring) = Ring::of(secrets).filter(|ring| *ring != **self.ring.load()) else { return false };
        self.ring.store(Arc::new(ring));
        true
    }

    /// Turns a secret made here when its time is over, and drops the one before it when no cookie of that can be good any longer.
    pub fn turn(&self, now: Moment) {
        let ring = self.ring.load();
        let Some(made) = ring.made else { return };
        if now.since(made) >= REIGN {
            self.ring.store(Arc::new(Ring::made(now, [ring.signing].into())));
        } else if now.since(made) >= RETREAT && !ring.retired.is_empty() {
            self.ring.store(Arc::new(Ring { retired: Box::default(), ..Ring::clone(&ring) }));
        }
    }

    /// Judges the option data `shown` by `client` at Unix time `now` and answers what the reply carries: the same cookie
    /// while it is young, else a fresh one. `None` where no cookie has this length (CKI-01).
    #[must_use]
    pub fn check(&self, shown: &[u8], client: IpAddr, now: u32) -> Option<(trail::Cookie, Data)> {
        let client_cookie = *shown.first_chunk::<CLIENT>().filter(|_| matches!(shown.len(), CLIENT | 16..=40))?;
        let (client, ring) = (Client::new(client), self.ring.load());
        let fresh = || ring.sign(client_cookie, &client, now);
        let Ok(data) = Data::try_from(shown) else {
            // Another length is legal but not ours (CKI-05).
            let state = if shown.len() == CLIENT { trail::Cookie::ClientOnly } else { trail::Cookie::Invalid };
            return Some((state, fresh()));
        };
        let (signer, age) = (ring.signer(&data, &client), age(&data, now));
        Some(match signer {
            Some(_) if !(-AHEAD..=LIFE).contains(&age) => (trail::Cookie::Invalid, fresh()),
            Some(Signer::Current) if age <= RENEW => (trail::Cookie::Valid, data),
            Some(_) => (trail::Cookie::Valid, fresh()),
            None => (trail::Cookie::Invalid, fresh()),
        })
    }
}

impl Ring {
    /// The operator's; `None` where there are none.
    fn of(secrets: &[[u8; 16]]) -> Option<Self> {
        let (&signing, retired) = secrets.split_first()?;
        Some(Self { signing, retired: retired.into(), made: None })
    }

    fn made(now: Moment, retired: Box<[[u8; 16]]>) -> Self {
        Self { signing: rand::random(), retired, made: Some(now) }
    }

    fn sign(&self, client_cookie: [u8; CLIENT], client: &Client, now: u32) -> Data {
        let mut data = [0; WHOLE];
        let head = client_cookie.into_iter().chain(VERSION).chain(now.to_be_bytes());
        data.iter_mut().zip(head).for_each(|(place, octet)| *place = octet);
        if let Some((head, tail)) = data.split_last_chunk_mut::<8>() {
            *tail = hash(&self.signing, head, client).to_le_bytes();
        }
        data
    }

    fn signer(&self, data: &Data, client: &Client) -> Option<Signer> {
        let (head, tail) = data.split_last_chunk::<8>()?;
        if data.get(CLIENT) != VERSION.first() {
            return None;
        }
        let shown = u64::from_le_bytes(*tail);
        if hash(&self.signing, head, client) == shown {
            return Some(Signer::Current);
        }
        self.retired.iter().any(|secret| hash(secret, head, client) == shown).then_some(Signer::Retired)
    }
}

#[derive(Clone, Copy)]
enum Signer {
    Current,
    Retired,
}

/// A client's address as it goes into the hash: 4 octets or 16, never a mapped form (CKI-18).
struct Client {
    octets: [u8; 16],
    length: usize,
}

impl Client {
    fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self { octets: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], length: 4 }
            }
            IpAddr::V6(v6) => Self { octets: v6.octets(), length: 16 },
        }
    }
}

fn hash(secret: &[u8; 16], head: &[u8], client: &Client) -> u64 {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(head);
    hasher.write(client.octets.get(..client.length).unwrap_or_default());
    hasher.finish()
}

/// Seconds since the cookie was made, in serial arithmetic so that 2106 passes unnoticed (RFC 1982).
fn age(data: &Data, now: u32) -> i32 {
    let made = data.get(12..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |octets| u32::from_be_bytes(*octets));
    now.wrapping_sub(made).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::Cookie::{ClientOnly, Invalid, Valid};

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    fn cookies(secrets: &[&str]) -> Cookies {
        let secrets: Vec<[u8; 16]> = secrets.iter().map(|text| hex(text).try_into().unwrap()).collect();
        Cookies::new(&secrets, Moment(0))
    }

    const A: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const OLD: &str = "dd3bdf9344b678b185a6f5cb60fca715";
    const NEW: &str = "445536bcd2513298075a5d379663c962";
    const V1: &str = "2464c4abcf10c957 010000005cf79f11 1f8130c3eee29480";

    #[test]
    fn cki_02_03_04_v1_a_client_cookie_gets_it() {
        let (state, data) =
            cookies(&[A]).check(&hex("2464c4abcf10c957"), "198.51.100.100".parse().unwrap(), 1_559_731_985).unwrap();
        assert_eq!((state, data.to_vec()), (ClientOnly, hex(V1)));
    }

    #[test]
    fn cki_04_08_v2_a_cookie_of_forty_minutes_is_valid_and_renewed_to_it() {
        let (state, data) = cookies(&[A]).check(&hex(V1), "198.51.100.100".parse().unwrap(), 1_559_734_385).unwrap();
        assert_eq!((state, data.to_vec()), (Valid, hex("2464c4abcf10c957 010000005cf7a871 d4a564a1442aca77")));
    }

    #[test]
    fn cki_06_v3_v4_reserved_octets_are_hashed_as_received_and_sent_as_zero() {
        let (client, v3) =
            ("203.0.113.203".parse().unwrap(), hex("fc93fc62807ddb86 01abcdef5cf78f71 a314227b6679ebf5"));
        let young = cookies(&[A]).check(&v3, client, 1_559_727_985).unwrap();
        assert_eq!(young.0, Valid);
        let late = cookies(&[A]).check(&v3, client, 1_559_734_700).unwrap();
        assert_eq!((late.0, late.1.to_vec()), (Invalid, hex("fc93fc62807ddb86 010000005cf7a9ac f73a7810aca2381e")));
    }

    #[test]
    fn cki_16_17_v5_v6_rollover_verifies_with_the_old_secret_and_signs_with_the_new() {
        let client = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let v5 = hex("22681ab97d52c298 010000005cf7c579 26556bd0934c72f8");
        let v6 = hex("22681ab97d52c298 010000005cf7c609 a6bb79d16625507a");
        let (state, data) = cookies(&[NEW, OLD]).check(&v5, client, 1_559_741_961).unwrap();
        assert_eq!((state, data.to_vec()), (Valid, v6.clone()));
        assert_eq!(cookies(&[NEW]).check(&v5, client, 1_559_741_961).unwrap().0, Invalid, "the old secret was removed");
        assert_eq!(
            cookies(&[NEW]).check(&v6, client, 1_559_741_961).unwrap().0,
            Valid,
            "another instance, same secret"
        );
    }

    #[test]
    fn cki_07_timestamps_are_good_for_an_hour_and_five_minutes_ahead_also_over_the_wrap() {
        let (cookies, client) = (cookies(&[A]), "192.0.2.1".parse().unwrap());
        for made in [1_600_000_000u32, 100, u32::MAX - 100] {
            let (_, data) = cookies.check(&[7; 8], client, made).unwrap();
            let state = |offset: i64| {
                let now = (i64::from(made) + offset).rem_euclid(1 << 32);
                cookies.check(&data, client, u32::try_from(now).unwrap()).unwrap().0
            };
            assert_eq!([3599, 3601, -299, -301].map(state), [Valid, Invalid, Valid, Invalid], "made at {made}");
        }
    }

    #[test]
    fn cki_08_a_young_cookie_is_echoed() {
        let (state, data) =
            cookies(&[A]).check(&hex(V1), "198.51.100.100".parse().unwrap(), 1_559_731_985 + 1700).unwrap();
        assert_eq!((state, data.to_vec()), (Valid, hex(V1)));
        let (_, data) = cookies(&[A]).check(&hex(V1), "198.51.100.100".parse().unwrap(), 1_559_731_985 + 1900).unwrap();
        assert_ne!(data.to_vec(), hex(V1));
    }

    #[test]
    fn cki_09_any_flipped_bit_another_client_or_another_version_is_invalid() {
        let (cookies, client, now) = (cookies(&[A]), "198.51.100.100".parse().unwrap(), 1_559_731_985);
        for bit in 0..WHOLE * 8 {
            let mut flipped = hex(V1);
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cookies.check(&flipped, client, now).unwrap().0, Invalid, "bit {bit}");
        }
        assert_eq!(cookies.check(&hex(V1), "198.51.100.101".parse().unwrap(), now).unwrap().0, Invalid);
    }

    #[test]
    fn cki_05_only_24_octets_can_be_valid() {
        let (cookies, client) = (cookies(&[A]), "198.51.100.100".parse().unwrap());
        for length in [16, 23, 25, 36, 40] {
            let mut shown = hex(V1);
            shown.resize(length, 0);
            let (state, data) = cookies.check(&shown, client, 1_559_731_985).unwrap();
            assert_eq!((state, data.to_vec()), (Invalid, hex(V1)), "{length} octets");
        }
    }

    #[test]
    fn cki_18_a_mapped_address_is_the_ipv4_address_it_means() {
        let mapped = "::ffff:198.51.100.100".parse().unwrap();
        assert_eq!(cookies(&[A]).check(&hex(V1), mapped, 1_559_731_985).unwrap().0, Valid);
    }

    #[test]
    fn secrets_are_random_without_configuration_and_never_shown() {
        let (one, two) = (Cookies::new(&[], Moment(0)), Cookies::new(&[], Moment(0)));
        assert_ne!(one.ring.load().signing, two.ring.load().signing);
        assert!(!format!("{:?}", cookies(&[A])).contains("229"));
    }

    #[test]
    fn cki_17_a_secret_made_here_signs_for_a_day_and_verifies_for_as_long_as_its_cookies_are_good() {
        let (client, start) = ("192.0.2.1".parse().unwrap(), Moment(5_000));
        let cookies = Cookies::new(&[], start);
        let after = |seconds: u64| start.after(Duration::from_secs(seconds));
        // Unix time and ours go on together.
        let at = |seconds: u32| 1_700_000_000 + seconds;
        let turn = |seconds: u32| cookies.turn(after(seconds.into()));
        let state = |data: &Data, seconds| cookies.check(data, client, at(seconds)).unwrap().0;
        turn(86_399);
        let (_, last) = cookies.check(&[7; 8], client, at(86_399)).unwrap();
        turn(86_400);
        let (_, next) = cookies.check(&[7; 8], client, at(86_399)).unwrap();
        assert_ne!(last, next, "another secret signs");
        turn(86_400 + 3598);
        assert_eq!((state(&last, 86_400 + 3598), state(&next, 86_400)), (Valid, Valid));
        let renewed = cookies.check(&last, client, at(86_401)).unwrap();
        assert!(renewed.0 == Valid && renewed.1 != last, "what the old one signed is renewed at once");
        turn(86_400 + 3900);
        assert_eq!(
            (cookies.ring.load().retired.len(), state(&last, 86_400), state(&next, 86_400)),
            (0, Invalid, Valid)
        );
        turn(2 * 86_400);
        assert_eq!(cookies.ring.load().retired.len(), 1, "one at most");
    }

    #[test]
    fn a_secret_of_the_operators_is_turned_by_nobody_else() {
        let cookies = cookies(&[A, OLD]);
        cookies.turn(Moment(u64::MAX));
        assert!(cookies.ring.load().retired.len() == 1 && cookies.ring.load().signing == *hex(A));
        assert!(
            !cookies.replace(&[]) && !cookies.replace(&[hex(A), hex(OLD)].map(|secret| secret.try_into().unwrap()))
        );
        assert!(cookies.replace(&[[1; 16]]));
    }
}
