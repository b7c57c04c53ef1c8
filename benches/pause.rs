//! How long a worker may be kept waiting while a million answers are written down, or those under a suffix are dropped:
//! `cargo bench --bench pause`.
//!
//! One thread asks, another walks. Told are the time that one step of the walk holds a lock, and the time that one question takes. The
//! system takes a thread off its processor now and then, whatever we do: the same questions are timed beside a thread that works and
//! locks nothing, and the one in a thousand counts, not the very worst. Exits
//! with 1 where that is over 5 ms.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hushgate::cache::codec::Writer;
use hushgate::cache::{Bits, Cache, Fate, Key, Settings};
use hushgate::clock::Moment;
use hushgate::reply::{Kind, Meta, Stored};
use hushgate::wire::Flags;

const NAMES: u32 = 1_000_000;
const NOW: Moment = Moment(1000);
const LIMIT: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let cache = filled();
    println!("{:28}{:>10}{:>12}{:>12}{:>12}{:>12}", "", "count", "median", "99 %", "99.9 %", "worst");
    let alone = ask_during(&cache, || std::thread::sleep(Duration::from_secs(1)));
    tell("questions, nothing else", alone);
    let beside = ask_during(&cache, || spin(Duration::from_secs(2)));
    tell("questions beside a busy thread", beside);
    let mut steps = Vec::new();
    let asked = ask_during(&cache, || steps = snapshot(&cache));
    let written = [tell("locks of a snapshot", steps), tell("questions meanwhile", asked)];
    let mut steps = Vec::new();
    let asked = ask_during(&cache, || steps = flush(&cache));
    let flushed = [tell("locks of a suffix flush", steps), tell("questions meanwhile", asked)];
    let fits = written.into_iter().chain(flushed).all(|pause| pause <= LIMIT);
    if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Works as hard as a walk and locks nothing: what the system alone makes a question wait.
fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::yield_now();
    }
}

fn key(n: u32) -> Key {
    let question = format!("\x0chost{n:08}\x07example\x03com\0\0\x01\0\x01");
    Key::new(question.as_bytes(), Bits::default(), 0, 7)
}

fn filled() -> Cache {
    let cache = Cache::new(&Settings { size: 400 << 20, ..Settings::default() });
    let meta = Meta {
        received: NOW,
        lifetime: 300,
        flags: Flags(0x8180),
        kind: Kind::Positive,
        additional_at: 58,
        ..Meta::default()
    };
    for n in 0..NAMES {
        cache.insert(&key(n), Stored { meta, message: &[7; 58], ttls: &[0, 48] }, NOW);
    }
    println!("{} answers", cache.stats().entries);
    cache
}

/// How long each question took that was asked while `work` was done.
fn ask_during(cache: &Cache, work: impl FnOnce()) -> Vec<Duration> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut times, mut n, mut out) = (Vec::with_capacity(1 << 24), 0_u32, Vec::with_capacity(512));
            while !done.load(Ordering::Relaxed) && times.len() < 1 << 24 {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let key = key(n % NAMES);
                let begun = Instant::now();
                out.clear();
                cache.lookup(&key, NOW, |stored| out.extend_from_slice(stored.message));
                times.push(begun.elapsed());
            }
            times
        });
        work();
        done.store(true, Ordering::Relaxed);
        asking.join().expect("the thread that asks")
    })
}

/// How long each step of a snapshot held its lock.
fn snapshot(cache: &Cache) -> Vec<Duration> {
    let mut writer = Writer::begin(std::io::sink(), Duration::ZERO, []).expect("a sink takes all");
    let (mut walk, mut steps) = (cache.walk(), Vec::new());
    loop {
        let begun = Instant::now();
        let more = walk.step(&mut |entry| {
            writer.take(&entry, NOW);
            Fate::Stays
        });
        steps.push(begun.elapsed());
        writer.flush().expect("a sink takes all");
        if !more {
            return steps;
        }
        std::thread::yield_now();
    }
}

/// How long each step of dropping half of the names held its lock.
fn flush(cache: &Cache) -> Vec<Duration> {
    let (mut walk, mut steps, mut odd) = (cache.walk(), Vec::new(), false);
    loop {
        let begun = Instant::now();
        let more = walk.step(&mut |entry| {
            odd = !odd;
            let is_under = entry.key.get(13..).is_some_and(|rest| rest.starts_with(b"\x07example\x03com\0"));
            if odd && is_under { Fate::Goes } else { Fate::Stays }
        });
        steps.push(begun.elapsed());
        if !more {
            return steps;
        }
        std::thread::yield_now();
    }
}

/// Prints what `times` come to; the longest but one in a thousand.
fn tell(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |thousandth: usize| times.get((times.len() * thousandth / 1000).min(times.len().saturating_sub(1)));
    let [median, most, nearly, worst] = [500, 990, 999, 1000].map(|place| at(place).copied().unwrap_or_default());
    println!("{what:28}{:>10}{median:>12.1?}{most:>12.1?}{nearly:>12.1?}{worst:>12.1?}", times.len());
    nearly
}
