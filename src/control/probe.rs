//! The gateway knocks at its own doors: a whole handshake, a look at the certificate, and a question that is answered here.
//!
//! What a client would meet shows in the metrics before a client does: a certificate that has expired, is for other names or is not the
//! one in force, a door that hangs. Doors whose access list leaves this machine out are not probed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig};
use quinn::{ConnectError, ConnectionError, Endpoint};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Control;
use super::witness::client;
use crate::discovery::Covered;
use crate::guard::Standing;
use crate::identity::credential::leaf_facts;
use crate::listen::DoorKind;
use crate::telemetry::ProbeGauge;

/// Time between two rounds, unless new certificates come in between.
const INTERVAL: Duration = Duration::from_mins(1);

/// Time between two looks for new certificates.
const LOOK: Duration = Duration::from_secs(1);

/// How long one door may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is spoken at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Dot,
    Doh,
    Doq,
    Doh3,
}

impl Speech {
    const fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Doh => "doh",
            Self::Doq => "doq",
            Self::Doh3 => "doh3",
        }
    }

    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Dot => b"dot",
            Self::Doh => b"http/1.1",
            Self::Doq => b"doq",
            Self::Doh3 => b"h3",
        }
    }
}

/// Why a door does not do what it is there for.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("no connection or no handshake: {0}")]
    Stream(#[from] std::io::Error),
    #[error("no handshake: {0}")]
    Quic(#[from] ConnectionError),
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("QUIC cannot be set up: {0}")]
    Suite(#[from] NoInitialCipherSuite),
    #[error("{0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("it presents a certificate that is not in force")]
    Foreign,
    #[error("its certificate has expired or is not valid yet")]
    Expired,
    #[error("its certificate is not for {0}, the name that clients are told")]
    Uncovered(String),
    #[error("a question got no answer")]
    Silent,
}

/// What the last round found.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order of the doors. Written by the prober, read by scrapes.
    gauges: Mutex<Vec<ProbeGauge>>,
}

impl Findings {
    /// Each door that is probed.
    pub fn gauges(&self) -> Vec<ProbeGauge> {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, gauges: Vec<ProbeGauge>) {
        *self.gauges.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }
}

/// Knocks at every encrypted door at the start, every minute, and when new certificates are in force; by the name that clients are
/// told, or else the default certificate says.
pub async fn keep(control: Arc<Control>) {
    let mut before = Vec::new();
    loop {
        let generation = control.identity.generation();
        let name = control.force.load().name.clone();
        let now = round(&control, name.as_deref(), &before).await;
        control.findings.note(now.clone());
        before = now;
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next && control.identity.generation() == generation {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn round(control: &Control, name: Option<&str>, before: &[ProbeGauge]) -> Vec<ProbeGauge> {
    let mut found = Vec::new();
    for (speech, address) in control.targets() {
        let begun = Instant::now();
        let probing = tokio::time::timeout(PATIENCE, knock(control, speech, address, name));
        let result = probing.await.unwrap_or(Err(Fault::Late));
        let door = speech.name();
        let old = before.iter().find(|old| old.door == door && old.address == address);
        let has_failed = old.is_some_and(|old| !old.success);
        match &result {
            // Doors close when the gateway stops.
            Err(_) if control.state.stopping.load(Ordering::Relaxed) => return before.to_vec(),
            Err(error) if !has_failed => {
                tracing::error!(door, %address, %error, "a door fails its own gateway's probe");
            }
            Ok(()) if has_failed => tracing::info!(door, %address, "a door passes its own gateway's probe again"),
            Ok(()) | Err(_) => {}
        }
        let probes = old.map_or(0, |old| old.probes).wrapping_add(1);
        let seconds = begun.elapsed().as_secs_f64();
        found.push(ProbeGauge { door, address, success: result.is_ok(), seconds, probes });
    }
    found
}

async fn knock(control: &Control, speech: Speech, address: SocketAddr, told: Option<&str>) -> Result<(), Fault> {
    let certificates = control.identity.certificates();
    let subjects = certificates.iter().find(|facts| facts.default).map(|facts| facts.names.as_slice());
    let first = subjects.unwrap_or_default().iter().find(|name| !name.starts_with('*'));
    let text = told.map(str::to_owned).or_else(|| first.cloned()).unwrap_or_else(|| address.ip().to_string());
    let name = ServerName::try_from(text.clone())?;
    let near = match speech {
        Speech::Dot | Speech::Doh => over_tls(speech, address, name).await?,
        Speech::Doq | Speech::Doh3 => over_quic(speech, address, &text).await?,
    };
    let leaf = near.ok_or(Fault::Foreign)?;
    if !control.identity.is_in_force(&leaf) {
        return Err(Fault::Foreign);
    }
    let (domains, addresses, validity) = leaf_facts(&leaf).ok_or(Fault::Foreign)?;
    if !validity.holds(control.times.now()) {
        return Err(Fault::Expired);
    }
    let covered = Covered::of(domains.iter().chain(&addresses).map(String::as_str));
    let is_covered =
        text.parse().map_or_else(|_| covered.has_name(&text), |address: IpAddr| covered.has_address(address));
    if told.is_some() && !is_covered {
        return Err(Fault::Uncovered(text));
    }
    Ok(())
}

/// A handshake over TCP and a question; answers the certificate presented.
async fn over_tls(
    speech: Speech,
    address: SocketAddr,
    name: ServerName<'static>,
) -> Result<Option<CertificateDer<'static>>, Fault> {
    let connector = TlsConnector::from(Arc::new(client(speech.alpn())?));
    let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.clone().into_owned());
    match speech {
        Speech::Doh => ask_http(&mut stream).await?,
        Speech::Dot | Speech::Doq | Speech::Doh3 => {
            stream.write_all(QUESTION).await?;
            stream.flush().await?;
            hear(&mut stream).await?;
        }
    }
    let _ = stream.shutdown().await;
    Ok(leaf)
}

/// Any answer in HTTP will do: what a question at which path gets is for the paths to say.
async fn ask_http(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Fault> {
    stream.write_all(b"HEAD / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    stream.flush().await?;
    let mut begin = [0; 9];
    stream.read_exact(&mut begin).await?;
    if begin == *b"HTTP/1.1 " { Ok(()) } else { Err(Fault::Silent) }
}

/// A message behind its length that is an answer.
async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Fault> {
    let mut begin = [0; 5];
    stream.read_exact(&mut begin).await.map_err(|_| Fault::Silent)?;
    let [_, _, _, _, flags] = begin;
    if flags & 0x80 == 0 { Err(Fault::Silent) } else { Ok(()) }
}

/// A handshake over QUIC, and a question where DNS is spoken; answers the certificate presented.
async fn over_quic(speech: Speech, address: SocketAddr, name: &str) -> Result<Option<CertificateDer<'static>>, Fault> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let endpoint = Endpoint::client((any, 0).into())?;
    let crypto = QuicClientConfig::try_from(client(speech.alpn())?)?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, address, name)?.await?;
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    if speech == Speech::Doq {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(QUESTION).await.map_err(std::io::Error::from)?;
        // A stream that is finished twice is no fault of the door's.
        let _ = send.finish();
        hear(&mut receive).await?;
    }
    let code = if speech == Speech::Doh3 { H3_NO_ERROR } else { 0 };
    // The endpoint's driver outlives its handle until the door has heard of this: nobody need wait.
    connection.close(code.into(), b"");
    Ok(chain.and_then(|chain| chain.into_iter().next()))
}

impl Control {
    /// The doors to knock at, and where. Those that this machine may not use are left out; wildcards are reached over loopback.
    fn targets(&self) -> Vec<(Speech, SocketAddr)> {
        let mut targets = Vec::new();
        let now = self.force.load();
        for &(id, kind, address) in &now.doors {
            let speeches: &[Speech] = match kind {
                // With PROXY, a door is for proxies.
                DoorKind::Dns | DoorKind::DohTcp | DoorKind::DohClear => &[],
                DoorKind::Dot => &[Speech::Dot],
                DoorKind::Doh => &[Speech::Doh, Speech::Doh3],
                DoorKind::Doq => &[Speech::Doq],
            };
            let target = reachable(address);
            // From this machine to itself, both ends have one address.
            if now.guard.may_ask(id, target.ip()) && now.guard.standing(id, target.ip()) == Standing::Client {
                targets.extend(speeches.iter().map(|&speech| (speech, target)));
            }
        }
        targets
    }
}

/// Where this machine reaches a socket that is bound to `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// resolver.arpa SOA, behind its length: answered here whatever is configured (RFC 9462 6.4). The id is 0 as QUIC has it.
const QUESTION: &[u8] = b"\0\x1f\0\0\x01\0\0\x01\0\0\0\0\0\0\x08resolver\x04arpa\0\0\x06\0\x01";

/// RFC 9114 8.1.
const H3_NO_ERROR: u32 = 0x100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_one_message_behind_its_length() {
        let (length, message) = QUESTION.split_first_chunk().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len());
    }

    #[test]
    fn a_door_at_all_addresses_is_reached_over_loopback() {
        let reached =
            ["0.0.0.0:853", "[::]:853", "192.0.2.1:853"].map(|text| reachable(text.parse().unwrap()).to_string());
        assert_eq!(reached, ["127.0.0.1:853", "[::1]:853", "192.0.2.1:853"]);
    }
}
