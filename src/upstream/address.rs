//! An upstream's URL as a type: scheme, host, port, path.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `udp://`, TC=1 retried over TCP. Default port 53.
    Udp,
    /// `tcp://`. Default port 53.
    Tcp,
    /// `tls://`, DNS over TLS. Default port 853.
    Tls,
    /// `https://`, DNS over HTTPS on HTTP/2. Default port 443.
    Https,
    /// `h3://`, DNS over HTTPS on HTTP/3. Default port 443.
    H3,
    /// `quic://`, DNS over QUIC. Default port 853.
    Quic,
}

/// The host of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, to be looked up or given `addresses`.
    Name(Box<str>),
}

/// A parsed upstream URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// How.
    pub scheme: Scheme,
    /// Who.
    pub host: Host,
    /// Where.
    pub port: u16,
    /// The path of a DoH server, `/dns-query` unless given; empty for others.
    pub path: Box<str>,
}

/// Why text is no upstream URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `scheme://`, or one we do not speak.
    #[error("must start with one of udp:// tcp:// tls:// https:// h3:// quic://")]
    Scheme,
    /// No host, or one that is neither address nor name.
    #[error("the host must be an IP address (IPv6 in brackets) or a domain name")]
    Host,
    /// No port number.
    #[error("the port must be 1 to 65535")]
    Port,
    /// Port 53 on an encrypted scheme (DOT-02, DOQ-02).
    #[error("port 53 is for plain DNS only")]
    PlainPort,
    /// A path on a scheme that has none.
    #[error("only https:// and h3:// take a path")]
    Path,
    /// A path with something that no request can carry, or with a URI template's braces (RFC 8484 4.1).
    #[error("the path must be ASCII without spaces, # and braces, like /dns-query (without {{?dns}})")]
    PathOctets,
    /// An address that no single server can have.
    #[error("the address must be one server's own, not unspecified, broadcast or multicast")]
    Nobody,
}

impl Scheme {
    /// The word before `://`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    /// The port where none is given.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 53,
            Self::Tls | Self::Quic => 853,
            Self::Https | Self::H3 => 443,
        }
    }

    /// Is the server authenticated and the question hidden?
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// Does it have a path?
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Https | Self::H3)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let all = [Scheme::Udp, Scheme::Tcp, Scheme::Tls, Scheme::Https, Scheme::H3, Scheme::Quic];
        let scheme = all.into_iter().find(|known| known.name() == scheme).ok_or(AddressError::Scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if !scheme.is_http() && !path.is_empty() {
            return Err(AddressError::Path);
        }
        if path.len() > LONGEST_PATH || !path.bytes().all(is_of_path) {
            return Err(AddressError::PathOctets);
        }
        let (host, port) = parse_authority(authority)?;
        let port = port.unwrap_or(scheme.port());
        if port == 53 && scheme.is_encrypted() {
            return Err(AddressError::PlainPort);
        }
        let path = if scheme.is_http() && path.len() < 2 { "/dns-query" } else { path };
        Ok(Self { scheme, host, port, path: path.into() })
    }
}

/// Octets of the longest path: HTTP servers take hardly more.
const LONGEST_PATH: usize = 2048;

const fn is_of_path(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'#' | b'{' | b'}' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|')
}

/// Can a server have `address`? An unspecified one would lead to this very machine, and so perhaps to the gateway itself.
#[must_use]
pub const fn is_of_a_server(address: IpAddr) -> bool {
    let broadcast = matches!(address.to_canonical(), IpAddr::V4(v4) if v4.is_broadcast());
    let canonical = address.to_canonical();
    !canonical.is_unspecified() && !canonical.is_multicast() && !broadcast
}

/// `host` or `host:port`, an IPv6 address in brackets.
///
/// # Errors
/// [`AddressError::Host`] or [`AddressError::Port`].
pub fn parse_authority(authority: &str) -> Result<(Host, Option<u16>), AddressError> {
    let (host, port) = split_port(authority)?;
    let port = port.map(|port| parse_port(port).ok_or(AddressError::Port)).transpose()?;
    Ok((parse_host(host)?, port))
}

fn parse_port(text: &str) -> Option<u16> {
    // A sign would be taken by `parse` alone.
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0)
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), AddressError> {
    if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or(AddressError::Host)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(AddressError::Host),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Ok((authority, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_host(host: &str) -> Result<Host, AddressError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return if is_of_a_server(address) { Ok(Host::Address(address)) } else { Err(AddressError::Nobody) };
    }
    let wire = crate::wire::name::from_text(host).map_err(|_| AddressError::Host)?;
    let plain = host.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.'));
    // "10.0.0.256" is a mistyped address, and must not be looked up as a name (RFC 1123 2.1: no top-level domain is a number).
    if plain && wire.len() > 1 && !ends_in_a_number(host) {
        Ok(Host::Name(host.trim_end_matches('.').to_ascii_lowercase().into()))
    } else {
        Err(AddressError::Host)
    }
}

/// Is the last label of `host` a number, decimal or hexadecimal?
#[must_use]
pub fn ends_in_a_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|octet| octet.is_ascii_hexdigit()));
    hexadecimal || (!last.is_empty() && last.bytes().all(|octet| octet.is_ascii_digit()))
}

/// Paths of DoH servers that are the same for all their clients.
const COMMON_PATHS: [&str; 5] = ["", "/dns-query", "/query", "/resolve", "/doh"];

/// An address without its secret: see [`Address::shown`].
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(&'a Address);

impl Address {
    /// The URL for logs, metrics and the admin server, which more people read than the configuration: some DoH services tell
    /// their customers apart by a token in the path, so a path that is not a common one is shown as `/…`.
    #[must_use]
    pub const fn shown(&self) -> Shown<'_> {
        Shown(self)
    }

    fn write_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        match &self.host {
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]")?,
            Host::Address(v4) => write!(f, "{v4}")?,
            Host::Name(name) => f.write_str(name)?,
        }
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_server(f)?;
        f.write_str(&self.path)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_server(f)?;
        let path = self.0.path.as_ref();
        f.write_str(if COMMON_PATHS.contains(&path) { path } else { "/…" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_round_trip_with_default_ports_left_out() {
        for text in
            ["udp://10.0.0.53", "tls://dns.quad9.net", "https://1.1.1.2:8443/dns-query", "quic://[2620:fe::fe]:8853"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("https://a.example".parse::<Address>().unwrap().path.as_ref(), "/dns-query");
    }

    #[test]
    fn a_path_that_may_be_a_secret_is_not_shown() {
        for (text, shown) in [
            ("https://dns.example/dns-query", "https://dns.example/dns-query"),
            ("h3://dns.example/dns-query/f3a9", "h3://dns.example/…"),
            ("https://dns.example/f3a9", "https://dns.example/…"),
            ("https://dns.example/dns-query?token=f3a9", "https://dns.example/…"),
            ("tls://[2001:db8::1]:8853", "tls://[2001:db8::1]:8853"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().shown().to_string(), shown);
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!("dns.example".parse::<Address>(), Err(AddressError::Scheme));
        assert_eq!("tls://dns.example:53".parse::<Address>(), Err(AddressError::PlainPort));
        assert_eq!("tls://dns.example/x".parse::<Address>(), Err(AddressError::Path));
        assert_eq!("udp://10.0.0.1:0".parse::<Address>(), Err(AddressError::Port));
        assert_eq!("udp://".parse::<Address>(), Err(AddressError::Host));
        assert_eq!("udp://10.0.0.1:+53".parse::<Address>(), Err(AddressError::Port));
    }

    #[test]
    fn a_mistyped_address_is_no_name_and_nobody_is_no_server() {
        for text in ["10.0.0.256", "10.0.1", "10.0.0.0x7f", "resolver.53."] {
            assert_eq!(format!("udp://{text}").parse::<Address>(), Err(AddressError::Host), "{text}");
        }
        for text in ["0.0.0.0", "[::]", "224.0.0.1", "[ff02::1]", "255.255.255.255", "[::ffff:0.0.0.0]"] {
            assert_eq!(format!("udp://{text}").parse::<Address>(), Err(AddressError::Nobody), "{text}");
        }
        for text in ["10.0.0.255", "[::1]", "dns.9.example", "1dot1dot1dot1.example", "dns.0x"] {
            let taken = format!("udp://{text}").parse::<Address>();
            assert_eq!(taken.is_ok(), text != "dns.0x", "{text}");
        }
    }

    #[test]
    fn a_path_is_what_a_request_can_carry() {
        let path = |path: &str| format!("https://dns.example{path}").parse::<Address>().map(|address| address.path);
        for text in ["/dns-query{?dns}", "/a b", "/#a", "/\0", "/\u{e9}", "/a\\b"] {
            assert_eq!(path(text), Err(AddressError::PathOctets), "{text}");
        }
        assert_eq!(path(&format!("/{}", "a".repeat(LONGEST_PATH))), Err(AddressError::PathOctets));
        assert_eq!(path("/%C3%A9?token=a&b=%7B").as_deref(), Ok("/%C3%A9?token=a&b=%7B"));
    }
}
