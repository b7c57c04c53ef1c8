//! Messages to try things on: strategies that draw queries and answers of all shapes, as `hickory-proto` builds and encodes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption, NSIDPayload};
use hickory_proto::rr::rdata::svcb::{Alpn, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, MX, NAPTR, NS, NULL, PTR, SOA, SRV, SVCB, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Up to six labels of any octets, mostly few and alike, so that names share endings and are compressed.
pub fn labels() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let common = select(vec!["www", "WwW", "a", "example", "com", "net", "_dns", "*"]).prop_map(Into::into);
    let label = prop_oneof![8 => common, 2 => vec(any::<u8>(), 1..=5), 1 => vec(any::<u8>(), 63)];
    // Six labels pass 255 octets: only those that fit are names.
    vec(label, 0..=6).prop_filter("a name of 255 octets at most", |labels| {
        labels.iter().map(|label: &Vec<u8>| label.len() + 1).sum::<usize>() < 255
    })
}

/// A name of such [`labels`].
pub fn name() -> impl Strategy<Value = Name> {
    labels().prop_map(|labels| {
        let mut name = Name::from_labels(labels).unwrap();
        name.set_fqdn(true);
        name
    })
}

/// The content of a record of one of many types, known and unknown.
fn rdata() -> impl Strategy<Value = RData> {
    // 65305 is a private type of the oracle.
    let unknown = (65_306..65_534_u16, vec(any::<u8>(), 1..300))
        .prop_map(|(code, octets)| RData::Unknown { code: RecordType::Unknown(code), rdata: NULL::with(octets) });
    prop_oneof![
        any::<Ipv4Addr>().prop_map(|address| RData::A(A(address))),
        any::<Ipv6Addr>().prop_map(|address| RData::AAAA(AAAA(address))),
        name().prop_map(|name| RData::CNAME(CNAME(name))),
        name().prop_map(|name| RData::NS(NS(name))),
        name().prop_map(|name| RData::PTR(PTR(name))),
        (any::<u16>(), name()).prop_map(|(preference, name)| RData::MX(MX::new(preference, name))),
        (any::<[u16; 3]>(), name()).prop_map(|([a, b, c], name)| RData::SRV(SRV::new(a, b, c, name))),
        (name(), name(), any::<u32>()).prop_map(|(m, r, n)| RData::SOA(SOA::new(m, r, n, 7200, 3600, 9999, n / 2))),
        vec(vec(any::<u8>(), 0..200), 1..4)
            .prop_map(|texts| RData::TXT(TXT::from_bytes(texts.iter().map(Vec::as_slice).collect()))),
        name().prop_map(|name| RData::NAPTR(NAPTR::new(1, 2, [b'S'].into(), (*b"x").into(), [].into(), name))),
        name().prop_map(|name| {
            let alpn = SvcParamValue::Alpn(Alpn(vec!["h2".into(), "h3".into()]));
            RData::HTTPS(HTTPS(SVCB::new(1, name, vec![(SvcParamKey::Alpn, alpn)])))
        }),
        unknown,
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (name(), any::<u32>(), rdata()).prop_map(|(name, ttl, data)| Record::from_rdata(name, ttl, data))
}

fn question() -> impl Strategy<Value = Query> {
    let rtype = prop_oneof![select(vec![1, 28, 65, 2, 15, 16, 255]), any::<u16>()];
    let class = prop_oneof![9 => Just(1), 1 => any::<u16>()];
    (name(), rtype, class).prop_map(|(name, rtype, class)| {
        let mut query = Query::query(name, RecordType::from(rtype));
        query.set_query_class(DNSClass::from(class));
        query
    })
}

/// An option with a content that its RFC allows.
fn option() -> impl Strategy<Value = EdnsOption> {
    let cookie = prop_oneof![Just(8), 16..=40_usize].prop_flat_map(|length| vec(any::<u8>(), length));
    prop_oneof![
        cookie.prop_map(|cookie| EdnsOption::Unknown(10, cookie)),
        (any::<Ipv4Addr>(), 0..=32_u8).prop_map(|(address, length)| EdnsOption::Subnet(ClientSubnet::new(
            IpAddr::V4(address),
            length,
            0
        ))),
        (any::<Ipv6Addr>(), 0..=128_u8).prop_map(|(address, length)| EdnsOption::Subnet(ClientSubnet::new(
            IpAddr::V6(address),
            length,
            0
        ))),
        Just(EdnsOption::NSID(NSIDPayload::new([]).unwrap())),
        Just(EdnsOption::Unknown(11, Vec::new())),
        vec(any::<u8>(), 0..100).prop_map(|octets| EdnsOption::Unknown(12, octets)),
        (16..=u16::MAX, vec(any::<u8>(), 0..20)).prop_map(|(code, octets)| EdnsOption::Unknown(code, octets)),
    ]
}

fn edns() -> impl Strategy<Value = Edns> {
    (512..=u16::MAX, any::<bool>(), vec(option(), 0..5)).prop_map(|(size, dnssec_ok, options)| {
        let mut edns = Edns::new();
        edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
        for option in options {
            edns.options_mut().insert(option);
        }
        edns
    })
}

/// A query as a client may send it.
pub fn query() -> impl Strategy<Value = Message> {
    (any::<u16>(), any::<[bool; 3]>(), question(), proptest::option::of(edns())).prop_map(
        |(id, [recursion, authentic, unchecked], question, edns)| {
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            message.metadata.recursion_desired = recursion;
            message.metadata.authentic_data = authentic;
            message.metadata.checking_disabled = unchecked;
            message.add_query(question);
            message.edns = edns;
            message
        },
    )
}

/// An answer as an upstream may send it.
pub fn answer() -> impl Strategy<Value = Message> {
    let sections = (vec(record(), 0..6), vec(record(), 0..4), vec(record(), 0..4));
    (query(), sections).prop_map(|(mut message, (answers, authorities, additionals))| {
        message.metadata.message_type = MessageType::Response;
        message.add_answers(answers).add_authorities(authorities).add_additionals(additionals);
        message
    })
}

/// Octets that are a message, nearly one, or none.
pub fn octets() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![query(), answer()].prop_map(|message| message.to_vec().unwrap());
    // Near the front of a message, where header, question and first records are, a change does most.
    let place = prop_oneof![0..64_usize, any::<prop::sample::Index>().prop_map(|index| index.index(600))];
    let edit = (place, prop_oneof![any::<u8>(), select(vec![0, 1, 12, 0x3f, 0x40, 0xc0, 0xc1, 0xff])]);
    let edited = (message, vec(edit, 0..6), prop::option::of(0..600_usize)).prop_map(|(mut octets, edits, cut)| {
        for (place, value) in edits {
            if let Some(octet) = octets.get_mut(place) {
                *octet = value;
            }
        }
        octets.truncate(cut.unwrap_or(usize::MAX));
        octets
    });
    prop_oneof![4 => edited, 1 => vec(any::<u8>(), 0..200)]
}
