//! Names of RCODEs, as metrics and `explain` show them (the IANA DNS parameters).

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
