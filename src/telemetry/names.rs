//! Names of RCODEs and of extended errors, as metrics and `explain` show them (the IANA DNS parameters).

use std::borrow::Cow;

/// RCODEs 0 to 23 by their mnemonics (RFC 6895 2.3 and its registry); unassigned ones by number.
const RCODES: [&str; super::counters::RCODES] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "RCODE12",
    "RCODE13",
    "RCODE14",
    "RCODE15",
    "BADVERS",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];

/// Extended errors 0 to 24 (RFC 8914 4).
const EXTENDED: [&str; 25] = [
    "other error",
    "unsupported DNSKEY algorithm",
    "unsupported DS digest type",
    "stale answer",
    "forged answer",
    "DNSSEC indeterminate",
    "DNSSEC bogus",
    "signature expired",
    "signature not yet valid",
    "DNSKEY missing",
    "RRSIGs missing",
    "no zone key bit set",
    "NSEC missing",
    "cached error",
    "not ready",
    "blocked",
    "censored",
    "filtered",
    "prohibited",
    "stale NXDOMAIN answer",
    "not authoritative",
    "not supported",
    "no reachable authority",
    "network error",
    "invalid data",
];

/// The names of those with a counter, in its order.
#[must_use]
pub const fn rcodes() -> &'static [&'static str] {
    &RCODES
}

/// The name of any RCODE.
#[must_use]
pub fn rcode(code: u16) -> Cow<'static, str> {
    let known = RCODES.get(usize::from(code));
    known.map_or_else(|| Cow::Owned(format!("RCODE{code}")), |&name| Cow::Borrowed(name))
}

/// What an extended error means.
#[must_use]
pub fn extended(code: u16) -> Cow<'static, str> {
    let known = EXTENDED.get(usize::from(code));
    known.map_or_else(|| Cow::Owned(format!("extended error {code}")), |&name| Cow::Borrowed(name))
}
