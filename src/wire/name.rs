//! Domain names on the wire: bounds, folding, comparison, presentation (RFC 1035 3.1, 4.1.4; RFC 4343).

use std::fmt;

use super::{HEADER_LEN, WireError};

/// The longest name, in octets, its root label included.
pub const MAX_NAME: usize = 255;

/// The most pointers one name may be made of: a name has at most 127 labels, and each pointer leads to one. Without this bound the
/// records of one long message could all walk the same chain of pointers to pointers.
const MAX_JUMPS: usize = 128;

/// Skips an uncompressed name that starts at `at` and answers the offset after it.
///
/// Questions may not be compressed: there is nothing before them to point at.
///
/// # Errors
/// [`WireError::BadName`] for a pointer, a reserved label type or over 255 octets; [`WireError::Short`] at the end of `message`.
pub fn skip_plain(message: &[u8], at: usize) -> Result<usize, WireError> {
    let mut next = at;
    loop {
        let length = usize::from(*message.get(next).ok_or(WireError::Short)?);
        if length > 63 {
            return Err(WireError::BadName);
        }
        next += 1 + length;
        if next - at > MAX_NAME {
            return Err(WireError::BadName);
        }
        if length == 0 {
            return Ok(next);
        }
    }
}

/// Skips a name that may be compressed, following every pointer to prove it sound, and answers the offset after it.
///
/// Each pointer must lead strictly before the segment it stands in, so the walk ends whatever the bytes are.
///
/// # Errors
/// As [`labels`].
#[inline]
pub fn skip(message: &[u8], at: usize) -> Result<usize, WireError> {
    // The root needs no walk: every OPT stands there.
    if message.get(at) == Some(&0) {
        return Ok(at + 1);
    }
    let mut walk = labels(message, at);
    while walk.step()?.is_some() {}
    Ok(walk.after)
}

/// A walk over the labels of a possibly compressed name.
///
/// # Errors
/// Its `step` answers [`WireError::BadPointer`] for a pointer that does not lead to a name that ends before, or the 129th of a name,
/// [`WireError::BadName`] for reserved label types or a name over 255 octets, [`WireError::Short`] at the end of the message.
#[must_use]
pub const fn labels(message: &[u8], at: usize) -> Labels<'_> {
    Labels { message, next: at, segment: at, after: at, jumps: 0, length: 0 }
}

/// See [`labels`].
#[derive(Debug)]
pub struct Labels<'a> {
    message: &'a [u8],
    next: usize,
    segment: usize,
    after: usize,
    jumps: usize,
    length: usize,
}

impl<'a> Labels<'a> {
    /// The next label without its length octet, `None` at the root.
    ///
    /// # Errors
    /// As [`labels`] says.
    pub fn step(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        loop {
            let length = *self.message.get(self.next).ok_or(self.cut())?;
            if length & 0xc0 == 0xc0 {
                self.jump(length)?;
                continue;
            }
            if length > 63 {
                return Err(WireError::BadName);
            }
            let start = self.next + 1;
            let end = start + usize::from(length);
            let label = self.message.get(start..end).ok_or(self.cut())?;
            self.length += 1 + usize::from(length);
            if self.length > MAX_NAME {
                return Err(WireError::BadName);
            }
            self.next = end;
            if self.jumps == 0 {
                self.after = end;
            }
            return Ok(if length == 0 { None } else { Some(label) });
        }
    }

    fn jump(&mut self, high: u8) -> Result<(), WireError> {
        let low = *self.message.get(self.next + 1).ok_or(self.cut())?;
        let target = usize::from(u16::from_be_bytes([high & 0x3f, low]));
        if target < HEADER_LEN || target >= self.segment || self.jumps >= MAX_JUMPS {
            return Err(WireError::BadPointer);
        }
        if self.jumps == 0 {
            self.after = self.next + 2;
        }
        // What is pointed to has ended before this name began: else it could reach past its own record, and past the message.
        self.message = self.message.get(..self.segment).unwrap_or_default();
        self.jumps += 1;
        self.segment = target;
        self.next = target;
        Ok(())
    }

    /// The error where the octets end: the message's, or those before the name that a pointer stands in.
    const fn cut(&self) -> WireError {
        if self.jumps == 0 { WireError::Short } else { WireError::BadPointer }
    }
}

/// Appends the uncompressed form of the name at `at` to `out` and answers the offset after the compressed one.
///
/// # Errors
/// As [`labels`]; `out` then ends with the labels before the error.
pub fn expand(message: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, WireError> {
    let mut walk = labels(message, at);
    while let Some(label) = walk.step()? {
        // A label is at most 63 octets: `Labels::step` has checked it.
        out.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(label);
    }
    out.push(0);
    Ok(walk.after)
}

/// Are the two possibly compressed names equal, ASCII letters folded (RFC 4343 3)?
///
/// # Errors
/// As [`labels`].
pub fn equal(left: &[u8], left_at: usize, right: &[u8], right_at: usize) -> Result<bool, WireError> {
    let (mut a, mut b) = (labels(left, left_at), labels(right, right_at));
    loop {
        match (a.step()?, b.step()?) {
            (None, None) => return Ok(true),
            (Some(x), Some(y)) if x.eq_ignore_ascii_case(y) => {}
            _ => return Ok(false),
        }
    }
}

/// Is the uncompressed wire name `name` equal to `suffix` or below it, by whole labels and without regard to ASCII case?
#[must_use]
pub fn is_under(name: &[u8], suffix: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() >= suffix.len() {
        if rest.eq_ignore_ascii_case(suffix) {
            return true;
        }
        let Some((&length, tail)) = rest.split_first() else { return false };
        let Some(next) = tail.get(usize::from(length)..) else { return false };
        rest = next;
    }
    false
}

/// Parses presentation form (`www.example.com`, `a\.b`, `\065`), with or without the final dot, to wire form.
///
/// # Errors
/// [`WireError::BadName`] for an empty or over-long label, a bad escape, over 255 octets, or a letter outside ASCII: that would have
/// to be written as an A-label (RFC 5890 2.3.2.1), and as itself would never match.
pub fn from_text(text: &str) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(text.len() + 2);
    if text.is_empty() || !text.is_ascii() {
        return Err(WireError::BadName);
    }
    if text != "." {
        let mut octets = text.bytes();
        let mut label = Vec::new();
        while let Some(octet) = octets.next() {
            match octet {
                b'.' => push_label(&mut out, &mut label)?,
                b'\\' => label.push(unescape(&mut octets)?),
                other => label.push(other),
            }
        }
        if !label.is_empty() {
            push_label(&mut out, &mut label)?;
        }
    }
    out.push(0);
    if out.len() > MAX_NAME { Err(WireError::BadName) } else { Ok(out) }
}

fn push_label(out: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), WireError> {
    match u8::try_from(label.len()) {
        Ok(length @ 1..=63) => out.push(length),
        _ => return Err(WireError::BadName),
    }
    out.append(label);
    Ok(())
}

fn unescape(octets: &mut std::str::Bytes<'_>) -> Result<u8, WireError> {
    let first = octets.next().ok_or(WireError::BadName)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = octets.next().filter(u8::is_ascii_digit).ok_or(WireError::BadName)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| WireError::BadName)
}

/// Shows an uncompressed wire name in presentation form, with the final dot and odd octets escaped (RFC 1035 5.1).
#[derive(Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut walk = labels(self.0, 0);
        let mut any = false;
        while let Ok(Some(label)) = walk.step() {
            any = true;
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", char::from(octet))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(octet))?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
            f.write_str(".")?;
        }
        if any { Ok(()) } else { f.write_str(".") }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_through_wire_form() {
        for text in ["www.example.com.", ".", r"a\.b.example.", r"\000\255.x."] {
            let wire = from_text(text).unwrap();
            assert_eq!(Shown(&wire).to_string(), text);
        }
    }

    #[test]
    fn gen_10_pointer_loops_and_forward_pointers_are_refused() {
        let mut message = vec![0; 12];
        message.extend([0xc0, 12]);
        assert_eq!(skip(&message, 12), Err(WireError::BadPointer));
        let mut forward = vec![0; 12];
        forward.extend([0xc0, 14, 0]);
        assert_eq!(skip(&forward, 12), Err(WireError::BadPointer));
    }

    #[test]
    fn a_name_may_follow_as_many_pointers_as_it_may_have_labels_and_no_more() {
        // Labels of one octet, each continued by a pointer to the one before: the last name has `labels` labels.
        let chain = |labels: usize| {
            let mut message = vec![0; 12];
            message.push(0);
            for n in 0..labels {
                let target = if n == 0 { 12 } else { 13 + 4 * (n - 1) };
                message.extend([1, b'x']);
                message.extend((0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
            }
            skip(&message, 13 + 4 * (labels - 1))
        };
        assert_eq!(chain(127), Ok(13 + 4 * 127));
        assert_eq!(chain(128), Err(WireError::BadName));
        // Pointers that lead to nothing but pointers.
        let bare = |pointers: usize| {
            let mut message = vec![0; 13];
            for n in 0..pointers {
                let target = if n == 0 { 12 } else { 13 + 2 * (n - 1) };
                message.extend((0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
            }
            skip(&message, 13 + 2 * (pointers - 1))
        };
        assert_eq!(bare(128), Ok(13 + 2 * 128));
        assert_eq!(bare(129), Err(WireError::BadPointer));
    }

    #[test]
    fn gen_10_what_is_pointed_to_ends_before_the_name_that_points() {
        // Root at 12, a label of two octets at 13, then the pointing name.
        let skipped = |pointed: &[u8], name: &[u8]| skip(&[&[0; 12], pointed, name].concat(), 12 + pointed.len());
        assert_eq!(skipped(&[0, 2, b'x', b'x', 0], &[0xc0, 13, 0]), Ok(19));
        assert_eq!(skipped(&[0, 2, b'x', b'x'], &[0xc0, 13, 0]), Err(WireError::BadPointer));
        assert_eq!(skipped(&[0, 2], &[0xc0, 13, 0]), Err(WireError::BadPointer));
        // A pointer whose second octet, 12, is the length of the pointing name's first label.
        assert_eq!(skipped(&[0, 1, b'x', 0xc0], b"\x0ctwelve octet\xc0\x0d"), Err(WireError::BadPointer));
        assert_eq!(skipped(&[0, 1, b'x', 0xc0, 12], b"\x0ctwelve octet\xc0\x0d"), Ok(17 + 15));
    }

    #[test]
    fn gen_09_the_bounds_of_labels_and_names_hold_in_text_too() {
        let name = |labels: &[usize]| labels.iter().map(|&length| "x".repeat(length) + ".").collect::<String>();
        assert_eq!(from_text(&name(&[63, 63, 63, 61])).map(|wire| wire.len()), Ok(255));
        for bad in [name(&[63, 63, 63, 62]), name(&[64]), String::new()] {
            assert_eq!(from_text(&bad), Err(WireError::BadName), "{bad}");
        }
        for bad in ["a..b", ".a", "..", r"a\", r"a\25", r"a\256", r"a\2x5", "m\u{fc}ller.example"] {
            assert_eq!(from_text(bad), Err(WireError::BadName), "{bad}");
        }
    }

    #[test]
    fn names_are_equal_without_regard_to_case_or_compression() {
        let mut message = vec![0; 12];
        message.extend(b"\x03www\x07EXAMPLE\x00\x03WWW\xc0\x10\x03wwx\xc0\x10");
        assert_eq!(equal(&message, 12, &message, 25), Ok(true));
        assert_eq!(equal(&message, 12, &message, 31), Ok(false));
        assert_eq!(equal(&message, 12, &message, 16), Ok(false));
        let mut out = Vec::new();
        assert_eq!(expand(&message, 25, &mut out), Ok(31));
        assert_eq!(out, b"\x03WWW\x07EXAMPLE\x00");
    }

    #[test]
    fn suffixes_match_by_whole_labels_and_without_case() {
        let onion = from_text("onion").unwrap();
        assert!(is_under(&from_text("a.ONION").unwrap(), &onion));
        assert!(is_under(&from_text("onion").unwrap(), &onion));
        assert!(!is_under(&from_text("xonion").unwrap(), &onion));
        assert!(is_under(&from_text("x").unwrap(), &[0]));
    }
}
