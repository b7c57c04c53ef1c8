//! A walk over the resource records of a message, with bounds checked and names proven sound (RFC 1035 4.1.3).

use super::{HEADER_LEN, Header, Span, WireError, name, u16_at, u32_at};

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

    fn section(&mut self) -> Option<Section> {
        let [answers, authorities, additionals] = &mut self.left;
        for (left, section) in
            [(answers, Section::Answer), (authorities, Section::Authority), (additionals, Section::Additional)]
        {
            if *left > 0 {
                *left -= 1;
                return Some(section);
            }
        }
        None
    }

    fn read(&self, section: Section) -> Result<Record, WireError> {
        let fixed = name::skip(self.message, self.next)?;
        let start = fixed + 10;
        let end = start + usize::from(u16_at(self.message, fixed + 8)?);
        if end > self.message.len() {
            return Err(WireError::Short);
        }
        let narrow = |at: usize| u16::try_from(at).map_err(|_| WireError::Short);
        Ok(Record {
            section,
            owner: narrow(self.next)?,
            rtype: u16_at(self.message, fixed)?,
            class: u16_at(self.message, fixed + 2)?,
            ttl: u32_at(self.message, fixed + 4)?,
            ttl_at: narrow(fixed + 4)?,
            rdata: Span { start: narrow(start)?, end: narrow(end)? },
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, WireError>;

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
