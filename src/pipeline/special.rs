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
    /// The zones that `special` leaves here. The names in `own` are answered before, some of their types alone: they exist.
    #[must_use]
    pub fn new<'a>(special: &Special, own: impl Iterator<Item = &'a [u8]>) -> Self {
        let is_asked = |apex: &[u8]| special.asked.iter().any(|domain| name::is_under(apex, domain));
        let always = ALWAYS.into_iter().map(|(apex, says)| Zone { apex: apex.into(), says });
        let written = switchable().filter_map(|(text, says)| Some((name::from_text(&text).ok()?, says)));
        let others = written.filter(|(apex, _)| !is_asked(apex)).map(|(apex, says)| Zone { apex: apex.into(), says });
        // What is said of the longer domain holds.
        let denied = special.denied.iter().map(|apex| Zone { apex: apex.clone(), says: Says::Nothing });
        let all: Vec<Zone> = others.chain(denied).chain(always).collect();

        let lies_in_one = |domain: &[u8]| all.iter().any(|zone| name::is_under(domain, &zone.apex));
        let asked: Vec<&Box<[u8]>> = special.asked.iter().filter(|domain| lies_in_one(domain)).collect();
        let hosts = HOSTS.into_iter().chain(own).filter(|host| lies_in_one(host)).map(Box::from);
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

    /// The zones with these domains asked upstream, and these denied.
    fn zones(asked: &[&str], denied: &[&str]) -> Zones {
        let wire = |all: &[&str]| all.iter().map(|text| name::from_text(text).unwrap().into()).collect();
        Zones::new(&Special { asked: wire(asked), denied: wire(denied) }, std::iter::empty())
    }

    fn ask(text: &str, rtype: u16) -> Option<StoredBuf> {
        ask_class(text, rtype, class::IN)
    }

    fn ask_class(text: &str, rtype: u16, class: u16) -> Option<StoredBuf> {
        ask_of(&zones(&[], &[]), text, (rtype, class), false)
    }

    fn ask_of(zones: &Zones, text: &str, (rtype, class): (u16, u16), dnssec_ok: bool) -> Option<StoredBuf> {
        let mut message = Header { questions: 1, ..Header::default() }.to_octets().to_vec();
        message.extend(name::from_text(text).unwrap());
        message.put_u16(rtype);
        message.put_u16(class);
        zones.answer(&message, Question::parse(&message).unwrap(), dnssec_ok, Moment(7))
    }

    /// The RCODE for A of `text`; None: it is asked upstream.
    fn rcode_of(zones: &Zones, text: &str) -> Option<u16> {
        ask_of(zones, text, (rtype::A, class::IN), false).map(|stored| stored.meta.rcode)
    }

    /// The types and names in the answer section.
    fn data(stored: &StoredBuf) -> Vec<(u16, String)> {
        let header = Header::parse(&stored.message).unwrap();
        assert!(header.flags.has(Flags::AA) && header.authorities == 0);
        let records = Records::new(&stored.message, &header).unwrap().map(Result::unwrap);
        records.map(|record| (record.rtype, name::Shown(record.rdata.of(&stored.message)).to_string())).collect()
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
    fn own_name_in_a_special_zone_exists_as_do_those_above_it() {
        let own = [name::from_text("dns.lan.home.arpa").unwrap(), name::from_text("dns.example").unwrap()];
        let zones = Zones::new(&Special::default(), own.iter().map(Vec::as_slice));
        for (name, rcode) in
            [("Dns.Lan.home.arpa", 0), ("lan.home.arpa", 0), ("x.lan.home.arpa", 3), ("x.dns.lan.home.arpa", 3)]
        {
            assert_denied(&ask_of(&zones, name, (65, class::IN), false).unwrap(), rcode, "home.arpa");
        }
        assert_eq!(rcode_of(&zones, "dns.example"), None);
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

    #[test]
    fn sud_03_and_sud_12_test_and_local_do_not_exist() {
        for (name, apex) in [("x.test", "test"), ("TEST", "test"), ("printer.Local", "local"), ("local", "local")] {
            assert_denied(&ask(name, rtype::A).unwrap(), rcode::NXDOMAIN, apex);
        }
    }

    #[test]
    fn sud_04_and_sud_06_neither_example_nor_alt_is_special() {
        for name in
            ["example", "www.example.com", "x.alt", "alt", "x.internal", "ipv4only.arpa", "in-addr.arpa", "ip6.arpa"]
        {
            assert!(ask(name, rtype::A).is_none(), "{name}");
        }
    }

    #[test]
    fn sud_08_every_private_reverse_zone_is_bare() {
        let all: Vec<String> = switchable().map(|(text, _)| text).filter(|text| text.ends_with("arpa")).collect();
        assert_eq!(all.len(), 18 + 16 + 64);
        for zone in all {
            for asked in [format!("1.{zone}"), format!("x.9.9.{zone}")] {
                let host = name::from_text(&asked).unwrap();
                let rcode = if HOSTS[0].ends_with(&host) { rcode::NOERROR } else { rcode::NXDOMAIN };
                assert_denied(&ask(&asked, rtype::PTR).unwrap(), rcode, &zone);
            }
            if name::from_text(&zone).unwrap() != HOSTS[1] {
                assert_denied(&ask(&zone, rtype::PTR).unwrap(), rcode::NOERROR, &zone);
            }
        }
        for outside in ["1.15.172", "1.32.172", "1.63.100", "1.128.100", "1.167.192", "1.9", "1.11", "1.255"] {
            assert!(ask(&format!("1.1.{outside}.in-addr.arpa"), rtype::PTR).is_none(), "{outside}");
        }
        for outside in ["c.e.f", "7.e.f", "c.f", "9.b.d.0.1.0.0.2", "1.0.0.2"] {
            assert!(ask(&format!("1.{outside}.ip6.arpa"), rtype::PTR).is_none(), "{outside}");
        }
    }

    #[test]
    fn sud_10_the_apex_of_a_bare_zone_has_its_soa_and_its_ns_and_nothing_else() {
        for zone in ["10.in-addr.arpa.", "home.arpa.", "D.F.ip6.arpa."] {
            let soa = ask(zone, rtype::SOA).unwrap();
            assert_eq!(data(&soa)[0].0, rtype::SOA);
            assert_eq!(u32_at(&soa.message, soa.message.len() - 4).unwrap(), TTL);
            assert_eq!(data(&ask(zone, rtype::NS).unwrap()), [(rtype::NS, zone.to_ascii_lowercase())]);
            assert_eq!(data(&ask(zone, rtype::ANY).unwrap()).len(), 1, "ANY-01");
            for rtype in [rtype::A, rtype::TXT, rtype::DS] {
                assert_denied(&ask(zone, rtype).unwrap(), rcode::NOERROR, &zone.to_ascii_lowercase());
            }
            for rtype in [rtype::SOA, rtype::NS] {
                assert_denied(&ask(&format!("x.{zone}"), rtype).unwrap(), rcode::NXDOMAIN, &zone.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn sud_11_whether_a_bare_zone_is_signed_is_its_parents_to_say() {
        let all = zones(&[], &[]);
        let is_here = |name: &str, dnssec_ok| ask_of(&all, name, (rtype::DS, class::IN), dnssec_ok).is_some();
        for zone in ["home.arpa", "10.in-addr.arpa", "70.100.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"] {
            assert!(!is_here(zone, true) && is_here(zone, false), "{zone}");
            assert!(is_here(&format!("x.{zone}"), true), "{zone}");
        }
        for zone in ["onion", "test", "local", "localhost", "invalid", "resolver.arpa"] {
            assert!(is_here(zone, true), "{zone}");
        }
    }

    #[test]
    fn sud_01_the_addresses_of_this_host_are_called_localhost_and_what_is_above_them_exists() {
        let sixes = |labels: usize| format!("{}ip6.arpa", "0.".repeat(labels));
        for name in ["1.0.0.127.IN-ADDR.arpa", &format!("1.{}", sixes(31))] {
            for rtype in [rtype::PTR, rtype::ANY] {
                assert_eq!(data(&ask(name, rtype).unwrap()), [(rtype::PTR, "localhost.".to_owned())], "{name}");
            }
            assert!(data(&ask_class(name, rtype::PTR, 255).unwrap()).len() == 1);
        }
        assert_denied(&ask("1.0.0.127.in-addr.arpa", rtype::TXT).unwrap(), rcode::NOERROR, "127.in-addr.arpa");
        assert_denied(&ask("0.0.127.in-addr.arpa", rtype::PTR).unwrap(), rcode::NOERROR, "127.in-addr.arpa");
        assert_denied(&ask("1.1.0.127.in-addr.arpa", rtype::PTR).unwrap(), rcode::NXDOMAIN, "127.in-addr.arpa");
        assert_denied(&ask("x.1.0.0.127.in-addr.arpa", rtype::PTR).unwrap(), rcode::NXDOMAIN, "127.in-addr.arpa");
        assert!(ask(&sixes(31), rtype::PTR).is_none());
        assert_denied(&ask(&sixes(32), rtype::PTR).unwrap(), rcode::NOERROR, &sixes(32));
    }

    #[test]
    fn sud_09_what_is_asked_upstream_is_not_answered_here_and_what_is_above_it_exists() {
        let asked = zones(&["1.168.192.in-addr.arpa", "100.in-addr.arpa", "test", "a.b.local", "arpa.example"], &[]);
        for (name, expected) in [
            ("1.168.192.in-addr.arpa", None),
            ("9.1.168.192.IN-addr.arpa", None),
            ("168.192.in-addr.arpa", Some(0)),
            ("2.168.192.in-addr.arpa", Some(3)),
            ("1.64.100.in-addr.arpa", None),
            ("1.16.172.in-addr.arpa", Some(3)),
            ("x.test", None),
            ("x.a.b.local", None),
            ("b.local", Some(0)),
            ("local", Some(0)),
            ("x.b.local", Some(3)),
            ("x.onion", Some(3)),
        ] {
            assert_eq!(rcode_of(&asked, name), expected, "{name}");
        }
        let all = zones(&["arpa", "local", "onion", "localhost", "resolver.arpa"], &[]);
        for (name, expected) in [
            ("1.10.in-addr.arpa", None),
            ("home.arpa", None),
            ("x.local", None),
            ("x.onion", Some(3)),
            ("localhost", Some(0)),
            ("_dns.resolver.arpa", Some(0)),
        ] {
            assert_eq!(rcode_of(&all, name), expected, "{name}");
        }
    }

    #[test]
    fn sud_06_a_denied_zone_does_not_exist_but_for_what_is_asked_in_it() {
        let denied = zones(&["corp.internal", "example"], &["alt", "internal", "ads.example", "zz", "q"]);
        for (name, expected) in [
            ("x.ALT", Some(3)),
            ("alt", Some(3)),
            ("xalt", None),
            ("salt", None),
            ("x.internal", Some(3)),
            ("internal", Some(0)),
            ("x.corp.internal", None),
            ("www.example", None),
            ("x.ads.example", Some(3)),
            ("x.zz", Some(3)),
            ("zz", Some(3)),
            ("x.zzz", None),
            ("x.q", Some(3)),
            ("q", Some(3)),
            ("x.qq", None),
            ("x.test", Some(3)),
            (".", None),
        ] {
            assert_eq!(rcode_of(&denied, name), expected, "{name}");
        }
        assert_eq!(rcode_of(&zones(&["test"], &["test"]), "x.test"), Some(3), "the configuration refuses to say both");
    }

    #[test]
    fn no_octets_of_a_name_are_too_strange() {
        let all = zones(&[], &[]);
        for name in
            [&b"\x04arpa\0"[..], b"\x05xarpa\0", b"\x09x\x05onion.y\0", b"\x05\x04test\0", b"\x01\xff\x04tesT\0"]
        {
            let message = [&Header { questions: 1, ..Header::default() }.to_octets()[..], name, &[0, 1, 0, 1]].concat();
            let answered = all.answer(&message, Question::parse(&message).unwrap(), false, Moment(7)).is_some();
            assert_eq!(answered, name.ends_with(b"tesT\0"), "{name:?}");
        }
        assert_eq!(HOSTS[1], &*name::from_text(&format!("1.{}ip6.arpa", "0.".repeat(31))).unwrap());
    }
}
