//! Millions of mutations of the seeds, without libFuzzer and on stable: `mutate TARGET|all MILLIONS [SEED]`.
//!
//! Less clever than a fuzzer that looks for new paths, but fast, the same in every run, and enough to find what a release must not
//! have. Ends with 1, and shows the input, at the first panic or where memory grows without end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use hushgate_fuzz::{TARGETS, Target, seeds};

/// What an input may be long.
const LONGEST: usize = 8192;

/// What a run may add to this process after its first tenth.
const GROWTH: u64 = 64 << 20;

/// The input under way, for the report.
static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let chosen: Vec<Target> = TARGETS
        .into_iter()
        .filter(|(name, _)| arguments.first().is_some_and(|word| word == "all" || word == name))
        .collect();
    let Some(millions) = number(1).filter(|_| !chosen.is_empty()) else {
        eprintln!("mutate TARGET|all MILLIONS [SEED]; targets: {:?}", TARGETS.map(|(name, _)| name));
        return ExitCode::from(2);
    };
    let seed = number(2).unwrap_or(1);
    std::panic::set_hook(Box::new(|panic| {
        let input = INPUT.try_lock().map(|input| input.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
        eprintln!("{panic}\ninput: {}", input.unwrap_or_default());
    }));
    let sound = chosen.into_iter().all(|target| run(target, millions * 1_000_000, seed));
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `count` mutations of the seeds of a target: is all well?
fn run((name, target): Target, count: u64, seed: u64) -> bool {
    let corpus = read(&seeds(name));
    let (mut noise, begun, mut first) = (Noise(seed), Instant::now(), 0);
    for n in 0..count {
        let input = if n < corpus.len() as u64 { corpus[n as usize].clone() } else { mutant(&corpus, &mut noise) };
        input.clone_into(&mut INPUT.lock().expect("no other thread"));
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            eprintln!("{name}: mutation {n} of seed {seed}");
            return false;
        }
        if n == count / 10 {
            first = resident();
        }
    }
    let (seconds, grown) = (begun.elapsed().as_secs_f64(), resident().saturating_sub(first));
    println!(
        "{name:10} {count} mutations, {:.0}/s, {:.1} MiB more since the first tenth",
        count as f64 / seconds,
        grown as f64 / 1048576.0
    );
    grown < GROWTH
}

fn read(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("seeds");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a file")).collect()
}

/// One to six things wrong with a seed.
fn mutant(corpus: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let mut octets = corpus[noise.below(corpus.len())].clone();
    for _ in 0..=noise.below(6) {
        let at = noise.below(octets.len() + 1);
        if at == octets.len() {
            octets.push(noise.next() as u8);
            continue;
        }
        match noise.below(9) {
            0 => octets.truncate(at),
            1 => octets.insert(at, noise.next() as u8),
            2 => octets[at] = [0, 1, 0xff, 0xc0, 0x40, 12, 41, 0x3f][noise.below(8)],
            3 => octets.extend_from_within(at..),
            4 => {
                let lie = [0, 1, 3, 11, 255, 0x3fff, 0x7fff, 0xffff][noise.below(8)];
                octets.splice(at..(at + 2).min(octets.len()), u16::to_be_bytes(lie));
            }
            5 => {
                let other = &corpus[noise.below(corpus.len())];
                octets.splice(at.., other[noise.below(other.len() + 1)..].iter().copied());
            }
            6 => drop(octets.drain(at..(at + 1 + noise.below(8)).min(octets.len()))),
            7 => octets[at] = noise.next() as u8,
            _ => octets[at] ^= 1 << noise.below(8),
        }
        octets.truncate(LONGEST);
    }
    octets
}

/// The resident set of this process, in octets; 0 where the system does not say.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
