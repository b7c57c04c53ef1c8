//! What the wire view costs: one parse of a query, a walk over an answer, ageing, folding and comparing names.
//!
//! `cargo bench --bench wire`. Each is on the path of every cached answer but the walk, which is made once, at insertion.

use divan::{Bencher, black_box};
use hushgate::wire::{Header, OptWriter, Parsed, Records, name, patch, registry::rtype};

fn main() {
    divan::main();
}

const NAME: &[u8; 22] = b"\x03WWW\x0cexample-four\x03com\x00";
const TYPE_AND_CLASS: &[u8] = b"\x00\x01\x00\x01";

/// A query of 49 octets: header, question, an empty OPT with DO, and with `cookie` 28 more.
fn query(cookie: Option<&[u8]>) -> Vec<u8> {
    let mut out = b"\xbe\xef\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    out.extend(NAME);
    out.extend(TYPE_AND_CLASS);
    let mut opt = OptWriter::start(&mut out, 1232, 0, true);
    if let Some(cookie) = cookie {
        opt.option(10, &[cookie]);
    }
    opt.finish();
    out
}

/// An answer with a chain of two aliases, four addresses, and an SOA.
fn answer() -> Vec<u8> {
    let mut out = b"\xbe\xef\x81\x80\x00\x01\x00\x06\x00\x01\x00\x00".to_vec();
    out.extend(NAME);
    out.extend(TYPE_AND_CLASS);
    let mut record = |owner: u16, rtype: u16, rdata: &[u8]| {
        out.extend((0xc000 | owner).to_be_bytes());
        out.extend(rtype.to_be_bytes());
        out.extend(b"\x00\x01\x00\x00\x01\x2c");
        out.extend(u16::try_from(rdata.len()).unwrap_or_default().to_be_bytes());
        out.extend(rdata);
    };
    record(12, rtype::CNAME, b"\x04edge\xc0\x10");
    record(50, rtype::CNAME, b"\x04near\xc0\x10");
    for last in 1..=4 {
        record(69, rtype::A, &[192, 0, 2, last]);
    }
    record(29, rtype::SOA, b"\x02ns\xc0\x10\x04host\xc0\x10\0\0\0\x01\0\0\x0e\x10\0\0\x0e\x10\0\x12\x75\0\0\0\x01\x2c");
    out
}

fn ttl_offsets(message: &[u8]) -> Vec<u8> {
    let header = Header::parse(message).unwrap_or_default();
    let records = Records::new(message, &header).into_iter().flatten().flatten();
    records.flat_map(|record| record.ttl_at.to_be_bytes()).collect()
}

#[divan::bench]
fn parse_query_without_opt(bencher: Bencher) {
    let message = [b"\xbe\xef\x01\x20\x00\x01\x00\x00\x00\x00\x00\x00", &NAME[..], TYPE_AND_CLASS].concat();
    assert_eq!(message.len(), 38);
    bencher.bench(|| Parsed::parse(black_box(&message)));
}

#[divan::bench]
fn parse_query_with_opt(bencher: Bencher) {
    let message = query(None);
    assert_eq!(message.len(), 49, "12 of header, 26 of question, 11 of OPT");
    bencher.bench(|| Parsed::parse(black_box(&message)));
}

#[divan::bench]
fn parse_query_with_cookie(bencher: Bencher) {
    let message = query(Some(&[7; 24]));
    bencher.bench(|| Parsed::parse(black_box(&message)));
}

#[divan::bench]
fn walk_seven_records(bencher: Bencher) {
    let message = answer();
    let header = Header::parse(&message).unwrap_or_default();
    let walk = |message| Records::new(message, &header).map(|records| records.flatten().count());
    assert_eq!(walk(&message), Ok(7));
    bencher.bench(|| walk(black_box(&message)));
}

#[divan::bench]
fn expand_a_compressed_name(bencher: Bencher) {
    let message = answer();
    let mut out = Vec::with_capacity(name::MAX_NAME);
    bencher.bench_local(|| {
        out.clear();
        name::expand(black_box(&message), 69, &mut out)
    });
}

#[divan::bench]
fn age_seven_ttls(bencher: Bencher) {
    let mut message = answer();
    let offsets = ttl_offsets(&message);
    assert_eq!(offsets.len(), 14);
    bencher.bench_local(|| patch::age_ttls(black_box(&mut message), black_box(&offsets), black_box(1), 0));
}

#[divan::bench]
fn fold_a_name(bencher: Bencher) {
    let mut folded = Vec::with_capacity(name::MAX_NAME);
    bencher.bench_local(|| {
        folded.clear();
        folded.extend_from_slice(black_box(&NAME[..]));
        folded.make_ascii_lowercase();
        black_box(&folded).len()
    });
}

#[divan::bench]
fn compare_names_of_unequal_case(bencher: Bencher) {
    let message = query(None);
    let folded = message.to_ascii_lowercase();
    assert_eq!(name::equal(&message, 12, &folded, 12), Ok(true));
    bencher.bench(|| name::equal(black_box(&message), 12, black_box(&folded), 12));
}

#[divan::bench]
fn find_a_suffix(bencher: Bencher) {
    assert!(name::is_under(NAME, b"\x03com\x00"));
    bencher.bench(|| name::is_under(black_box(NAME), black_box(b"\x03com\x00")));
}
