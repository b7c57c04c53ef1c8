//! ipv4only.arpa, by which hosts find out the prefix (RFC 7050): where addresses are synthesised it is answered here and never asked
//! upstream (RFC 8880 7.1; SUD-13).

use std::net::Ipv4Addr;

use super::Prefix;
use crate::clock::Moment;
use crate::pipeline::local::{Data, Local, Owner, TTL};
use crate::reply::{Kind, StoredBuf};
use crate::wire::registry::{class, ede, rcode, rtype};
use crate::wire::{Question, name};

/// The answer to `question` of `message` if it is for this name or below. That it is not signed is the parent's to say, so its DS is
/// asked for as any other.
#[must_use]
pub fn answer(prefix: &Prefix, message: &[u8], question: Question, now: Moment) -> Option<StoredBuf> {
    let qname = question.name(message);
    let is_of_class = matches!(question.class, class::IN | class::ANY);
    if !is_of_class || !name::is_under(qname, APEX) {
        return None;
    }
    let octets = question.octets(message);
    if qname.len() > APEX.len() {
        return Some(Local::new(octets, rcode::NXDOMAIN, Kind::NxDomain).denied(APEX, class::IN, now));
    }
    let (v4, v6) = match question.rtype {
        rtype::DS => return None,
        rtype::A => (true, false),
        rtype::AAAA => (false, true),
        rtype::ANY => (true, true),
        _ => return Some(Local::new(octets, rcode::NOERROR, Kind::NoData).denied(APEX, class::IN, now)),
    };
    let mut local = Local::new(octets, rcode::NOERROR, Kind::Positive);
    for address in ADDRESSES.into_iter().filter(|_| v4) {
        local.answer(Owner::Question, record(rtype::A, &address.octets()));
    }
    for address in ADDRESSES.into_iter().filter(|_| v6) {
        local.answer(Owner::Question, record(rtype::AAAA, &prefix.embed(address).octets()));
    }
    let mut stored = local.finish(now);
    stored.meta.ede = v6.then_some(ede::SYNTHESIZED);
    Some(stored)
}

const fn record(rtype: u16, rdata: &[u8]) -> Data<'_> {
    Data { rtype, class: class::IN, ttl: TTL, rdata }
}

const APEX: &[u8] = b"\x08ipv4only\x04arpa\0";

/// The two addresses it has (RFC 7050 8.1), which are behind every prefix.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
