//! The strip stage: what of a client's options does not go upstream.
//!
//! The upstream query is built anew from question and flags alone (`upstream::Ask`), so no option of a client can slip
//! through whatever it is (EDN-13, ECS-01, CKI-23); this stage notes in the trail which ones were left behind.

use crate::trail::Cut;
use crate::wire::Edns;

/// What of `edns` stays here.
#[must_use]
pub fn strip(edns: Option<Edns>) -> Cut {
    let Some(edns) = edns else { return Cut::default() };
    let subnet = if edns.client_subnet.is_some() { Cut::ECS } else { 0 };
    let options = if edns.nsid || edns.foreign { Cut::OPTIONS } else { 0 };
    Cut(subnet | options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Span;

    #[test]
    fn ecs_01_the_trail_says_what_stayed_here() {
        assert_eq!(strip(None), Cut(0));
        assert_eq!(strip(Some(Edns { padding: true, ..Edns::default() })), Cut(0), "padding is a matter of this hop");
        let subnet = Some(Span { start: 40, end: 47 });
        assert_eq!(strip(Some(Edns { client_subnet: subnet, ..Edns::default() })), Cut(Cut::ECS));
        assert_eq!(strip(Some(Edns { nsid: true, ..Edns::default() })), Cut(Cut::OPTIONS));
        assert_eq!(strip(Some(Edns { foreign: true, ..Edns::default() })), Cut(Cut::OPTIONS));
    }
}
