//! The strip stage: what of a client's options does not go upstream.
//!
//! The upstream query is built anew from question and flags alone (`upstream::Ask`), so no option of a client can slip
//! through whatever it is (EDN-13, ECS-01, CKI-23); this stage notes in the trail which ones were left behind. Where the operator
//! wants it, what a client tells of its subnet goes along (RFC 7871), cut here to what servers may know.

use crate::trail::Cut;
use crate::wire::{Edns, FaultKind, Subnet};

/// What a client has told of its subnet, where that is not ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it told: its reply says the same again (ECS-11).
    pub asked: Subnet,
    /// What servers are told of it.
    pub sent: Option<Subnet>,
    /// For how many bits of it the reply holds.
    pub scope: u8,
}

/// What the client-subnet option of `message`, which `edns` is of, tells.
///
/// # Errors
/// It breaks RFC 7871 6 or 7.2.1 (ECS-03).
pub fn told(message: &[u8], edns: Option<Edns>) -> Result<Option<Told>, FaultKind> {
    let Some(data) = edns.and_then(|edns| edns.client_subnet) else { return Ok(None) };
    match Subnet::read(data.of(message)) {
        Some((asked, 0)) => Ok(Some(Told { asked, sent: asked.public(), scope: 0 })),
        Some(_) | None => Err(FaultKind::OptionContent),
    }
}

/// What of `edns` stays here, `sent` being what servers are told of the subnet.
#[must_use]
pub fn strip(edns: Option<Edns>, sent: Option<Subnet>) -> Cut {
    let Some(edns) = edns else { return Cut::default() };
    let subnet = if edns.client_subnet.is_some() && sent.is_none() { Cut::ECS } else { 0 };
    let options = if edns.nsid || edns.foreign { Cut::OPTIONS } else { 0 };
    Cut(subnet | options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Span;

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
