//! Which of what is held somebody wants to see or to be rid of: one name, all below a domain, or everything.

use super::KeyView;
use crate::wire::name::is_under;

/// A choice among what is held, in whatever letter case it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One name (wire form).
    Name {
        /// Which.
        name: Box<[u8]>,
        /// Of one type: what holds for all types of the name (QTYPE 0) then belongs to it too.
        rtype: Option<u16>,
    },
    /// A domain (wire form) and all below it, by whole labels.
    Suffix(Box<[u8]>),
    /// Everything.
    All,
}

impl Selection {
    /// Is what has the [`Key`](super::Key) of these octets chosen? Compares; allocates nothing.
    #[must_use]
    pub fn takes(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name { name, rtype } => KeyView::of(key).is_some_and(|view| {
                view.name.eq_ignore_ascii_case(name)
                    && rtype.is_none_or(|wanted| view.rtype == wanted || view.rtype == 0)
            }),
            Self::Suffix(domain) => KeyView::of(key).is_some_and(|view| is_under(view.name, domain)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Bits, Key};
    use crate::wire::name::from_text;

    fn takes(selection: &Selection, name: &str, rtype: u16) -> bool {
        let question = [&from_text(name).unwrap()[..], &rtype.to_be_bytes(), &[0, 1]].concat();
        selection.takes(Key::new(&question, Bits::default(), 0, 7).as_bytes())
    }

    fn wire(text: &str) -> Box<[u8]> {
        from_text(text).unwrap().into()
    }

    #[test]
    fn a_suffix_takes_whole_labels_in_any_letter_case() {
        let domain = Selection::Suffix(wire("Example.COM"));
        for name in ["example.com", "www.example.com", "a.b.EXAMPLE.com"] {
            assert!(takes(&domain, name, 1), "{name}");
        }
        // The last has `example.com` in its octets, within a label.
        for name in ["notexample.com", "com", ".", "example.com.net", r"x\007example\003com", r"www\.example.com"] {
            assert!(!takes(&domain, name, 1), "{name}");
        }
        let escaped = Selection::Suffix(wire(r"a\.b.example"));
        assert!(takes(&escaped, r"x.A\.b.example", 1) && !takes(&escaped, "x.a.b.example", 1));
        assert!(takes(&Selection::Suffix(wire(".")), "any.example", 1), "the root is everything");
    }

    #[test]
    fn a_name_takes_all_types_or_one_and_what_holds_for_all() {
        let all = Selection::Name { name: wire("A.example"), rtype: None };
        let one = Selection::Name { name: wire("A.example"), rtype: Some(28) };
        assert!(takes(&all, "a.EXAMPLE", 1) && takes(&all, "a.example", 28) && !takes(&all, "b.a.example", 28));
        assert!(!takes(&one, "a.example", 1) && takes(&one, "a.example", 28) && takes(&one, "a.example", 0));
        assert!(!all.takes(b"no key") && !all.takes(b""));
    }
}
