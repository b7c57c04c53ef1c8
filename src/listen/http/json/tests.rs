//! Tests of the JSON form: what is asked, in which form it is answered, how a reply reads.

use http::HeaderValue;
use http::header::ACCEPT;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::registry::option;
use crate::wire::{Flags, Header, OptWriter, Parsed};

fn with(accept: &[&str]) -> HeaderMap {
    accept.iter().map(|value| (ACCEPT, HeaderValue::from_str(value).unwrap())).collect()
}

fn asked(query: &str) -> Result<BytesMut, Refusal> {
    let mut question = BytesMut::new();
    read(query, &HeaderMap::new(), &mut question).map(|_| question)
}

fn rendered(message: &[u8]) -> Value {
    serde_json::from_slice(&reply::render(message)).unwrap()
}

#[test]
fn variables_make_a_wire_query_that_reads_back() {
    let message = asked("name=Example.com&type=AAAA&cd=1&do=1&edns_client_subnet=192.0.2.255%2F25").unwrap();
    let read = Parsed::parse(&message).unwrap();
    let (question, edns) = (read.question.unwrap(), read.edns.unwrap());
    assert_eq!((question.name(&message), question.rtype, question.class), (&b"\x07Example\x03com\0"[..], 28, 1));
    assert_eq!(read.header.id, 0);
    assert_eq!(read.header.flags, Flags(Flags::RD | Flags::AD | Flags::CD));
    assert!(edns.dnssec_ok && !edns.padding && edns.cookie.is_none());
    assert_eq!(edns.client_subnet.unwrap().of(&message), [0, 1, 25, 0, 192, 0, 2, 128]);
    assert_eq!(usize::from(read.end), message.len());
}

#[test]
fn the_first_of_each_variable_counts_and_empty_ones_mean_their_default() {
    let message = asked("x=1&name=.&type=&cd=&do=&edns_client_subnet=&name=a..b&type=BOGUS").unwrap();
    let read = Parsed::parse(&message).unwrap();
    assert_eq!((read.question.unwrap().name_len, read.question.unwrap().rtype), (1, 1));
    assert!(!read.header.flags.has(Flags::CD) && read.edns.unwrap().client_subnet.is_none());
}

#[test]
fn doh_05_variables_that_make_no_question_say_which_and_leave_nothing_behind() {
    let missing = Refusal::QueryString(QueryStringError::Missing);
    for (query, refusal) in [
        ("", missing),
        ("type=A", missing),
        ("name=", Refusal::Variable(VariableError::Name)),
        ("name=a&type=0", Refusal::Variable(VariableError::Type)),
        ("name=a&type=70000", Refusal::Variable(VariableError::Type)),
        ("name=a&type=-1", Refusal::Variable(VariableError::Type)),
        ("name=a&type=TYPE%2B28", Refusal::Variable(VariableError::Type)),
        ("name=a&type=41", Refusal::Variable(VariableError::Type)),
        ("name=a&type=OPT", Refusal::Variable(VariableError::Type)),
        ("name=a&type=TYPE41", Refusal::Variable(VariableError::Type)),
        ("name=a&type=128", Refusal::Variable(VariableError::Type)),
        ("name=a&type=249", Refusal::Variable(VariableError::Type)),
        ("name=a&type=TSIG", Refusal::Variable(VariableError::Type)),
        ("name=a&type=254", Refusal::Variable(VariableError::Type)),
        ("name=a&do=2", Refusal::Variable(VariableError::Flag)),
        ("name=a&edns_client_subnet=::/129", Refusal::Variable(VariableError::Subnet)),
        ("name=a&edns_client_subnet=::ffff:192.0.2.1/120", Refusal::Variable(VariableError::Subnet)),
        ("name=a&edns_client_subnet=1.2.3.4/", Refusal::Variable(VariableError::Subnet)),
    ] {
        assert_eq!(asked(query), Err(refusal), "{query}");
        assert!(!refusal.status().is_success());
    }
}

#[test]
fn doh_21_the_form_is_the_best_that_accept_leaves() {
    let chosen = |accept: &[&str]| accept::chosen(&with(accept));
    for (accept, form) in [
        (&[][..], Some(Media::DnsJson)),
        (&[""], Some(Media::DnsJson)),
        (&["*/*"], Some(Media::DnsJson)),
        (&["text/html", "*/*;q=0.1"], Some(Media::DnsJson)),
        (&["application/json"], Some(Media::Json)),
        (&["application/json;q=0.2 , application/dns-json;q=0.1"], Some(Media::Json)),
        (&["application/dns-json;q=0.1, */*;q=0.9"], Some(Media::Json)),
        (&["APPLICATION/DNS-MESSAGE"], Some(Media::Message)),
        (&["application/dns-message, application/dns-json"], Some(Media::DnsJson)),
        (&["application/dns-json; charset=utf-8; Q=0.000"], None),
        (&["text/plain"], None),
    ] {
        assert_eq!(chosen(accept), form, "{accept:?}");
    }
}

#[test]
fn a_reply_says_its_extended_rcode_its_errors_and_the_scope_and_not_its_opt() {
    let flags = Flags(Flags::QR | Flags::TC | Flags::RD | Flags::CD).with_rcode(7);
    let header = Header { flags, questions: 1, additionals: 2, ..Header::default() };
    let mut message =
        [&header.to_octets()[..], b"\x01a\0\0\x1c\0\x01", b"\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04\xc0\0\x02\x01"]
            .concat();
    let mut opt = OptWriter::start(&mut message, 1232, 0x10, true);
    opt.option(option::EDE, &[&[0, 22], b"at a.\x1b"]);
    opt.option(option::ECS, &[&[0, 2, 32, 24, 0x20, 1, 0xd, 0xb8]]);
    opt.option(option::EDE, &[&[0, 3]]);
    opt.finish();
    let expected = json!({
        "Status": 23, "TC": true, "RD": true, "RA": false, "AD": false, "CD": true,
        "Question": [{"name": "a.", "type": 28}],
        "Additional": [{"name": "a.", "type": 1, "TTL": 9, "data": "192.0.2.1"}],
        "edns_client_subnet": "2001:db8::/32/24",
        "Comment": ["EDE(22): No Reachable Authority (at a.\\u{1b})", "EDE(3): Stale Answer"],
    });
    assert_eq!(rendered(&message).to_string(), expected.to_string());
}

#[test]
fn what_cannot_be_read_is_left_off_and_said_to_be() {
    assert_eq!(rendered(b"short")["Status"], 2);
    let header = Header { questions: 1, answers: 2, ..Header::default() };
    let whole = b"\0\0\x01\0\x01\0\0\0\x09\0\x04\xc0\0\x02\x01";
    let read = rendered(&[&header.to_octets()[..], b"\0\0\x01\0\x01", whole, b"\xc0"].concat());
    assert_eq!((&read["TC"], read["Answer"].as_array().map(Vec::len)), (&json!(true), Some(1)));
}

#[test]
fn the_longest_message_of_the_widest_names_is_bounded_in_words() {
    let name = [&[&[63][..], &[b'\\'; 63]].concat().repeat(3)[..], &[60], &[0; 60], &[0]].concat();
    let header = Header { questions: 1, answers: 4600, ..Header::default() };
    let record = b"\xc0\x0c\0\x02\0\x01\0\0\0\x09\0\x02\xc0\x0c";
    let message = [&header.to_octets()[..], &name, b"\0\x02\0\x01", &record.repeat(4600)].concat();
    assert!(message.len() <= crate::wire::MAX_MESSAGE);
    let words = reply::render(&message);
    assert!((400_000..530_000).contains(&words.len()), "{}", words.len());
    assert_eq!(rendered(&message)["TC"], true);
}

proptest! {
    #[test]
    fn whatever_the_octets_are_there_is_json(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(rendered(&octets)["Status"].is_u64());
    }

    #[test]
    fn whatever_follows_a_header_there_is_json(counts in any::<[u8; 4]>(), octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let [questions, answers, authorities, additionals] = counts.map(|count| u16::from(count % 3));
        let header = Header { questions, answers, authorities, additionals, ..Header::default() };
        prop_assert!(rendered(&[&header.to_octets()[..], &octets].concat())["Status"].is_u64());
    }

    #[test]
    fn whatever_the_variables_are_what_they_make_is_a_query(query in "((name|type|do|cd|edns_client_subnet)=[a-zA-Z0-9.%:/+-]{0,20}&){0,5}") {
        if let Ok(message) = asked(&query) {
            prop_assert!(Parsed::parse(&message).is_ok());
        }
    }
}
