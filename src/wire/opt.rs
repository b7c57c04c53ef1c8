//! Writing our own OPT record, once, at the end of a message (RFC 6891 6.1.2), padding last (RFC 8467 3).

use super::registry::{option, rtype};

/// Octets of an OPT record without options.
pub const OPT_LEN: usize = 11;

/// Octets of an option's code and length.
pub const OPTION_HEAD: usize = 4;

/// The fixed part of an OPT record and a place to append options.
///
/// Shape: `OptWriter::start(out, …)`, any number of `option`, at most one `pad` as the last, then `finish`.
#[derive(Debug)]
pub struct OptWriter<'a, B: AsMut<[u8]> + bytes::BufMut> {
    out: &'a mut B,
    length_at: usize,
    length: usize,
}

impl<'a, B: AsMut<[u8]> + bytes::BufMut> OptWriter<'a, B> {
    /// Appends the fixed part: payload size we accept, high bits of `rcode`, version 0, DO.
    pub fn start(out: &'a mut B, udp_size: u16, rcode: u16, dnssec_ok: bool) -> Self {
        out.put_u8(0);
        out.put_u16(rtype::OPT);
        out.put_u16(udp_size);
        out.put_u8(u8::try_from(rcode >> 4).unwrap_or(u8::MAX));
        out.put_u8(0);
        out.put_u16(if dnssec_ok { 0x8000 } else { 0 });
        let length_at = out.as_mut().len();
        out.put_u16(0);
        Self { out, length_at, length: 0 }
    }

    /// Appends one option whose data is the concatenation of `parts`.
    pub fn option(&mut self, code: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.out.put_u16(code);
        self.out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        for part in parts {
            self.out.put_slice(part);
        }
        self.length += OPTION_HEAD + length;
    }

    /// Appends options that are in wire form already.
    pub fn options(&mut self, octets: &[u8]) {
        self.out.put_slice(octets);
        self.length += octets.len();
    }

    /// Appends a PADDING option of `length` zero octets.
    pub fn pad(&mut self, length: usize) {
        self.out.put_u16(option::PADDING);
        self.out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        self.out.put_bytes(0, length);
        self.length += OPTION_HEAD + length;
    }

    /// Fills in RDLENGTH. ARCOUNT is the caller's: see [`super::patch::add_additional`].
    pub fn finish(self) {
        let length = u16::try_from(self.length).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = self.out.as_mut().get_mut(self.length_at..self.length_at + 2) {
            place.copy_from_slice(&length);
        }
    }
}

/// Data octets of the padding option that brings a message of `length` octets (all but the padding option) to a multiple of `block`,
/// or `None` where that would pass `limit` (then no padding fits at all, or less is used up to the limit).
#[must_use]
pub const fn padding(length: usize, block: usize, limit: usize) -> Option<usize> {
    let bare = length + OPTION_HEAD;
    if bare > limit || block == 0 {
        return None;
    }
    let target = bare.div_ceil(block) * block;
    Some(if target > limit { limit - bare } else { target - bare })
}

#[cfg(test)]
mod tests {
    use super::super::{Edns, Header, Records};
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Header { additionals: 1, ..Header::default() }.to_octets().to_vec();
        let mut opt = OptWriter::start(&mut out, 1232, 23, true);
        opt.option(option::COOKIE, &[&[1; 8], &[2; 16]]);
        opt.option(option::EDE, &[]);
        opt.pad(5);
        opt.finish();
        let record = Records::at(&out, &Header::parse(&out).unwrap(), 12).next().unwrap().unwrap();
        let edns = Edns::parse(&out, record.class, record.ttl, record.rdata).unwrap();
        assert_eq!((edns.udp_size, edns.extended_rcode, edns.version), (1232, 1, 0));
        assert!(edns.dnssec_ok && edns.padding && edns.foreign);
        assert_eq!(edns.cookie.unwrap().of(&out), [[1; 8], [2; 8], [2; 8]].as_flattened());
        assert_eq!(out.len(), 12 + OPT_LEN + 3 * OPTION_HEAD + 24 + 5);
        assert_eq!(usize::from(record.rdata.end), out.len());
    }

    #[test]
    fn pad_01_padding_fills_a_block() {
        for length in 12..2000 {
            let data = padding(length, 468, 65_535).unwrap();
            assert_eq!((length + OPTION_HEAD + data) % 468, 0);
            assert!(data < 468);
        }
    }

    #[test]
    fn pad_07_padding_stays_within_the_limit() {
        assert_eq!(padding(65_000, 468, 65_535), Some(65_052 - 65_004));
        assert_eq!(padding(65_100, 468, 65_535), Some(65_520 - 65_104));
        assert_eq!(padding(65_520, 468, 65_535), Some(11));
        assert_eq!(padding(65_531, 468, 65_535), Some(0));
        assert_eq!(padding(65_532, 468, 65_535), None);
        assert_eq!(padding(100, 0, 65_535), None);
    }
}
