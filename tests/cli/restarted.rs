//! A program that was killed and started again: what clients of the dead one hear.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::dns::Upstream;
use crate::program::Home;

/// A client of DNS over QUIC that trusts the authority of the program at `home`.
fn client(home: &Home) -> Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(home.path("hushgate/authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut tls = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"doq".to_vec()];
    let mut client = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    client.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    client
}

/// The way to whichever program is named last, by an address that stays.
async fn way(server: SocketAddr) -> (SocketAddr, watch::Sender<SocketAddr>) {
    let [near, far] = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    let address = near.local_addr().unwrap();
    let (to, towards) = watch::channel(server);
    tokio::spawn(async move {
        let (mut there, mut back) = ([0; 2048], [0; 2048]);
        let mut client = address;
        loop {
            tokio::select! {
                Ok((length, source)) = near.recv_from(&mut there) => {
                    client = source;
                    let server = *towards.borrow();
                    _ = far.send_to(&there[..length], server).await;
                }
                Ok((length, _)) = far.recv_from(&mut back) => {
                    _ = near.send_to(&back[..length], client).await;
                }
            }
        }
    });
    (address, to)
}

#[tokio::test]
async fn qui_05_after_kill_9_a_client_hears_at_its_next_packet_that_its_connection_is_gone() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let more = ["--set", "workers=4"];
    let mut before = home.serve(upstream.address, &more);
    let (address, to) = way(before.doq.unwrap()).await;
    let connection = client(&home).connect(address, "localhost").unwrap().await.unwrap();
    before.running.signal("KILL");
    before.running.end();
    let after = home.serve(upstream.address, &more);
    to.send_replace(after.doq.unwrap());
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    // Long enough for a reset to be shorter.
    send.write_all(&[1; 200]).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await;
    assert_eq!(heard.expect("hears nothing"), ConnectionError::Reset);
}
