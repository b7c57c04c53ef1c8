//! The memory of the process while the cache turns over: alone in its process, so that nothing else is measured (TTL-15).

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use hushgate::cache::{Bits, Cache, Key, Settings};
use hushgate::clock::Moment;
use hushgate::reply::{Kind, Meta, Stored};

const SIZE: usize = 32 << 20;

/// Octets of this process in memory.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Keeps an answer of `length` octets to a name that never comes again; says how many octets were offered.
fn keep(cache: &Cache, n: u64, length: usize) -> usize {
    let label = format!("{n:016x}");
    let question = [b"\x10", label.as_bytes(), b"\x07example\x03com\0\0\x01\0\x01"].concat();
    let key = Key::new(&question, Bits::default(), 0, 0);
    let meta = Meta { lifetime: 3600, kind: Kind::Positive, ..Meta::default() };
    cache.insert(&key, Stored { meta, message: &vec![7; length], ttls: &[0, 48] }, Moment(0));
    if n.is_multiple_of(3) {
        cache.lookup(&key, Moment(0), |_| ());
    }
    length
}

#[test]
#[cfg(target_os = "linux")]
fn ttl_15_the_process_grows_by_no_more_than_the_budget_and_a_tenth_in_ten_turnovers() {
    // What a first use of anything costs is not the cache's.
    keep(&Cache::new(&Settings { size: 1 << 20, ..Settings::default() }), 0, 100);
    let before = resident();
    let cache = Cache::new(&Settings { size: SIZE, ..Settings::default() });
    let (mut offered, mut n) = (0, 0);
    while offered < SIZE * 10 {
        // Lengths of all sorts, so that gaps of all sorts arise.
        offered += keep(&cache, n, 200 + usize::try_from(n * 7919 % 3000).unwrap());
        n += 1;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown <= SIZE / 10 * 11, "{grown} of {SIZE}");
    assert!(grown >= SIZE / 2, "{grown}: the measure sees the cache");
    assert!(cache.footprint() <= SIZE);
    assert!(cache.stats().evicted > n / 2, "it has turned over");
    // Flushed, it takes no more than before while it fills again.
    cache.flush_all();
    (0..n / 5).for_each(|n| {
        keep(&cache, n, 1500);
    });
    let grown = resident().saturating_sub(before);
    assert!(grown <= SIZE / 10 * 11, "{grown} of {SIZE} after a flush");
}
