//! The one place that sees an upstream's answer before it is kept: read, strip, normalise, judge, date.
//!
//! Out comes a message without OPT, in which every name, count and length has been proven sound, and the facts that every
//! later reply is made by. Records keep their bytes unless something before them had to go (see [`emit`]).

mod any;
mod chain;
mod emit;
mod judge;
mod read;
mod ttl;

use self::chain::Chain;
use self::judge::Judged;
use self::read::Received;
use super::rcode;
use super::settings::AnyRule;
use crate::cache::{Limits, Settings};
use crate::clock::Moment;
use crate::reply::{Kind, Meta, StoredBuf};
use crate::upstream::{Answered, Ask};
use crate::wire::{Flags, Header, Record, Section};

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It cannot be read, or is no answer to the question.
    Malformed,
    /// It is incomplete: a leg hands on only what is whole (TCF-06).
    Truncated,
}

/// A readable message: what is left of an answer once hop-by-hop and unwanted records are gone.
struct Clean {
    message: Vec<u8>,
    header: Header,
    records: Vec<Record>,
}

impl Clean {
    fn of(&self, section: Section) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.section == section)
    }
}

/// Makes of an answer to `ask`, received at `now`, what is kept and relayed.
///
/// # Errors
/// The [`Flaw`].
pub fn digest(
    answered: &Answered,
    ask: &Ask,
    (settings, any): (&Settings, AnyRule),
    now: Moment,
) -> Result<StoredBuf, Flaw> {
    let mut received = Received::read(&answered.message, ask, answered.told)?;
    let chain = Chain::of(received.message, &received.records, ask)?;
    let foreign = chain.strip(received.message, &mut received.records)?;
    let more = match any {
        AnyRule::Minimal => any::reduce(received.message, &mut received.records, ask)?,
        AnyRule::Full => None,
    };
    if let Some(gone) = foreign.into_iter().chain(more).min() {
        received.gap_at = received.gap_at.into_iter().chain([gone]).min();
        // SEC-06: AD vouches for an answer as it was sent.
        received.authentic = false;
    }
    let (rcode, ede, authentic) = (rcode::relayed(received.rcode), received.ede, received.authentic);
    let scope = ask.reach(answered.told, received.scope);
    let options = std::mem::take(&mut received.options);
    // GEN-02: whether recursion was to be had is the upstream's to say.
    let recursive = received.header.flags.0 & Flags::RA;
    let mut clean = emit::clean(received, ask)?;
    let judged = judge::judge(&clean, ask, &chain, rcode);
    let limits = Limits::of(ask.question.split_last_chunk::<4>().map_or(&[], |(qname, _)| qname), settings);
    let dates = ttl::date(&mut clean, judged, answered.age, &limits);
    let is_alias = chain.is_alias(&clean.message, &clean.records);
    let flags = Flags(Flags::QR | recursive).with(Flags::AD, authentic && answered.trusted).with_rcode(rcode);
    let Clean { mut message, header, records } = clean;
    if let Some(place) = message.first_chunk_mut() {
        *place = Header { id: 0, flags, ..header }.to_octets();
    }
    let additional = records.iter().find(|record| record.section == Section::Additional);
    let meta = Meta {
        received: now,
        lifetime: dates.lifetime,
        stale: limits.stale_window,
        http_lifetime: dates.http_lifetime,
        rcode,
        flags,
        kind: if dates.lifetime == 0 { Kind::Fleeting } else { kind(judged) },
        additional_at: additional.map_or(u16::try_from(message.len()).unwrap_or(u16::MAX), |record| record.owner),
        additionals: header.additionals,
        supplier: answered.upstream,
        ede,
        is_alias,
        is_sudden: false,
    };
    // A denial is for everyone (RFC 7871 7.4; ECS-13).
    let scope = if judged == Judged::Positive { scope } else { 0 };
    Ok(StoredBuf { meta, message: message.into(), ttls: dates.offsets.into(), scope, options })
}

const fn kind(judged: Judged) -> Kind {
    match judged {
        Judged::Positive => Kind::Positive,
        Judged::NoData { .. } => Kind::NoData,
        Judged::NxDomain { .. } => Kind::NxDomain,
        Judged::Passing | Judged::Denied => Kind::Fleeting,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::NULL;
    use hickory_proto::rr::{RData, Record as Other, RecordType};
    use proptest::prelude::*;

    use super::*;
    use crate::trail::UpstreamId;
    use crate::wire::shapes;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// A signature that nobody asked for stands anywhere before the last record, so what follows it moves.
        #[test]
        fn gen_06_gen_07_what_moves_says_what_it_said(
            (mut message, at) in (shapes::answer(), any::<prop::sample::Index>()),
        ) {
            let asked = message.queries[0].clone();
            let mut plain = Query::query(asked.name().clone(), RecordType::TXT);
            plain.set_query_class(asked.query_class());
            message.queries = vec![plain.clone()];
            // Of the name that was asked for, and no alias: what else stands among answers is no answer.
            message.answers.retain(|record| record.record_type() != RecordType::CNAME);
            for record in &mut message.answers {
                record.name = plain.name().clone();
                record.dns_class = plain.query_class();
            }
            let mut signed = Message::new(message.metadata.id, MessageType::Response, OpCode::Query);
            signed.add_query(plain.clone());
            signed.edns.clone_from(&message.edns);
            let data = RData::Unknown { code: RecordType::Unknown(46), rdata: NULL::with(vec![7; 30]) };
            let mut signature = Other::from_rdata(plain.name().clone(), 60, data);
            signature.dns_class = plain.query_class();
            let place = at.index(message.answers.len() + 1);
            let mut answers = message.answers.clone();
            answers.insert(place, signature);
            signed.add_answers(answers);
            signed.add_authorities(message.authorities.clone()).add_additionals(message.additionals.clone());
            let octets = signed.to_vec().unwrap();
            let question = crate::wire::Question::parse(&octets).unwrap();
            let ask = Ask {
                question: question.octets(&octets).into(),
                recursion_desired: true,
                checking_disabled: false,
                authentic_data: true,
                dnssec_ok: false,
                padding: true,
                prefer_stream: false,
                without_edns: false,
                patient: false,
                avoid: None,
                subnet: None,
                passed: None,
            };
            let upstream = UpstreamId(0);
            let answered = Answered { message: Bytes::from(octets), upstream, age: 0, trusted: true, told: None };
            let stored = digest(&answered, &ask, (&Settings::default(), AnyRule::Minimal), Moment(0));
            prop_assert!(stored.is_ok(), "{:?}", stored.err());
            let stored = stored.unwrap();
            let read = Message::from_vec(&stored.message).unwrap();
            for (left, right) in [
                (&read.answers, &message.answers),
                (&read.authorities, &message.authorities),
                (&read.additionals, &message.additionals),
            ] {
                prop_assert_eq!(left.len(), right.len());
                for (one, other) in left.iter().zip(right) {
                    prop_assert_eq!(&one.name, &other.name);
                    prop_assert_eq!(&one.data, &other.data);
                }
            }
            prop_assert!(read.edns.is_none());
        }
    }
}
