//! The TLS handshake of stream doors: one deadline over all of it, and a pace that keeps a flood of handshakes from starving
//! questions (RFC 7858 3.1, RFC 7301 3.2).
//!
//! What ALPN refuses is the configuration's: a client that offers nothing of ours gets the fatal alert `no_application_protocol`,
//! one that offers nothing at all is served. Octets that are no TLS get an alert and the end, never a DNS octet (DOT-01).

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::tcp::Tcp;
use super::validator;
use crate::identity::acme::Challenges;
use crate::telemetry::handshakes::Failure;

/// What a DoT door offers by ALPN.
pub const DOT_ALPN: &[&[u8]] = &[b"dot"];

/// What a DoH door offers by ALPN on TCP, in order of our preference.
pub const DOH_ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Lets few handshakes do their public-key work between two rounds of the scheduler.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Semaphore>);

impl Pace {
    /// The pace of one accept loop.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(HANDSHAKES)))
    }
}

/// A connection under TLS, and what the client hello said.
#[derive(Debug)]
pub(super) struct Secured {
    /// The stream; boxed because a TLS connection is large and moves through several tasks' frames.
    pub stream: Box<TlsStream<Tcp>>,
    /// The name the client asked for.
    pub server_name: Option<Arc<str>>,
    /// The protocol ALPN chose.
    pub alpn: Option<Vec<u8>>,
}

/// Shakes hands within `limit`; `None` with a validator of an authority, who has seen what it came for.
///
/// # Errors
/// Whatever ended it, the deadline included; an alert has been sent where there was something to say.
pub(super) async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    pace: Pace,
    limit: Duration,
    challenges: &Challenges,
) -> io::Result<Option<Secured>> {
    let deadline = Instant::now() + limit;
    tokio::time::timeout_at(deadline, shake(stream, config, pace, challenges)).await?
}

async fn shake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    Pace(pace): Pace,
    challenges: &Challenges,
) -> io::Result<Option<Secured>> {
    // Waiting for the client hello is cheap, so it is not paced: a client that sends none holds up nobody.
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), Tcp(stream)).await?;
    // Before the name is judged: a validator may ask for one that there is no certificate for yet.
    if let Some(proof) = challenges.proof(&hello.client_hello()) {
        return validator::prove(hello, proof).await.map(|()| None);
    }
    if config.cert_resolver.resolve(hello.client_hello()).is_none() {
        // The library would say `access_denied`. Whether the client hears it is its own affair.
        let _ = hello.io.write_all(UNRECOGNIZED_NAME).await;
        return Err(io::Error::other(UnknownName));
    }
    let turn = pace.acquire().await.map_err(io::Error::other)?;
    // The key exchange and the signature are made here.
    let handshake = hello.into_stream(config);
    tokio::task::yield_now().await;
    drop(turn);
    let stream = Box::new(handshake.await?);
    let (_, session) = stream.get_ref();
    let server_name = session.server_name().map(Arc::from);
    let alpn = session.alpn_protocol().map(Vec::from);
    Ok(Some(Secured { stream, server_name, alpn }))
}

/// Why a handshake came to nothing, by the error that ended it.
pub(super) fn failure(error: &io::Error) -> Failure {
    let inner = error.get_ref();
    if inner.and_then(|inner| inner.downcast_ref::<UnknownName>()).is_some() {
        return Failure::ServerName;
    }
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => by_tls(error),
        None => match error.kind() {
            ErrorKind::TimedOut => Failure::Timeout,
            ErrorKind::UnexpectedEof => Failure::Closed,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Failure::Reset,
            _ => Failure::Other,
        },
    }
}

fn by_tls(error: &rustls::Error) -> Failure {
    use rustls::PeerIncompatible as Unfit;
    match error {
        rustls::Error::AlertReceived(alert) => Failure::told((*alert).into()),
        rustls::Error::InvalidMessage(_) => Failure::NotTls,
        rustls::Error::NoApplicationProtocol => Failure::Alpn,
        rustls::Error::PeerIncompatible(
            Unfit::Tls12NotOffered
            | Unfit::Tls12NotOfferedOrEnabled
            | Unfit::SupportedVersionsExtensionRequired
            | Unfit::Tls13RequiredForQuic,
        ) => Failure::Version,
        rustls::Error::PeerIncompatible(_) => Failure::Cipher,
        _ => Failure::Other,
    }
}

/// The client asks for a server name that is not served.
#[derive(Debug, thiserror::Error)]
#[error("the client asks for a server name that no certificate is for")]
struct UnknownName;

/// A fatal alert in clear text: there are no keys yet (RFC 8446 5.1, RFC 6066 3).
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Handshakes that do their public-key work in one round.
const HANDSHAKES: usize = 4;
