//! The zones that are answered here unless they are asked upstream, each with what it says.

/// What a zone says of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Loopback addresses for every name.
    Loopback,
    /// No name exists.
    Nothing,
    /// Every name exists and has no records (RFC 9462 6.4).
    NoData,
    /// The zone exists, with an SOA and an NS record, and nothing below it (RFC 6303 3, RFC 8375 4).
    Bare,
}

/// Those that no setting takes from here, in wire form: `localhost` must mean this host, a hidden service's name must not leave it
/// (SUD-05), and what another resolver says of itself in resolver.arpa would lead clients past the gateway (DDR-06).
pub const ALWAYS: [(&[u8], Says); 4] = [
    (b"\x09localhost\0", Says::Loopback),
    (b"\x07invalid\0", Says::Nothing),
    (b"\x05onion\0", Says::Nothing),
    (b"\x08resolver\x04arpa\0", Says::NoData),
];

/// The names of this host's addresses, in wire form: their PTR is localhost, as that name's addresses are these.
pub const HOSTS: [&[u8]; 2] = [
    b"\x011\x010\x010\x03127\x07in-addr\x04arpa\0",
    b"\x011\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\
      \x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x03ip6\x04arpa\0",
];

/// The others that are written one by one: test (RFC 6761), local (RFC 6762), home.arpa (RFC 8375), the reverse zones of RFC 6303.
const WRITTEN: [(&str, Says); 20] = [
    ("test", Says::Nothing),
    ("local", Says::Nothing),
    ("home.arpa", Says::Bare),
    ("10.in-addr.arpa", Says::Bare),
    ("168.192.in-addr.arpa", Says::Bare),
    ("0.in-addr.arpa", Says::Bare),
    ("127.in-addr.arpa", Says::Bare),
    ("254.169.in-addr.arpa", Says::Bare),
    ("2.0.192.in-addr.arpa", Says::Bare),
    ("100.51.198.in-addr.arpa", Says::Bare),
    ("113.0.203.in-addr.arpa", Says::Bare),
    ("255.255.255.255.in-addr.arpa", Says::Bare),
    ("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", Says::Bare),
    ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", Says::Bare),
    ("d.f.ip6.arpa", Says::Bare),
    ("8.e.f.ip6.arpa", Says::Bare),
    ("9.e.f.ip6.arpa", Says::Bare),
    ("a.e.f.ip6.arpa", Says::Bare),
    ("b.e.f.ip6.arpa", Says::Bare),
    ("8.b.d.0.1.0.0.2.ip6.arpa", Says::Bare),
];

/// Every zone that may be asked upstream instead, by its name.
pub fn switchable() -> impl Iterator<Item = (String, Says)> {
    let written = WRITTEN.into_iter().map(|(name, says)| (name.to_owned(), says));
    // RFC 1918, and the addresses that carriers share (RFC 7793).
    let many = [("172", 16..=31), ("100", 64..=127)].into_iter().flat_map(|(first, seconds)| {
        seconds.map(move |second: u8| (format!("{second}.{first}.in-addr.arpa"), Says::Bare))
    });
    written.chain(many)
}
