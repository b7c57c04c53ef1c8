//! The wire view against `hickory-proto`, an independent reader and writer of the same format.
//!
//! Where the two disagree, the case is one of these, each decided:
//!
//! Structure (names, counts, lengths), [`Records`]:
//! - *A pointer into the header*: refused here. No name can stand there; RFC 1035 4.1.4 points to "a prior occurrence" of a name.
//! - *More than 128 pointers in one name*: refused here, for the time they cost. No name has that many labels.
//! - *A pointer whose second octet is already part of the name that led to it*: refused here, like any name that reaches into the one
//!   that points to it. hickory looks at where its labels and pointers begin.
//!
//! Content, [`Parsed`]:
//! - *RDATA*: not judged here, empty RDATA included, since a gateway relays types it does not know (RFC 3597 3). Nor is the place
//!   of a SIG record outside the additional section, or what follows a TSIG.
//! - *Every [`FaultKind`] but `Short` and `Malformed`*: the message can be read and is still no query to answer: hickory leaves that
//!   to its server, and reads an OPT with unsound options as one without options.
//! - *A compressed QNAME*: refused here. Nothing but the header stands before it.

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{Name, RData, Record as TheirRecord, RecordType};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder, DecodeError, NameEncoding};
use proptest::prelude::*;

use super::name::{self, Shown};
use super::registry::{option, rtype};
use super::shapes;
use super::{
    Edns, FaultKind, Flags, HEADER_LEN, Header, OptWriter, Options, Parsed, Record, Records, Section, Span, WireError,
    patch,
};

fn walk(message: &[u8]) -> Result<Vec<Record>, WireError> {
    let header = Header::parse(message)?;
    Records::new(message, &header)?.collect()
}

fn same_question(message: &[u8], ours: Parsed, theirs: &Message) {
    let question = ours.question.unwrap();
    let query = theirs.queries.first().unwrap();
    assert_eq!(question.name(message), plain(query.name()));
    assert_eq!((question.rtype, question.class), (query.query_type().into(), query.query_class().into()));
}

fn same_edns(message: &[u8], ours: Option<Edns>, theirs: &Message) {
    assert_eq!(ours.is_some(), theirs.edns.is_some());
    let (Some(ours), Some(theirs)) = (ours, &theirs.edns) else { return };
    assert_eq!(ours.udp_size.max(512), theirs.max_payload());
    assert_eq!((ours.version, ours.dnssec_ok), (theirs.version(), theirs.flags().dnssec_ok));
    let options: Vec<(u16, Vec<u8>)> = theirs
        .options()
        .as_ref()
        .iter()
        .map(|(code, option)| (u16::from(*code), Vec::try_from(option).unwrap()))
        .collect();
    let first = |wanted| options.iter().find(|(code, _)| *code == wanted).map(|(_, data)| data.as_slice());
    let read = |span: Option<Span>| span.map(|span| span.of(message));
    assert_eq!(read(ours.cookie), first(option::COOKIE));
    assert_eq!(read(ours.keepalive), first(option::KEEPALIVE));
    assert_eq!(ours.client_subnet.is_some(), first(option::ECS).is_some());
    assert_eq!((ours.padding, ours.nsid), (first(option::PADDING).is_some(), first(option::NSID).is_some()));
    let known = [option::COOKIE, option::KEEPALIVE, option::ECS, option::PADDING, option::NSID];
    assert_eq!(ours.foreign, options.iter().any(|(code, _)| !known.contains(code)));
}

fn plain(name: &Name) -> Vec<u8> {
    let mut out: Vec<u8> =
        name.iter().flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label].concat()).collect();
    out.push(0);
    out
}

fn uncompressed(data: &RData) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).unwrap();
    octets
}

fn in_section(section: Section, theirs: &Message) -> &[TheirRecord] {
    match section {
        Section::Answer => &theirs.answers,
        Section::Authority => &theirs.authorities,
        Section::Additional => &theirs.additionals,
    }
}

/// The message as UPDATE with every type unknown: so hickory reads names, counts and lengths, and nothing into RDATA.
fn opaque(message: &[u8]) -> Vec<u8> {
    let mut copy = message.to_vec();
    let Ok(header) = Header::parse(message) else { return copy };
    patch::set_flags(&mut copy, Flags(header.flags.0 & !0x7800 | 5 << 11));
    let records = Records::new(message, &header).into_iter().flatten().flatten();
    for record in records {
        patch::put_u16(&mut copy, usize::from(record.ttl_at) - 4, 0xff01);
    }
    copy
}

/// Do both find the same structure in `message`, or is it a decided difference?
fn structure_agrees(message: &[u8]) -> Result<(), String> {
    let ours = walk(message);
    let theirs = Message::from_vec(&opaque(message));
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) if ours.len() == theirs.all_sections().count() => Ok(()),
        (Err(_), Err(_)) | (Err(WireError::BadPointer), Ok(_)) => Ok(()),
        _ => Err(format!("{ours:?} against {theirs:?}")),
    }
}

/// Is `theirs`, which hickory read in `message`, what `kind` says of it?
fn refusal_is_decided(message: &[u8], kind: FaultKind, theirs: &Message) -> bool {
    let edns = theirs.edns.as_ref();
    match kind {
        FaultKind::Short => false,
        FaultKind::Response => theirs.metadata.message_type == MessageType::Response,
        FaultKind::Opcode => theirs.metadata.op_code != OpCode::Query,
        FaultKind::QuestionCount => theirs.queries.len() != 1,
        FaultKind::Version => edns.is_some_and(|edns| edns.version() > 0),
        FaultKind::OptionContent => edns.is_some_and(|edns| edns.option(EdnsCode::Cookie).is_some()),
        // hickory drops all options where one cannot be read, and takes a pointer to the root for the root.
        FaultKind::Opt => edns.is_some_and(|edns| edns.options().as_ref().is_empty()),
        FaultKind::Signed => {
            theirs.additionals.iter().any(|record| [rtype::TSIG, rtype::SIG].contains(&record.record_type().into()))
        }
        FaultKind::Malformed => {
            let compressed = name::skip_plain(message, HEADER_LEN) == Err(WireError::BadName);
            compressed || walk(message) == Err(WireError::BadPointer)
        }
    }
}

/// Do both take `message` for the same query, or is it a decided difference?
fn query_agrees(message: &[u8]) -> Result<(), String> {
    let ours = Parsed::parse(message);
    let theirs = Message::from_vec(message);
    match (ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            if ours.question.is_some() {
                same_question(message, ours, theirs);
            }
            same_edns(message, ours.edns, theirs);
            Ok(())
        }
        (Err(_), Err(_)) => Ok(()),
        (Err(fault), Ok(theirs)) if refusal_is_decided(message, fault.kind, theirs) => Ok(()),
        (Err(fault), Ok(_)) => Err(format!("{fault:?} against {theirs:?}")),
        // What is left is in RDATA, or a structure that the other check judges.
        (Ok(_), Err(error)) => match error {
            DecodeError::RecordNotInAdditionalSection(RecordType::OPT)
            | DecodeError::DuplicateEdns
            | DecodeError::EdnsNameNotRoot(_) => Err(format!("{ours:?} against {error}")),
            _ => Ok(()),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_query_reads_as_the_one_that_was_encoded(query in shapes::query()) {
        let bytes = query.to_vec().unwrap();
        let parsed = Parsed::parse(&bytes).unwrap();
        prop_assert_eq!(usize::from(parsed.end), bytes.len());
        prop_assert_eq!(parsed.header.id, query.metadata.id);
        let flags = [Flags::RD, Flags::AD, Flags::CD].map(|flag| parsed.header.flags.has(flag));
        let theirs = &query.metadata;
        prop_assert_eq!(flags, [theirs.recursion_desired, theirs.authentic_data, theirs.checking_disabled]);
        same_question(&bytes, parsed, &query);
        same_edns(&bytes, parsed.edns, &query);
    }

    #[test]
    fn every_answer_is_walked_to_the_records_that_were_encoded(answer in shapes::answer()) {
        let bytes = answer.to_vec().unwrap();
        let mut counts = [0; 3];
        for record in walk(&bytes).unwrap() {
            if record.rtype == rtype::OPT {
                same_edns(&bytes, Edns::parse(&bytes, record.class, record.ttl, record.rdata).ok(), &answer);
                continue;
            }
            let seen = &mut counts[record.section as usize];
            let theirs = &in_section(record.section, &answer)[*seen];
            *seen += 1;
            let mut owner = Vec::new();
            let after = name::expand(&bytes, record.owner.into(), &mut owner).unwrap();
            prop_assert_eq!(owner, plain(&theirs.name));
            prop_assert_eq!(after, usize::from(record.ttl_at) - 4);
            prop_assert_eq!(record.rtype, u16::from(theirs.record_type()));
            prop_assert_eq!((record.class, record.ttl), (theirs.dns_class.into(), theirs.ttl));
            let length = usize::from(record.rdata.end - record.rdata.start);
            let alone = uncompressed(&theirs.data).len();
            prop_assert!(length == alone || length < alone && name_bearing(record.rtype), "{} of {}", length, alone);
        }
        prop_assert_eq!(counts, [answer.answers.len(), answer.authorities.len(), answer.additionals.len()]);
    }

    #[test]
    fn any_octets_are_read_without_a_panic_and_as_the_oracle_reads_them(octets in shapes::octets()) {
        prop_assert_eq!(structure_agrees(&octets), Ok(()));
        prop_assert_eq!(query_agrees(&octets), Ok(()));
        for at in 0..octets.len() {
            _ = name::skip_plain(&octets, at);
            prop_assert_eq!(name::skip(&octets, at).is_ok(), name::equal(&octets, at, &octets, at) == Ok(true));
            _ = Shown(octets.get(at..).unwrap_or_default()).to_string();
            let rest = Span { start: u16::try_from(at).unwrap(), end: u16::MAX };
            prop_assert!(Options::new(&octets, rest).count() <= octets.len());
        }
    }

    #[test]
    fn names_round_trip_through_text(labels in shapes::labels()) {
        let mut wire: Vec<u8> = Vec::new();
        for label in &labels {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend(label);
        }
        wire.push(0);
        prop_assert_eq!(name::from_text(&Shown(&wire).to_string()), Ok(wire.clone()));
        prop_assert_eq!(plain(&Name::from_labels(labels).unwrap()), wire);
    }

    #[test]
    fn ttl_01_aged_ttls_read_as_the_old_ones_less_the_age(answer in shapes::answer(), age in any::<u32>()) {
        let mut bytes = answer.to_vec().unwrap();
        let mut expected = Message::from_vec(&bytes).unwrap();
        let sections = [&mut expected.answers, &mut expected.authorities, &mut expected.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        let offsets: Vec<u8> = walk(&bytes)
            .unwrap()
            .iter()
            .filter(|record| record.rtype != rtype::OPT)
            .flat_map(|record| record.ttl_at.to_be_bytes())
            .collect();
        patch::age_ttls(&mut bytes, &offsets, age, 0);
        prop_assert_eq!(Message::from_vec(&bytes).unwrap(), expected);
    }

    #[test]
    fn an_opt_written_behind_an_answer_reads_back(answer in shapes::answer(), rcode in 0..4096_u16, pad in 0..500_usize) {
        let bare = { let mut bare = answer; bare.edns = None; bare };
        let mut bytes = bare.to_vec().unwrap();
        patch::add_additional(&mut bytes);
        let mut opt = OptWriter::start(&mut bytes, 1232, rcode, true);
        opt.option(option::COOKIE, &[&[1; 8], &[2; 16]]);
        opt.pad(pad);
        opt.finish();
        let theirs = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(&theirs.additionals, &bare.additionals);
        prop_assert_eq!(theirs.edns.as_ref().unwrap().rcode_high(), u8::try_from(rcode >> 4).unwrap());
        let record = *walk(&bytes).unwrap().last().unwrap();
        same_edns(&bytes, Edns::parse(&bytes, record.class, record.ttl, record.rdata).ok(), &theirs);
    }
}

fn name_bearing(kind: u16) -> bool {
    [rtype::CNAME, rtype::NS, rtype::PTR, rtype::MX, rtype::SOA].contains(&kind)
}

/// The decided differences, one message each: so that the list above stays true.
#[test]
fn decided_differences_of_structure_are_what_the_list_says() {
    let header = |opcode: u16, answers| Header { flags: Flags(opcode << 11), answers, ..Header::default() }.to_octets();
    let fixed: &[u8] = &[0xff, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let into_header = [&header(5, 1)[..], &[0xc0, 0], fixed].concat();
    assert_eq!(walk(&into_header), Err(WireError::BadPointer));
    assert!(Message::from_vec(&into_header).is_ok());
    // The RDATA of the first record is a root label and pointers that each lead to the one before; the next owner leads to the last.
    let chained = |pointers: u16| {
        let targets = [23].into_iter().chain((24..).step_by(2)).take(usize::from(pointers));
        let mut chain: Vec<u8> = targets.flat_map(|target: u16| (0xc000 | target).to_be_bytes()).collect();
        let owner = chain.split_off(chain.len() - 2);
        let length = u16::try_from(1 + chain.len()).unwrap().to_be_bytes();
        [&header(5, 2)[..], &[0], &fixed[..8], &length, &[0], &chain, &owner, fixed].concat()
    };
    assert_eq!(walk(&chained(128)).map(|records| records.len()), Ok(2));
    assert_eq!(walk(&chained(129)), Err(WireError::BadPointer));
    assert!(Message::from_vec(&chained(129)).is_ok());
    // The RDATA of the first record ends in the first octet of a pointer, the next owner begins with its second, the root's place.
    let halved = [&header(5, 2)[..], &[0], &fixed[..9], &[2, 0, 0xc0], &[23], &[b'x'; 23], &[0xc0, 24], fixed].concat();
    assert_eq!(walk(&halved), Err(WireError::BadPointer));
    assert!(Message::from_vec(&halved).is_ok());
    assert_eq!(Header::parse(&into_header).unwrap().flags.opcode(), u8::from(OpCode::Update));
}
