//! Cookies toward plain servers (RFC 7873 5, RFC 9018 3): what is shown to each address, and what its answers must show.
//!
//! A server that gives cookies is safe from forgers off the path: they cannot know the client cookie. A client cookie is random,
//! one for each pair of a server's address and our own, so that it tells nobody who we were elsewhere (CKI-19, CKI-20).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::hop::Hop;
use crate::wire::registry::rcode;

/// Octets of a client cookie.
const CLIENT: usize = 8;
/// Octets of the longest client and server cookie together.
const LONGEST: usize = 40;
/// Addresses remembered for one server, far more than are tried: it may move.
const ADDRESSES: usize = 16;
/// How long a server that gave none is not shown another (RFC 9018 3).
const PAUSE: Duration = Duration::from_mins(5);

/// The data of a COOKIE option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    octets: [u8; LONGEST],
    length: usize,
}

/// What an answer's cookie, or its lack, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taste {
    /// Nothing speaks against the answer.
    Fine,
    /// The answer is not the server's, or the server has changed its ways: not to be believed (CKI-21).
    Doubtful,
    /// BADCOOKIE: ask again with what the jar holds now (CKI-22).
    Renew,
}

/// The cookies of one server, by its addresses.
#[derive(Debug, Default)]
pub struct Jar {
    /// The oldest first.
    known: Mutex<VecDeque<(SocketAddr, Standing)>>,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It has given a cookie to us at this address of ours.
    Gives { to: IpAddr, cookie: Cookie },
    /// It does not do cookies.
    Abstains { until: Instant },
}

impl Cookie {
    fn new(data: &[u8]) -> Option<Self> {
        let mut octets = [0; LONGEST];
        octets.get_mut(..data.len())?.copy_from_slice(data);
        Some(Self { octets, length: data.len() })
    }

    fn fresh() -> Option<Self> {
        Self::new(&rand::random::<[u8; CLIENT]>())
    }

    /// The option data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    fn client(&self) -> &[u8] {
        self.octets.get(..CLIENT).unwrap_or_default()
    }

    /// Does it hold a server cookie: does the server do cookies?
    const fn is_whole(&self) -> bool {
        self.length > CLIENT
    }
}

impl Jar {
    fn with<R>(&self, act: impl FnOnce(&mut VecDeque<(SocketAddr, Standing)>) -> R) -> R {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn standing(&self, address: SocketAddr) -> Option<Standing> {
        self.with(|known| known.iter().find(|(at, _)| *at == address).map(|&(_, standing)| standing))
    }

    fn set(&self, address: SocketAddr, standing: Standing) {
        self.with(|known| {
            known.retain(|(at, _)| *at != address);
            if known.len() >= ADDRESSES {
                known.pop_front();
            }
            known.push_back((address, standing));
        });
    }

    /// What the server at `address` is shown by us at `source`: its cookie, a new client cookie, or, for a while, nothing.
    #[must_use]
    pub fn show(&self, address: SocketAddr, source: IpAddr) -> Option<Cookie> {
        match self.standing(address) {
            Some(Standing::Gives { to, cookie }) if to == source => Some(cookie),
            Some(Standing::Abstains { until }) if Instant::now() < until => None,
            Some(Standing::Gives { .. } | Standing::Abstains { .. }) | None => Cookie::fresh(),
        }
    }

    /// What `answer`, of which `hop` was read, says to the cookie that was `shown`. Learns from it, from errors too.
    pub fn taste(&self, shown: Option<&Cookie>, place: (SocketAddr, IpAddr), answer: &[u8], hop: &Hop) -> Taste {
        let (address, source) = place;
        let verdict = if hop.rcode == rcode::BADCOOKIE { Taste::Renew } else { Taste::Fine };
        let Some(shown) = shown else {
            if verdict == Taste::Renew {
                self.forget(address);
            }
            return verdict;
        };
        match hop.cookie.map(|data| data.of(answer)) {
            Some(data) if (16..=LONGEST).contains(&data.len()) && data.starts_with(shown.client()) => {
                if let Some(cookie) = Cookie::new(data) {
                    self.set(address, Standing::Gives { to: source, cookie });
                }
                verdict
            }
            // Without a server cookie: the option was not understood, or sent back as any unknown one.
            None => self.miss(address, shown, verdict),
            Some(data) if data == shown.data() => self.miss(address, shown, verdict),
            Some(_) => Taste::Doubtful,
        }
    }

    fn miss(&self, address: SocketAddr, shown: &Cookie, verdict: Taste) -> Taste {
        if shown.is_whole() {
            return Taste::Doubtful;
        }
        // Another question may have brought a cookie meanwhile.
        if verdict == Taste::Fine && !matches!(self.standing(address), Some(Standing::Gives { .. })) {
            self.set(address, Standing::Abstains { until: Instant::now() + PAUSE });
        }
        verdict
    }

    /// Forgets all, and shows nothing for a while: the server has stopped doing cookies.
    pub fn give_up(&self) {
        let until = Instant::now() + PAUSE;
        self.with(|known| known.iter_mut().for_each(|(_, standing)| *standing = Standing::Abstains { until }));
    }

    fn forget(&self, address: SocketAddr) {
        self.with(|known| known.retain(|(at, _)| *at != address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Span;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 53))
    }

    fn taste(jar: &Jar, shown: Option<Cookie>, rcode: u16, data: Option<&[u8]>) -> Taste {
        let cookie = data.map(|data| Span { start: 0, end: u16::try_from(data.len()).unwrap() });
        let hop = Hop { rcode, edns: true, cookie };
        jar.taste(shown.as_ref(), (at(1), SOURCE), data.unwrap_or_default(), &hop)
    }

    fn whole(shown: &Cookie, server: &[u8]) -> Vec<u8> {
        [shown.client(), server].concat()
    }

    #[tokio::test]
    async fn cki_19_a_cookie_is_random_for_each_address_and_shown_again_with_what_the_server_added() {
        let jar = Jar::default();
        let (one, two) = (jar.show(at(1), SOURCE).unwrap(), jar.show(at(2), SOURCE).unwrap());
        assert_eq!((one.data().len(), two.data().len()), (8, 8));
        assert_ne!(one.data(), two.data());
        let given = whole(&one, &[5; 16]);
        assert_eq!(taste(&jar, Some(one), 0, Some(&given)), Taste::Fine);
        assert_eq!(jar.show(at(1), SOURCE).unwrap().data(), given);
        assert_ne!(jar.show(at(2), SOURCE).unwrap().data(), two.data(), "never the same twice without a server cookie");
    }

    #[tokio::test]
    async fn cki_20_another_source_address_gets_another_client_cookie() {
        let jar = Jar::default();
        let one = jar.show(at(1), SOURCE).unwrap();
        taste(&jar, Some(one), 0, Some(&whole(&one, &[5; 8])));
        let moved = jar.show(at(1), "192.0.2.10".parse().unwrap()).unwrap();
        assert!(!moved.is_whole() && moved.client() != one.client());
    }

    #[tokio::test(start_paused = true)]
    async fn cki_20_a_server_without_cookies_is_left_alone_for_five_minutes() {
        for echo in [false, true] {
            let jar = Jar::default();
            let one = jar.show(at(1), SOURCE).unwrap();
            assert_eq!(taste(&jar, Some(one), 0, echo.then_some(one.data())), Taste::Fine);
            assert_eq!(jar.show(at(1), SOURCE), None);
            assert_eq!(taste(&jar, None, 0, None), Taste::Fine);
            tokio::time::advance(PAUSE).await;
            assert_ne!(jar.show(at(1), SOURCE).unwrap(), one);
        }
    }

    #[tokio::test]
    async fn cki_21_wrong_cookies_illegal_lengths_and_a_missing_one_are_doubtful() {
        let jar = Jar::default();
        let one = jar.show(at(1), SOURCE).unwrap();
        for data in [&[9; 24][..], &[], &one.data()[..7], &whole(&one, &[5; 7]), &whole(&one, &[5; 33])] {
            assert_eq!(taste(&jar, Some(one), 0, Some(data)), Taste::Doubtful, "{data:02x?}");
        }
        assert!(!jar.show(at(1), SOURCE).unwrap().is_whole(), "nothing was learned");
        taste(&jar, Some(one), 0, Some(&whole(&one, &[5; 8])));
        let kept = jar.show(at(1), SOURCE).unwrap();
        assert_eq!(taste(&jar, Some(kept), 0, None), Taste::Doubtful);
        assert_eq!(taste(&jar, Some(kept), 0, Some(kept.client())), Taste::Doubtful);
        assert_eq!(jar.show(at(1), SOURCE), Some(kept));
    }

    #[tokio::test]
    async fn cki_22_errors_bring_cookies_too_and_badcookie_asks_again() {
        let jar = Jar::default();
        let one = jar.show(at(1), SOURCE).unwrap();
        assert_eq!(taste(&jar, Some(one), 2, Some(&whole(&one, &[5; 8]))), Taste::Fine);
        let kept = jar.show(at(1), SOURCE).unwrap();
        assert_eq!(kept.data(), whole(&one, &[5; 8]));
        assert_eq!(taste(&jar, Some(kept), 23, Some(&whole(&one, &[6; 16]))), Taste::Renew);
        assert_eq!(jar.show(at(1), SOURCE).unwrap().data(), whole(&one, &[6; 16]));
    }

    #[tokio::test]
    async fn badcookie_to_a_question_without_one_ends_the_pause() {
        let jar = Jar::default();
        taste(&jar, jar.show(at(1), SOURCE), 0, None);
        assert_eq!(taste(&jar, None, 23, None), Taste::Renew);
        assert!(jar.show(at(1), SOURCE).is_some());
    }

    #[tokio::test]
    async fn a_server_that_moves_about_is_remembered_at_few_addresses() {
        let jar = Jar::default();
        for last in 0..=255 {
            jar.set(at(last), Standing::Abstains { until: Instant::now() + PAUSE });
        }
        assert_eq!(jar.with(|known| known.len()), ADDRESSES);
    }
}
