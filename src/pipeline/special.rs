//! Names that are answered here and never asked upstream: localhost and invalid (RFC 6761), onion (RFC 7686),
//! resolver.arpa (RFC 9462). Match is by whole labels without regard to case (SUD-15); the answers are authoritative.
//!
//! No forward changes that, not even one of the root: `localhost` must mean this host, a hidden service's name must not leave it
//! (SUD-05), and what another resolver says of itself in resolver.arpa would lead clients past the gateway (DDR-06). The
//! configuration refuses forwards of these zones, which would never see a question.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::local::{Data, Local, Owner, TTL};
use crate::clock::Moment;
use crate::reply::{Kind, StoredBuf};
use crate::wire::registry::{class, rcode, rtype};
use crate::wire::{Question, name};

/// The zones, each with what it says.
const ZONES: [(&[u8], Zone); 4] = [
    (b"\x09localhost\0", Zone::Loopback),
    (b"\x07invalid\0", Zone::Nothing),
    (b"\x05onion\0", Zone::Nothing),
    (b"\x08resolver\x04arpa\0", Zone::Empty),
];

#[derive(Clone, Copy)]
enum Zone {
    /// Loopback addresses for every name.
    Loopback,
    /// No name exists.
    Nothing,
    /// Every name exists and has no records (RFC 9462 6.4).
    Empty,
}

/// Is the uncompressed wire name `qname` answered here, whatever is configured?
#[must_use]
pub fn is_answered_here(qname: &[u8]) -> bool {
    ZONES.into_iter().any(|(apex, _)| name::is_under(qname, apex))
}

/// The answer to `question` of `message` if its name is special.
#[must_use]
pub fn answer(message: &[u8], question: Question, now: Moment) -> Option<StoredBuf> {
    let qname = question.name(message);
    let (apex, zone) = ZONES.into_iter().find(|(apex, _)| name::is_under(qname, apex))?;
    let class = if question.class == class::ANY { class::IN } else { question.class };
    // What other classes call an A record is no IPv4 address.
    let v4 = class == class::IN && matches!(question.rtype, rtype::A | rtype::ANY);
    let v6 = class == class::IN && matches!(question.rtype, rtype::AAAA | rtype::ANY);
    Some(match zone {
        Zone::Loopback if v4 || v6 => {
            let mut local = Local::new(question.octets(message), rcode::NOERROR, Kind::Positive);
            if v4 {
                local.answer(Owner::Question, address(rtype::A, &Ipv4Addr::LOCALHOST.octets()));
            }
            if v6 {
                local.answer(Owner::Question, address(rtype::AAAA, &Ipv6Addr::LOCALHOST.octets()));
            }
            local.finish(now)
        }
        Zone::Loopback | Zone::Empty => {
            Local::new(question.octets(message), rcode::NOERROR, Kind::NoData).denied(apex, class, now)
        }
        Zone::Nothing => Local::new(question.octets(message), rcode::NXDOMAIN, Kind::NxDomain).denied(apex, class, now),
    })
}

const fn address(rtype: u16, rdata: &[u8]) -> Data<'_> {
    Data { rtype, class: class::IN, ttl: TTL, rdata }
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
        answer(&message, Question::parse(&message).unwrap(), Moment(7))
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
