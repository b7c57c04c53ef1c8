//! QUIC toward servers, for DoQ and DoH3: one endpoint per address family, connections authenticated before use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, TransportConfig, VarInt};
use rustls::ProtocolVersion;
use tokio::time::Instant;
use tracing::debug;

use super::delivery::{Facts, Secured};
use super::error::Cause;
use super::resolve::Addresses;
use super::tls::{TlsError, Trust, alpn_name};
use crate::peer::Transport;

/// A server reached over QUIC.
#[derive(Debug)]
pub struct Quic {
    addresses: Addresses,
    name: String,
    config: ClientConfig,
    transport: Transport,
    endpoints: Mutex<Endpoints>,
}

#[derive(Debug, Default)]
struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

/// What is spoken on QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// DNS (RFC 9250).
    Doq,
    /// HTTP/3 (RFC 9114).
    H3,
}

impl Protocol {
    /// Its ALPN name.
    #[must_use]
    pub const fn alpn(self) -> &'static str {
        match self {
            Self::Doq => "doq",
            Self::H3 => "h3",
        }
    }

    /// Streams that a server may open toward us: DNS has none, HTTP/3 its control streams and a few unknown ones.
    const fn server_streams(self) -> u8 {
        match self {
            Self::Doq => 0,
            Self::H3 => 8,
        }
    }
}

/// A dead server is noticed within this, whatever it promised.
const IDLE: Duration = Duration::from_secs(15);

/// The first retransmission follows after three times this; QUIC's own guess suits satellites.
const FIRST_RTT: Duration = Duration::from_millis(100);

impl Quic {
    /// A server at `addresses` that proves itself by `trust` and speaks `protocol`.
    ///
    /// # Errors
    /// What the TLS library refuses.
    pub fn new(addresses: Addresses, trust: &Trust, protocol: Protocol) -> Result<Self, TlsError> {
        let tls = trust.config(protocol.alpn().as_bytes(), &[&rustls::version::TLS13])?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(limits(protocol)));
        let transport = match protocol {
            Protocol::Doq => Transport::Doq,
            Protocol::H3 => Transport::Doh3,
        };
        Ok(Self { addresses, name: trust.name.to_str().into_owned(), config, transport, endpoints: Mutex::default() })
    }

    /// Connects. When this succeeds the server has proven itself.
    ///
    /// # Errors
    /// [`Cause::Tls`] for a failed proof, else why nobody was reached.
    pub async fn connect(&self, until: Instant) -> Result<(Connection, Facts), Cause> {
        self.addresses.in_turn(until, |address, _| self.reach(address)).await
    }

    async fn reach(&self, address: SocketAddr) -> Result<(Connection, Facts), Cause> {
        let endpoint = self.endpoint(address)?;
        let connecting = endpoint.connect_with(self.config.clone(), address, &self.name).map_err(|_| Cause::Connect)?;
        let connection = connecting.await.map_err(|error| {
            debug!(name = self.name, %error, "QUIC handshake with an upstream failed");
            open_cause(&error)
        })?;
        let agreed = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let alpn = agreed.and_then(|data| data.protocol).and_then(|protocol| alpn_name(&protocol)).ok_or(Cause::Tls)?;
        let secured = Secured { version: ProtocolVersion::TLSv1_3, cipher: None, alpn: Some(alpn), resumed: None };
        Ok((connection, Facts { address, transport: self.transport, secured: Some(secured) }))
    }

    /// The endpoint of `address`'s family, made on the home runtime by whoever connects first.
    fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, Cause> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, any): (_, IpAddr) = if address.is_ipv4() {
            (&mut endpoints.v4, Ipv4Addr::UNSPECIFIED.into())
        } else {
            (&mut endpoints.v6, Ipv6Addr::UNSPECIFIED.into())
        };
        if place.is_none() {
            *place = Some(Endpoint::client(SocketAddr::new(any, 0)).map_err(|_| Cause::Connect)?);
        }
        place.clone().ok_or(Cause::Connect)
    }
}

fn limits(protocol: Protocol) -> TransportConfig {
    let mut limits = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE).unwrap_or(IdleTimeout::from(VarInt::from_u32(15_000)));
    limits
        .max_idle_timeout(Some(idle))
        .initial_rtt(FIRST_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(protocol.server_streams().into()))
        .stream_receive_window(VarInt::from_u32(128 * 1024))
        .receive_window(VarInt::from_u32(1024 * 1024))
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    limits
}

/// Why no connection came about. TLS alerts are transport errors 0x100 to 0x1ff (RFC 9001 4.8).
fn open_cause(error: &ConnectionError) -> Cause {
    let alert = |code: quinn::TransportErrorCode| (0x100..0x200).contains(&u64::from(code));
    match error {
        ConnectionError::TransportError(ours) if alert(ours.code) => Cause::Tls,
        ConnectionError::ConnectionClosed(theirs) if alert(theirs.error_code) => Cause::Tls,
        ConnectionError::TimedOut => Cause::Timeout,
        _ => Cause::Connect,
    }
}
