//! Domains that something is said of, each for itself and all names below it: which one a name belongs to.
//!
//! Forwards and cache rules ask this of every question, so a look allocates nothing.

use std::collections::HashMap;

use ahash::RandomState;

use super::name::MAX_NAME;

/// Domains and what is said of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffixes<T> {
    said: HashMap<Box<[u8]>, T, RandomState>,
    /// Which lengths domains have, a bit each, the last for all beyond: a suffix of another length need not be looked for.
    lengths: u128,
}

impl<T> Default for Suffixes<T> {
    fn default() -> Self {
        Self { said: HashMap::default(), lengths: 0 }
    }
}

impl<T> Suffixes<T> {
    /// Says `what` of `domain` (wire form) and of all names below it that no longer domain is known for.
    pub fn insert(&mut self, domain: &[u8], what: T) {
        self.lengths |= bit(domain.len());
        self.said.insert(domain.to_ascii_lowercase().into(), what);
    }

    /// What is said of the longest domain that `name` (uncompressed wire form, any letter case) is at or under, by whole labels;
    /// and the octets of that domain, 1 for the root.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<(&T, usize)> {
        if self.said.is_empty() {
            return None;
        }
        let mut buffer = [0; MAX_NAME];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        // The length octets of labels lie below the letters.
        lower.make_ascii_lowercase();
        let mut suffix = &*lower;
        loop {
            if self.lengths & bit(suffix.len()) != 0
                && let Some(what) = self.said.get(suffix)
            {
                return Some((what, suffix.len()));
            }
            let (&length, rest) = suffix.split_first()?;
            suffix = rest.get(usize::from(length)..)?;
        }
    }
}

fn bit(length: usize) -> u128 {
    1 << length.min(127)
}

#[cfg(test)]
mod tests {
    use super::super::name::from_text;
    use super::*;

    #[test]
    fn the_longest_domain_speaks_for_a_name_by_whole_labels_in_any_letter_case() {
        let mut suffixes = Suffixes::default();
        for (domain, what) in [("Corp.example", 1), ("lab.corp.EXAMPLE", 2), ("lan", 3)] {
            suffixes.insert(&from_text(domain).unwrap(), what);
        }
        for (name, expected) in [
            ("corp.example", Some(1)),
            ("www.CORP.example", Some(1)),
            ("x.Lab.corp.example", Some(2)),
            ("xlab.corp.example", Some(1)),
            ("xcorp.example", None),
            ("example", None),
            (".", None),
            ("printer.LAN", Some(3)),
            ("wlan", None),
        ] {
            let found = suffixes.find(&from_text(name).unwrap());
            assert_eq!(found.map(|(&what, _)| what), expected, "{name}");
        }
        suffixes.insert(&[0], 4);
        assert_eq!(suffixes.find(&from_text("wlan").unwrap()), Some((&4, 1)));
    }

    #[test]
    fn domains_of_every_length_are_found() {
        let mut suffixes = Suffixes::default();
        let labels = |count: usize| vec!["a"; count].join(".");
        for count in [1, 2, 30, 62, 63, 64, 100, 126] {
            suffixes.insert(&from_text(&labels(count)).unwrap(), count);
        }
        for (count, expected) in
            [(1, 1), (3, 2), (29, 2), (61, 30), (62, 62), (63, 63), (99, 64), (125, 100), (127, 126)]
        {
            let name = from_text(&labels(count)).unwrap();
            assert_eq!(suffixes.find(&name), Some((&expected, 2 * expected + 1)), "{count}");
        }
    }

    #[test]
    fn no_octets_are_too_strange() {
        let mut suffixes = Suffixes::default();
        assert_eq!(suffixes.find(&from_text("lan").unwrap()), None, "nothing is said of anything");
        suffixes.insert(&from_text("lan").unwrap(), ());
        for strange in [&b""[..], b"\x03", b"\x08host.lan\0", b"\x3flan\0", b"\xc0\x0c", &[1; 300]] {
            assert_eq!(suffixes.find(strange), None, "{strange:?}");
        }
    }
}
