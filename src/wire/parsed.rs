//! The one parse of a query: header, question, OPT, and where the message really ends.
//!
//! Whatever is wrong is named by a [`FaultKind`], with as much of the message as could be read, so that the error reply can
//! echo the question and carry an OPT (RFC 6891 6.1.1, RFC 8906 3).

use super::registry::rtype;
use super::{Edns, Flags, HEADER_LEN, Header, Question, Records, Section};

/// The facts of a well-formed query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The header as sent.
    pub header: Header,
    /// The question; `None` only for a question-less query with a cookie (RFC 7873 5.4).
    pub question: Option<Question>,
    /// The OPT record, if there was one.
    pub edns: Option<Edns>,
    /// One past the last counted record: octets after it are no part of the message.
    pub end: u16,
}

/// What is wrong with bytes that arrived as a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Under twelve octets: there is no header to answer with.
    Short,
    /// QR is set: answering would start a loop (GEN-13).
    Response,
    /// An opcode other than QUERY.
    Opcode,
    /// QDCOUNT is not one (RFC 9619), and there is no cookie to ask for.
    QuestionCount,
    /// A name, pointer or record that cannot be read.
    Malformed,
    /// More than one OPT, an OPT outside the additional section or not at the root, or options out of bounds.
    Opt,
    /// An option of known meaning with a content its RFC forbids (cookie length, keepalive length).
    OptionContent,
    /// An EDNS version above zero.
    Version,
    /// TSIG or SIG(0): a signed message cannot be rebuilt hop by hop.
    Signed,
}

/// A message that is no query to answer as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The header; `None` only for [`FaultKind::Short`].
    pub header: Option<Header>,
    /// The question, where it could be read.
    pub question: Option<Question>,
    /// The OPT record, where one was seen (a default one if its content is unreadable).
    pub edns: Option<Edns>,
}

impl Parsed {
    /// Reads `message` as a query.
    ///
    /// # Errors
    /// A [`Fault`]; see [`FaultKind`].
    pub fn parse(message: &[u8]) -> Result<Self, Fault> {
        let header = Header::parse(message).map_err(|_| Fault {
            kind: FaultKind::Short,
            header: None,
            question: None,
            edns: None,
        })?;
        let mut seen = Fault { kind: FaultKind::Malformed, header: Some(header), question: None, edns: None };
        if header.flags.has(Flags::QR) {
            return Err(Fault { kind: FaultKind::Response, ..seen });
        }
        let kind = match header.questions {
            0 => FaultKind::QuestionCount,
            1 => {
                seen.question = Some(Question::parse(message).map_err(|_| seen)?);
                FaultKind::Malformed
            }
            _ => {
                if let Some(records) = Records::new(message, &header).ok().filter(|_| header.flags.opcode() == 0) {
                    seen.edns = additional(message, records, &mut seen.clone()).ok().and_then(|(edns, _)| edns);
                }
                let kind = if header.flags.opcode() == 0 { FaultKind::QuestionCount } else { FaultKind::Opcode };
                return Err(Fault { kind, ..seen });
            }
        };
        seen.kind = kind;
        let start = seen.question.map_or(HEADER_LEN, Question::end);
        let outcome = additional(message, Records::at(message, &header, start), &mut seen);
        if header.flags.opcode() != 0 {
            return Err(Fault { kind: FaultKind::Opcode, ..seen });
        }
        let (edns, end) = outcome.map_err(|kind| Fault { kind, ..seen })?;
        seen.edns = edns;
        let version = edns.map_or(0, |edns| edns.version);
        let cookie = edns.and_then(|edns| edns.cookie);
        if version > 0 {
            return Err(Fault { kind: FaultKind::Version, ..seen });
        }
        if cookie.is_some_and(|data| !matches!(data.of(message).len(), 8 | 16..=40)) {
            return Err(Fault { kind: FaultKind::OptionContent, ..seen });
        }
        if seen.question.is_none() && cookie.is_none() {
            return Err(Fault { kind: FaultKind::QuestionCount, ..seen });
        }
        Ok(Self { header, question: seen.question, edns, end: u16::try_from(end).unwrap_or(u16::MAX) })
    }
}

/// Walks the records after the question: finds the one OPT and the end; records in `seen` what an error reply needs.
fn additional(message: &[u8], mut records: Records<'_>, seen: &mut Fault) -> Result<(Option<Edns>, usize), FaultKind> {
    for record in records.by_ref() {
        let record = record.map_err(|_| FaultKind::Malformed)?;
        match record.rtype {
            rtype::OPT => {
                let second = seen.edns.is_some();
                let root = message.get(usize::from(record.owner)) == Some(&0);
                let edns = Edns::parse(message, record.class, record.ttl, record.rdata);
                seen.edns.get_or_insert(edns.unwrap_or_default());
                if second || !root || record.section != Section::Additional || edns.is_err() {
                    return Err(FaultKind::Opt);
                }
            }
            rtype::TSIG | rtype::SIG if record.section == Section::Additional => return Err(FaultKind::Signed),
            _ => {}
        }
    }
    Ok((seen.edns, records.position()))
}
