//! Claims about what one registrable domain may take.

use super::*;

/// The name `n` below `domain`.
fn key_below(domain: &str, n: u64) -> Key {
    let (label, length) = (format!("{n:016x}"), u8::try_from(domain.len()).unwrap());
    let name = [b"\x10", label.as_bytes(), &[length], domain.as_bytes(), b"\x03com\0\0\x01\0\x01"].concat();
    Key::new(&name, Bits::default(), 0, 0)
}

fn put_below(cache: &Cache, domain: &str, n: u64) {
    let stored = Stored { meta: meta(3600), message: &message(n, 0, 80), ttls: &[] };
    cache.insert(&key_below(domain, n), stored, NOW);
}

/// Asks, and keeps the answer of a miss; was it a hit?
fn ask(cache: &Cache, domain: &str, n: u64) -> bool {
    let hit = cache.lookup(&key_below(domain, n), NOW, |_| ()).is_some();
    if !hit {
        put_below(cache, domain, n);
    }
    hit
}

fn octets_below(cache: &Cache, domain: &str) -> usize {
    let (mut octets, mut walk) = (0, cache.walk());
    while walk.step(&mut |entry| {
        octets += if entry.key.windows(domain.len()).any(|part| part == domain.as_bytes()) { entry.size } else { 0 };
        Fate::Stays
    }) {}
    octets
}

const SIZE: usize = 256 << 10;
/// Entries of this test that fit.
const FIT: u64 = SIZE as u64 / 220;

/// Names made up below one domain, each asked twice so that it looks asked for again, eight to each question for a hot set of many
/// domains that takes a third of the room, and to one for a name of yet another. They begin before the others. Says how often the hot set was hit in the end, and what the flood holds.
fn flooded(share: f64) -> (f64, usize, Stats) {
    let cache = Cache::new(&Settings { size: SIZE, domain_share: share, ..Settings::default() });
    let hot = FIT / 3;
    let (mut made_up, mut asked, mut hits) = (0, 0, 0);
    let mut flood = |times: u64| {
        for _ in 0..times {
            assert!(!ask(&cache, "attacked", made_up));
            ask(&cache, "attacked", made_up);
            made_up += 1;
        }
        made_up
    };
    flood(FIT);
    for round in 0..8 {
        for n in 0..hot {
            let hit = ask(&cache, &format!("hot{n}"), 0);
            if round >= 3 {
                (asked, hits) = (asked + 1, hits + u32::from(hit));
            }
            let other = flood(8);
            ask(&cache, &format!("other{other}"), 0);
        }
    }
    (f64::from(hits) / f64::from(asked), octets_below(&cache, "attacked"), cache.stats())
}

#[test]
fn names_made_up_below_one_domain_take_its_share_and_cost_other_domains_nothing() {
    let layout = Layout::of(SIZE, size_of::<Door>()).unwrap().shared(0.25);
    let (ratio, held, stats) = flooded(0.25);
    assert!(ratio >= 0.95, "{ratio}");
    assert!(held <= layout.share + layout.small, "{held} of {layout:?}");
    assert!(stats.limited > 1000, "{stats:?}");
    // Without a limit they take what they can: the test can fail.
    let (ratio, held, stats) = flooded(1.0);
    assert!(ratio < 0.8, "{ratio}");
    assert!(held > layout.arena / 2, "{held}");
    assert_eq!(stats.limited, 0);
}

#[test]
fn one_domain_alone_has_all_the_room_there_is() {
    let cache = Cache::new(&Settings { size: SIZE, ..Settings::default() });
    for n in 0..FIT {
        ask(&cache, "home", n);
        ask(&cache, "home", n);
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evicted, stats.limited), (FIT, 0, 0));
    // And gets it back as it expires.
    let later = Moment(NOW.0 + 3_600_000);
    for n in FIT..FIT * 2 {
        let meta = Meta { received: later, ..meta(3600) };
        cache.insert(&key_below("home", n), Stored { meta, message: &message(n, 0, 80), ttls: &[] }, later);
    }
    let fresh = (FIT..FIT * 2).filter(|&n| cache.lookup(&key_below("home", n), later, |_| ()).is_some()).count() as u64;
    assert!(fresh * 10 >= FIT * 9, "{fresh} of {FIT}");
}

#[test]
fn what_leaves_in_any_way_no_longer_counts_against_its_domain() {
    let cache = Cache::new(&Settings { size: SIZE, ..Settings::default() });
    let limited = || {
        (0..FIT * 2).for_each(|n| {
            ask(&cache, "one", n);
            ask(&cache, "one", n);
        });
        cache.stats().limited
    };
    let first = limited();
    assert!(first > 0);
    let mut walk = cache.walk();
    while walk.step(&mut |_| Fate::Goes) {}
    assert_eq!(cache.stats().octets_used, 0);
    // Its entries gone, it may take its share again, beside others who fill the rest.
    for n in 0..FIT / 8 {
        ask(&cache, "one", n);
        ask(&cache, "one", n);
    }
    let second = cache.stats().limited;
    assert_eq!(second, first);
    cache.flush_all();
    (0..FIT * 2).for_each(|n| {
        ask(&cache, &format!("other{n}"), 0);
    });
    for n in 0..FIT / 8 {
        ask(&cache, "one", n);
        ask(&cache, "one", n);
    }
    assert_eq!(cache.stats().limited, second, "an eighth is within its share though all is full");
}
