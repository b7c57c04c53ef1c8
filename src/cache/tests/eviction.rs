//! Claims about who stays when room is short.

use super::*;

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
fn hot_ratio_under_scan(size: usize) -> f64 {
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

/// How many hot names `held_over_an_outage` has, in a cache with room for some 300.
const HOT: u64 = 100;

/// Names that are asked for, then expire while their servers are down; names of others that never return go on coming meanwhile,
/// ten turnovers of them. The hot ones are asked for `asked` times in all that, when nothing but a stale answer is left. How many
/// of them may still stand in?
fn held_over_an_outage(asked: u64) -> u64 {
    let cache = cache(64 << 10);
    let keep = |n: u64, now: Moment| {
        let meta = Meta { received: now, stale: 86_400, ..meta(60) };
        cache.insert(&key(n), Stored { meta, message: &message(n, 0, 80), ttls: &[0, 12] }, now);
    };
    (0..HOT).for_each(|n| keep(n, NOW));
    for _ in 0..3 {
        assert!((0..HOT).all(|n| found(&cache, n, NOW).is_some()));
    }
    for n in 0..3000 {
        let now = Moment(NOW.0 + 3_600_000 + n * 1000);
        keep(1000 + n, now);
        if asked > 0 && n % (3000 / asked) == 0 {
            (0..HOT).for_each(|n| _ = cache.lookup_stale(&key(n), now, |_| ()));
        }
    }
    (0..HOT).filter(|&n| cache.has_stale(&key(n), Moment(NOW.0 + 6_600_000))).count() as u64
}

#[test]
fn stl_01_what_was_asked_often_outlives_an_outage_longer_than_its_ttl_while_a_scan_goes_on() {
    assert_eq!(held_over_an_outage(20), HOT);
    assert_eq!(held_over_an_outage(0), HOT, "a scan alone displaces nothing that was asked for");
}

#[test]
fn stl_01_what_has_expired_and_is_no_longer_asked_for_goes_before_what_is() {
    let cache = cache(64 << 10);
    let later = Moment(NOW.0 + 3_600_000);
    let stored = |n: u64, received| {
        let meta = Meta { received, stale: 86_400, ..meta(60) };
        cache.insert(&key(n), Stored { meta, message: &message(n, 0, 80), ttls: &[0, 12] }, received);
    };
    (0..200).for_each(|n| stored(n, NOW));
    for _ in 0..3 {
        assert!((0..200).all(|n| found(&cache, n, NOW).is_some()));
    }
    // Twice the room, all of it asked for.
    for n in 1000..1600 {
        stored(n, later);
        found(&cache, n, later);
    }
    assert_eq!(held(&cache, 0..200), 0);
    assert!(held(&cache, 1000..1600) > 150);
}
