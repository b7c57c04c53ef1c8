//! The one parse of a query: header, question, OPT, and where the message really ends.
//!
//! Whatever is wrong is named by a [`FaultKind`], with as much of the message as could be read, so that the error reply can
//! echo the question and carry an OPT (RFC 6891 6.1.1, RFC 8906 3).

use super::registry::rtype;
use super::{Edns, Flags, HEADER_LEN, Header, Question, Record, Records, Section};

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
    /// A name, pointer or record that cannot be read, or fewer records than the header counts.
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
    /// The OPT record, where one was seen. Where its options cannot be read, only its fixed fields are told.
    pub edns: Option<Edns>,
}

impl Parsed {
    /// Reads `message` as a query.
    ///
    /// # Errors
    /// A [`Fault`]; see [`FaultKind`]. Of several faults the first in the message counts.
    pub fn parse(message: &[u8]) -> Result<Self, Fault> {
        let Ok(header) = Header::parse(message) else {
            return Err(Fault { kind: FaultKind::Short, header: None, question: None, edns: None });
        };
        let mut parsed = Self { header, question: None, edns: None, end: 0 };
        if header.flags.has(Flags::QR) {
            return Err(parsed.refused(FaultKind::Response));
        }
        if header.flags.opcode() != 0 || header.questions > 1 {
            return Err(parsed.unserved(message));
        }
        let mut start = HEADER_LEN;
        if header.questions == 1 {
            let Ok(question) = Question::parse(message) else { return Err(parsed.refused(FaultKind::Malformed)) };
            parsed.question = Some(question);
            start = question.end();
        }
        let fault = parsed.read_records(message, Records::at(message, &header, start));
        match fault.or_else(|| parsed.asks_nothing()) {
            Some(kind) => Err(parsed.refused(kind)),
            None => Ok(parsed),
        }
    }

    /// Walks what follows the question: finds the OPT and the end, and answers the first thing that is wrong.
    ///
    /// The walk goes on behind a fault, so that an OPT there is still seen: a reply has one if the query had one (EDN-01).
    #[inline]
    fn read_records(&mut self, message: &[u8], mut records: Records<'_>) -> Option<FaultKind> {
        let mut first = None;
        for record in records.by_ref() {
            let fault = match record {
                Ok(record) => self.note(message, &record),
                Err(_) => Some(FaultKind::Malformed),
            };
            first = first.or(fault);
        }
        self.end = u16::try_from(records.position()).unwrap_or(u16::MAX);
        first
    }

    #[inline]
    fn note(&mut self, message: &[u8], record: &Record) -> Option<FaultKind> {
        match (record.rtype, record.section) {
            (rtype::OPT, _) if self.edns.is_some() => Some(FaultKind::Opt),
            (rtype::OPT, _) => self.note_opt(message, record),
            (rtype::TSIG | rtype::SIG, Section::Additional) => Some(FaultKind::Signed),
            _ => None,
        }
    }

    #[inline]
    fn note_opt(&mut self, message: &[u8], record: &Record) -> Option<FaultKind> {
        let read = Edns::parse(message, record.class, record.ttl, record.rdata);
        let edns = read.unwrap_or_else(|_| Edns::fixed(record.class, record.ttl));
        self.edns = Some(edns);
        let at_root = message.get(usize::from(record.owner)) == Some(&0);
        if !at_root || record.section != Section::Additional {
            return Some(FaultKind::Opt);
        }
        // Before the options: another version may write them in another way (RFC 6891 6.1.3).
        if edns.version > 0 {
            return Some(FaultKind::Version);
        }
        if read.is_err() {
            return Some(FaultKind::Opt);
        }
        let cookie_fits = edns.cookie.is_none_or(|data| matches!(data.of(message).len(), 8 | 16..=40));
        if cookie_fits { None } else { Some(FaultKind::OptionContent) }
    }

    /// A query without a question asks for a cookie, or for nothing (RFC 7873 5.4, RFC 9619 4).
    fn asks_nothing(&self) -> Option<FaultKind> {
        let asks = self.question.is_some() || self.edns.is_some_and(|edns| edns.cookie.is_some());
        if asks { None } else { Some(FaultKind::QuestionCount) }
    }

    /// The fault of a message of a kind that is not served, with what its error reply can still echo.
    #[cold]
    fn unserved(mut self, message: &[u8]) -> Fault {
        if self.header.questions == 1 {
            self.question = Question::parse(message).ok();
        }
        if let Ok(records) = Records::new(message, &self.header) {
            _ = self.read_records(message, records);
        }
        self.refused(if self.header.flags.opcode() == 0 { FaultKind::QuestionCount } else { FaultKind::Opcode })
    }

    /// What was read, as a fault.
    const fn refused(self, kind: FaultKind) -> Fault {
        Fault { kind, header: Some(self.header), question: self.question, edns: self.edns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records as octets: type A at the root, an OPT without options, TSIG and SIG(0) without content.
    const A: &[u8] = &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
    const TSIG: &[u8] = &[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    const SIG: &[u8] = &[0, 0, 24, 0, 255, 0, 0, 0, 0, 0, 0];
    const QUESTION: &[u8] = b"\x03www\x07Example\x00\x00\x01\x00\x01";

    fn message(flags: u16, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
        let [questions, answers, authorities, additionals] = counts;
        let header = Header { id: 0xbeef, flags: Flags(flags), questions, answers, authorities, additionals };
        [&header.to_octets()[..], &parts.concat()].concat()
    }

    /// A query with one question and these additional records.
    fn query(additionals: &[&[u8]]) -> Vec<u8> {
        let count = u16::try_from(additionals.len()).unwrap();
        message(Flags::RD, [1, 0, 0, count], &[&[QUESTION], additionals].concat())
    }

    /// An OPT of `version` with one option of `length` octets that says it has `told`.
    fn opt(version: u8, code: u16, length: u16, told: u16) -> Vec<u8> {
        let mut out = vec![0, 0, 41, 4, 208, 0, version, 0x80, 0];
        out.extend((length + 4).to_be_bytes());
        out.extend(code.to_be_bytes());
        out.extend(told.to_be_bytes());
        out.resize(out.len() + usize::from(length), 7);
        out
    }

    fn cookie(length: u16) -> Vec<u8> {
        opt(0, 10, length, length)
    }

    fn kind(message: &[u8]) -> Option<FaultKind> {
        Parsed::parse(message).err().map(|fault| fault.kind)
    }

    /// The kind of the fault of `message`, which must come with DO as its OPT had it, and with the question.
    fn kind_with_opt(message: &[u8]) -> FaultKind {
        let fault = Parsed::parse(message).unwrap_err();
        let edns = fault.edns.unwrap();
        assert_eq!((edns.udp_size, edns.dnssec_ok), (1232, true));
        assert_eq!(fault.header.unwrap().id, 0xbeef);
        assert_eq!(fault.question.unwrap().octets(message), QUESTION);
        fault.kind
    }

    #[test]
    fn a_plain_query_is_read_with_and_without_opt() {
        let plain = query(&[]);
        let parsed = Parsed::parse(&plain).unwrap();
        let question = parsed.question.unwrap();
        assert_eq!((question.name(&plain), question.rtype, question.class), (&b"\x03www\x07Example\x00"[..], 1, 1));
        assert_eq!((parsed.edns, usize::from(parsed.end)), (None, plain.len()));
        let with_opt = query(&[OPT]);
        let parsed = Parsed::parse(&with_opt).unwrap();
        assert_eq!((parsed.edns, usize::from(parsed.end)), (Some(Edns::fixed(1232, 0x8000)), with_opt.len()));
    }

    #[test]
    fn gen_09_over_long_labels_and_names_are_malformed() {
        let label = |length: u8| [vec![length], vec![b'x'; length.into()]].concat();
        let named = |labels: &[u8]| {
            let mut bytes: Vec<u8> = labels.iter().flat_map(|&length| label(length)).collect();
            bytes.extend([0, 0, 1, 0, 1]);
            message(0, [1, 0, 0, 0], &[&bytes])
        };
        assert_eq!(kind(&named(&[63, 63, 63, 61])), None);
        assert_eq!(kind(&named(&[63, 63, 63, 62])), Some(FaultKind::Malformed));
        assert_eq!(kind(&named(&[64])), Some(FaultKind::Malformed));
        assert_eq!(kind(&named(&[0x80])), Some(FaultKind::Malformed));
        assert_eq!(kind(&message(0, [1, 0, 0, 0], &[b"\xc0\x0c\x00\x01\x00\x01"])), Some(FaultKind::Malformed));
    }

    #[test]
    fn gen_10_a_query_cut_short_or_with_an_unsound_pointer_is_malformed() {
        let whole = query(&[A, &cookie(8)]);
        assert_eq!(kind(&whole), None);
        for cut in HEADER_LEN..whole.len() {
            assert_eq!(kind(&whole[..cut]), Some(FaultKind::Malformed), "cut at {cut}");
        }
        for target in [0, 11, 29, 255] {
            let unsound = [0xc0, target, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
            assert_eq!(kind(&query(&[&unsound])), Some(FaultKind::Malformed), "to {target}");
        }
        let forward = [0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(kind_with_opt(&query(&[OPT, &forward])), FaultKind::Malformed);
    }

    #[test]
    fn gen_11_more_than_one_question_is_a_fault_that_keeps_the_opt() {
        for count in [2, 3] {
            let parts = [&vec![QUESTION; count.into()][..], &[OPT]].concat();
            let fault = Parsed::parse(&message(0, [count, 0, 0, 1], &parts)).unwrap_err();
            assert_eq!((fault.kind, fault.question), (FaultKind::QuestionCount, None));
            assert_eq!(fault.edns, Some(Edns::fixed(1232, 0x8000)));
        }
        let lying = Parsed::parse(&message(0, [2, 0, 0, 0], &[QUESTION])).unwrap_err();
        assert_eq!((lying.kind, lying.edns), (FaultKind::QuestionCount, None));
    }

    #[test]
    fn gen_12_no_question_is_legal_only_with_a_cookie() {
        let asking = |opt: &[u8]| message(0, [0, 0, 0, 1], &[opt]);
        let parsed = Parsed::parse(&asking(&cookie(8))).unwrap();
        assert_eq!((parsed.question, parsed.edns.unwrap().cookie.is_some()), (None, true));
        assert_eq!(kind(&asking(OPT)), Some(FaultKind::QuestionCount));
        assert_eq!(kind(&message(0, [0; 4], &[])), Some(FaultKind::QuestionCount));
        assert_eq!(kind(&asking(&cookie(9))), Some(FaultKind::OptionContent));
        assert_eq!(kind(&asking(&opt(1, 10, 8, 8))), Some(FaultKind::Version));
        assert_eq!(kind(&message(0, [0, 0, 0, 2], &[&cookie(8)])), Some(FaultKind::Malformed));
    }

    #[test]
    fn gen_13_a_response_is_told_before_anything_else() {
        let response = message(Flags::QR, [1, 0, 0, 0], &[QUESTION]);
        assert_eq!(kind(&response), Some(FaultKind::Response));
        assert_eq!(kind(&message(Flags::QR | 0x2800, [9, 9, 9, 9], &[])), Some(FaultKind::Response));
    }

    #[test]
    fn gen_14_under_twelve_octets_there_is_no_header() {
        for length in 0..HEADER_LEN {
            let fault = Parsed::parse(&vec![0; length]).unwrap_err();
            assert_eq!((fault.kind, fault.header), (FaultKind::Short, None));
        }
    }

    #[test]
    fn gen_15_octets_after_the_last_record_are_not_part_of_the_message() {
        for whole in [query(&[]), query(&[OPT]), query(&[A, &cookie(24)])] {
            let parsed = Parsed::parse(&[&whole[..], &[0xff; 16]].concat()).unwrap();
            assert_eq!(usize::from(parsed.end), whole.len());
        }
    }

    #[test]
    fn other_opcodes_are_told_with_question_and_opt_whatever_else_is_wrong() {
        let update = |counts, parts: &[&[u8]]| message(5 << 11, counts, parts);
        assert_eq!(kind_with_opt(&update([1, 0, 0, 1], &[QUESTION, OPT])), FaultKind::Opcode);
        assert_eq!(kind_with_opt(&update([1, 1, 1, 2], &[QUESTION, A, A, OPT, TSIG])), FaultKind::Opcode);
        assert_eq!(kind_with_opt(&update([1, 0, 0, 2], &[QUESTION, OPT])), FaultKind::Opcode);
        let bare = Parsed::parse(&update([3, 0, 0, 0], &[])).unwrap_err();
        assert_eq!((bare.kind, bare.question, bare.edns), (FaultKind::Opcode, None, None));
        assert_eq!(kind(&update([0; 4], &[])), Some(FaultKind::Opcode));
    }

    #[test]
    fn edn_03_two_opts_are_a_fault_and_the_first_is_told() {
        let other: &[u8] = &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(kind_with_opt(&query(&[OPT, other])), FaultKind::Opt);
        assert_eq!(kind_with_opt(&query(&[OPT, A, A, other])), FaultKind::Opt);
    }

    #[test]
    fn edn_04_a_version_above_zero_is_told_even_where_its_options_are_not_ours_to_read() {
        assert_eq!(kind_with_opt(&query(&[&opt(1, 10, 8, 8)])), FaultKind::Version);
        assert_eq!(kind_with_opt(&query(&[&opt(255, 10, 3, 3)])), FaultKind::Version);
        assert_eq!(kind_with_opt(&query(&[&opt(1, 10, 8, 900)])), FaultKind::Version);
    }

    #[test]
    fn edn_07_an_option_past_the_end_of_its_opt_is_a_fault() {
        assert_eq!(kind_with_opt(&query(&[&opt(0, 12, 4, 5)])), FaultKind::Opt);
        assert_eq!(kind_with_opt(&query(&[&opt(0, 12, 4, 5), A])), FaultKind::Opt);
        assert_eq!(kind(&query(&[&opt(0, 12, 4, 4), A])), None);
    }

    #[test]
    fn edn_08_an_opt_stands_at_the_root_anywhere_in_the_additional_section() {
        assert_eq!(kind(&query(&[A, OPT, A])), None);
        let named = [&b"\x01x"[..], OPT].concat();
        assert_eq!(kind_with_opt(&query(&[&named])), FaultKind::Opt);
        for counts in [[1, 1, 0, 0], [1, 0, 1, 0]] {
            assert_eq!(kind_with_opt(&message(0, counts, &[QUESTION, OPT])), FaultKind::Opt);
        }
    }

    #[test]
    fn cki_01_a_cookie_has_8_or_16_to_40_octets() {
        for length in 0..64 {
            let legal = length == 8 || (16..=40).contains(&length);
            let query = query(&[&cookie(length)]);
            if legal {
                assert_eq!(kind(&query), None, "{length}");
            } else {
                assert_eq!(kind_with_opt(&query), FaultKind::OptionContent, "{length}");
            }
        }
    }

    #[test]
    fn edn_17_signed_messages_are_told_with_their_opt() {
        for signature in [TSIG, SIG] {
            assert_eq!(kind_with_opt(&query(&[OPT, signature])), FaultKind::Signed);
            assert_eq!(kind_with_opt(&query(&[signature, OPT])), FaultKind::Signed);
            assert_eq!(kind(&query(&[signature])), Some(FaultKind::Signed));
        }
        assert_eq!(kind(&message(0, [1, 1, 0, 0], &[QUESTION, SIG])), None);
    }

    /// The seeds of the fuzz target are named by the fault they show, `ok` for none.
    #[test]
    fn seeds_for_fuzzing_are_what_their_names_say() {
        let faults = [
            ("short", FaultKind::Short),
            ("response", FaultKind::Response),
            ("opcode", FaultKind::Opcode),
            ("question-count", FaultKind::QuestionCount),
            ("malformed", FaultKind::Malformed),
            ("opt-", FaultKind::Opt),
            ("option-content", FaultKind::OptionContent),
            ("version", FaultKind::Version),
            ("signed", FaultKind::Signed),
        ];
        let seeds = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/wire_view")).unwrap();
        let mut seen = Vec::new();
        for seed in seeds.map(Result::unwrap) {
            let name = seed.file_name().into_string().unwrap();
            let expected = faults.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|&(_, kind)| kind);
            assert!(expected.is_some() || name.starts_with("ok-"), "{name}");
            assert_eq!(kind(&std::fs::read(seed.path()).unwrap()), expected, "{name}");
            seen.extend(expected);
        }
        assert!(faults.iter().all(|(_, kind)| seen.contains(kind)));
    }
}
