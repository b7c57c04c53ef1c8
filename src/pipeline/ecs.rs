//! The strip stage: what of a client's options does not go upstream.
//!
//! The upstream query is built anew from question and flags alone (`upstream::Ask`), so no option of a client can slip
//! through whatever it is (EDN-13, ECS-01, CKI-23); this stage notes in the trail which ones were left behind. Where the operator
//! wants it, something of the client's network goes along (RFC 7871): what it tells, or what its address shows, cut here to what the
//! most trusted server of its route may know. What each server is told of that is `upstream`'s to say.

use std::net::IpAddr;

use crate::query::Query;
use crate::trail::Cut;
use crate::upstream::{Basis, SubnetRule, Telling};
use crate::wire::{Edns, FaultKind, Subnet};

/// What is told of a client's subnet, by it or to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it told itself: its reply says the same again (ECS-11).
    pub asked: Option<Subnet>,
    /// What servers are told at most.
    pub sent: Option<Telling>,
    /// For how many bits of what it told the reply holds.
    pub scope: u8,
}

impl Told {
    /// The reply holds for `scope` bits of what was sent; of more than that nothing is known. Where that is another network than the
    /// client claimed to be in, the reply holds for nobody else who claims something.
    pub fn hold(&mut self, scope: u8) {
        let scope = self.sent.map_or(0, |sent| scope.min(sent.subnet.length()));
        let is_foreign = scope > 0 && self.sent.is_some_and(|sent| sent.basis == Basis::Address);
        self.scope = self.asked.filter(|_| is_foreign).map_or(scope, Subnet::length);
    }
}

/// What is told of the client at `client` that asks `query`, by the rule of its route. None where that is nothing; and what a client
/// tells is not even read where no server hears it.
///
/// # Errors
/// Its option breaks RFC 7871 6 or 7.2.1 (ECS-03).
pub fn told(query: &Query<'_>, rule: SubnetRule, client: IpAddr) -> Result<Option<Told>, FaultKind> {
    let believes_all = match rule {
        SubnetRule::Strip | SubnetRule::OptOut | SubnetRule::Fixed(_) => return Ok(None),
        SubnetRule::Forward => true,
        SubnetRule::Add { .. } => false,
    };
    let asked =
        match query.edns().and_then(|edns| edns.client_subnet).map(|data| Subnet::read(data.of(query.message()))) {
            None => None,
            Some(Some((asked, 0))) => Some(asked),
            Some(Some(_) | None) => return Err(FaultKind::OptionContent),
        };
    let own = Subnet::of(client);
    // ECS-15: nobody speaks for another network; and whoever wants nothing told is asked for no reason.
    let claimed = asked.filter(|asked| believes_all || asked.length() == 0 || asked.holds(own));
    let (subnet, basis) = match (claimed, rule) {
        (Some(claimed), _) => (claimed.public(), Basis::Client),
        (None, SubnetRule::Add { .. }) => (own.public(), Basis::Address),
        (None, _) => (None, Basis::Client),
    };
    let sent = subnet.map(|subnet| Telling { subnet: rule.cut(subnet), basis });
    Ok((asked.is_some() || sent.is_some()).then_some(Told { asked, sent, scope: 0 }))
}

/// What of `edns` stays here, `told` being what is told of the subnet.
#[must_use]
pub fn strip(edns: Option<Edns>, told: Option<Told>) -> Cut {
    let Some(edns) = edns else { return Cut::default() };
    let is_sent = told.and_then(|told| told.sent).is_some_and(|sent| sent.basis == Basis::Client);
    let subnet = if edns.client_subnet.is_some() && !is_sent { Cut::ECS } else { 0 };
    let options = if edns.nsid || edns.foreign { Cut::OPTIONS } else { 0 };
    Cut(subnet | options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Span;

    #[test]
    fn ecs_15_what_a_client_claims_stayed_here_where_its_address_is_told() {
        let edns = Some(Edns { client_subnet: Some(Span { start: 40, end: 47 }), ..Edns::default() });
        let subnet = Subnet::of("198.51.100.9".parse().unwrap());
        for (basis, cut) in [(Basis::Address, Cut(Cut::ECS)), (Basis::Client, Cut(0))] {
            let told = Told { asked: Some(subnet), sent: Some(Telling { subnet, basis }), scope: 0 };
            assert_eq!(strip(edns, Some(told)), cut);
        }
    }

    #[test]
    fn ecs_01_the_trail_says_what_stayed_here() {
        assert_eq!(strip(None, None), Cut(0));
        assert_eq!(
            strip(Some(Edns { padding: true, ..Edns::default() }), None),
            Cut(0),
            "padding is a matter of this hop"
        );
        let subnet = Some(Span { start: 40, end: 47 });
        assert_eq!(strip(Some(Edns { client_subnet: subnet, ..Edns::default() }), None), Cut(Cut::ECS));
        assert_eq!(strip(Some(Edns { nsid: true, ..Edns::default() }), None), Cut(Cut::OPTIONS));
        assert_eq!(strip(Some(Edns { foreign: true, ..Edns::default() }), None), Cut(Cut::OPTIONS));
    }
}
