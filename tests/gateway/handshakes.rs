//! Handshakes that come to nothing are counted by what they were over and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::admin::openmetrics::Scrape;
use crate::admin::scrape_until;
use crate::harness::raw::rest;
use crate::harness::{Rig, client};
use crate::tls::hello;

/// Waits until so many handshakes over `transport` have failed for `reason`.
async fn counted(rig: &Rig, transport: &str, reason: &str, count: f64) -> Scrape {
    let key = format!("handshakes_failed_total{{reason=\"{reason}\",transport=\"{transport}\"}}");
    scrape_until(rig.admin(), |now| (now.value(&key) - count).abs() < 1e-9).await
}

/// The encrypted doors: the transport's name, its address, what it speaks, whether over QUIC.
fn doors(rig: &Rig) -> [(&'static str, SocketAddr, &'static [u8], bool); 4] {
    [
        ("dot", rig.dot(), b"dot", false),
        ("doh", rig.doh(), b"h2", false),
        ("doq", rig.doq(), b"doq", true),
        ("doh3", rig.doh(), b"h3", true),
    ]
}

/// A clock two days ahead.
#[derive(Debug)]
struct Ahead;

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(UnixTime::now().as_secs().checked_add(2 * 86_400).map(Duration::from_secs)?))
    }
}

/// Shakes hands in vain.
async fn fail((_, address, alpn, quic): (&str, SocketAddr, &[u8], bool), mut config: rustls::ClientConfig) {
    config.alpn_protocols = vec![alpn.to_vec()];
    if quic {
        client::quic(address, config).await.unwrap_err();
    } else {
        client::tls(address, config).await.unwrap_err();
    }
}

#[tokio::test]
async fn clients_that_turn_away_from_the_certificate_are_counted_by_their_reason_on_every_door() {
    let folder = tempfile::tempdir().unwrap();
    let entry = crate::identity::self_signed(folder.path(), "dns", &["other.example"], Duration::from_hours(24));
    let rig = Rig::with(&format!("[tls]\ncertificates = [{entry}]")).await;
    let pem = std::fs::read(folder.path().join("dns.pem")).unwrap();
    let (stranger, namesake) = (Rig::start().await, tempfile::tempdir().unwrap());
    crate::identity::self_signed(namesake.path(), "dns", &["localhost"], Duration::from_hours(24));
    let namesake = std::fs::read(namesake.path().join("dns.pem")).unwrap();
    for door in doors(&rig) {
        fail(door, client::trust(&stranger.authority(), &[])).await;
        counted(&rig, door.0, "unknown_ca", 1.0).await;
        // An authority of the same name with another key.
        fail(door, client::trust(&namesake, &[])).await;
        counted(&rig, door.0, "bad_signature", 1.0).await;
        // The certificate is for another name than `localhost`.
        fail(door, client::trust(&pem, &[])).await;
        let scraped = counted(&rig, door.0, "bad_certificate", 1.0).await;
        assert!(scraped.value("panics_total") < 0.5);
        let mut late = client::trust(&pem, &[]);
        late.time_provider = Arc::new(Ahead);
        fail(door, late).await;
        counted(&rig, door.0, "certificate_expired", 1.0).await;
        fail((door.0, door.1, b"wrong", door.3), client::trust(&pem, &[])).await;
    }
    // Before a protocol is agreed on, a QUIC door that has but one is known by that. A client may know of its failure before it counts.
    for (transport, ..) in doors(&rig) {
        counted(&rig, transport, "alpn", 1.0).await;
    }
    let scraped = scrape_until(rig.admin(), |_| true).await;
    assert!((scraped.sum("handshakes_failed_total") - 20.0).abs() < 1e-9);
}

#[tokio::test]
async fn what_is_no_tls_old_weak_late_or_gone_is_told_apart() {
    let rig = Rig::start().await;
    for (name, address) in [("dot", rig.dot()), ("doh", rig.doh())] {
        let good = [0xc02b, 0xc02f];
        for (words, reason) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
            (hello(0x0302, &good), "version"),
            (hello(0x0303, &[0x002f]), "cipher"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&words).await.unwrap();
            rest(&mut stream).await;
            counted(&rig, name, reason, 1.0).await;
        }
        drop(TcpStream::connect(address).await.unwrap());
        counted(&rig, name, "closed", 1.0).await;
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        counted(&rig, name, "reset", 1.0).await;
    }
    // With time so short that a slow machine would fail the others by it.
    let hasty = Rig::with("[limits]\nhandshake_timeout = \"100ms\"").await;
    for (name, address) in [("dot", hasty.dot()), ("doh", hasty.doh())] {
        rest(&mut TcpStream::connect(address).await.unwrap()).await;
        counted(&hasty, name, "timeout", 1.0).await;
    }
}
