//! What an answer is kept under: the question with its name folded, and all that splits answers (TTL-09, NEG-17).
//!
//! Built on the stack by every question; the join table and the failure table use the same bytes.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::wire::Subnet;
use crate::wire::name::{MAX_NAME, Shown, skip_plain};

/// Bits of a query that ask for another answer to the same question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits {
    /// DO: DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// CD: unvalidated data is wanted; a failure under CD=0 says nothing about CD=1 (RFC 6840 5.9).
    pub checking_disabled: bool,
}

impl Bits {
    fn octet(self) -> u8 {
        u8::from(self.dnssec_ok) | u8::from(self.checking_disabled) << 1
    }
}

/// Whom of the clients that tell their subnet an answer is for (RFC 7871 7.3.1). Those who tell none have keys without a reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All who tell one.
    Everyone,
    /// Those who are in it.
    Within(Subnet),
    /// Those who tell just this.
    Only(Subnet),
}

impl Reach {
    /// As the end of a key: manner and family, length, address.
    fn octets(&self) -> ([u8; 2], &[u8]) {
        let (manner, subnet) = match self {
            Self::Everyone => return ([0; 2], &[]),
            Self::Within(subnet) => (0, subnet),
            Self::Only(subnet) => (Self::ONLY, subnet),
        };
        let family = if subnet.is_v6() { 2 } else { 1 };
        ([manner | family, subnet.length()], subnet.address())
    }

    /// The reach that has these octets in a key.
    fn of(octets: &[u8]) -> Option<Self> {
        let (&[manner, length], address) = octets.split_first_chunk()?;
        if octets == [0; 2] {
            return Some(Self::Everyone);
        }
        let mut option = [0, manner & !Self::ONLY, length, 0, 0, 0, 0, 0, 0, 0, 0];
        let end = 4 + address.len();
        option.get_mut(4..end)?.copy_from_slice(address);
        let (subnet, _) = Subnet::read(option.get(..end)?)?;
        Some(if manner & Self::ONLY == 0 { Self::Within(subnet) } else { Self::Only(subnet) })
    }

    const ONLY: u8 = 0x10;
}

/// A cache key: folded QNAME, QTYPE, QCLASS, bits, view, route; for clients that tell their subnet, the reach of the answer.
#[derive(Clone, Copy)]
pub struct Key {
    octets: [u8; Self::CAPACITY],
    length: u16,
    /// Where the name ends; 0 in the empty key.
    name: u16,
}

impl Key {
    /// QTYPE and QCLASS.
    const FIXED: usize = 4;
    /// Bits, view, route.
    const SPLIT: usize = 1 + 2 + 8;
    /// The longest [`Reach`].
    const REACH: usize = 2 + Subnet::LONGEST as usize / 8;
    /// Octets of the longest.
    pub(super) const CAPACITY: usize = MAX_NAME + Self::FIXED + Self::SPLIT + Self::REACH;
    /// Among the bits: a reach follows the route. Keys are read from the front, so one with a reach equals none without.
    const REACHES: u8 = 4;

    /// The key of `question` (QNAME, QTYPE, QCLASS as on the wire, in any letter case) as `view` sees it over `route`.
    ///
    /// What is too short or too long to be a question gives the empty key, under which nothing is kept or found.
    #[must_use]
    pub fn new(question: &[u8], bits: Bits, view: u16, route: u64) -> Self {
        let mut key = Self { octets: [0; Self::CAPACITY], length: 0, name: 0 };
        let name_len = question.len().checked_sub(Self::FIXED);
        let Some(name_len) = name_len.filter(|length| (1..=MAX_NAME).contains(length)) else { return key };
        let mut rest = key.octets.as_mut_slice();
        for part in [question, &[bits.octet()], &view.to_be_bytes(), &route.to_be_bytes()] {
            let Some((place, after)) = rest.split_at_mut_checked(part.len()) else { return key };
            place.copy_from_slice(part);
            rest = after;
        }
        // Only the name is folded: QTYPE 65 (HTTPS) is the octet 'A'.
        if let Some(name) = key.octets.get_mut(..name_len) {
            name.make_ascii_lowercase();
        }
        key.length = u16::try_from(question.len() + Self::SPLIT).unwrap_or(0);
        key.name = u16::try_from(name_len).unwrap_or(0);
        key
    }

    /// The key of the same question for those that `reach` says. The empty key stays empty.
    #[must_use]
    pub fn reaching(&self, reach: Reach) -> Self {
        let mut key = *self;
        let at = key.end_of_route();
        let (head, address) = reach.octets();
        if let Some(bits) = key.octets.get_mut(at.saturating_sub(Self::SPLIT)).filter(|_| at > 0) {
            *bits |= Self::REACHES;
            for (place, octet) in key.octets.iter_mut().skip(at).zip(head.iter().chain(address)) {
                *place = *octet;
            }
            key.length = u16::try_from(at + head.len() + address.len()).unwrap_or(0);
        }
        key
    }

    /// Whom it is for among those who tell their subnet; `None` where it is for the others.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        Reach::of(self.as_bytes().get(self.end_of_route()..)?)
    }

    fn end_of_route(&self) -> usize {
        if self.name == 0 { 0 } else { usize::from(self.name) + Self::FIXED + Self::SPLIT }
    }

    /// The same over a route that only this one with `mark` leads to.
    #[must_use]
    pub fn apart(&self, mark: u64) -> Self {
        let mut key = *self;
        let end = key.end_of_route();
        if let Some(route) = end.checked_sub(size_of::<u64>()).and_then(|at| key.octets.get_mut(at..end)) {
            route.iter_mut().zip(mark.to_be_bytes()).for_each(|(octet, mark)| *octet ^= mark);
        }
        key
    }

    /// The key of the same name, class, view, route and reach for another type or other bits.
    #[must_use]
    pub fn sibling(&self, rtype: u16, bits: Bits) -> Self {
        let mut key = self.of_type(rtype);
        let at = self.name().len();
        if let Some(place) = key.octets.get_mut(at + Self::FIXED).filter(|_| at > 0) {
            *place = bits.octet() | *place & Self::REACHES;
        }
        key
    }

    /// The same for whatever type of its name: what is said of the name itself, that it does not exist. Its QTYPE is 0, which no
    /// record has (RFC 6895 3.1).
    #[must_use]
    pub fn of_all_types(&self) -> Self {
        self.of_type(0)
    }

    /// The same for another type.
    #[must_use]
    pub fn of_type(&self, rtype: u16) -> Self {
        let mut key = *self;
        let at = self.name().len();
        if let Some(place) = key.octets.get_mut(at..at + 2).filter(|_| at > 0) {
            place.copy_from_slice(&rtype.to_be_bytes());
        }
        key
    }

    /// The key that has these octets, as [`Key::as_bytes`] tells them. `None` where there can be none: its name is no name (RFC 1035
    /// 2.3.4) or not folded, or anything is missing or over.
    #[must_use]
    pub fn from_bytes(octets: &[u8]) -> Option<Self> {
        let view = KeyView::of(octets)?;
        let plain = Self::new(&view.question(), view.bits, view.view, view.route);
        let key = view.reach.map_or(plain, |reach| plain.reaching(reach));
        (key.as_bytes() == octets).then_some(key)
    }

    /// Its QTYPE; 0 in a key of all types.
    #[must_use]
    pub fn rtype(&self) -> u16 {
        let octets = self.octets.get(self.name().len()..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u16::from_be_bytes(*octets))
    }

    /// Its name, folded, in wire form.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.octets.get(..usize::from(self.name)).unwrap_or_default()
    }

    /// Its question as on the wire, the name folded.
    #[must_use]
    pub fn question(&self) -> &[u8] {
        let end = if self.name == 0 { 0 } else { usize::from(self.name) + Self::FIXED };
        self.octets.get(..end).unwrap_or_default()
    }

    /// Its octets: equal for equal questions, and only for those.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// The parts of a key, read back from its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyView<'a> {
    /// The name, folded, in wire form.
    pub name: &'a [u8],
    /// QTYPE; 0 for what holds for every type of the name.
    pub rtype: u16,
    /// QCLASS.
    pub class: u16,
    /// DO and CD.
    pub bits: Bits,
    /// The view.
    pub view: u16,
    /// The fingerprint of the route.
    pub route: u64,
    /// Whom it is for among those who tell their subnet; `None` where it is for the others.
    pub reach: Option<Reach>,
}

impl<'a> KeyView<'a> {
    /// Reads the octets of a [`Key`]; `None` where they are none.
    #[must_use]
    pub fn of(octets: &'a [u8]) -> Option<Self> {
        let (name, rest) = octets.split_at_checked(skip_plain(octets, 0).ok()?)?;
        let (rtype, rest) = rest.split_first_chunk()?;
        let (class, rest) = rest.split_first_chunk()?;
        let (&flags, rest) = rest.split_first()?;
        let (view, rest) = rest.split_first_chunk()?;
        let (route, rest) = rest.split_first_chunk()?;
        Some(Self {
            name,
            rtype: u16::from_be_bytes(*rtype),
            class: u16::from_be_bytes(*class),
            bits: Bits { dnssec_ok: flags & 1 != 0, checking_disabled: flags & 2 != 0 },
            view: u16::from_be_bytes(*view),
            route: u64::from_be_bytes(*route),
            reach: if flags & Key::REACHES == 0 { None } else { Some(Reach::of(rest)?) },
        })
    }

    /// QNAME, QTYPE and QCLASS, as on the wire.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        [self.name, &self.rtype.to_be_bytes(), &self.class.to_be_bytes()].concat()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", Shown(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Bits = Bits { dnssec_ok: false, checking_disabled: false };

    fn question(name: &[u8], rtype: u16) -> Vec<u8> {
        [name, &rtype.to_be_bytes(), &[0, 1]].concat()
    }

    #[test]
    fn letter_case_of_the_name_does_not_split() {
        let upper = Key::new(&question(b"\x03WwW\x02eX\0", 1), NONE, 0, 7);
        let lower = Key::new(&question(b"\x03www\x02ex\0", 1), NONE, 0, 7);
        assert_eq!(upper, lower);
        assert_eq!(lower.as_bytes(), b"\x03www\x02ex\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\x07");
    }

    #[test]
    fn types_that_look_like_letters_are_not_folded() {
        // 65 is 'A', 97 is 'a'.
        assert_ne!(Key::new(&question(b"\0", 65), NONE, 0, 0), Key::new(&question(b"\0", 97), NONE, 0, 0));
    }

    #[test]
    fn ttl_09_type_class_bits_view_and_route_split() {
        let name = b"\x01a\0";
        let mut keys = vec![
            Key::new(&question(name, 1), NONE, 0, 0),
            Key::new(&question(name, 28), NONE, 0, 0),
            Key::new(&[&name[..], &[0, 1, 0, 3]].concat(), NONE, 0, 0),
            Key::new(&question(name, 1), Bits { dnssec_ok: true, ..NONE }, 0, 0),
            Key::new(&question(name, 1), Bits { checking_disabled: true, ..NONE }, 0, 0),
            Key::new(&question(name, 1), NONE, 1, 0),
            Key::new(&question(name, 1), NONE, 0, 1),
            Key::new(&question(name, 1), NONE, 0, 1 << 56),
        ];
        let all = keys.len();
        keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn a_sibling_is_the_key_of_the_same_name_for_another_type_or_other_bits() {
        let all = Bits { dnssec_ok: true, checking_disabled: true };
        let key = |rtype, bits| Key::new(&question(b"\x03www\x02ex\0", rtype), bits, 3, 7);
        assert_eq!(key(1, NONE).sibling(28, all), key(28, all));
        assert_eq!(key(28, all).sibling(257, NONE), key(257, NONE));
        let empty = Key::new(&[], NONE, 0, 0);
        assert_eq!(empty.sibling(1, all), empty);
    }

    #[test]
    fn a_key_is_read_back_as_it_was_made() {
        let bits = Bits { dnssec_ok: true, checking_disabled: false };
        let asked = question(b"\x03WwW\x02a.\0", 28);
        let key = Key::new(&asked, bits, 9, 0xab << 56);
        let view = KeyView::of(key.as_bytes()).unwrap();
        assert_eq!((view.name, view.rtype, view.class), (&b"\x03www\x02a.\0"[..], 28, 1));
        assert_eq!((view.bits, view.view, view.route), (bits, 9, 0xab << 56));
        assert_eq!(view.question(), question(b"\x03www\x02a.\0", 28));
        for cut in 0..key.as_bytes().len() {
            assert_eq!(KeyView::of(&key.as_bytes()[..cut]), None, "{cut} octets");
        }
    }

    #[test]
    fn a_key_is_read_from_its_octets_and_from_no_others() {
        let bits = Bits { dnssec_ok: true, checking_disabled: true };
        let key = Key::new(&question(b"\x03WwW\x02eX\0", 65), bits, 3, 1 << 63);
        let octets = key.as_bytes().to_vec();
        assert_eq!(Key::from_bytes(&octets), Some(key));
        assert_eq!(key.question(), question(b"\x03www\x02ex\0", 65));
        let flags = octets.len() - Key::SPLIT;
        for (at, octet) in [(0, 4), (0, 0xc0), (1, b'W'), (flags, 4), (flags, 8)] {
            let mut other = octets.clone();
            other[at] = octet;
            assert_eq!(Key::from_bytes(&other), None, "{at}");
        }
        assert_eq!(Key::from_bytes(&[&octets[..], b"x"].concat()), None);
        assert!((0..octets.len()).all(|length| Key::from_bytes(&octets[..length]).is_none()));
    }

    #[test]
    fn neg_03_the_types_of_a_name_share_one_key_and_nothing_else_does() {
        let of = |name: &[u8], rtype| Key::new(&question(name, rtype), NONE, 3, 9).of_all_types();
        assert_eq!(of(b"\x01a\0", 1), of(b"\x01A\0", 28));
        assert_ne!(of(b"\x01a\0", 1), of(b"\x01b\0", 1));
        let exact = Key::new(&question(b"\x01a\0", 1), NONE, 3, 9);
        assert_ne!(exact.of_all_types(), exact);
        assert_eq!((exact.rtype(), exact.of_all_types().rtype()), (1, 0));
        let signed = Key::new(&question(b"\x01a\0", 1), Bits { dnssec_ok: true, ..NONE }, 3, 9);
        assert_ne!(signed.of_all_types(), exact.of_all_types());
        assert!(Key::new(&[], NONE, 0, 0).of_all_types().as_bytes().is_empty());
    }

    #[test]
    fn the_longest_name_fits_and_what_is_no_question_is_empty() {
        let longest = question(&[1; MAX_NAME], 1);
        let key = Key::new(&longest, NONE, 0, 0);
        let (subnet, _) = Subnet::read(&[0, 2, 56, 0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(key.as_bytes().len(), Key::CAPACITY - Key::REACH);
        assert_eq!(key.reaching(Reach::Only(subnet)).as_bytes().len(), Key::CAPACITY);
        for wrong in [&[][..], &[0, 0, 1, 0][..], &[0; MAX_NAME + 5][..]] {
            assert!(Key::new(wrong, NONE, 1, 1).as_bytes().is_empty(), "{} octets", wrong.len());
        }
    }

    fn subnet(length: u8, address: &[u8]) -> Subnet {
        let family = if address.len() > 4 || address.starts_with(&[0x20]) { 2 } else { 1 };
        Subnet::read(&[&[0, family, length, 0], address].concat()).unwrap().0
    }

    #[test]
    fn ttl_09_whom_an_answer_is_for_splits_and_is_read_back() {
        // The second name ends in what a reach looks like.
        let names = [&b"\x03www\x07example\0"[..], b"\x03www\x07example\x04\x01\x18\x01\x02\0", b"\0"];
        let subnets = [(0, &[][..]), (16, &[1, 2]), (17, &[1, 2, 0]), (24, &[1, 2, 0]), (16, &[0x20, 1])];
        let subnets = subnets.map(|(length, address)| subnet(length, address));
        let mut keys = Vec::new();
        for name in names {
            let plain = Key::new(&question(name, 1), Bits { dnssec_ok: true, ..NONE }, 3, 9);
            assert_eq!(plain.reach(), None);
            keys.push(plain);
            let reaches = subnets.iter().flat_map(|&subnet| [Reach::Within(subnet), Reach::Only(subnet)]);
            for reach in reaches.chain([Reach::Everyone]) {
                let key = plain.reaching(reach);
                assert_eq!((key.name(), key.question(), key.reach()), (name, plain.question(), Some(reach)));
                assert_eq!(key.reaching(Reach::Everyone), plain.reaching(Reach::Everyone), "the last one counts");
                assert_eq!(key.sibling(28, NONE), plain.sibling(28, NONE).reaching(reach));
                assert_eq!(key.of_all_types(), plain.of_all_types().reaching(reach));
                let view = KeyView::of(key.as_bytes()).unwrap();
                assert_eq!((view.name, view.rtype, view.route, view.reach), (name, 1, 9, Some(reach)));
                keys.push(key);
            }
        }
        for key in &keys {
            assert_eq!(Key::from_bytes(key.as_bytes()), Some(*key));
            assert_eq!(Key::from_bytes(&[key.as_bytes(), b"x"].concat()), None);
            assert!((0..key.as_bytes().len()).all(|cut| Key::from_bytes(&key.as_bytes()[..cut]).is_none()));
        }
        let all = keys.len();
        keys.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert!(Key::new(&[], NONE, 0, 0).reaching(Reach::Everyone).as_bytes().is_empty());
    }
}
