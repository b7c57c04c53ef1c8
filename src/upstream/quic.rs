//! QUIC toward servers, for DoQ and DoH3: one endpoint per address family, connections authenticated before use.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn::{
    ClientConfig, ConnectError, Connecting, Connection, ConnectionError, Endpoint, IdleTimeout, TransportConfig, VarInt,
};
use rustls::{AlertDescription, ProtocolVersion};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::delivery::{Facts, Secured};
use super::error::Cause;
use super::proof::{Proof, TlsFault};
use super::resolve::Addresses;
use super::sockets;
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
    proof: Arc<Proof>,
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
const IDLE: Duration = Duration::from_secs(30);

/// What silence is more than round trips: two losses in a row, a late acknowledgement, a busy server.
const SILENCE: Duration = Duration::from_millis(400);

/// Datagrams without an echo that make a silence: one may be an acknowledgement, which asks for none.
const PROBES: u64 = 2;

/// The first retransmission follows after three times this; QUIC's own guess suits satellites.
const FIRST_RTT: Duration = Duration::from_millis(100);

impl Quic {
    /// A server at `addresses` that proves itself by `trust` and speaks `protocol`. Sessions resume, each
    /// ticket once (DOQ-29): the TLS library keeps them with the configuration, which lives as long as this.
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
        let (name, proof) = (trust.name.to_str().into_owned(), Arc::clone(trust.proof()));
        Ok(Self { addresses, name, config, transport, endpoints: Mutex::default(), proof })
    }

    /// What is known of the server's proof.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Connects. When this succeeds the server has proven itself.
    ///
    /// # Errors
    /// [`Cause::Tls`] for a failed proof, else why nobody was reached.
    pub async fn connect(&self, until: Instant) -> Result<(Connection, Facts), Cause> {
        self.addresses.race(until, |address| self.reach(address)).await
    }

    async fn reach(&self, address: SocketAddr) -> Result<(Connection, Facts), Cause> {
        let connecting = self.begin(address)?;
        let connection = connecting.await.map_err(|error| {
            debug!(name = self.name, %error, "QUIC handshake with an upstream failed");
            if let Some(fault) = told_fault(&error) {
                self.proof.fail(fault);
            }
            open_cause(&error)
        })?;
        self.proof.succeed();
        let agreed = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let alpn = agreed.and_then(|data| data.protocol).and_then(|protocol| alpn_name(&protocol)).ok_or(Cause::Tls)?;
        let secured = Secured { version: ProtocolVersion::TLSv1_3, cipher: None, alpn: Some(alpn), resumed: None };
        Ok((connection, Facts { address, transport: self.transport, secured: Some(secured) }))
    }

    /// Begins to connect from the endpoint of `address`'s family, made on the home runtime by whoever connects first. One whose
    /// socket has failed is replaced: connections begin on no such endpoint.
    fn begin(&self, address: SocketAddr) -> Result<Connecting, Cause> {
        let begin = |endpoint: &Endpoint| endpoint.connect_with(self.config.clone(), address, &self.name);
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let place = if address.is_ipv4() { &mut endpoints.v4 } else { &mut endpoints.v6 };
        if let Some(endpoint) = place.as_ref() {
            match begin(endpoint) {
                Ok(connecting) => return Ok(connecting),
                Err(ConnectError::EndpointStopping) => debug!(name = self.name, "a QUIC socket is replaced"),
                Err(_) => return Err(Cause::Connect),
            }
        }
        let endpoint =
            Endpoint::client(self.addresses.origin().local(address)).map_err(|error| sockets::fault(&error))?;
        begin(place.insert(endpoint)).map_err(|_| Cause::Connect)
    }
}

/// Ends when we have sent and sent again and nothing at all has come back, not even an acknowledgement: the server has been
/// restarted and knows the connection no more, or the path is gone. The connection is closed then.
pub async fn lost(connection: &Connection) {
    let counts = || {
        let stats = connection.stats();
        (stats.udp_rx.datagrams, stats.udp_tx.datagrams)
    };
    let (mut heard, mut sent) = counts();
    loop {
        sleep(3 * connection.rtt() + SILENCE).await;
        let (heard_now, sent_now) = counts();
        if heard_now == heard && sent_now >= sent + PROBES {
            break;
        }
        (heard, sent) = (heard_now, sent_now);
    }
    debug!(address = %connection.remote_address(), "a QUIC connection to an upstream is dead");
    connection.close(VarInt::from_u32(0), b"");
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

/// What an alert says of the server, where the judge of its certificate has not said it already.
fn told_fault(error: &ConnectionError) -> Option<TlsFault> {
    let alert = |code: quinn::TransportErrorCode| {
        let number = u64::from(code).checked_sub(0x100).and_then(|number| u8::try_from(number).ok())?;
        Some(AlertDescription::from(number))
    };
    match error {
        ConnectionError::TransportError(ours) => alert(ours.code)
            .filter(|&alert| alert == AlertDescription::NoApplicationProtocol)
            .map(|_| TlsFault::Protocol),
        ConnectionError::ConnectionClosed(theirs) => {
            alert(theirs.error_code).map(|alert| TlsFault::from(&rustls::Error::AlertReceived(alert)))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::commons::Commons;
    use super::super::testing::{Authority, quic_server};
    use super::*;

    fn until() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// A way to a server, and where its connections come from.
    fn quic(authority: &Authority, source: Option<IpAddr>) -> (Quic, tokio::sync::mpsc::UnboundedReceiver<IpAddr>) {
        let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let address = quic_server(config, move |connection| {
            let _ = tell.send(connection.remote_address().ip());
            async move { drop(connection.closed().await) }
        });
        let mut server = authority.server("quic", address);
        server.source = source;
        let addresses = Addresses::of(&server, &Commons::new(tokio::runtime::Handle::current()));
        let trust = Trust::new(&server, &Arc::default()).unwrap();
        (Quic::new(addresses, &trust, Protocol::Doq).unwrap(), told)
    }

    #[tokio::test]
    async fn an_endpoint_that_has_ended_is_replaced() {
        let authority = Authority::new();
        let (quic, _told) = quic(&authority, None);
        quic.connect(until()).await.unwrap();
        quic.endpoints.lock().unwrap().v4.as_ref().unwrap().close(VarInt::from_u32(0), b"");
        quic.connect(until()).await.unwrap();
    }

    #[tokio::test]
    async fn connections_leave_from_the_configured_address() {
        let authority = Authority::new();
        let source = "127.0.0.2".parse().unwrap();
        let (from, mut told) = quic(&authority, Some(source));
        let _connection = from.connect(until()).await.unwrap();
        assert_eq!(told.recv().await, Some(source));
        let (other_family, _told) = quic(&authority, Some("::1".parse().unwrap()));
        assert_eq!(other_family.connect(until()).await.map(drop), Err(Cause::Unknown));
    }
}
