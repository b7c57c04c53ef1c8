//! Reading an upstream's answer: one walk that proves every name, count and length, and takes the OPT apart.

use super::Flaw;
use crate::upstream::Ask;
use crate::upstream::ask::{Passed, scope};
use crate::wire::registry::{option, rtype};
use crate::wire::{Flags, HEADER_LEN, Header, Options, Question, Record, Records, Section, Span, Subnet, WireError};

/// An answer that can be read.
pub struct Received<'a> {
    /// As received.
    pub message: &'a [u8],
    /// Its header.
    pub header: Header,
    /// Its records, those of the hop (OPT, TSIG, SIG(0)) aside.
    pub records: Vec<Record>,
    /// Offset of its first record.
    pub records_at: usize,
    /// Offset of the first record that is not among them, if there is one.
    pub gap_at: Option<u16>,
    /// The RCODE, extended bits included.
    pub rcode: u16,
    /// The first extended error.
    pub ede: Option<u16>,
    /// AD as received.
    pub authentic: bool,
    /// The first bits of the client's subnet that it is for, if the server says so; 0: it is for everyone.
    pub scope: u8,
    /// The server's options that the operator lets pass, where the client's did.
    pub options: Box<[u8]>,
}

impl From<WireError> for Flaw {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

impl<'a> Received<'a> {
    /// Reads `message` as an answer to `ask`, its server having been told `told` of the client's network.
    ///
    /// # Errors
    /// The [`Flaw`].
    pub fn read(message: &'a [u8], ask: &Ask, told: Option<Subnet>) -> Result<Self, Flaw> {
        let header = Header::parse(message)?;
        if !header.flags.has(Flags::QR) || header.flags.opcode() != 0 {
            return Err(Flaw::Malformed);
        }
        if header.flags.has(Flags::TC) {
            return Err(Flaw::Truncated);
        }
        let records_at = question_end(message, &header, ask)?;
        let mut received = Self {
            message,
            header,
            records: Vec::new(),
            records_at,
            gap_at: None,
            rcode: header.flags.rcode(),
            ede: None,
            authentic: header.flags.has(Flags::AD),
            scope: 0,
            options: Box::default(),
        };
        let mut edns = false;
        for record in Records::at(message, &header, records_at) {
            let record = record?;
            match record.rtype {
                rtype::OPT => {
                    if edns
                        || record.section != Section::Additional
                        || message.get(usize::from(record.owner)) != Some(&0)
                    {
                        return Err(Flaw::Malformed);
                    }
                    edns = true;
                    received.take_opt(record, ask, told)?;
                    received.gap_at.get_or_insert(record.owner);
                }
                // A signature over the message, or over the transaction, is the hop's as well.
                rtype::TSIG | rtype::SIG if record.section == Section::Additional => {
                    received.gap_at.get_or_insert(record.owner);
                }
                _ if record.leads_astray(message) => return Err(Flaw::Malformed),
                _ => received.records.push(record),
            }
        }
        Ok(received)
    }

    /// Padding, cookies and options that may not pass end here (PAD-10, CKI-23, EDN-14); an extended error travels on, and whom the
    /// answer is for is remembered.
    fn take_opt(&mut self, record: Record, ask: &Ask, told: Option<Subnet>) -> Result<(), Flaw> {
        let [high, ..] = record.ttl.to_be_bytes();
        self.rcode |= u16::from(high) << 4;
        if let Some(Passed { codes, .. }) = ask.passed.as_deref() {
            self.options = Passed::pick(codes, self.message, record.rdata).octets;
        }
        for entry in Options::new(self.message, record.rdata) {
            let (code, data) = entry?;
            if code == option::EDE {
                let info = crate::wire::u16_at(Span::of(data, self.message), 0)?;
                self.ede.get_or_insert(info);
            }
            if let (option::ECS, Some(told)) = (code, told) {
                self.scope = scope(told, data.of(self.message)).ok_or(Flaw::Malformed)?;
            }
        }
        Ok(())
    }
}

/// The offset after the question, which must be the one asked; some servers cut it from errors.
fn question_end(message: &[u8], header: &Header, ask: &Ask) -> Result<usize, Flaw> {
    if header.questions == 0 && header.flags.rcode() != 0 && header.answers == 0 {
        return Ok(HEADER_LEN);
    }
    let question = Question::parse(message)?;
    let same = header.questions == 1 && question.octets(message).eq_ignore_ascii_case(&ask.question);
    if same { Ok(question.end()) } else { Err(Flaw::Malformed) }
}
