//! Claims about the cache as a whole: what it serves.

mod eviction;
mod share;
mod walk;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::reply::Meta;
use crate::wire::Flags;

const NOW: Moment = Moment(1_000_000);

fn cache(size: usize) -> Cache {
    Cache::new(&Settings { size, ..Settings::default() })
}

fn key(n: u64) -> Key {
    let label = format!("{n:016x}");
    let question = [b"\x10", label.as_bytes(), b"\x07example\0\0\x01\0\x01"].concat();
    Key::new(&question, Bits::default(), 0, 0)
}

fn meta(lifetime: u32) -> Meta {
    Meta {
        received: NOW,
        lifetime,
        flags: Flags(Flags::QR),
        kind: Kind::Positive,
        additional_at: 40,
        supplier: UpstreamId(3),
        ..Meta::default()
    }
}

/// A message that only its number and version make, so that a mix-up of bytes shows.
fn message(n: u64, version: u32, length: usize) -> Vec<u8> {
    let seed = [&n.to_be_bytes()[..], &version.to_be_bytes()].concat();
    seed.iter().copied().cycle().take(length.max(seed.len())).collect()
}

fn put(cache: &Cache, n: u64, message: &[u8], now: Moment) -> Inserted {
    let meta = Meta { received: now, ..meta(60) };
    cache.insert(&key(n), Stored { meta, message, ttls: &[0, 12] }, now)
}

fn found(cache: &Cache, n: u64, now: Moment) -> Option<Vec<u8>> {
    cache.lookup(&key(n), now, |stored| {
        assert_eq!(stored.ttls, [0, 12]);
        stored.message.to_vec()
    })
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn what_is_kept_is_found_with_its_facts() {
    let cache = cache(1 << 20);
    let meta = Meta { kind: Kind::NxDomain, ede: Some(15), rcode: 3, additionals: 2, ..meta(60) };
    let stored = Stored { meta, message: b"twelve octets", ttls: &[0, 1, 0, 9] };
    assert_eq!(cache.insert(&key(1), stored, NOW), Inserted::Kept);
    let same = cache.lookup(&key(1), NOW, |found| {
        let lifetime = found.meta.lifetime;
        assert!((57..=60).contains(&lifetime), "{lifetime}");
        let meta = Meta { lifetime, ..meta };
        assert_eq!((found.meta, found.message, found.ttls), (meta, stored.message, stored.ttls));
    });
    assert_eq!(same, Some(()));
    assert_eq!(found(&cache, 2, NOW), None);
}

#[test]
fn ttl_02_an_expired_answer_is_not_served_but_stays_for_stale_use() {
    let cache = cache(1 << 20);
    put(&cache, 1, b"a", NOW);
    assert!(found(&cache, 1, Moment(NOW.0 + 56_999)).is_some());
    assert_eq!(found(&cache, 1, Moment(NOW.0 + 60_000)), None);
    let facts = cache.peek(&key(1), Moment(NOW.0 + 61_000)).unwrap();
    assert_eq!((facts.age, facts.left, facts.hits), (61, 0, 1));
    assert_eq!(cache.stats().entries, 1);
}

#[test]
fn answers_that_came_together_with_one_ttl_do_not_expire_at_one_instant_and_none_outlives_it() {
    let cache = cache(1 << 20);
    for n in 0..300 {
        put(&cache, n, b"a", NOW);
    }
    let mut fresh_at = Vec::new();
    for second in 56..=60 {
        let now = Moment(NOW.0 + second * 1000);
        let count = (0..300).filter(|&n| found(&cache, n, now).is_some()).count();
        let left = (0..300).filter(|&n| cache.peek(&key(n), now).is_some_and(|facts| facts.left > 0)).count();
        assert_eq!(count, left, "what is told of an entry is what it does");
        fresh_at.push(count);
    }
    assert_eq!((fresh_at[0], fresh_at[4]), (300, 0));
    assert!(fresh_at.windows(2).all(|pair| pair[0] > pair[1] + 20), "{fresh_at:?}");
}

#[test]
fn ttl_04_what_is_fleeting_is_not_kept_and_leaves_the_older_answer() {
    let cache = cache(1 << 20);
    put(&cache, 1, b"a", NOW);
    let stored = Stored { meta: meta(0), message: b"b", ttls: &[] };
    assert_eq!(cache.insert(&key(1), stored, NOW), Inserted::Fleeting);
    let stored = Stored { meta: Meta { kind: Kind::Fleeting, ..meta(60) }, message: b"b", ttls: &[] };
    assert_eq!(cache.insert(&key(1), stored, NOW), Inserted::Fleeting);
    assert_eq!(found(&cache, 1, NOW).unwrap(), b"a");
}

#[test]
fn ttl_09_bits_view_and_route_keep_answers_apart() {
    let cache = cache(1 << 20);
    let question = b"\x01a\0\0\x01\0\x01";
    let keys: Vec<Key> = (0..16_u8)
        .map(|n| {
            let bits = Bits { dnssec_ok: n & 1 != 0, checking_disabled: n & 2 != 0 };
            Key::new(question, bits, u16::from(n & 4), u64::from(n & 8) << 50)
        })
        .collect();
    for (n, key) in keys.iter().enumerate() {
        let message = [u8::try_from(n).unwrap()];
        cache.insert(key, Stored { meta: meta(60), message: &message, ttls: &[] }, NOW);
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(cache.lookup(key, NOW, |stored| usize::from(stored.message[0])), Some(n));
    }
}

#[test]
fn peek_tells_facts_and_is_no_visit() {
    let cache = cache(1 << 20);
    put(&cache, 1, b"a", NOW);
    found(&cache, 1, NOW);
    found(&cache, 1, NOW);
    let facts = cache.peek(&key(1), Moment(NOW.0 + 1500)).unwrap();
    assert_eq!((facts.age, facts.hits, facts.supplier), (1, 2, UpstreamId(3)));
    assert!((56..=59).contains(&facts.left), "{facts:?}");
    assert!(facts.size > 48);
    assert_eq!(cache.peek(&key(1), NOW).unwrap().hits, 2);
    assert_eq!(cache.peek(&key(2), NOW), None);
}

#[test]
fn replacement_serves_the_newer_answer_and_removal_none() {
    let cache = cache(1 << 20);
    put(&cache, 1, b"older", NOW);
    put(&cache, 1, b"newer and longer", NOW);
    assert_eq!(found(&cache, 1, NOW).unwrap(), b"newer and longer");
    assert_eq!(cache.stats().entries, 1);
    assert!(cache.remove(&key(1)));
    assert!(!cache.remove(&key(1)));
    assert_eq!(found(&cache, 1, NOW), None);
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.octets_used, stats.inserted, stats.evicted), (0, 0, 2, 0));
}

#[test]
fn off_keeps_nothing_and_holds_nothing() {
    for size in [0, 4095] {
        let cache = cache(size);
        assert_eq!(put(&cache, 1, b"a", NOW), Inserted::Off);
        assert_eq!(found(&cache, 1, NOW), None);
        assert_eq!(cache.footprint(), 0);
        assert!(!cache.remove(&key(1)));
        cache.flush_all();
    }
}

#[test]
fn the_longest_message_is_kept_by_any_cache_from_one_mebibyte_on() {
    for size in [1 << 20, 64 << 20] {
        let cache = cache(size);
        let long = message(1, 1, 65_535);
        assert_eq!(put(&cache, 1, &long, NOW), Inserted::Kept);
        assert_eq!(found(&cache, 1, NOW).unwrap(), long);
    }
}

#[test]
fn what_is_large_for_the_cache_waits_for_a_second_question_and_what_is_too_large_is_counted() {
    let cache = cache(64 << 10);
    put(&cache, 1, b"older", NOW);
    let large = message(1, 1, 10_000);
    assert_eq!(put(&cache, 1, &large, NOW), Inserted::Deferred);
    assert_eq!(found(&cache, 1, NOW), None, "the older answer is no more");
    assert_eq!(put(&cache, 1, &large, NOW), Inserted::Kept);
    assert_eq!(found(&cache, 1, NOW).unwrap(), large);
    assert_eq!(put(&cache, 2, &message(2, 1, 20_000), NOW), Inserted::TooLarge);
    assert_eq!(put(&cache, 2, &message(2, 1, 70_000), NOW), Inserted::TooLarge);
    assert_eq!(cache.stats().rejected, 2, "one deferred, one too large; what is no DNS message is not counted");
}

#[test]
fn flush_empties_and_the_cache_works_on() {
    let cache = cache(4 << 20);
    for n in 0..1000 {
        put(&cache, n, &message(n, 0, 100), NOW);
    }
    let before = cache.footprint();
    cache.flush_all();
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.octets_used, stats.inserted), (0, 0, 1000));
    assert_eq!(cache.footprint(), before);
    assert!((0..1000).all(|n| found(&cache, n, NOW).is_none()));
    put(&cache, 1, b"a", NOW);
    assert!(found(&cache, 1, NOW).is_some());
}

#[test]
fn what_is_restored_is_found_with_its_hits_and_never_in_the_place_of_what_has_come_since() {
    let cache = cache(1 << 20);
    put(&cache, 1, b"newer answer", NOW);
    let received = Moment(NOW.0 - 20_000);
    let stored =
        |lifetime| Stored { meta: Meta { received, ..meta(lifetime) }, message: b"older answer", ttls: &[0, 12] };
    assert!(!cache.restore(&key(1), stored(60), 5, NOW));
    assert_eq!(found(&cache, 1, NOW).unwrap(), b"newer answer");
    assert!(cache.restore(&key(2), stored(60), 5, NOW));
    assert_eq!(found(&cache, 2, NOW).unwrap(), b"older answer");
    let facts = cache.peek(&key(2), NOW).unwrap();
    assert_eq!((facts.age, facts.left, facts.hits), (20, 40, 6));
    assert!(!cache.restore(&key(3), stored(0), 5, NOW), "what is fleeting is not kept");
}

#[test]
fn a_poisoned_shard_is_emptied_and_works_on() {
    let cache = cache(64 << 10);
    put(&cache, 1, b"a", NOW);
    let died = catch_unwind(AssertUnwindSafe(|| cache.lookup(&key(1), NOW, |_| panic!("on purpose"))));
    assert!(died.is_err());
    assert_eq!(found(&cache, 1, NOW), None);
    assert_eq!(put(&cache, 1, b"b", NOW), Inserted::Kept);
    assert_eq!(found(&cache, 1, NOW).unwrap(), b"b");
}

#[test]
fn two_threads_never_see_a_torn_or_foreign_answer() {
    let cache = cache(64 << 10);
    let (started, seen) = (AtomicBool::new(false), AtomicBool::new(false));
    let hammer = |seed: u64| {
        let mut state = seed;
        for step in 0..40_000_u32 {
            let n = random(&mut state) % 700;
            if step % 3 == 0 {
                put(&cache, n, &message(n, 7, 12 + usize::try_from(random(&mut state) % 400).unwrap()), NOW);
            } else if step % 1001 == 0 {
                cache.flush_all();
            } else if let Some(octets) = found(&cache, n, NOW) {
                assert_eq!(octets, message(n, 7, octets.len()));
                seen.store(true, Ordering::Relaxed);
            }
            started.store(true, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| hammer(1));
        scope.spawn(|| hammer(2));
    });
    assert!(started.into_inner() && seen.into_inner());
    let stats = cache.stats();
    assert!(stats.octets_used <= stats.octets_allowed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Small rings wrap many times; lengths from nothing to over the limits.
    #[test]
    fn anything_found_is_what_was_inserted_last(
        size in 4096_usize..40_000,
        steps in prop::collection::vec((0_u64..60, 0_u8..10, prop_oneof![9 => 0_usize..300, 1 => 0_usize..4000]), 200..1500),
    ) {
        let cache = cache(size);
        let mut model: HashMap<u64, Vec<u8>> = HashMap::new();
        let mut now = NOW;
        for (version, (n, action, length)) in (0_u32..).zip(steps) {
            match action {
                0..4 => {
                    let message = message(n, version, length);
                    match put(&cache, n, &message, now) {
                        Inserted::Kept => {
                            prop_assert_eq!(found(&cache, n, now), Some(message.clone()));
                            model.insert(n, message);
                        }
                        Inserted::Deferred | Inserted::TooLarge => { model.remove(&n); }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                4 => {
                    let known = model.remove(&n).is_some();
                    prop_assert!(known || !cache.remove(&key(n)));
                    cache.remove(&key(n));
                    prop_assert_eq!(found(&cache, n, now), None);
                }
                5 => now = Moment(now.0 + 3000),
                _ => if let Some(octets) = found(&cache, n, now) {
                    prop_assert_eq!(Some(&octets), model.get(&n));
                }
            }
            let stats = cache.stats();
            prop_assert!(stats.entries <= model.len() as u64);
            prop_assert!(stats.octets_used <= size as u64);
        }
        let held: usize = model.keys().filter_map(|&n| cache.peek(&key(n), now)).map(|facts| facts.size).sum();
        prop_assert_eq!(cache.stats().octets_used, held as u64);
    }
}
