//! Durations and sizes: a whole number and its unit.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 5] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

/// `"1500ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`, or `"0"`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    number(text, &DURATIONS).map(Duration::from_millis)
}

/// `"512 KiB"`, `"64 MiB"`, `"1 GiB"`, or `"0"`: octets.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    number(text, &SIZES)
}

fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (digits, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration as an operator would write it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(whole, &DURATIONS, "s", "")
}

/// A size as an operator would write it.
#[must_use]
pub fn show_size(octets: u64) -> String {
    show(octets, &SIZES, "B", " ")
}

fn show(whole: u64, units: &[(&str, u64)], zero: &str, gap: &str) -> String {
    let fitting = units.iter().filter(|(_, factor)| whole != 0 && whole.is_multiple_of(*factor));
    match fitting.max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) => format!("{}{gap}{unit}", whole / factor),
        None => format!("0{gap}{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("1500ms", 1500), ("30s", 30_000), ("5m", 300_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5s", "5 sec", "5S", "99999999999999999999s", "9999999999999999d", "1h30m"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_take_a_space_or_none_and_binary_units_only() {
        for (text, octets) in [("0", 0), ("512 KiB", 512 << 10), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("9 B", 9)] {
            assert_eq!(size(text), Some(octets), "{text}");
        }
        for text in ["64", "64 MB", "64 mib", "1.5 GiB", "MiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1500ms", "30s", "5m", "24h", "7d", "0s"] {
            let parsed = duration(text).unwrap();
            assert_eq!(duration(&show_duration(parsed)), Some(parsed));
        }
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_duration(Duration::from_mins(1)), "1m");
    }
}
