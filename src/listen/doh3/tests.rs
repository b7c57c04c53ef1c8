//! The HTTP/3 door on real sockets: with a client of other make, and with one that writes its own frames.

mod asked;
mod attacked;

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Buf as _;
use http::{Request, Response};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig};
use tokio::task::JoinHandle;

use super::*;
use crate::listen::rehearsal::Rehearsal;
use crate::peer::Transport;

/// A QUIC connection to the door of a rehearsal.
struct Line {
    connection: quinn::Connection,
    server: JoinHandle<()>,
    _endpoints: [Endpoint; 2],
}

impl Line {
    async fn to(rehearsal: &Rehearsal) -> Self {
        let (connection, accepted, endpoints) = Self::shake().await;
        let server = tokio::spawn(serve(accepted, session(rehearsal), rehearsal.context.clone()));
        Self { connection, server, _endpoints: endpoints }
    }

    /// Both ends of a connection whose handshake is done.
    async fn shake() -> (quinn::Connection, quinn::Connection, [Endpoint; 2]) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (server_config, client_config) = configs();
        let door = Endpoint::server(server_config, any).unwrap();
        let mut client = Endpoint::client(any).unwrap();
        client.set_default_client_config(client_config);
        let connecting = client.connect(door.local_addr().unwrap(), "a.example").unwrap();
        let accepting = async { door.accept().await.unwrap().await.unwrap() };
        let (connection, accepted) = tokio::join!(async { connecting.await.unwrap() }, accepting);
        (connection, accepted, [door, client])
    }

    /// The code that the server closes with.
    async fn closed(&self) -> u64 {
        match self.connection.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

fn session(rehearsal: &Rehearsal) -> Session {
    let peer = Rehearsal::peer(Transport::Doh3);
    let permit = rehearsal.guard.admit(peer.door, peer.ip()).unwrap();
    Session { peer, permit, alpn: Some(b"h3".to_vec()) }
}

fn configs() -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let mut server = builder.with_single_cert(vec![certificate], key.into()).unwrap();
    server.alpn_protocols = vec![b"h3".to_vec()];
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h3".to_vec()];
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(32_u32.into()).max_concurrent_uni_streams(8_u32.into());
    server.transport_config(Arc::new(transport));
    (server, ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap())))
}
