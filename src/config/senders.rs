//! Resolvers known to tell the servers of names what network a question came from (RFC 7871), unless a question asks them not to.
//!
//! What the gateway strips is what clients tell of themselves; of its own address, which these resolvers see, only "opt-out" keeps
//! them from telling others. Few, and only those whose operators document it.

use std::net::IpAddr;

use super::{Origin, Reader};
use crate::upstream::address::Host;
use crate::upstream::{Server, SubnetRule};

/// One of them.
struct Sender {
    /// For people.
    title: &'static str,
    /// What it is called in URLs and certificates.
    names: &'static [&'static str],
    addresses: &'static [&'static str],
}

/// Google (developers.google.com/speed/public-dns/docs/ecs), the services of Quad9 with ECS (quad9.net/service), OpenDNS (among the
/// authors of RFC 7871).
const SENDERS: [Sender; 3] = [
    Sender {
        title: "Google Public DNS",
        names: &["dns.google", "dns64.dns.google"],
        addresses: &["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"],
    },
    Sender {
        title: "Quad9 with ECS",
        names: &["dns11.quad9.net", "dns12.quad9.net"],
        addresses: &["9.9.9.11", "149.112.112.11", "2620:fe::11", "9.9.9.12", "149.112.112.12", "2620:fe::12"],
    },
    Sender {
        title: "OpenDNS",
        names: &["dns.opendns.com", "doh.opendns.com", "familyshield.opendns.com", "doh.familyshield.opendns.com"],
        addresses: &["208.67.222.222", "208.67.220.220", "2620:119:35::35", "2620:119:53::53"],
    },
];

/// Advises to opt out where `server`, said at `key`, is one of them and nobody has said what it is told: whoever has, for it or for
/// all servers, has decided.
pub fn advise(reader: &mut Reader<'_>, (key, origin): (&str, Origin), server: &Server) {
    let Some(sender) = SENDERS.iter().find(|sender| sender.is(server)) else { return };
    let is_said = reader.values.get("privacy.ecs").is_some_and(|node| node.origin != Origin::Default);
    if server.ecs == SubnetRule::Strip && !is_said {
        let title = sender.title;
        let what = format!(
            "{title} tells the servers of names which network questions come from, and that is this gateway's: \
             `ecs = \"opt-out\"` for it asks it not to, `ecs = \"strip\"` leaves it at that"
        );
        reader.findings.notice(key, origin, what);
    }
}

impl Sender {
    fn is(&self, server: &Server) -> bool {
        let is_name = |name: &str| self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let is_address = |address: &IpAddr| self.addresses.iter().any(|known| known.parse() == Ok(*address));
        let is_host = match &server.url.host {
            Host::Name(name) => is_name(name.trim_end_matches('.')),
            Host::Address(address) => is_address(address),
        };
        is_host || server.tls_name.as_deref().is_some_and(is_name) || server.addresses.iter().any(is_address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_in_the_list_can_be_read_and_every_name_is_lower_case() {
        for sender in SENDERS {
            assert!(sender.addresses.iter().all(|text| text.parse::<IpAddr>().is_ok()), "{}", sender.title);
            assert!(sender.names.iter().all(|name| *name == name.to_ascii_lowercase()), "{}", sender.title);
        }
    }
}
