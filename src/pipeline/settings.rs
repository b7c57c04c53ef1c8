//! What the pipeline is told.

use std::fmt;
use std::time::Duration;

use super::dns64::Dns64;

/// When a UDP client must show a valid cookie (RFC 7873 5.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieRule {
    /// Never.
    Never,
    /// When its network exceeds its rate.
    #[default]
    WhenBusy,
    /// Always: BADCOOKIE without one.
    Always,
}

/// What servers are told of a client's network (RFC 7871).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubnetRule {
    /// Nothing; what a client tells is ignored (ECS-01).
    #[default]
    Strip,
    /// What the client tells, up to 24 bits of IPv4 and 56 of IPv6.
    Forward,
}

/// The pipeline.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// What a client waits for, all attempts together. Default 4 s.
    pub timeout: Duration,
    /// Are server cookies given and checked?
    pub cookies: bool,
    /// When is one required?
    pub require_cookie: CookieRule,
    /// Keys of server cookies: the first signs, all verify; none: one is made at start (RFC 9018 5).
    pub secrets: Vec<[u8; 16]>,
    /// Are replies and queries padded on encrypted legs (RFC 8467)?
    pub padding: bool,
    /// Octets a datagram may have at most. 1232 (RFC 9715 R3).
    pub datagram_limit: usize,
    /// Questions about one registrable domain that may wait for upstreams at a time; 0 switches it off. Default 256: half of
    /// what a server asked over UDP can take at once.
    pub outstanding_per_domain: u16,
    /// What are servers told of a client's network?
    pub subnets: SubnetRule,
    /// The idle time told to TCP and DoT clients (RFC 7828).
    pub keepalive: Duration,
    /// What AAAA records are made of where a name has none (RFC 6147). Default none: they are not.
    pub dns64: Option<Dns64>,
}

// By hand, because a derived one would put the keys into logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeout, cookies, require_cookie, secrets, padding, datagram_limit, .. } = self;
        let Self { outstanding_per_domain, subnets, keepalive, dns64, .. } = self;
        f.debug_struct("Settings")
            .field("timeout", timeout)
            .field("cookies", cookies)
            .field("require_cookie", require_cookie)
            .field("secrets", &format_args!("{} hidden", secrets.len()))
            .field("padding", padding)
            .field("datagram_limit", datagram_limit)
            .field("outstanding_per_domain", outstanding_per_domain)
            .field("subnets", subnets)
            .field("keepalive", keepalive)
            .field("dns64", dns64)
            .finish()
    }
}
