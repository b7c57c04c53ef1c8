//! Access, cookie, limit: whether a question is heard at all. Nothing is parsed, looked up or sent for one that is not.
//!
//! A message that is no query walks here too, so that a FORMERR or BADVERS is never a way round the limiter.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::cookie::Cookies;
use super::rcode::{self, Problem};
use super::settings::{CookieRule, Settings};
use super::walk::Walk;
use crate::clock::Moment;
use crate::guard::{Guard, Rate, Refuse, Source};
use crate::peer::Peer;
use crate::reply::Why;
use crate::trail::{Access, Cookie, Limit};

/// How the admission ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The question is heard.
    Pass,
    /// It is answered at once, without data.
    Answer(Problem),
    /// It is not answered.
    Silence(Why),
}

/// May this client ask at this door? Refusals are limited as answers are: whose address is forged shall not be flooded with them.
pub fn access(guard: &Guard, peer: &Peer, now: Moment, walk: &mut Walk<'_>) -> Admission {
    let known = guard.know(peer);
    if guard.hears(peer, known) {
        if let Some(known) = known {
            known.count();
        }
        walk.trail.access = Access::Allowed;
        return Admission::Pass;
    }
    walk.trail.access = Access::Denied;
    if !peer.transport.is_datagram() {
        return Admission::Answer(rcode::NOT_ALLOWED);
    }
    if guard.refuse() == Refuse::Drop {
        return Admission::Silence(Why::Access);
    }
    match guard.rate(peer, Source::Claimed, now) {
        Rate::Exempt | Rate::Within => Admission::Answer(rcode::NOT_ALLOWED),
        Rate::Over | Rate::FarOver => {
            walk.trail.limit = Limit::Drop;
            Admission::Silence(Why::Access)
        }
    }
}

/// Judges the cookie in `message` and notes the one that the reply carries.
pub fn cookie(cookies: &Cookies, client: IpAddr, message: &[u8], walk: &mut Walk<'_>) {
    let Some(shown) = walk.edns.filter(|edns| edns.version == 0).and_then(|edns| edns.cookie) else { return };
    if let Some((state, data)) = cookies.check(shown.of(message), client, unix_time()) {
        walk.trail.cookie = state;
        walk.cookie = Some(data);
    }
}

/// Unix seconds; the wrap in 2106 is part of the cookie's arithmetic.
fn unix_time() -> u32 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u32::try_from(since.as_secs() & 0xffff_ffff).unwrap_or_default())
}

/// What stands for the client's address?
pub fn source(walk: &Walk<'_>) -> Source {
    if walk.transport.is_datagram() && walk.trail.cookie != Cookie::Valid { Source::Claimed } else { Source::Proven }
}

/// Does the client ask too much? What a spoofed source could have sent is not answered with more than a hint to prove itself.
///
/// `refuse` is how the guard lets refused clients hear of it.
pub fn limit(rate: Rate, refuse: Refuse, settings: &Settings, walk: &mut Walk<'_>) -> Admission {
    let datagram = walk.transport.is_datagram();
    let proven = source(walk) == Source::Proven;
    let (limit, admission) = match rate {
        Rate::Exempt => (Limit::Unasked, unproven(settings, proven, walk)),
        Rate::Within => (Limit::Pass, unproven(settings, proven, walk)),
        Rate::Over if !datagram => (Limit::Refuse, Admission::Answer(rcode::OVER_RATE)),
        Rate::Over if proven => (Limit::Pass, Admission::Pass),
        Rate::Over if walk.cookie.is_some() && settings.require_cookie != CookieRule::Never => {
            (Limit::Refuse, Admission::Answer(rcode::BAD_COOKIE))
        }
        Rate::Over => (Limit::Truncate, Admission::Answer(rcode::PROVE_ADDRESS)),
        Rate::FarOver if !datagram || (proven && refuse == Refuse::Answer) => {
            (Limit::Refuse, Admission::Answer(rcode::OVER_RATE))
        }
        Rate::FarOver => (Limit::Drop, Admission::Silence(Why::Limit)),
    };
    walk.trail.limit = limit;
    admission
}

/// What a client within its rate is told when it has not proven its address and always must.
fn unproven(settings: &Settings, proven: bool, walk: &Walk<'_>) -> Admission {
    if proven || !settings.cookies || settings.require_cookie != CookieRule::Always {
        return Admission::Pass;
    }
    // Who asks for a server cookie and nothing else has none to show yet: NOERROR, and that cookie (RFC 7873 5.4; CKI-15).
    if walk.header.questions == 0 && walk.trail.cookie == Cookie::ClientOnly {
        return Admission::Pass;
    }
    // BADCOOKIE needs a cookie to answer with; a client that sent none can still prove itself over TCP (RFC 7873 5.2.1).
    Admission::Answer(if walk.cookie.is_some() { rcode::BAD_COOKIE } else { rcode::PROVE_ADDRESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard;
    use crate::peer::{DoorId, Transport};
    use crate::pipeline::tests::settings;
    use crate::wire::{Edns, Header};

    fn walk(transport: Transport, cookie: Cookie) -> Walk<'static> {
        let header = Header { questions: 1, ..Header::default() };
        let mut walk = Walk::bare(header, Some(Edns::default()), transport);
        walk.trail.cookie = cookie;
        walk.cookie = (cookie != Cookie::Absent).then_some([0; 24]);
        walk
    }

    fn limited(rate: Rate, transport: Transport, cookie: Cookie, rule: CookieRule) -> (Limit, Admission) {
        let mut walk = walk(transport, cookie);
        let settings = Settings { require_cookie: rule, ..settings() };
        let admission = limit(rate, Refuse::Answer, &settings, &mut walk);
        (walk.trail.limit, admission)
    }

    #[test]
    fn refusals_are_limited_like_answers_so_that_nobody_is_flooded_with_them() {
        let settings = guard::Settings {
            allow: vec![Vec::new()],
            connections: 1,
            connections_per_client: 1,
            queries_per_second: 2,
            ..guard::Settings::default()
        };
        for transport in Transport::ALL {
            let guard = Guard::new(settings.clone());
            let address = "192.0.2.9:53".parse().unwrap();
            let peer = Peer::new(address, address, DoorId(0), transport);
            let mut heard = [0; 2];
            for _ in 0..5 {
                let mut walk = walk(transport, Cookie::Absent);
                match access(&guard, &peer, Moment(0), &mut walk) {
                    Admission::Answer(problem) => heard[0] += u32::from(problem == rcode::NOT_ALLOWED),
                    Admission::Silence(why) => {
                        assert_eq!((why, walk.trail.limit), (Why::Access, Limit::Drop));
                        heard[1] += 1;
                    }
                    Admission::Pass => panic!("let in"),
                }
                assert_eq!(walk.trail.access, Access::Denied);
            }
            assert_eq!(heard, if transport.is_datagram() { [2, 3] } else { [5, 0] }, "{transport:?}");
        }
    }

    #[test]
    fn over_its_rate_a_udp_client_must_prove_its_address_and_a_stream_client_is_refused() {
        let over = |transport| limited(Rate::Over, transport, Cookie::Absent, CookieRule::Never);
        assert_eq!(over(Transport::Udp), (Limit::Truncate, Admission::Answer(rcode::PROVE_ADDRESS)));
        for transport in Transport::ALL.into_iter().filter(|transport| !transport.is_datagram()) {
            assert_eq!(over(transport), (Limit::Refuse, Admission::Answer(rcode::OVER_RATE)));
        }
        let far = |transport| limited(Rate::FarOver, transport, Cookie::Absent, CookieRule::Never);
        assert_eq!(far(Transport::Udp), (Limit::Drop, Admission::Silence(Why::Limit)));
        assert_eq!(far(Transport::Tcp), (Limit::Refuse, Admission::Answer(rcode::OVER_RATE)));
    }

    #[test]
    fn cki_14_a_valid_cookie_lifts_what_is_there_against_spoofing() {
        let valid = |rate| limited(rate, Transport::Udp, Cookie::Valid, CookieRule::WhenBusy);
        assert_eq!(valid(Rate::Over), (Limit::Pass, Admission::Pass));
        assert_eq!(valid(Rate::FarOver), (Limit::Refuse, Admission::Answer(rcode::OVER_RATE)));
        let mut walk = walk(Transport::Udp, Cookie::Valid);
        let silent = limit(Rate::FarOver, Refuse::Drop, &settings(), &mut walk);
        assert_eq!(silent, Admission::Silence(Why::Limit));
    }

    #[test]
    fn cki_10_busy_or_always_a_cookie_without_proof_gets_badcookie() {
        for cookie in [Cookie::ClientOnly, Cookie::Invalid] {
            let told = |rate, rule| limited(rate, Transport::Udp, cookie, rule).1;
            assert_eq!(told(Rate::Over, CookieRule::WhenBusy), Admission::Answer(rcode::BAD_COOKIE));
            assert_eq!(told(Rate::Within, CookieRule::WhenBusy), Admission::Pass);
            assert_eq!(told(Rate::Within, CookieRule::Always), Admission::Answer(rcode::BAD_COOKIE));
            assert_eq!(told(Rate::Exempt, CookieRule::Always), Admission::Answer(rcode::BAD_COOKIE));
            assert_eq!(told(Rate::Over, CookieRule::Never), Admission::Answer(rcode::PROVE_ADDRESS));
        }
    }

    #[test]
    fn cki_12_a_client_without_cookies_proves_itself_over_tcp() {
        let told = limited(Rate::Within, Transport::Udp, Cookie::Absent, CookieRule::Always).1;
        assert_eq!(told, Admission::Answer(rcode::PROVE_ADDRESS));
    }

    #[test]
    fn cki_11_streams_never_hear_badcookie() {
        for transport in Transport::ALL.into_iter().filter(|transport| !transport.is_datagram()) {
            let told = limited(Rate::Within, transport, Cookie::Invalid, CookieRule::Always);
            assert_eq!(told, (Limit::Pass, Admission::Pass));
        }
    }
}
