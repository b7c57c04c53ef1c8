//! Keys over time and between instances.

use std::time::{Duration, SystemTime};

use rustls::server::ProducesTickets as _;

use super::tickets::Tickets;
use super::*;

const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

/// The first second of an epoch of a day.
fn midnight() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

fn keys(secrets: &[u8], now: SystemTime) -> Arc<Keys> {
    let secrets = secrets.iter().map(|octet| Secret::new([*octet; 32])).collect();
    Arc::new(Keys::new(&Fleet { secrets, ..Fleet::default() }, now).unwrap())
}

fn opens(keys: &Keys, ticket: &[u8]) -> bool {
    keys.open_ticket(ticket).is_some_and(|plain| plain == b"state")
}

fn ticket(keys: &Keys) -> Vec<u8> {
    keys.seal_ticket(b"state").unwrap()
}

fn token(keys: &Keys) -> Vec<u8> {
    let mut data = b"address".to_vec();
    keys.seal_token(&[9; 16], &mut data).unwrap();
    data
}

fn opens_token(keys: &Keys, token: &[u8]) -> bool {
    keys.open_token(&[9; 16], &mut token.to_vec()).is_some_and(|plain| plain == b"address")
}

#[test]
fn tls_06_keys_turn_every_epoch_and_old_ones_are_accepted_for_one_more_then_gone() {
    for secrets in [&[][..], &[1]] {
        let keys = keys(secrets, midnight());
        let (first, first_token) = (ticket(&keys), token(&keys));
        assert_eq!(keys.turn(midnight() + DAY - SECOND), Ok(false));
        let last = ticket(&keys);
        assert_eq!(first[..8], last[..8], "one key for an epoch");
        assert_eq!(keys.turn(midnight() + DAY), Ok(true));
        assert_ne!(ticket(&keys)[..8], last[..8], "another one signs");
        assert!(opens(&keys, &first) && opens(&keys, &last) && opens_token(&keys, &first_token), "{secrets:?}");
        assert_eq!(keys.turn(midnight() + 2 * DAY - SECOND), Ok(false));
        assert!(opens(&keys, &last), "for the whole of the next epoch");
        assert_eq!(keys.turn(midnight() + 2 * DAY), Ok(true));
        assert!(!opens(&keys, &first) && !opens(&keys, &last) && !opens_token(&keys, &first_token), "{secrets:?}");
    }
}

#[test]
fn tls_06_and_doq_29_a_ticket_lives_for_half_an_epoch_and_no_longer_than_its_key() {
    let keys = keys(&[], midnight());
    let tickets = Tickets::new(Arc::clone(&keys), Doors::Stream);
    assert_eq!(u64::from(tickets.lifetime()), Duration::from_hours(12).as_secs());
    let made = tickets.encrypt(b"state").unwrap();
    let end_of_life = midnight() + DAY - SECOND + Duration::from_secs(tickets.lifetime().into());
    keys.turn(end_of_life).unwrap();
    assert_eq!(tickets.decrypt(&made).unwrap(), b"state");
    let week = Fleet { rotate: 7 * DAY, ..Fleet::default() };
    assert!(Keys::new(&week, midnight()).unwrap().life() < 7 * DAY);
}

#[test]
fn tls_07_instances_with_one_secret_open_each_others_tickets_tokens_and_cookies_and_no_others() {
    let (here, there, elsewhere) = (keys(&[1], midnight()), keys(&[1], midnight()), keys(&[2], midnight()));
    let alone = [keys(&[], midnight()), keys(&[], midnight())];
    assert!(opens(&there, &ticket(&here)) && opens_token(&there, &token(&here)));
    assert_eq!(here.cookies(), there.cookies());
    assert!(!opens(&elsewhere, &ticket(&here)) && !opens_token(&elsewhere, &token(&here)));
    assert!(here.cookies().iter().all(|secret| !elsewhere.cookies().contains(secret)));
    assert!(!opens(&alone[1], &ticket(&alone[0])) && !opens_token(&alone[1], &token(&alone[0])));
    assert!(alone[0].cookies().is_empty(), "cookies of one instance turn by their own clock");
}

#[test]
fn tls_07_clocks_that_differ_by_less_than_an_epoch_part_no_instances() {
    let (slow, fast) = (keys(&[1], midnight() - SECOND), keys(&[1], midnight()));
    assert_ne!(ticket(&slow)[..8], ticket(&fast)[..8], "they sign with different keys");
    assert!(opens(&slow, &ticket(&fast)) && opens(&fast, &ticket(&slow)));
    assert!(opens_token(&slow, &token(&fast)) && opens_token(&fast, &token(&slow)));
    assert!(slow.cookies().contains(&fast.cookies()[0]) && fast.cookies().contains(&slow.cookies()[0]));
}

#[test]
fn tls_07_a_rollover_in_three_stages_parts_no_instances() {
    let (old, both, turned, new) =
        (keys(&[1], midnight()), keys(&[1, 2], midnight()), keys(&[2, 1], midnight()), keys(&[2], midnight()));
    for (one, two) in [(&old, &both), (&both, &turned), (&turned, &new)] {
        assert!(opens(one, &ticket(two)) && opens(two, &ticket(one)));
        assert!(opens_token(one, &token(two)) && opens_token(two, &token(one)));
    }
    assert!(!opens(&new, &ticket(&old)));
    let secrets = [2, 1].map(|octet| Secret::new([octet; 32]));
    assert_eq!(both.replace(&secrets, midnight()), Ok(true));
    assert_eq!(ticket(&both)[..8], ticket(&turned)[..8]);
    assert_eq!(both.replace(&secrets, midnight()), Ok(false));
    assert_eq!(both.replace(&[], midnight()), Ok(false), "no secrets are no secrets");
}

#[test]
fn a_clock_that_leaps_or_goes_back_leaves_keys_that_work() {
    let keys = keys(&[], midnight());
    let before = ticket(&keys);
    assert_eq!(keys.turn(midnight() + 3 * DAY), Ok(true));
    assert!(!opens(&keys, &before), "two epochs were slept through");
    for back in [midnight(), SystemTime::UNIX_EPOCH - DAY] {
        assert_eq!(keys.turn(back), Ok(true));
        assert!(opens(&keys, &ticket(&keys)));
    }
}

#[test]
fn no_bit_of_a_ticket_or_token_can_be_changed_and_none_is_too_short_to_be_judged() {
    let keys = keys(&[1], midnight());
    let (ticket, token) = (ticket(&keys), token(&keys));
    assert_eq!(ticket.len(), b"state".len() + 36);
    assert!(opens(&keys, &ticket) && opens_token(&keys, &token));
    assert!(keys.open_token(&[8; 16], &mut token.clone()).is_none(), "another token's nonce");
    for bit in 0..ticket.len() * 8 {
        let mut forged = ticket.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(keys.open_ticket(&forged).is_none(), "bit {bit}");
    }
    for bit in 0..token.len() * 8 {
        let mut forged = token.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(keys.open_token(&[9; 16], &mut forged).is_none(), "bit {bit}");
    }
    for length in 0..ticket.len() {
        assert!(keys.open_ticket(&ticket[..length]).is_none());
    }
    for length in 0..token.len() {
        assert!(keys.open_token(&[9; 16], &mut token.clone()[..length]).is_none());
    }
}

#[test]
fn keys_of_one_use_tell_nothing_of_another_and_nobody_is_shown_any() {
    let keys = keys(&[0xab], midnight());
    let (ticket, token, cookie) = (ticket(&keys), token(&keys), keys.cookies()[0]);
    assert!(ticket[..4] != token[token.len() - 4..] && ticket[..8] != cookie[..8]);
    let fleet = Fleet { secrets: vec![Secret::new([0xab; 32])], ..Fleet::default() };
    for shown in [format!("{keys:?}"), format!("{fleet:?}"), format!("{:?}", Tickets::new(keys, Doors::Quic))] {
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, ") && !shown.contains("abab"), "{shown}");
    }
}

#[test]
fn tickets_are_counted_by_kind_of_door() {
    let keys = keys(&[], midnight());
    let [stream, quic] = Doors::ALL.map(|doors| Tickets::new(Arc::clone(&keys), doors));
    let made = stream.encrypt(b"state").unwrap();
    assert!(stream.decrypt(&made).is_some() && quic.decrypt(&made).is_some());
    assert!(quic.decrypt(b"no ticket of ours").is_none());
    assert_eq!(Doors::ALL.map(|doors| keys.tally().at(doors).values()), [[1, 1, 0], [0, 1, 1]]);
}
