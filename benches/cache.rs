//! What a hit and an insertion cost, beside a bare map that copies: `cargo bench --bench cache`.
//!
//! Names are chosen at random and keys are built as the pipeline builds them, so that the figures hold the cache misses of real use.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use divan::{Bencher, counter::ItemsCount};
use hushgate::cache::{Bits, Cache, Key, Settings};
use hushgate::clock::Moment;
use hushgate::reply::{Kind, Meta, Stored};
use hushgate::wire::Flags;

const FEW: u64 = 10_000;
const MANY: u64 = 1_000_000;
/// Questions a sample asks.
const BATCH: u64 = 4096;
const NOW: Moment = Moment(1000);

static FEW_KEPT: LazyLock<Cache> = LazyLock::new(|| filled(FEW));
static MANY_KEPT: LazyLock<Cache> = LazyLock::new(|| filled(MANY));
static FEW_MAPPED: LazyLock<Map> = LazyLock::new(|| mapped(FEW));
static MANY_MAPPED: LazyLock<Map> = LazyLock::new(|| mapped(MANY));

type Map = HashMap<Box<[u8]>, Box<[u8]>, RandomState>;

fn main() {
    divan::main();
}

/// QNAME `hostNNNNNNNN.example.com`, QTYPE A, QCLASS IN.
fn question(n: u64) -> [u8; 30] {
    let mut question = *b"\x0chost00000000\x07example\x03com\0\0\x01\0\x01";
    let mut rest = n;
    for digit in question[5..13].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    question
}

fn key(n: u64) -> Key {
    Key::new(&question(n), Bits::default(), 0, 0x0123_4567_89ab_cdef)
}

/// An A answer of 65 octets or so, as most are.
fn keep(cache: &Cache, n: u64) {
    let meta = Meta {
        received: NOW,
        lifetime: 300,
        http_lifetime: 300,
        flags: Flags(0x8180),
        kind: Kind::Positive,
        additional_at: 58,
        ..Meta::default()
    };
    cache.insert(&key(n), Stored { meta, message: &[7; 58], ttls: &[0, 48] }, NOW);
}

fn filled(names: u64) -> Cache {
    // Room for all of them.
    let size = usize::try_from(names * 320).expect("fits").max(64 << 20);
    let cache = Cache::new(&Settings { size, ..Settings::default() });
    (0..names).for_each(|n| keep(&cache, n));
    assert_eq!(cache.stats().entries, names);
    cache
}

fn mapped(names: u64) -> Map {
    (0..names).map(|n| (key(n).as_bytes().into(), vec![7; 58].into())).collect()
}

/// A stream of names below `names`, another one for each caller.
fn names(names: u64) -> impl FnMut() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(88_172_645_463_325_252);
    let mut state = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % names
    }
}

fn ask(cache: &Cache, n: u64, out: &mut Vec<u8>) {
    out.clear();
    let found = cache.lookup(&key(n), NOW, |stored| out.extend_from_slice(stored.message));
    assert!(found.is_some());
    black_box(out);
}

/// Batches of questions from `threads` threads at once; every batch asks other names.
fn ask_many(bencher: Bencher, cache: &'static LazyLock<Cache>, among: u64) {
    LazyLock::force(cache);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let (mut next, mut out) = (names(among), Vec::with_capacity(512));
        (0..BATCH).for_each(|_| ask(cache, next(), &mut out));
    });
}

fn look_many(bencher: Bencher, map: &'static LazyLock<Map>, among: u64) {
    LazyLock::force(map);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let (mut next, mut out) = (names(among), Vec::with_capacity(512));
        for _ in 0..BATCH {
            out.clear();
            let found = map.get(key(next()).as_bytes()).map(|message| out.extend_from_slice(message));
            assert!(found.is_some());
            black_box(&mut out);
        }
    });
}

#[divan::bench]
fn key_alone(bencher: Bencher) {
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut next = names(FEW);
        (0..BATCH).for_each(|_| {
            black_box(key(next()));
        });
    });
}

#[divan::bench(threads = [1, 2])]
fn hit_10k(bencher: Bencher) {
    ask_many(bencher, &FEW_KEPT, FEW);
}

#[divan::bench]
fn hit_10k_bare_map(bencher: Bencher) {
    look_many(bencher, &FEW_MAPPED, FEW);
}

#[divan::bench(threads = [1, 2])]
fn hit_1m(bencher: Bencher) {
    ask_many(bencher, &MANY_KEPT, MANY);
}

#[divan::bench]
fn hit_1m_bare_map(bencher: Bencher) {
    look_many(bencher, &MANY_MAPPED, MANY);
}

#[divan::bench(threads = [1, 2])]
fn hit_one_hot_name(bencher: Bencher) {
    ask_many(bencher, &FEW_KEPT, 1);
}

#[divan::bench]
fn miss_1m(bencher: Bencher) {
    LazyLock::force(&MANY_KEPT);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut next = names(MANY);
        for _ in 0..BATCH {
            assert!(MANY_KEPT.lookup(&key(MANY + next()), NOW, |_| ()).is_none());
        }
    });
}

/// A flood of names that never return, into a cache that is full.
#[divan::bench(threads = [1, 2])]
fn insert_when_full(bencher: Bencher) {
    static FULL: LazyLock<Cache> = LazyLock::new(|| {
        let cache = Cache::new(&Settings::default());
        (0..MANY).for_each(|n| keep(&cache, n));
        assert!(cache.stats().evicted > 0);
        cache
    });
    LazyLock::force(&FULL);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut next = names(90_000_000);
        (0..BATCH).for_each(|_| keep(&FULL, MANY + next()));
    });
}
