//! Claims about snapshots: what is written is read, and nothing else is.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use proptest::prelude::*;

use super::*;
use crate::cache::{Bits, Key};
use crate::reply::{Kind, Meta, Stored};
use crate::trail::UpstreamId;
use crate::wire::{Flags, Header, Question, Records, Section, shapes};

const WALL: Duration = Duration::from_millis(1_800_000_000_123);
const NOW: Moment = Moment(900_000_000);

fn meta() -> Meta {
    Meta {
        received: Moment(NOW.0 - 5000),
        lifetime: 300,
        stale: 86_400,
        http_lifetime: 299,
        flags: Flags(Flags::QR | Flags::RA),
        kind: Kind::Positive,
        supplier: UpstreamId(1),
        ..Meta::default()
    }
}

/// An answer: its key, its facts, its message and the places of its TTLs.
type Answer = (Key, Meta, Vec<u8>, Vec<u8>);

/// The answer that is kept of `message` with these facts.
fn answer(message: Vec<u8>, meta: Meta) -> Answer {
    let header = Header::parse(&message).unwrap();
    let question = Question::parse(&message).unwrap();
    let records: Vec<_> =
        Records::new(&message, &header).unwrap().collect::<Result<_, _>>().expect("a message that can be read");
    let ttls = records.iter().flat_map(|record| record.ttl_at.to_be_bytes()).collect();
    let additional = records.iter().find(|record| record.section == Section::Additional);
    let additional_at = additional.map_or(u16::try_from(message.len()).unwrap(), |record| record.owner);
    let meta = Meta { flags: header.flags, additional_at, additionals: header.additionals, ..meta };
    (Key::new(question.octets(&message), Bits::default(), 0, 7), meta, message, ttls)
}

fn plain(name: &[u8], address: u8, meta: Meta) -> Answer {
    let question = [b"\0\0\x80\x80\0\x01\0\x01\0\0\0\0", name, b"\0\x01\0\x01"].concat();
    answer([&question[..], b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02", &[address]].concat(), meta)
}

fn written(answers: &[Answer]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::begin(&mut file, WALL, ["udp://192.0.2.1", "tls://dns.example"]).unwrap();
    for (key, meta, message, ttls) in answers {
        let stored = Stored { meta: *meta, message, ttls };
        writer.take(&Entry { key: key.as_bytes(), stored, hits: 9, size: 0, expires: NOW }, NOW);
        writer.flush().unwrap();
    }
    let told = writer.finish().unwrap();
    assert_eq!(told, Written { entries: answers.len() as u64, octets: file.len() as u64 });
    file
}

/// All that is read from `file`, with ages in place of when it was received.
fn read(file: &[u8]) -> Result<Vec<(Answer, Duration, u32)>, Refused> {
    let mut reader = Reader::open(file)?;
    let mut found = Vec::new();
    while let Some(Record { key, age, hits, stored: Stored { meta, message, ttls } }) = reader.read_next()? {
        found.push(((key, meta, message.to_vec(), ttls.to_vec()), age, hits));
    }
    Ok(found)
}

fn small() -> Vec<u8> {
    written(&[plain(b"\x01a\0", 1, meta()), plain(b"\x01B\x02cd\0", 2, Meta { ede: Some(3), ..meta() })])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        messages in prop::collection::vec((shapes::answer(), any::<u16>(), 0_u64..800_000_000, any::<bool>()), 0..6),
    ) {
        let mut answers = Vec::new();
        for (mut message, number, age, denied) in messages {
            message.edns = None;
            message.metadata.message_type = MessageType::Response;
            message.metadata.authoritative = false;
            message.metadata.truncation = false;
            message.metadata.recursion_desired = false;
            message.metadata.checking_disabled = false;
            message.metadata.response_code = if denied { ResponseCode::NXDomain } else { ResponseCode::NoError };
            let (kind, rcode) = if denied { (Kind::NxDomain, 3) } else { (Kind::Positive, 0) };
            let meta = Meta {
                received: Moment(NOW.0 - age),
                lifetime: u32::from(number) + 1,
                kind,
                rcode,
                is_alias: number % 2 == 0,
                ede: (number % 3 == 0).then_some(number),
                supplier: UpstreamId(number),
                ..meta()
            };
            answers.push(answer(Message::to_vec(&message).unwrap(), meta));
        }
        let found = read(&written(&answers)).unwrap();
        prop_assert_eq!(found.len(), answers.len());
        for ((found, age, hits), (key, meta, message, ttls)) in found.into_iter().zip(answers) {
            prop_assert_eq!(age, NOW.since(meta.received));
            prop_assert_eq!(hits, 9);
            prop_assert_eq!(found, (key, Meta { received: Moment(0), ..meta }, message, ttls));
        }
    }

    #[test]
    fn any_octets_are_refused_and_none_panic(octets in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
        prop_assert!(read(&octets).is_err());
        let mut file = small();
        let from = at.min(file.len());
        file.truncate(from);
        file.extend(octets);
        prop_assume!(file != small());
        prop_assert!(read(&file).is_err());
    }
}

#[test]
fn a_snapshot_of_nothing_and_the_names_of_servers_are_read() {
    let file = written(&[]);
    assert!(read(&file).unwrap().is_empty());
    let reader = Reader::open(&file[..]).unwrap();
    assert_eq!(reader.names(), ["udp://192.0.2.1", "tls://dns.example"]);
    assert_eq!(reader.age(WALL + Duration::from_millis(1500)).unwrap(), Duration::from_millis(1500));
    let early = reader.age(Duration::from_millis(1_799_999_991_123)).unwrap_err();
    assert_eq!(early.to_string(), "it was written 9 s later than the clock says it is now");
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let file = small();
    assert_eq!(read(&file).unwrap().len(), 2);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "octet {at}, bit {bit}");
        }
    }
}

#[test]
fn a_snapshot_cut_anywhere_is_not_whole_and_one_with_more_behind_it_is_damaged() {
    let file = small();
    for length in 0..file.len() {
        assert!(matches!(read(&file[..length]), Err(Refused::Truncated)), "{length} octets");
    }
    assert!(matches!(read(&[&file[..], b"\0"].concat()), Err(Refused::Damaged)));
}

#[test]
fn what_is_not_ours_or_of_another_version_is_named() {
    assert!(matches!(read(b"#!/bin/sh\necho hello\n"), Err(Refused::Foreign)));
    let mut other = small();
    other[MAGIC.len()] = 9;
    assert_eq!(read(&other).unwrap_err().to_string(), "it is of version 9, and this program reads version 2");
}

/// A checksum vouches for a file, not for who wrote it.
#[test]
fn an_answer_that_could_not_have_been_kept_is_refused_though_the_checksum_is_right() {
    let refused = |answer: Answer| assert!(matches!(read(&written(&[answer])), Err(Refused::Damaged)));
    let good = || plain(b"\x01a\0", 1, meta());
    refused((Key::new(b"\x01b\0\0\x01\0\x01", Bits::default(), 0, 0), good().1, good().2, good().3));
    refused((Key::new(b"\x01a\0\0\x1c\0\x01", Bits::default(), 0, 0), good().1, good().2, good().3));
    for wrong in [
        Meta { lifetime: 0, ..meta() },
        Meta { lifetime: 604_801, ..meta() },
        Meta { stale: 604_801, ..meta() },
        Meta { http_lifetime: u32::MAX, ..meta() },
        Meta { rcode: 3, ..meta() },
        Meta { rcode: 16, ..meta() },
        Meta { kind: Kind::NxDomain, ..meta() },
        Meta { kind: Kind::Fleeting, ..meta() },
    ] {
        refused(plain(b"\x01a\0", 1, wrong));
    }
    // QR gone, AA, TC, RD, an opcode, two questions, a record less, one more, TYPE OPT, an owner that points at itself.
    for (at, octet) in
        [(2, 0), (2, 0x84), (2, 0x82), (2, 0x81), (2, 0x88), (5, 2), (7, 2), (11, 1), (22, 41), (20, 19), (19, 0xff)]
    {
        let (key, meta, mut message, ttls) = good();
        message[at] = octet;
        refused((key, meta, message, ttls));
    }
}
