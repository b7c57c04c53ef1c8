//! Names that are answered here and not asked upstream: special-use names (RFC 6761 and kin), the reverse zones of networks that are
//! private or mean nothing in public (RFC 6303, RFC 7793), what the operator denies. Match is by whole labels without regard to
//! case (SUD-15); the answers are authoritative.
//!
//! A zone that the operator forwards or asks upstream is not answered here, but for the few of [`zones::ALWAYS`], and what lies in a
//! zone but is asked upstream keeps the names above it in being (RFC 8020): they are without data. Every question passes here, so
//! that one of other names is let go at a glance at the end of its last label.

mod zones;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use self::zones::switchable;

use self::zones::{ALWAYS, HOSTS, Says};
use super::local::{Data, Local, Owner, TTL, soa};
use super::settings::Special;
use crate::clock::Moment;
use crate::reply::{Kind, StoredBuf};
use crate::wire::registry::{class, rcode, rtype};
use crate::wire::{Question, Suffixes, name};

const LOCALHOST: &[u8] = b"\x09localhost\0";

/// Is the uncompressed wire name `qname` answered here, whatever is configured?
#[must_use]
pub fn is_answered_here(qname: &[u8]) -> bool {
    ALWAYS.into_iter().any(|(apex, _)| name::is_under(qname, apex))
}

/// The zones of one gateway.
#[derive(Debug)]
pub struct Zones {
    tails: Vec<Tail>,
    /// None: what lies there is asked upstream.
    places: Suffixes<Option<Zone>>,
    /// What lies in a zone and exists all the same, as do the names above it.
    existing: Vec<Box<[u8]>>,
}

#[derive(Clone, Debug)]
struct Zone {
    apex: Box<[u8]>,
    says: Says,
}

impl Zones {
    /// The zones that `special` leaves here.
    #[must_use]
    pub fn new(special: &Special) -> Self {
        let is_asked = |apex: &[u8]| special.asked.iter().any(|domain| name::is_under(apex, domain));
        let always = ALWAYS.into_iter().map(|(apex, says)| Zone { apex: apex.into(), says });
        let written = switchable().filter_map(|(text, says)| Some((name::from_text(&text).ok()?, says)));
        let others = written.filter(|(apex, _)| !is_asked(apex)).map(|(apex, says)| Zone { apex: apex.into(), says });
        // What is said of the longer domain holds.
        let denied = special.denied.iter().map(|apex| Zone { apex: apex.clone(), says: Says::Nothing });
        let all: Vec<Zone> = others.chain(denied).chain(always).collect();

        let lies_in_one = |domain: &[u8]| all.iter().any(|zone| name::is_under(domain, &zone.apex));
        let asked: Vec<&Box<[u8]>> = special.asked.iter().filter(|domain| lies_in_one(domain)).collect();
        let hosts = HOSTS.into_iter().filter(|host| lies_in_one(host)).map(Box::from);
        let mut zones = Self {
            tails: Vec::new(),
            places: Suffixes::default(),
            existing: hosts.chain(asked.iter().copied().cloned()).collect(),
        };
        for domain in asked {
            zones.places.insert(domain, None);
        }
        for zone in all {
            let tail = Tail::of_zone(&zone.apex);
            if !zones.tails.contains(&tail) {
                zones.tails.push(tail);
            }
            let apex = zone.apex.clone();
            zones.places.insert(&apex, Some(zone));
        }
        zones
    }

    /// The answer to `question` of `message`, whose sender wants proofs or not, if its name is special.
    #[must_use]
    #[inline]
    pub fn answer(&self, message: &[u8], question: Question, dnssec_ok: bool, now: Moment) -> Option<StoredBuf> {
        let tail = tail(question.name(message));
        if self.tails.iter().any(|known| tail & known.mask == known.value) {
            self.answer_of_zone(message, question, dnssec_ok, now)
        } else {
            None
        }
    }

    #[inline(never)]
    fn answer_of_zone(&self, message: &[u8], question: Question, dnssec_ok: bool, now: Moment) -> Option<StoredBuf> {
        let qname = question.name(message);
        let (Some(Zone { apex, says }), length) = self.places.find(qname)? else { return None };
        let is_apex = length == qname.len();
        let class = if question.class == class::ANY { class::IN } else { question.class };
        match says {
            Says::Bare if is_apex && question.rtype == rtype::DS && dnssec_ok => return None,
            Says::Loopback => return Some(loopback(message, question, (apex, class), now)),
            Says::Nothing | Says::NoData | Says::Bare => {}
        }
        let mut local = Local::new(question.octets(message), rcode::NOERROR, Kind::Positive);
        let mut answer = |rtype: u16, rdata: &[u8]| {
            let is_asked = question.rtype == rtype || question.rtype == rtype::ANY;
            if is_asked {
                local.answer(Owner::Question, Data { rtype, class, ttl: TTL, rdata });
            }
            is_asked
        };
        // One set is answer enough to who wants any (RFC 8482 4.1).
        let is_host = HOSTS.into_iter().any(|host| host.eq_ignore_ascii_case(qname));
        let is_bare_apex = is_apex && *says == Says::Bare;
        if is_host && class == class::IN && answer(rtype::PTR, LOCALHOST)
            || is_bare_apex && (answer(rtype::SOA, &soa(apex)) || answer(rtype::NS, apex))
        {
            return Some(local.finish(now));
        }
        let exists = is_bare_apex
            || *says == Says::NoData
            || self.existing.iter().any(|existing| name::is_under(existing, qname));
        let (rcode, kind) = if exists { (rcode::NOERROR, Kind::NoData) } else { (rcode::NXDOMAIN, Kind::NxDomain) };
        Some(Local::new(question.octets(message), rcode, kind).denied(apex, class, now))
    }
}

/// The answer of localhost (RFC 6761 6.3).
fn loopback(message: &[u8], question: Question, (apex, class): (&[u8], u16), now: Moment) -> StoredBuf {
    // What other classes call an A record is no IPv4 address.
    let wants = |rtype| class == class::IN && matches!(question.rtype, asked if asked == rtype || asked == rtype::ANY);
    let mut local = Local::new(question.octets(message), rcode::NOERROR, Kind::Positive);
    if wants(rtype::A) {
        local.answer(Owner::Question, address(rtype::A, &Ipv4Addr::LOCALHOST.octets()));
    }
    if wants(rtype::AAAA) {
        local.answer(Owner::Question, address(rtype::AAAA, &Ipv6Addr::LOCALHOST.octets()));
    }
    if wants(rtype::A) || wants(rtype::AAAA) {
        return local.finish(now);
    }
    Local::new(question.octets(message), rcode::NOERROR, Kind::NoData).denied(apex, class, now)
}

const fn address(rtype: u16, rdata: &[u8]) -> Data<'_> {
    Data { rtype, class: class::IN, ttl: TTL, rdata }
}

/// The end of a zone's last label, folded, its length octet included where it is short: what the names in it end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tail {
    mask: u32,
    value: u32,
}

impl Tail {
    fn of_zone(apex: &[u8]) -> Self {
        // The last label but the root's, and its length octet.
        let mut label = apex;
        while let Some((&length, rest)) = label.split_first()
            && let Some(next) = rest.get(usize::from(length)..)
            && next.len() > 1
        {
            label = next;
        }
        let octets = u32::try_from(label.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let mask = u32::MAX.checked_shr(32 - 8 * octets.min(4)).unwrap_or_default();
        Self { mask, value: tail(apex) & mask }
    }
}

/// The last four octets of a name before the root label, folded. Octets that are no letters are folded as well, to something: it is
/// a first glance.
#[inline]
fn tail(name: &[u8]) -> u32 {
    let labels = name.split_last().map_or(name, |(_, labels)| labels);
    let octets = match labels.last_chunk::<4>() {
        Some(octets) => u32::from_be_bytes(*octets),
        None => labels.iter().fold(0, |octets, &octet| octets << 8 | u32::from(octet)),
    };
    octets | 0x2020_2020
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;

    use super::*;
    use crate::wire::{Flags, Header, Records, u32_at};

    fn ask(text: &str, rtype: u16) -> Option<StoredBuf> {
        ask_class(text, rtype, class::IN)
    }

    fn ask_class(text: &str, rtype: u16, class: u16) -> Option<StoredBuf> {
        let mut message = Header { questions: 1, ..Header::default() }.to_octets().to_vec();
        message.extend(name::from_text(text).unwrap());
        message.put_u16(rtype);
        message.put_u16(class);
        Zones::new(&Special::default()).answer(&message, Question::parse(&message).unwrap(), false, Moment(7))
    }

    fn addresses(stored: &StoredBuf) -> Vec<Vec<u8>> {
        let header = Header::parse(&stored.message).unwrap();
        let records = Records::new(&stored.message, &header).unwrap().map(Result::unwrap);
        records.map(|record| record.rdata.of(&stored.message).to_vec()).collect()
    }

    fn assert_denied(stored: &StoredBuf, rcode: u16, apex: &str) {
        let header = Header::parse(&stored.message).unwrap();
        assert_eq!((stored.meta.rcode, header.answers, header.authorities), (rcode, 0, 1));
        let soa = Records::new(&stored.message, &header).unwrap().next().unwrap().unwrap();
        assert_eq!((soa.rtype, soa.ttl), (rtype::SOA, TTL));
        let apex = name::from_text(apex).unwrap();
        let mut owner = Vec::new();
        name::expand(&stored.message, soa.owner.into(), &mut owner).unwrap();
        assert_eq!(owner.to_ascii_lowercase(), apex);
        assert_eq!(u32_at(&stored.message, usize::from(soa.rdata.end) - 4).unwrap(), TTL);
        assert!(header.flags.has(Flags::AA | Flags::QR | Flags::RA));
    }

    #[test]
    fn gen_23_addresses_are_of_class_in_and_no_record_is_of_any_class() {
        let classes = |stored: &StoredBuf| -> Vec<(u16, u16)> {
            let header = Header::parse(&stored.message).unwrap();
            let records = Records::new(&stored.message, &header).unwrap().map(Result::unwrap);
            records.map(|record| (record.rtype, record.class)).collect()
        };
        let any = ask_class("localhost", rtype::A, 255).unwrap();
        assert_eq!(classes(&any), [(rtype::A, class::IN)]);
        assert_eq!(classes(&ask_class("x.onion", rtype::A, 255).unwrap()), [(rtype::SOA, class::IN)]);
        let chaos = ask_class("localhost", rtype::A, class::CH).unwrap();
        assert_eq!(classes(&chaos), [(rtype::SOA, class::CH)]);
    }

    #[test]
    fn sud_01_localhost_and_below_are_loopback_and_nothing_else() {
        for name in ["localhost", "x.LocalHost"] {
            assert_eq!(addresses(&ask(name, rtype::A).unwrap()), [vec![127, 0, 0, 1]]);
            assert_eq!(addresses(&ask(name, rtype::AAAA).unwrap())[0][15], 1);
            assert_denied(&ask(name, rtype::MX).unwrap(), rcode::NOERROR, "localhost");
        }
    }

    #[test]
    fn sud_02_05_invalid_and_onion_do_not_exist() {
        assert_denied(&ask("x.invalid", rtype::A).unwrap(), rcode::NXDOMAIN, "invalid");
        assert_denied(&ask("invalid", rtype::TXT).unwrap(), rcode::NXDOMAIN, "invalid");
        assert_denied(&ask("abc.ONION", rtype::AAAA).unwrap(), rcode::NXDOMAIN, "onion");
    }

    #[test]
    fn ddr_05_resolver_arpa_has_names_but_no_records() {
        for name in ["resolver.arpa", "_dns.resolver.arpa", "x.Resolver.Arpa"] {
            assert_denied(&ask(name, rtype::A).unwrap(), rcode::NOERROR, "resolver.arpa");
        }
    }

    #[test]
    fn sud_15_names_match_by_whole_labels() {
        for name in ["xonion", "notlocalhost", "localhost.example", "arpa", "xresolver.arpa", "invalid.com", "."] {
            assert!(ask(name, rtype::A).is_none(), "{name}");
        }
    }
}
