//! Claims about a walk past everything, and about answers that have expired but may stand in.

use std::collections::HashSet;

use super::*;

const STALE: Moment = Moment(NOW.0 + 61_000);

fn put_stale(cache: &Cache, n: u64, stale: u32) {
    let meta = Meta { stale, ..meta(60) };
    assert_eq!(
        cache.insert(&key(n), Stored { meta, message: &message(n, 0, 100), ttls: &[0, 12] }, NOW),
        Inserted::Kept
    );
}

fn found_stale(cache: &Cache, n: u64, now: Moment) -> Option<Vec<u8>> {
    cache.lookup_stale(&key(n), now, |stored| stored.message.to_vec())
}

/// Walks to the end, `between` the steps; the keys met, each with its message.
fn walked(cache: &Cache, mut fate: impl FnMut(&Entry<'_>) -> Fate, mut between: impl FnMut()) -> Vec<Vec<u8>> {
    let (mut walk, mut met, mut steps) = (cache.walk(), Vec::new(), 0);
    while walk.step(&mut |entry| {
        assert!(entry.size >= entry.key.len() + entry.stored.message.len());
        assert_eq!(entry.stored.ttls, [0, 12]);
        met.push(entry.key.to_vec());
        fate(&entry)
    }) {
        between();
        steps += 1;
        assert!(steps < 100_000, "it ends");
    }
    met
}

#[test]
fn a_walk_meets_everything_once_where_nothing_moves_and_is_no_visit() {
    let cache = cache(4 << 20);
    (0..3000).for_each(|n| {
        put(&cache, n, &message(n, 0, 100), NOW);
    });
    let met = walked(&cache, |_| Fate::Stays, || ());
    let names: HashSet<_> = met.iter().cloned().collect();
    assert_eq!((met.len(), names.len()), (3000, 3000));
    assert!((0..3000).all(|n| names.contains(key(n).as_bytes())));
    assert_eq!(cache.peek(&key(1), NOW).unwrap().hits, 0);
}

#[test]
fn a_walk_meets_whatever_stays_though_entries_come_move_and_go_between_its_steps() {
    let cache = cache(128 << 10);
    let (mut next, mut state) = (0, 88_172_645_463_325_252);
    let mut churn = |times: u32| {
        for _ in 0..times {
            let length = 30 + usize::try_from(random(&mut state) % 300).unwrap();
            put(&cache, next, &message(next, 0, length), NOW);
            found(&cache, next - random(&mut state) % 20.min(next + 1), NOW);
            next += 1;
        }
        next
    };
    let before = churn(2000);
    let held: Vec<u64> = (0..before).filter(|&n| cache.peek(&key(n), NOW).is_some()).collect();
    let met: HashSet<_> = walked(
        &cache,
        |_| Fate::Stays,
        || {
            churn(7);
        },
    )
    .into_iter()
    .collect();
    let stayed = held.iter().filter(|&&n| cache.peek(&key(n), NOW).is_some());
    let missed: Vec<_> = stayed.clone().filter(|&&n| !met.contains(key(n).as_bytes())).collect();
    assert_eq!(missed, Vec::<&u64>::new());
    assert!(stayed.count() > 50, "some stayed");
}

#[test]
fn what_a_walk_lets_go_is_gone_and_the_rest_stays() {
    let cache = cache(1 << 20);
    (0..500).for_each(|n| {
        put(&cache, n, &message(n, 0, 100), NOW);
    });
    let goes = |octets: &[u8]| octets[10].is_multiple_of(3);
    walked(&cache, |entry| if goes(entry.key) { Fate::Goes } else { Fate::Stays }, || ());
    for n in 0..500 {
        assert_eq!(found(&cache, n, NOW).is_some(), !goes(key(n).as_bytes()), "{n}");
    }
    let held = (0..500).filter_map(|n| cache.peek(&key(n), NOW));
    let (count, octets) = held.fold((0, 0), |(count, octets), facts| (count + 1, octets + facts.size as u64));
    assert_eq!((cache.stats().entries, cache.stats().octets_used), (count, octets));
}

/// A place in a shard that has been emptied is no place in what came after: its octets may be those of a message.
#[test]
fn a_walk_past_what_was_flushed_meanwhile_ends_and_reads_no_block_but_at_its_start() {
    for length in [100, 108, 131, 300] {
        let cache = cache(128 << 10);
        (0..400).for_each(|n| {
            put(&cache, n, &message(n, 0, 100), NOW);
        });
        let mut walk = cache.walk();
        for _ in 0..4 {
            walk.step(&mut |_| Fate::Stays);
        }
        cache.flush_all();
        (0..300).for_each(|n| {
            put(&cache, n, &message(n, 1, length), NOW);
        });
        while walk.step(&mut |entry| {
            assert_eq!(entry.stored.message.len(), length);
            Fate::Goes
        }) {}
        for n in 0..300 {
            assert!(found(&cache, n, NOW).is_none_or(|octets| octets == message(n, 1, length)), "{n}");
        }
    }
    let empty = cache(128 << 10);
    (0..400).for_each(|n| {
        put(&empty, n, &message(n, 0, 100), NOW);
    });
    assert!(walked(&empty, |_| Fate::Stays, || _ = empty.flush_all()).len() <= 48, "only what the first step met");
}

#[test]
fn a_step_is_bounded_in_entries_and_in_octets() {
    let cache = cache(8 << 20);
    for n in 0..2000 {
        put(&cache, n, &message(n, 0, if n % 2 == 0 { 12 } else { 3000 }), NOW);
    }
    let mut walk = cache.walk();
    let (mut all, mut more) = (0, true);
    while more {
        let (mut entries, mut octets) = (0, 0);
        more = walk.step(&mut |entry| {
            (entries, octets) = (entries + 1, octets + entry.size);
            Fate::Stays
        });
        assert!(entries <= 48 && octets <= (16 << 10) + 3200, "{entries} {octets}");
        all += entries;
    }
    assert_eq!(all, 2000);
}

#[test]
fn stl_01_an_answer_stands_in_from_its_expiry_to_the_end_of_its_window_and_that_counts_as_a_visit() {
    let cache = cache(1 << 20);
    put_stale(&cache, 1, 100);
    put_stale(&cache, 2, 0);
    let ends = NOW.0 + u64::from(cache.peek(&key(1), NOW).unwrap().left) * 1000;
    assert_eq!(found_stale(&cache, 1, Moment(ends - 1)), None, "still fresh");
    assert!(found(&cache, 1, Moment(ends - 1)).is_some());
    assert_eq!(found(&cache, 1, Moment(ends)), None);
    assert_eq!(found_stale(&cache, 1, Moment(ends)).unwrap(), message(1, 0, 100));
    assert!(found_stale(&cache, 1, Moment(ends + 99_999)).is_some());
    assert_eq!(found_stale(&cache, 1, Moment(ends + 100_000)), None, "the window has closed");
    assert_eq!(found_stale(&cache, 2, STALE), None, "it may never stand in");
    assert_eq!(cache.peek(&key(1), STALE).unwrap().hits, 3);
}

#[test]
fn stl_01_what_may_stand_in_moves_on_while_there_is_room_and_makes_room_for_what_is_fresh() {
    let cache = cache(128 << 10);
    (0..50).for_each(|n| put_stale(&cache, n, 3600));
    (50..100).for_each(|n| put_stale(&cache, n, 0));
    // Enough to pass through the small ring, less than fills the main ring.
    for n in 1000..1300 {
        put(&cache, n, &message(n, 0, 100), STALE);
    }
    assert!((0..50).all(|n| found_stale(&cache, n, STALE).is_some()));
    assert!((50..100).all(|n| cache.peek(&key(n), STALE).is_none()), "what may not stand in is of no use");
    for n in 2000..3000 {
        put(&cache, n, &message(n, 0, 100), STALE);
        found(&cache, n, STALE);
    }
    assert!((0..50).all(|n| cache.peek(&key(n), STALE).is_none()), "expired, so it goes first");
}
