//! What the pipeline is told.

use std::fmt;
use std::time::Duration;

use super::dns64::Dns64;
use crate::discovery::OwnName;

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

/// Which names are answered here beside those that always are (RFC 6761, RFC 6303).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// Domains that are asked upstream with all below them, although they are or lie in special zones; a special zone below one is
    /// asked as well. Wire form. Default none.
    pub asked: Vec<Box<[u8]>>,
    /// More zones that do not exist here. Wire form. Default none.
    pub denied: Vec<Box<[u8]>>,
}

/// What is answered to QTYPE ANY (RFC 8482).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnyRule {
    /// One set of what a server knows (4.1).
    #[default]
    Minimal,
    /// All of it, over streams alone (4.4).
    Full,
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
    /// Which names are answered here?
    pub special: Special,
    /// What is answered to QTYPE ANY?
    pub any: AnyRule,
    /// The idle time told to TCP and DoT clients (RFC 7828).
    pub keepalive: Duration,
    /// What this gateway calls itself to clients that ask (RFC 5001), 64 octets at most; none: it does not say.
    pub nsid: Option<Box<[u8]>>,
    /// Codes of the options that go from end to end (EDN-14). None by default.
    pub pass: Vec<u16>,
    /// What the gateway says of itself. None: nothing.
    pub about: Vec<OwnName>,
    /// What AAAA records are made of where a name has none (RFC 6147). Default none: they are not.
    pub dns64: Option<Dns64>,
}

// By hand, because a derived one would put the keys into logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeout, cookies, require_cookie, secrets, padding, datagram_limit, .. } = self;
        let Self { outstanding_per_domain, special, any, keepalive, nsid, pass, about, dns64, .. } = self;
        f.debug_struct("Settings")
            .field("timeout", timeout)
            .field("cookies", cookies)
            .field("require_cookie", require_cookie)
            .field("secrets", &format_args!("{} hidden", secrets.len()))
            .field("padding", padding)
            .field("datagram_limit", datagram_limit)
            .field("outstanding_per_domain", outstanding_per_domain)
            .field("special", special)
            .field("any", any)
            .field("keepalive", keepalive)
            .field("nsid", nsid)
            .field("pass", pass)
            .field("about", about)
            .field("dns64", dns64)
            .finish()
    }
}
