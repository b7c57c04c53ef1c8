//! What floods do to the cache, and how long a shard is locked: `cargo bench --bench scan`. Exits with 1 where a goal is missed.
//!
//! Two floods against a tenth of the capacity that is asked for all the time: names that never return, and names made up below one
//! domain and asked twice each. Then single operations that do the most under one lock; they are timed from outside, so that the
//! lock is held for less. The median is judged: other processes take the core away for longer than any of them.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::time::{Duration, Instant};

use hushgate::cache::{Bits, Cache, Fate, Key, Settings};
use hushgate::clock::Moment;
use hushgate::reply::{Kind, Meta, Stored};

const NOW: Moment = Moment(1000);
const CAPACITY: u64 = 500_000;
const HOT: u64 = 50_000;
/// Octets of an entry of this benchmark, and of its part of the index.
const ENTRY: u64 = 216;
const LEAST_RATIO: f64 = 0.95;
const LONGEST_LOCK: Duration = Duration::from_micros(50);

/// Times of one operation.
type Measure = fn() -> Vec<Duration>;

fn main() {
    let mut met = true;
    println!("{:<58} {:>12} {:>12}", "", "measured", "goal");
    let mut row = |what: &str, measured: String, goal: String, is_met: bool| {
        println!("{what:<58} {measured:>12} {goal:>12}{}", if is_met { "" } else { "  MISSED" });
        met &= is_met;
    };
    for (what, flood) in
        [("names that never return", Flood::Scan), ("names below one domain, asked twice", Flood::Domain)]
    {
        let (ratio, took) = hot_ratio(flood);
        let what = format!("hot-set hit ratio, {what}");
        row(&what, format!("{ratio:.4}"), format!(">= {LEAST_RATIO}"), ratio >= LEAST_RATIO);
        row("  a turn of one hot name and eight others", format!("{:.2} us", took * 1e6), String::new(), true);
    }
    let locks: [(&str, Measure); 4] = [
        ("insertion of 64 KiB among visited entries", insertions),
        ("the same, into the main ring", second_insertions),
        ("step of a walk that looks", || steps(Fate::Stays)),
        ("step of a walk that drops", || steps(Fate::Goes)),
    ];
    for (what, measure) in locks {
        let mut all = measure();
        all.sort_unstable();
        let at = |part: usize| all.get(all.len() * part / 100).copied().unwrap_or_default();
        let goal = format!("<= {} us", LONGEST_LOCK.as_micros());
        let shown = |part: usize| format!("{:.1} us", at(part).as_secs_f64() * 1e6);
        row(what, shown(50), goal, at(50) <= LONGEST_LOCK);
        row("  nine in ten", shown(90), String::new(), true);
    }
    std::process::exit(i32::from(!met));
}

#[derive(Clone, Copy)]
enum Flood {
    Scan,
    Domain,
}

/// A name of 16 digits below a domain of 16 digits below `com`: A, IN.
fn key(domain: u64, n: u64) -> Key {
    let question = format!("\x10{n:016x}\x10{domain:016x}\x03com\0\0\x01\0\x01");
    Key::new(question.as_bytes(), Bits::default(), 0, 0)
}

fn keep(cache: &Cache, key: &Key, message: &[u8]) {
    let meta = Meta { lifetime: 3600, received: NOW, kind: Kind::Positive, ..Meta::default() };
    cache.insert(key, Stored { meta, message, ttls: &[0, 48] }, NOW);
}

/// Asks; a miss is kept. Was it a hit?
fn ask(cache: &Cache, key: &Key) -> bool {
    let hit = cache.lookup(key, NOW, |_| ()).is_some();
    if !hit {
        keep(cache, key, &[7; 58]);
    }
    hit
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// How often the hot set is hit after the first tenth, and seconds a turn takes.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn hot_ratio(flood: Flood) -> (f64, f64) {
    let cache = Cache::new(&Settings { size: usize::try_from(CAPACITY * ENTRY).unwrap_or(0), ..Settings::default() });
    let (mut state, mut other) = (88_172_645_463_325_252, 1 << 40);
    let (mut asked, mut hits) = (0_u64, 0_u64);
    let turns = HOT * 20;
    let begun = Instant::now();
    for turn in 0..turns {
        let n = random(&mut state) % HOT;
        let hit = ask(&cache, &key(n, n));
        if turn >= turns / 5 {
            (asked, hits) = (asked + 1, hits + u64::from(hit));
        }
        for _ in 0..8 {
            other += 1;
            match flood {
                Flood::Scan => {
                    ask(&cache, &key(other, other));
                }
                Flood::Domain => {
                    ask(&cache, &key(1 << 50, other));
                    ask(&cache, &key(1 << 50, other));
                }
            }
        }
    }
    let stats = cache.stats();
    println!("  {} held, {} evicted, {} limited", stats.entries, stats.evicted, stats.limited);
    (hits as f64 / asked as f64, begun.elapsed().as_secs_f64() / turns as f64)
}

/// A cache of one shard, full of entries visited three times each: the dearest to pass.
fn visited() -> (Cache, u64) {
    let cache = Cache::new(&Settings { size: 1 << 20, ..Settings::default() });
    let names = 6000;
    visit(&cache, names);
    (cache, names)
}

fn visit(cache: &Cache, names: u64) {
    for n in 0..names {
        let key = key(n, n);
        ask(cache, &key);
        (0..3).for_each(|_| {
            cache.lookup(&key, NOW, |_| ());
        });
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn insertions() -> Vec<Duration> {
    let (cache, names) = visited();
    let long = vec![7; 65_000];
    let one = |n: u64| {
        visit(&cache, names);
        let key = key(n, n);
        timed(|| keep(&cache, &key, &long))
    };
    (1 << 41..(1 << 41) + 300).map(one).collect()
}

/// Into the main ring goes what was asked for again.
fn second_insertions() -> Vec<Duration> {
    let (cache, names) = visited();
    let long = vec![7; 65_000];
    let one = |n: u64| {
        let key = key(n, n);
        keep(&cache, &key, &[7; 58]);
        cache.lookup(&key, NOW, |_| ());
        visit(&cache, names);
        keep(&cache, &key, &[7; 58]);
        cache.lookup(&key, NOW, |_| ());
        timed(|| keep(&cache, &key, &long))
    };
    (1 << 42..(1 << 42) + 300).map(one).collect()
}

fn steps(fate: Fate) -> Vec<Duration> {
    let cache = Cache::new(&Settings { size: 16 << 20, ..Settings::default() });
    (0..60_000).for_each(|n| {
        ask(&cache, &key(n, n));
    });
    let (mut walk, mut all, mut more) = (cache.walk(), Vec::new(), true);
    while more {
        all.push(timed(|| more = walk.step(&mut |_| fate)));
    }
    all
}
