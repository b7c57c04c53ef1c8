//! What the gateway says of itself: the records that clients discover it by (RFC 9462, RFC 9606), made once at start.
//!
//! Stands before the special names, on top of the empty zone resolver.arpa. What is said here is never asked upstream: another
//! resolver's word on it would lead clients past the gateway (DDR-06, RES-01).

use super::local::{Data, Local, Owner};
use crate::clock::Moment;
use crate::discovery::{OwnName, Set, TTL};
use crate::reply::{Kind, StoredBuf};
use crate::wire::Question;
use crate::wire::registry::{class, rcode, rtype};

/// The names that the gateway speaks for.
#[derive(Debug, Default)]
pub struct Own {
    places: Vec<OwnName>,
    /// A bit for each length that one of them has: most questions go by for the price of one look.
    lengths: [u64; 4],
}

impl Own {
    /// Speaks for `places`.
    #[must_use]
    pub fn new(places: Vec<OwnName>) -> Self {
        let mut lengths = [0; 4];
        for place in &places {
            let length = u8::try_from(place.name.len()).unwrap_or_default();
            if let Some(word) = lengths.get_mut(usize::from(length >> 6)) {
                *word |= 1 << (length & 63);
            }
        }
        Self { places, lengths }
    }

    /// The answer to `question` of `message` if it is about the gateway itself.
    #[must_use]
    pub fn answer(&self, message: &[u8], question: Question, now: Moment) -> Option<StoredBuf> {
        let word = self.lengths.get(usize::from(question.name_len >> 6)).copied().unwrap_or_default();
        if word >> (question.name_len & 63) & 1 == 0 || !matches!(question.class, class::IN | class::ANY) {
            return None;
        }
        let qname = question.name(message);
        let place = self.places.iter().find(|place| place.name.eq_ignore_ascii_case(qname))?;
        let octets = question.octets(message);
        match place.sets.iter().find(|set| set.rtype == question.rtype) {
            Some(set) if set.rdata.is_empty() => Some(denied(octets, place.apex.as_ref().unwrap_or(&place.name), now)),
            Some(set) => Some(told(octets, set, now)),
            None => {
                let apex = place.apex.as_ref()?;
                // RFC 8482 4.1: one set stands for all.
                let any = place.sets.first().filter(|_| question.rtype == rtype::ANY);
                Some(any.map_or_else(|| denied(octets, apex, now), |set| told(octets, set, now)))
            }
        }
    }
}

fn told(question: &[u8], set: &Set, now: Moment) -> StoredBuf {
    let mut local = Local::new(question, rcode::NOERROR, Kind::Positive);
    for rdata in &set.rdata {
        local.answer(Owner::Question, Data { rtype: set.rtype, class: class::IN, ttl: TTL, rdata });
    }
    for addition in &set.additional {
        let data = Data { rtype: addition.rtype, class: class::IN, ttl: TTL, rdata: &addition.rdata };
        local.additional(Owner::Name(&addition.owner), data);
    }
    local.finish(now)
}

fn denied(question: &[u8], apex: &[u8], now: Moment) -> StoredBuf {
    Local::new(question, rcode::NOERROR, Kind::NoData).denied(apex, class::IN, now)
}
