//! The registrable domain of a name: what one owner holds, and so what one owner may take of the cache and of the upstreams.
//!
//! Below a public suffix (`com`, `co.uk`, `github.io`) anybody may hold a domain; whoever makes up names makes them up below one.

use psl::{List, Psl as _};

/// More labels than this have no registrable domain; a name has 127 at most.
const MOST_LABELS: usize = 128;

/// The registrable domain of `name` (uncompressed wire form, folded): a public suffix and one label more, as a part of `name`.
///
/// Of a name that is a public suffix itself it is that name, of the root there is none.
#[must_use]
pub fn registrable(name: &[u8]) -> Option<&[u8]> {
    let mut starts = [0_usize; MOST_LABELS];
    let mut count = 0;
    let mut at = 0;
    while let Some(&length) = name.get(at).filter(|&&length| length != 0) {
        *starts.get_mut(count)? = at;
        count += 1;
        at += 1 + usize::from(length);
    }
    let starts = starts.get(..count)?;
    let label = |&at: &usize| {
        let length = name.get(at).copied().map_or(0, usize::from);
        name.get(at + 1..at + 1 + length).unwrap_or_default()
    };
    let suffix = List.find(starts.iter().rev().map(label));
    // Its length is that of the text, dots between the labels: so many labels of the end.
    let mut left = suffix.len;
    let mut labels = 0;
    for start in starts.iter().rev() {
        let length = label(start).len();
        if left < length {
            break;
        }
        labels += 1;
        match left.checked_sub(length + 1) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    let first = count.saturating_sub(labels + 1);
    starts.get(first).and_then(|&start| name.get(start..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::from_text;

    fn of(text: &str) -> Option<Vec<u8>> {
        registrable(&from_text(text).unwrap()).map(ToOwned::to_owned)
    }

    #[test]
    fn it_is_a_public_suffix_and_one_label_more() {
        for (name, domain) in [
            ("www.example.com", "example.com"),
            ("example.com", "example.com"),
            ("a.b.c.example.co.uk", "example.co.uk"),
            ("x.somebody.github.io", "somebody.github.io"),
            ("com", "com"),
            ("co.uk", "co.uk"),
            ("printer.home.lan", "home.lan"),
            ("printer", "printer"),
        ] {
            assert_eq!(of(name), Some(from_text(domain).unwrap()), "{name}");
        }
        assert_eq!(of("."), None);
    }

    #[test]
    fn what_is_no_name_has_none_and_no_octets_make_it_panic() {
        assert_eq!(registrable(&[]), None);
        assert_eq!(registrable(&[1; 255]).map(<[u8]>::len), Some(1 + 2));
        let _ = registrable(&[63, b'a']);
        let dots = [&b"\x03a.b\x03com\0"[..]].concat();
        assert_eq!(registrable(&dots), Some(&dots[..]));
    }
}
