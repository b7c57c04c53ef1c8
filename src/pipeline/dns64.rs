//! DNS64 (RFC 6147): for hosts that have IPv6 alone, addresses made of IPv4 ones, which a translator takes back apart.
//!
//! Between the exchange of a question and the cache: where a name has no AAAA records that count, its A records are asked for, and
//! what is made of them is kept and refreshed as if an upstream had said it. A hit never comes here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::time::Instant;

use super::exchange::{Inquired, Unanswered, tell_less};
use super::rcode::{self, is_failure};
use super::{Pipeline, Shared};
use crate::clock::Moment;
use crate::guard::Network;
use crate::reply::{Kind, StoredBuf};
use crate::trail::{Attempts, Why};
use crate::upstream::Ask;
use crate::wire::registry::{class, rcode as codes, rtype};
use crate::wire::{Flags, HEADER_LEN, Header, Question, Records, Section, patch};

mod prefix;
mod reverse;
mod second;
mod synthesis;
mod well_known;

pub use prefix::{Prefix, PrefixError};

/// What addresses are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns64 {
    /// The translator's prefix.
    pub prefix: Prefix,
    /// AAAA records of these networks count as absent (RFC 6147 5.1.4). Default `::ffff:0:0/96`.
    pub exclude: Vec<Network>,
}

impl Dns64 {
    /// Does `address` count as absent?
    #[must_use]
    pub fn excludes(&self, address: Ipv6Addr) -> bool {
        self.exclude.iter().any(|network| network.contains(IpAddr::V6(address)))
    }

    /// Does `question` of `message` ask for the name of an address behind the prefix (RFC 6147 5.3.1)? It is answered as such whatever
    /// zone it lies in: the prefix may be of a private network.
    #[must_use]
    pub fn is_pointer(&self, message: &[u8], question: Question) -> bool {
        let is_asked = matches!(question, Question { rtype: rtype::PTR, class: class::IN, .. });
        is_asked && self.pointer(question.name(message)).is_some()
    }

    /// The domain that the names of addresses behind the prefix lie in, in wire form.
    #[must_use]
    pub fn pointers(&self) -> Vec<u8> {
        reverse::network(self.prefix.octets())
    }

    fn pointer(&self, qname: &[u8]) -> Option<Ipv4Addr> {
        self.prefix.extract(reverse::address(qname)?)
    }

    /// The answer made here to `question` of `message`, if it asks how the prefix is found out.
    #[must_use]
    pub fn answer(&self, message: &[u8], question: Question, now: Moment) -> Option<StoredBuf> {
        well_known::answer(&self.prefix, message, question, now)
    }

    /// What `ask` has to do with addresses that are made. Nothing where its asker validates by itself (RFC 6147 5.5; D64-07).
    fn part(&self, ask: &Ask) -> Part {
        let asked = ask.question.split_last_chunk::<4>().filter(|_| !(ask.checking_disabled && ask.dnssec_ok));
        let Some((qname, &[t0, t1, c0, c1])) = asked else { return Part::Other };
        match (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1])) {
            (rtype::AAAA, class::IN) => Part::Addresses,
            (rtype::PTR, class::IN) => self.pointer(qname).map_or(Part::Other, Part::Pointer),
            _ => Part::Other,
        }
    }
}

/// What a question has to do with addresses that are made.
enum Part {
    /// It asks for some.
    Addresses,
    /// It asks for the name of one: of this IPv4 address.
    Pointer(Ipv4Addr),
    /// Nothing.
    Other,
}

/// Is the answer to `ask` that to a question for another name? That one is asked, and its answer doubted, for itself; the name that
/// `ask` has may lie in a private network and is never asked for.
#[must_use]
pub fn is_of_another_name(shared: &Shared, ask: &Ask) -> bool {
    shared.settings.dns64.as_ref().is_some_and(|dns64| matches!(dns64.part(ask), Part::Pointer(_)))
}

/// Asks upstream, and makes what is missing where that is wanted. Answers how it was asked at last, as [`tell_less`].
pub async fn obtain(pipeline: &Pipeline, ask: Arc<Ask>, deadline: Instant) -> (Arc<Ask>, Inquired) {
    let Some(dns64) = &pipeline.shared.settings.dns64 else { return tell_less(pipeline, ask, deadline).await };
    match dns64.part(&ask) {
        Part::Other => tell_less(pipeline, ask, deadline).await,
        Part::Pointer(v4) => {
            let inquired = point(pipeline, &ask, v4, deadline).await;
            (ask, inquired)
        }
        Part::Addresses => {
            // Silence is no answer either: it must leave time for the other question (D64-04).
            let now = Instant::now();
            let half = now + deadline.saturating_duration_since(now) / 2;
            let (told, inquired) = tell_less(pipeline, Arc::clone(&ask), half).await;
            (told, complete(pipeline, dns64, &ask, inquired, deadline).await)
        }
    }
}

/// The answer to `ask` without the addresses that count as absent, whoever gave it.
#[must_use]
pub fn filtered(shared: &Shared, ask: &Ask, stored: StoredBuf) -> StoredBuf {
    match &shared.settings.dns64 {
        Some(dns64) if matches!(dns64.part(ask), Part::Addresses) => {
            synthesis::without_excluded(dns64, &ask.question, stored)
        }
        Some(_) | None => stored,
    }
}

/// Addresses made of A records, where `inquired` brought none and said nothing that forbids it.
async fn complete(
    pipeline: &Pipeline,
    dns64: &Dns64,
    ask: &Ask,
    (result, mut attempts): Inquired,
    deadline: Instant,
) -> Inquired {
    let ceiling = match &result {
        Ok(stored) if !lacks_addresses(stored) => return (result, attempts),
        Ok(stored) => denied_for(stored).unwrap_or(synthesis::LONGEST),
        // Our own bounds say nothing of the name.
        Err((_, false)) => return (result, attempts),
        Err((_, true)) => synthesis::LONGEST,
    };
    let Some((qname, _)) = ask.question.split_last_chunk::<4>() else { return (result, attempts) };
    let also = Ask { question: asking(qname, rtype::A), ..ask.clone() };
    let heard = second::ask(pipeline, also, deadline).await;
    attempts.append(&heard.attempts, Why::Dns64);
    let result = match heard.result {
        Ok(a) if !is_failure(a.meta.rcode) => {
            let now = pipeline.shared.clock.now();
            match synthesis::addresses(dns64, &ask.question, &a, ceiling, now) {
                Some(made) => {
                    pipeline.counters.synthesised.add_one();
                    Ok(made)
                }
                None => in_its_stead(a, result),
            }
        }
        Ok(_) | Err(_) => result.map(|stored| briefly(pipeline, stored)),
    };
    (result, attempts)
}

/// Does it answer without an address, in a way that leaves room for others? That there is no such name does not (D64-04).
fn lacks_addresses(stored: &StoredBuf) -> bool {
    match stored.meta.rcode {
        codes::NOERROR => synthesis::answers(&stored.message)
            .is_ok_and(|records| !records.iter().any(|record| synthesis::address(&stored.message, record).is_some())),
        rcode => is_failure(rcode),
    }
}

/// TTL of the SOA that denies (RFC 6147 5.1.7), as it is served.
fn denied_for(stored: &StoredBuf) -> Option<u32> {
    let header = Header::parse(&stored.message).ok().filter(|_| stored.meta.rcode == codes::NOERROR)?;
    let records = Records::new(&stored.message, &header).ok()?.filter_map(Result::ok);
    let mut denials = records.filter(|record| record.section == Section::Authority && record.rtype == rtype::SOA);
    denials.next().map(|soa| soa.ttl)
}

/// What is said where nothing could be made: what was heard first, but of two that deny one that says for how long, and rather than
/// that nothing could be heard that there is no such name (RFC 6147 5.1.6). That there are no A records says nothing of AAAA.
fn in_its_stead(a: StoredBuf, first: Result<StoredBuf, Unanswered>) -> Result<StoredBuf, Unanswered> {
    let is_open = |stored: &StoredBuf| stored.meta.rcode == codes::NOERROR && stored.meta.kind == Kind::Fleeting;
    let says_more = match a.meta.kind {
        Kind::NoData => first.as_ref().is_ok_and(is_open),
        Kind::NxDomain => first.as_ref().map_or(true, |stored| is_failure(stored.meta.rcode)),
        Kind::Positive | Kind::Fleeting => false,
    };
    if !says_more {
        return first;
    }
    let StoredBuf { mut meta, mut message, .. } = a;
    meta.flags = meta.flags.with(Flags::AD, false);
    if let Ok(question) = Question::parse(&message) {
        patch::put_u16(&mut message, question.end() - 4, rtype::AAAA);
    }
    Ok(StoredBuf { meta, message, ..a })
}

/// That there is nothing, kept no longer than a failure: addresses could not be made because the other question failed.
fn briefly(pipeline: &Pipeline, mut stored: StoredBuf) -> StoredBuf {
    let ceiling = u32::try_from(pipeline.shared.cache_settings.failure_ttl.as_secs()).unwrap_or(u32::MAX);
    stored.meta.lifetime = stored.meta.lifetime.min(ceiling);
    stored.meta.http_lifetime = stored.meta.http_lifetime.min(ceiling);
    patch::cap_ttls(&mut stored.message, &stored.ttls, ceiling);
    stored
}

/// The name of the address that `v4` is behind the prefix: that of `v4` itself, as an alias (D64-08).
async fn point(pipeline: &Pipeline, ask: &Ask, v4: Ipv4Addr, deadline: Instant) -> Inquired {
    let target = reverse::name(v4);
    // Of another domain, and so perhaps of other servers, who are told nothing.
    let also = Ask { question: asking(&target, rtype::PTR), subnet: None, ..ask.clone() };
    let now = pipeline.shared.clock.now();
    let message = [&[0; HEADER_LEN], &*also.question].concat();
    let special = |question| pipeline.shared.special.answer(&message, question, ask.dnssec_ok, now);
    let local = Question::parse(&message).ok().and_then(special);
    let heard = match local {
        Some(stored) => second::Heard { result: Ok(stored), attempts: Attempts::default() },
        None => second::ask(pipeline, also, deadline).await,
    };
    let mut attempts = Attempts::default();
    attempts.append(&heard.attempts, Why::Dns64);
    let result = match heard.result {
        Ok(stored) if !is_failure(stored.meta.rcode) => {
            synthesis::alias(&ask.question, &target, &stored, now).ok_or((rcode::TOO_LARGE, false))
        }
        // Remembered where it was asked.
        Ok(stored) => Err((rcode::of_answer(&stored.meta), false)),
        Err(problem) => Err((problem, false)),
    };
    (result, attempts)
}

/// The question for `rtype` records of the wire name `qname`.
fn asking(qname: &[u8], rtype: u16) -> Box<[u8]> {
    [qname, &rtype.to_be_bytes(), &class::IN.to_be_bytes()].concat().into()
}
