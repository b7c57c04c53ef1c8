//! Who asks, through which door, over what: made once a connection (once a datagram on UDP) and shared by its questions.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The transport a question came over, and with it what its reply may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Transport {
    /// Plain DNS over UDP.
    Udp,
    /// Plain DNS over TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Dot,
    /// DNS over HTTPS, HTTP/1.1 (RFC 8484).
    Doh1,
    /// DNS over HTTPS, HTTP/2.
    Doh2,
    /// DNS over HTTPS, HTTP/3.
    Doh3,
    /// DNS over QUIC (RFC 9250).
    Doq,
}

impl Transport {
    /// All transports, in the order of their counters.
    pub const ALL: [Self; 7] = [Self::Udp, Self::Tcp, Self::Dot, Self::Doh1, Self::Doh2, Self::Doh3, Self::Doq];

    /// The name in metrics, tables and `--door`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Dot => "dot",
            Self::Doh1 => "doh1",
            Self::Doh2 => "doh2",
            Self::Doh3 => "doh3",
            Self::Doq => "doq",
        }
    }

    /// Is there a cipher between the client and us? Only then may a reply be padded (RFC 7830 6). DoH in clear text counts too: it is
    /// for a web server in front, and the way from there to the client is encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// Is a reply bounded by a datagram, so that TC may be set (RFC 2181 9), cookies matter and sources may be forged?
    #[must_use]
    pub const fn is_datagram(self) -> bool {
        matches!(self, Self::Udp)
    }

    /// May a reply carry edns-tcp-keepalive (RFC 7828 3.3; never on DoH, RFC 9250 5.5.2 forbids it on DoQ)?
    #[must_use]
    pub const fn keeps_alive(self) -> bool {
        matches!(self, Self::Tcp | Self::Dot)
    }
}

/// The index of a configured listener address; rules per door are looked up by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DoorId(pub u16);

/// The two ends of a conversation.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, after a trusted proxy has spoken for it; v4-mapped addresses are IPv4 here.
    pub remote: SocketAddr,
    /// The address the client sent to.
    pub local: SocketAddr,
    /// The door it came through.
    pub door: DoorId,
    /// The transport.
    pub transport: Transport,
    /// The trusted proxy that spoke for the client, if one did; `remote` is what it said.
    pub via: Option<IpAddr>,
    /// The name in the TLS client hello, if any.
    pub server_name: Option<Arc<str>>,
    /// Who the client has shown itself to be, if it has.
    pub client: Option<ClientId>,
    /// Where its handshake has shown it to be, if its datagrams have come from `remote` only since then.
    pub shaken_at: Option<IpAddr>,
}

/// A client that the operator knows by name, and what it showed to prove that: who shows something else by then is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub u64);

impl Peer {
    /// A peer with its addresses made canonical.
    #[must_use]
    pub fn new(remote: SocketAddr, local: SocketAddr, door: DoorId, transport: Transport) -> Self {
        Self {
            remote: canonical(remote),
            local: canonical(local),
            door,
            transport,
            via: None,
            server_name: None,
            client: None,
            shaken_at: None,
        }
    }

    /// The client that this peer, a trusted proxy, speaks for. What the proxy has shown is not its client's.
    #[must_use]
    pub fn speaking_for(self, client: SocketAddr) -> Self {
        Self { remote: canonical(client), via: Some(self.ip()), client: None, shaken_at: None, ..self }
    }

    /// The same client, whose datagrams come from `remote` now. Anybody can write an address on a datagram, and whether an answer
    /// has come back from there is not known here: what a handshake has shown stays beside it.
    #[must_use]
    pub fn seen_at(self, remote: SocketAddr) -> Self {
        let (shown, remote) = (self.shown_ip(), canonical(remote));
        Self { shaken_at: Some(shown).filter(|shown| *shown != remote.ip()), remote, ..self }
    }

    /// The address that answers for what the client does, and that its rights come from.
    #[must_use]
    pub const fn shown_ip(&self) -> IpAddr {
        match self.shaken_at {
            Some(shown) => shown,
            None => self.ip(),
        }
    }

    /// The client's address.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.remote.ip()
    }
}

/// `address` with a v4-mapped IPv6 address turned into the IPv4 one it means (CKI-18).
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
