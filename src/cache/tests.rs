//! Claims about the cache as a whole.

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
        http_lifetime: lifetime,
        rcode: 0,
        flags: Flags(Flags::QR),
        kind: Kind::Positive,
        additional_at: 40,
        additionals: 0,
        supplier: UpstreamId(3),
        ede: None,
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
        assert_eq!((found.meta, found.message, found.ttls), (meta, stored.message, stored.ttls));
    });
    assert_eq!(same, Some(()));
    assert_eq!(found(&cache, 2, NOW), None);
}

#[test]
fn ttl_02_an_expired_answer_is_not_served_but_stays_for_stale_use() {
    let cache = cache(1 << 20);
    put(&cache, 1, b"a", NOW);
    assert!(found(&cache, 1, Moment(NOW.0 + 59_999)).is_some());
    assert_eq!(found(&cache, 1, Moment(NOW.0 + 60_000)), None);
    let facts = cache.peek(&key(1), Moment(NOW.0 + 61_000)).unwrap();
    assert_eq!((facts.age, facts.left, facts.hits), (61, 0, 1));
    assert_eq!(cache.stats().entries, 1);
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
    assert_eq!((facts.age, facts.left, facts.hits, facts.supplier), (1, 59, 2, UpstreamId(3)));
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
fn ttl_15_memory_stays_within_the_budget_through_ten_turnovers() {
    for size in [4 << 10, 64 << 10, 1_000_000, 4 << 20] {
        let cache = cache(size);
        let before = cache.footprint();
        let (mut offered, mut n, mut seed) = (0, 0, 88_172_645_463_325_252);
        while offered < size * 10 {
            let message = message(n, 0, 30 + usize::try_from(random(&mut seed) % 300).unwrap());
            put(&cache, n, &message, NOW);
            found(&cache, n.saturating_sub(random(&mut seed) % 50), NOW);
            offered += message.len();
            n += 1;
        }
        assert_eq!(cache.footprint(), before, "nothing grows");
        assert!(before <= size, "{before} of {size}");
        let stats = cache.stats();
        assert!(size < 64 << 10 || stats.octets_used * 10 >= size as u64 * 7, "{stats:?}");
        assert_eq!(stats.inserted, stats.entries + stats.evicted);
    }
}

#[test]
fn ttl_15_entries_smaller_than_the_index_expects_stay_within_the_budget_too() {
    let cache = cache(1 << 20);
    for n in 0..200_000_u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let key = Key::new(&[4, a, b, c, d, 0, 0, 1, 0, 1], Bits::default(), 0, 0);
        let stored = Stored { meta: meta(60), message: &[a, b, c, d], ttls: &[] };
        assert_eq!(cache.insert(&key, stored, NOW), Inserted::Kept);
        assert_eq!(cache.lookup(&key, NOW, |stored| stored.message.to_vec()), Some(vec![a, b, c, d]));
    }
    assert!(cache.footprint() <= 1 << 20);
    assert!(cache.stats().entries >= 7000, "{:?}", cache.stats());
}

#[test]
fn ttl_15_expired_answers_make_room_before_fresh_ones() {
    let cache = cache(64 << 10);
    for n in 0..1000 {
        put(&cache, n, &message(n, 0, 100), NOW);
    }
    let later = Moment(NOW.0 + 60_000);
    let room = cache.stats().entries;
    for n in 1000..1000 + room * 2 {
        put(&cache, n, &message(n, 0, 100), later);
    }
    let fresh = (1000..1000 + room * 2).filter(|&n| found(&cache, n, later).is_some()).count() as u64;
    assert!(fresh * 10 >= room * 9, "{fresh} of {room}");
}

/// The hit ratio of a hot set of 5 % of the capacity while eight names that never return come in for each hot question.
pub fn hot_ratio_under_scan(size: usize) -> f64 {
    let cache = cache(size);
    let capacity = size as u64 / 190;
    let hot = capacity / 20;
    let (mut cold, mut state) = (1 << 40, 88_172_645_463_325_252);
    let (mut asked, mut hits) = (0_u32, 0_u32);
    for round in 0..hot * 100 {
        let n = random(&mut state) % hot;
        let hit = cache.lookup(&key(n), NOW, |_| ()).is_some();
        if !hit {
            put(&cache, n, &message(n, 0, 80), NOW);
        }
        if round >= hot * 20 {
            asked += 1;
            hits += u32::from(hit);
        }
        for _ in 0..8 {
            put(&cache, cold, &message(cold, 0, 80), NOW);
            cold += 1;
        }
    }
    f64::from(hits) / f64::from(asked)
}

#[test]
fn a_scan_does_not_displace_what_is_asked_often() {
    let ratio = hot_ratio_under_scan(1 << 20);
    println!("hot-set hit ratio under a scan: {ratio:.4}");
    assert!(ratio >= 0.95, "{ratio}");
}

/// Puts each of `names` once: a scan.
fn flood(cache: &Cache, names: std::ops::Range<u64>) {
    for n in names {
        put(cache, n, &message(n, 0, 100), NOW);
    }
}

/// How many of `names` are held.
fn held(cache: &Cache, names: std::ops::Range<u64>) -> usize {
    names.filter(|&n| cache.peek(&key(n), NOW).is_some()).count()
}

#[test]
fn names_that_come_back_after_they_were_dropped_stay_and_renewal_does_not_cost_them_their_place() {
    let cache = cache(64 << 10);
    flood(&cache, 10_000..10_600);
    flood(&cache, 0..20);
    // Enough to push them out of the small ring, less than the ghost remembers.
    flood(&cache, 20_000..20_100);
    assert_eq!(held(&cache, 0..20), 0);
    flood(&cache, 0..20);
    flood(&cache, 30_000..30_600);
    assert_eq!(held(&cache, 0..20), 20);
    // An older answer leaves a gap that any one name may fill.
    flood(&cache, 0..20);
    flood(&cache, 40_000..40_600);
    assert_eq!(held(&cache, 0..20), 20);
}

#[test]
fn names_asked_all_the_time_outlive_a_stream_of_names_asked_twice() {
    let cache = cache(64 << 10);
    let visit = |names: std::ops::Range<u64>| names.filter(|&n| found(&cache, n, NOW).is_some()).count();
    flood(&cache, 0..20);
    visit(0..20);
    // Each is visited while it is in the small ring, and so passes through the main ring: ten turnovers.
    for n in 1000..4000 {
        flood(&cache, n..n + 1);
        visit(n..n + 1);
        assert!(n % 50 != 0 || visit(0..20) == 20, "{n}");
    }
    assert!(held(&cache, 1000..4000) < 400);
}

#[test]
fn what_was_asked_often_but_has_expired_is_not_spared() {
    let cache = cache(64 << 10);
    flood(&cache, 0..200);
    for _ in 0..3 {
        assert!((0..200).all(|n| found(&cache, n, NOW).is_some()));
    }
    let later = Moment(NOW.0 + 60_000);
    for n in 1000..1400 {
        put(&cache, n, &message(n, 0, 100), later);
        found(&cache, n, later);
    }
    assert_eq!(held(&cache, 0..200), 0);
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
    #![proptest_config(ProptestConfig::with_cases(48))]

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
