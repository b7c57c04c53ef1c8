//! What an answer is kept under (TTL-09).

/// The asker's bits that change an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// DO.
    pub dnssec_ok: bool,
    /// CD.
    pub checking_disabled: bool,
}

/// A key, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    octets: [u8; 272],
    length: usize,
}

impl Key {
    /// The key of `question` (QNAME in any case, QTYPE, QCLASS) for an asker with `bits`, in a view, over a route.
    #[must_use]
    pub fn new(question: &[u8], bits: Bits, view: u16, route: u64) -> Self {
        let mut octets = [0; 272];
        let split = question.len().saturating_sub(4);
        let flags = [u8::from(bits.dnssec_ok) | u8::from(bits.checking_disabled) << 1];
        let folded = question.iter().enumerate().map(|(at, o)| if at < split { o.to_ascii_lowercase() } else { *o });
        let tail = flags.into_iter().chain(view.to_be_bytes()).chain(route.to_be_bytes());
        let mut length = 0;
        for (place, octet) in octets.iter_mut().zip(folded.chain(tail)) {
            *place = octet;
            length += 1;
        }
        Self { octets, length }
    }

    /// Its octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}
