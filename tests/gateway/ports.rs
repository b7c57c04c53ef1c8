//! What is spoken at which port, and the first words of QUIC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hushgate::config::{self, Source};
use hushgate::peer::Transport;
use rustls::crypto::CryptoProvider;
use tokio::net::UdpSocket;

use crate::admin::scrape_until;
use crate::harness::{Ask, Rig, client};

#[test]
fn dot_02_and_doq_02_port_53_is_refused_for_encrypted_doors_and_servers() {
    for set in [
        "listen.dot=[\"127.0.0.1:53\"]",
        "listen.doq=[\"127.0.0.1:53\"]",
        "upstream.servers=[\"tls://192.0.2.1:53\"]",
        "upstream.servers=[\"quic://192.0.2.1:53\"]",
    ] {
        let loaded = config::load(&Source { file: None, environment: None, sets: vec![set.to_owned()] });
        let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(loaded.config.is_none() && problems.iter().any(|text| text.contains("port 53")), "{set}: {problems:?}");
    }
}

#[tokio::test]
async fn dh3_01_and_doq_01_alpn_chooses_the_protocol_and_nothing_else_is_spoken() {
    let rig = Rig::start().await;
    for (address, ours, others) in
        [(rig.doh(), "h3", ["doq", "h3-29", "dot"]), (rig.doq(), "doq", ["h3", "doq-i02", "dq"])]
    {
        let (_endpoint, connection) =
            client::quic(address, client::trust(&rig.authority(), &[ours.as_bytes()])).await.unwrap();
        let data = connection.handshake_data().unwrap().downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
        assert_eq!(data.protocol.as_deref(), Some(ours.as_bytes()));
        for other in others {
            let error = client::quic(address, client::trust(&rig.authority(), &[other.as_bytes()])).await.unwrap_err();
            let quinn::ConnectionError::ConnectionClosed(closed) = &error else { panic!("{error}") };
            assert_eq!(u64::from(closed.error_code), 0x178, "no_application_protocol for {other}");
        }
    }
}

#[tokio::test]
async fn dh3_01_other_versions_of_quic_are_led_to_version_1() {
    let rig = Rig::start().await;
    for address in [rig.doh(), rig.doq()] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut hello = vec![0; 1200];
        hello[..24]
            .copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 9, 9, 9, 9, 9, 9, 0]);
        socket.send_to(&hello, address).await.unwrap();
        let mut answer = [0; 1500];
        let length = tokio::time::timeout(client::PATIENCE, socket.recv(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer[1..5], [0; 4], "version negotiation");
        assert_eq!(answer[5..23], [8, 9, 9, 9, 9, 9, 9, 9, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8], "ids the other way round");
        assert!(answer[23..length].chunks(4).any(|version| version == [0, 0, 0, 1]), "{:02x?}", &answer[..length]);
    }
}

/// A client whose hello fits one datagram: its key share is a classic one.
pub fn short_hello(alpn: &[u8]) -> rustls::ClientConfig {
    let classic = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let provider = CryptoProvider { kx_groups: classic, ..rustls::crypto::aws_lc_rs::default_provider() };
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// Passes on the first datagram of a QUIC client to `address` and nothing more; answers what it and what came back weighed.
async fn first_datagram_only(rig: &Rig, address: SocketAddr, alpn: &[u8]) -> (usize, usize) {
    let [near, far] = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    let knocking = client::quic(near.local_addr().unwrap(), short_hello(alpn));
    let mut buffer = [0; 2000];
    let sent = tokio::select! {
        _ = knocking => panic!("nobody has answered"),
        received = near.recv(&mut buffer) => received.unwrap(),
    };
    far.send_to(&buffer[..sent], address).await.unwrap();
    let failed = scrape_until(rig.admin(), |_| true).await.sum("handshakes_failed_total");
    scrape_until(rig.admin(), |now| now.sum("handshakes_failed_total") > failed + 0.5).await;
    let mut back = 0;
    while let Ok(received) = far.try_recv(&mut buffer) {
        back += received;
    }
    (sent, back)
}

#[tokio::test]
async fn doq_25_an_address_that_has_not_answered_gets_three_times_what_it_sent_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..300).map(|index| format!("name-number-{index}.large.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let large = crate::identity::self_signed(folder.path(), "large", &names, Duration::from_hours(24));
    let tls = format!("[tls]\ncertificates = [{large}]\n[limits]\nhandshake_timeout = \"1s\"");
    let rig = Rig::with(&tls).await;
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let (sent, back) = first_datagram_only(&rig, address, alpn).await;
        assert!(sent >= 1200 && back > sent && back <= 3 * sent, "{sent} sent, {back} back");
    }
    rig.ask(Transport::Udp, &Ask::a("after.example.org").bytes()).await;
}
