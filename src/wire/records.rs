//! A walk over the resource records of a message, with bounds checked and names proven sound (RFC 1035 4.1.3).

use super::{HEADER_LEN, Header, Span, WireError, name, u32_at};

/// The section a record stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// One resource record, as offsets into its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The section it stands in.
    pub section: Section,
    /// Offset of the owner name, and so of the record.
    pub owner: u16,
    /// TYPE.
    pub rtype: u16,
    /// CLASS.
    pub class: u16,
    /// TTL in seconds, as sent.
    pub ttl: u32,
    /// Offset of the four TTL octets.
    pub ttl_at: u16,
    /// RDATA; its end is the record's end.
    pub rdata: Span,
}

impl Record {
    /// Does a name in the RDATA hold a pointer that no reader could follow (GEN-10)? Asked of the types that RFC 1035 lets be
    /// compressed; whatever else is odd about an RDATA is nobody's business on the way.
    #[must_use]
    pub fn leads_astray(&self, message: &[u8]) -> bool {
        let start = usize::from(self.rdata.start);
        let (names_at, names) = match self.rtype {
            // NS MD MF CNAME MB MG MR PTR
            2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 => (start, 1),
            // SOA MINFO
            6 | 14 => (start, 2),
            // MX
            15 => (start + 2, 1),
            _ => return false,
        };
        let walk = (0..names).try_fold(names_at, |at, _| name::skip(message, at));
        walk == Err(WireError::BadPointer)
    }
}

/// Iterates over all records after the question section, in message order.
///
/// After an error it ends. [`Records::position`] is then the offset of the record that could not be read.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    message: &'a [u8],
    next: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// Starts after the question section of `message`, whose header is `header`.
    ///
    /// # Errors
    /// As [`name::skip`] for a question that cannot be skipped.
    pub fn new(message: &'a [u8], header: &Header) -> Result<Self, WireError> {
        let mut next = HEADER_LEN;
        for _ in 0..header.questions {
            next = name::skip(message, next)? + 4;
            if next > message.len() {
                return Err(WireError::Short);
            }
        }
        Ok(Self::at(message, header, next))
    }

    /// Starts at `offset`, the known end of the question section.
    #[must_use]
    pub const fn at(message: &'a [u8], header: &Header, offset: usize) -> Self {
        Self { message, next: offset, left: [header.answers, header.authorities, header.additionals] }
    }

    /// Offset of the next record: at the end of the walk, one past the last record.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.next
    }

    #[inline]
    fn section(&mut self) -> Option<Section> {
        let (left, section) = match &mut self.left {
            [0, 0, 0] => return None,
            [0, 0, left] => (left, Section::Additional),
            [0, left, _] => (left, Section::Authority),
            [left, ..] => (left, Section::Answer),
        };
        *left -= 1;
        Some(section)
    }

    #[inline]
    fn read(&self, section: Section) -> Result<Record, WireError> {
        let fixed = name::skip(self.message, self.next)?;
        let octets = self.message.get(fixed..).and_then(<[u8]>::first_chunk::<10>).ok_or(WireError::Short)?;
        let &[t0, t1, c0, c1, _, _, _, _, length0, length1] = octets;
        let start = fixed + 10;
        let end = start + usize::from(u16::from_be_bytes([length0, length1]));
        if end > self.message.len() {
            return Err(WireError::Short);
        }
        let narrow = |at: usize| u16::try_from(at).map_err(|_| WireError::Short);
        Ok(Record {
            section,
            owner: narrow(self.next)?,
            rtype: u16::from_be_bytes([t0, t1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32_at(self.message, fixed + 4)?,
            ttl_at: narrow(fixed + 4)?,
            rdata: Span { start: narrow(start)?, end: narrow(end)? },
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let section = self.section()?;
        let record = self.read(section);
        match &record {
            Ok(record) => self.next = record.rdata.end.into(),
            Err(_) => self.left = [0; 3],
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these counts, then `body`.
    fn message(counts: [u16; 4], body: &[u8]) -> Vec<u8> {
        let [questions, answers, authorities, additionals] = counts;
        let header = Header { questions, answers, authorities, additionals, ..Header::default() };
        [&header.to_octets(), body].concat()
    }

    fn walk(message: &[u8]) -> (Vec<Result<Record, WireError>>, usize) {
        let mut records = Records::new(message, &Header::parse(message).unwrap()).unwrap();
        (records.by_ref().collect(), records.position())
    }

    const A: [u8; 15] = [0, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4, 192, 0, 2, 1];

    #[test]
    fn sections_follow_the_counts_and_the_walk_ends_behind_the_last() {
        let bytes = message([0, 1, 1, 2], &[&A[..], &A, &A, &A, b"junk"].concat());
        let (records, end) = walk(&bytes);
        let sections: Vec<_> = records.iter().map(|record| record.unwrap().section).collect();
        assert_eq!(sections, [Section::Answer, Section::Authority, Section::Additional, Section::Additional]);
        assert_eq!(end, bytes.len() - 4);
        let last = records.last().unwrap().unwrap();
        assert_eq!((last.owner, last.ttl, last.ttl_at, last.rdata.of(&bytes)), (57, 300, 62, &[192, 0, 2, 1][..]));
    }

    #[test]
    fn gen_10_a_record_cut_short_ends_the_walk_where_it_began() {
        for cut in 1..A.len() {
            let bytes = message([0, 2, 0, 0], &[&A[..], &A[..cut]].concat());
            let (records, position) = walk(&bytes);
            assert_eq!(records.get(1..), Some(&[Err(WireError::Short)][..]));
            assert_eq!(position, HEADER_LEN + A.len());
        }
    }

    #[test]
    fn rdata_that_looks_like_a_pointer_is_left_alone() {
        let bytes = message([0, 1, 0, 0], &[0, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0xc0, 0xff]);
        assert_eq!(walk(&bytes).0.first().unwrap().unwrap().rdata.of(&bytes), [0xc0, 0xff]);
    }

    #[test]
    fn questions_are_skipped_and_must_be_whole() {
        let bytes = message([2, 1, 0, 0], &[&[1, b'a', 0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1][..], &A].concat());
        assert_eq!(walk(&bytes).0.len(), 1);
        let short = message([1, 0, 0, 0], &[0, 0, 1, 0]);
        assert_eq!(Records::new(&short, &Header::parse(&short).unwrap()).err(), Some(WireError::Short));
    }
}
