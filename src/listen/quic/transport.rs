//! What every QUIC connection may use: credit, windows, time. The defaults of a file-transfer stack are far too large for DNS.

use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};

use super::alert::Naming;
use super::{Crypto, QuicDoors};
use crate::listen::Limits;
use crate::wire::MAX_MESSAGE;

/// Streams a peer may open before it has shown that it uses them: each costs memory from the start.
pub const FIRST_CREDIT: usize = 32;

/// Why TLS settings cannot serve QUIC.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// They lack what every QUIC connection begins with (RFC 9001 5.2).
    #[error(transparent)]
    Suite(#[from] NoInitialCipherSuite),
    /// They do not speak TLS 1.3.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The server side of a QUIC endpoint.
///
/// # Errors
/// [`Unfit`].
pub fn server_config(crypto: Crypto, doors: QuicDoors, limits: &Limits) -> Result<ServerConfig, Unfit> {
    let Crypto { mut tls, tokens } = crypto;
    if tls.max_early_data_size != 0 {
        // Early data can be replayed (RFC 9250 4.5): it is never offered.
        Arc::make_mut(&mut tls).max_early_data_size = 0;
    }
    // Tried once here: quinn takes it for granted at each first datagram that this works.
    rustls::quic::ServerConnection::new(Arc::clone(&tls), rustls::quic::Version::V1, Vec::new())?;
    let mut config = ServerConfig::with_crypto(Arc::new(Naming(Arc::new(QuicServerConfig::try_from(tls)?))));
    tokens.apply(&mut config);
    config
        .transport_config(Arc::new(transport(doors, limits)))
        .migration(true)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(config)
}

fn transport(doors: QuicDoors, limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(credit(limits.streams_per_connection.min(FIRST_CREDIT)))
        .max_concurrent_uni_streams(if doors.doh3.is_some() { HTTP_UNI_STREAMS } else { VarInt::from_u32(0) })
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(WINDOW)
        .send_window(WINDOW.into_inner())
        .max_idle_timeout(IdleTimeout::try_from(limits.idle_timeout).ok())
        .keep_alive_interval(None)
        // Answers fit what every path carries; to look for more costs each connection datagrams, and few live long enough to gain.
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    transport
}

/// `streams` as the credit QUIC speaks of.
#[must_use]
pub fn credit(streams: usize) -> VarInt {
    VarInt::from_u32(u32::try_from(streams).unwrap_or(u32::MAX))
}

/// Control stream, QPACK encoder and decoder (RFC 9114 6.2).
const HTTP_UNI_STREAMS: VarInt = VarInt::from_u32(3);

/// One message with its length, and the frames HTTP wraps around it.
#[expect(clippy::cast_possible_truncation, reason = "the largest message is a 16-bit number")]
const STREAM_WINDOW: VarInt = VarInt::from_u32(MAX_MESSAGE as u32 + 1 + 4096);

/// All streams of a connection together, each way.
const WINDOW: VarInt = VarInt::from_u32(1 << 20);

/// First datagrams that wait for the accept loop.
const MAX_INCOMING: usize = 1024;

/// Octets kept for one of them, and for all.
const INCOMING_BUFFER: u64 = 16 * 1024;
const INCOMING_BUFFERS: u64 = 4 << 20;
