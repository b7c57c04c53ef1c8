//! Any octets as a message: what is read lies within them, reads the same again, and edits stay in place.

use hushgate::wire::{Edns, Fault, HEADER_LEN, Header, Options, Parsed, Question, Record, Records, Span, name, patch};

/// One input.
pub fn run(message: &[u8]) {
    match Parsed::parse(message) {
        Ok(parsed) => check_parsed(message, parsed),
        Err(fault) => check_fault(message, fault),
    }
    let Ok(header) = Header::parse(message) else { return };
    let Ok(records) = Records::new(message, &header) else { return };
    let records: Vec<Record> = records.map_while(Result::ok).collect();
    check_records(message, &records);
    check_ageing(message, &records);
}

fn check_parsed(message: &[u8], parsed: Parsed) {
    let own = message.get(..parsed.end.into()).expect("the end is inside");
    assert_eq!(Parsed::parse(own), Ok(parsed), "octets behind the end change nothing");
    assert!(parsed.question.is_some() || parsed.edns.is_some_and(|edns| edns.cookie.is_some()));
    check_question(own, parsed.question);
    check_edns(own, parsed.edns);
}

fn check_fault(message: &[u8], fault: Fault) {
    assert_eq!(fault.header.is_none(), message.len() < HEADER_LEN);
    check_question(message, fault.question);
    check_edns(message, fault.edns);
}

fn check_question(message: &[u8], question: Option<Question>) {
    let Some(question) = question else { return };
    assert_eq!(question.octets(message), question.span().of(message));
    assert_eq!(question.name(message).len(), usize::from(question.name_len));
    check_text(question.name(message));
}

fn check_edns(message: &[u8], edns: Option<Edns>) {
    let Some(edns) = edns else { return };
    for span in [edns.cookie, edns.client_subnet, edns.keepalive].into_iter().flatten() {
        check_span(message, span);
    }
}

fn check_span(message: &[u8], span: Span) {
    assert!(HEADER_LEN <= span.start.into() && span.start <= span.end && usize::from(span.end) <= message.len());
}

fn check_text(wire: &[u8]) {
    let text = name::Shown(wire).to_string();
    assert_eq!(name::from_text(&text).as_deref(), Ok(wire), "{text}");
    assert!(name::is_under(wire, wire) && name::is_under(wire, &[0]));
}

fn check_records(message: &[u8], records: &[Record]) {
    let mut end = HEADER_LEN;
    for record in records {
        check_span(message, record.rdata);
        assert!(end <= usize::from(record.owner) && record.ttl_at + 6 == record.rdata.start);
        end = record.rdata.end.into();
        let mut owner = Vec::new();
        let after = name::expand(message, record.owner.into(), &mut owner).expect("the walk has proven it");
        assert!(owner.len() <= name::MAX_NAME && after + 4 == usize::from(record.ttl_at));
        assert_eq!(name::skip_plain(&owner, 0), Ok(owner.len()));
        assert_eq!(name::equal(message, record.owner.into(), &owner, 0), Ok(true));
        check_text(&owner);
        for (_, data) in Options::new(message, record.rdata).map_while(Result::ok) {
            assert!(record.rdata.start < data.start && data.end <= record.rdata.end);
        }
    }
}

fn check_ageing(message: &[u8], records: &[Record]) {
    let offsets: Vec<u8> = records.iter().flat_map(|record| record.ttl_at.to_be_bytes()).collect();
    let mut aged = message.to_vec();
    patch::age_ttls(&mut aged, &offsets, 7, 0);
    // A pointer may lead into a TTL, so a message can be made whose names change with it: only its own TTL is looked at.
    for record in records {
        let at = usize::from(record.ttl_at);
        assert_eq!(aged[at..at + 4], record.ttl.saturating_sub(7).to_be_bytes());
    }
    for record in records {
        let at = usize::from(record.ttl_at);
        aged[at..at + 4].copy_from_slice(&record.ttl.to_be_bytes());
    }
    assert_eq!(aged, message, "nothing but TTLs has changed");
}
