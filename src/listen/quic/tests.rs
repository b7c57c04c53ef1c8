//! The QUIC loop over real sockets.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionError, TransportErrorCode};
use tokio::sync::mpsc;

use super::rig::{Plan, Rig, answer_to, ask, keys, ownership, until};
use super::tokens::Tokens;
use super::{Crypto, Load, QuicDoors, WorkerId, transport};
use crate::listen::Limits;
use crate::peer::{DoorId, Transport};

mod tokens;

fn raw() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut length = 0;
    until(|| socket.recv(&mut buffer).map(|received| length = received).is_ok()).await;
    buffer[..length].to_vec()
}

fn transport_code(error: &ConnectionError) -> Option<TransportErrorCode> {
    match error {
        ConnectionError::ConnectionClosed(close) => Some(close.error_code),
        _ => None,
    }
}

#[tokio::test]
async fn doq_01_without_a_common_protocol_the_handshake_fails_with_0x178() {
    let rig = Rig::start();
    let error = rig.try_connect("dq").await.unwrap_err();
    assert_eq!(transport_code(&error), Some(TransportErrorCode::crypto(0x78)));
    until(|| rig.counters.failed_handshakes(|_| true) == 1).await;
}

#[tokio::test]
async fn the_peer_is_who_connected_where_and_how() {
    let rig = Rig::with(Plan { doors: QuicDoors { doq: Some(DoorId(1)), doh3: None }, ..Plan::default() });
    let client = rig.client("doq");
    let connection = client.connect(rig.address, "dns.test").unwrap().await.unwrap();
    ask(&connection, "now").await;
    let peer = rig.script.peers.lock().unwrap()[0].clone();
    assert_eq!((peer.remote, peer.local), (client.local_addr().unwrap(), rig.address));
    assert_eq!((peer.door, peer.transport), (DoorId(1), Transport::Doq));
    assert_eq!(peer.server_name.as_deref(), Some("dns.test"));
    assert_eq!(rig.counters.handshakes.value(), 1);
}

#[tokio::test]
async fn a_client_without_a_permit_is_refused_before_the_handshake() {
    let rig = Rig::with(Plan { allow: &[""], ..Plan::default() });
    let error = rig.try_connect("doq").await.unwrap_err();
    assert_eq!(transport_code(&error), Some(TransportErrorCode::CONNECTION_REFUSED));
    assert_eq!((rig.counters.connections_refused.value(), rig.counters.handshakes.value()), (1, 0));
}

#[tokio::test]
async fn a_client_admitted_for_one_door_does_not_get_through_the_other() {
    let doors = QuicDoors { doq: Some(DoorId(0)), doh3: Some(DoorId(1)) };
    let rig = Rig::with(Plan { doors, allow: &["", "127.0.0.0/8"], ..Plan::default() });
    let connection = rig.connect().await;
    let ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("not closed") };
    assert_eq!((close.error_code, rig.counters.connections_refused.value()), (5_u32.into(), 1));
}

#[tokio::test]
async fn under_load_an_address_is_validated_first() {
    let rig = Rig::with(Plan { load: Some(Load { retry_from: 0, refuse_from: 9 }), ..Plan::default() });
    let bait = raw();
    let client = rig.client("doq");
    let connecting = client.connect(bait.local_addr().unwrap(), "dns.test").unwrap();
    let initial = receive(&bait).await;
    drop(connecting);
    let forger = raw();
    forger.send_to(&initial, rig.address).unwrap();
    let retry = receive(&forger).await;
    assert_eq!(retry[0] >> 4, 0b1111, "a long header of type Retry");
    assert!(retry.len() * 3 < initial.len());
    let connection = rig.connect().await;
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
}

#[tokio::test]
async fn a_forged_address_takes_no_permit_of_the_client_it_names() {
    let rig = Rig::with(Plan { connections_per_client: 1, ..Plan::default() });
    let bait = raw();
    let client = rig.client("doq");
    let connecting = client.connect(bait.local_addr().unwrap(), "dns.test").unwrap();
    let initial = receive(&bait).await;
    drop(connecting);
    let forger = raw();
    forger.send_to(&initial, rig.address).unwrap();
    receive(&forger).await;
    let connection = rig.connect().await;
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
    let error = rig.try_connect("doq").await.unwrap_err();
    assert_eq!(transport_code(&error), Some(TransportErrorCode::CONNECTION_REFUSED));
}

#[tokio::test]
async fn over_the_bound_of_handshakes_even_a_validated_address_is_refused() {
    let rig = Rig::with(Plan { load: Some(Load { retry_from: 0, refuse_from: 0 }), ..Plan::default() });
    let error = rig.try_connect("doq").await.unwrap_err();
    assert_eq!(transport_code(&error), Some(TransportErrorCode::CONNECTION_REFUSED));
    assert_eq!(rig.counters.connections_refused.value(), 1);
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_in_time_and_holds_nobody_up() {
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..Limits::default() };
    let rig = Rig::with(Plan { limits, ..Plan::default() });
    let bait = raw();
    let client = rig.client("doq");
    let connecting = client.connect(bait.local_addr().unwrap(), "dns.test").unwrap();
    let initial = receive(&bait).await;
    drop(connecting);
    let stalled = raw();
    stalled.send_to(&initial, rig.address).unwrap();
    receive(&stalled).await;
    assert_eq!(rig.counters.failed_handshakes(|_| true), 0);
    assert_eq!(ask(&rig.connect().await, "now").await, answer_to("now"));
    until(|| rig.counters.failed_handshakes(|_| true) == 1).await;
}

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    let rig = Rig::start();
    let (first, second) = (rig.connect().await, rig.connect().await);
    let (mut send, _recv) = first.open_bi().await.unwrap();
    send.write_all(&super::rig::framed(&super::rig::query(0, "panic", &[]))).await.unwrap();
    send.finish().unwrap();
    first.closed().await;
    assert_eq!(ask(&second, "now").await, answer_to("now"));
    assert_eq!(ask(&rig.connect().await, "now").await, answer_to("now"));
    until(|| rig.counters.panics.value() == 1).await;
}

#[tokio::test]
async fn garbage_does_not_disturb_the_next_client() {
    let rig = Rig::start();
    let stranger = raw();
    for length in [0, 1, 5, 20, 21, 40, 1200] {
        for first in [0x00, 0x40, 0x7f, 0xc0, 0xff] {
            stranger.send_to(&vec![first; length], rig.address).unwrap();
        }
    }
    assert_eq!(ask(&rig.connect().await, "now").await, answer_to("now"));
}

#[tokio::test]
async fn only_ids_of_this_worker_are_answered_with_a_reset() {
    let rig = Rig::start();
    let (passer, mut passed) = mpsc::channel(1);
    rig.mailboxes.pass_on_to(Some(passer));
    let worker = ownership().worker(0);
    let packet = |worker| {
        let mut packet = vec![0x40];
        packet.extend_from_slice(&ownership().key.id(worker, rand::random()));
        packet.resize(100, 7);
        packet
    };
    let strangers = [WorkerId { index: 2, ..worker }, WorkerId { generation: 8, ..worker }].map(|worker| {
        let socket = raw();
        socket.send_to(&packet(worker), rig.address).unwrap();
        socket
    });
    let own = raw();
    own.send_to(&packet(worker), rig.address).unwrap();
    assert!(receive(&own).await.len() < 100);
    for socket in strangers {
        assert!(socket.recv(&mut [0; 2048]).is_err(), "a foreign id was answered");
    }
    assert_eq!(passed.try_recv().unwrap().owner, WorkerId { generation: 8, ..worker });
}

#[tokio::test]
async fn the_word_to_stop_ends_the_loop() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    ask(&connection, "now").await;
    rig.stop.begin();
    let ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("not closed") };
    assert_eq!(close.error_code, 0_u32.into());
    rig.served.await.unwrap();
    assert_eq!(rig.counters.connections_open[Transport::Doq as usize].value(), 0);
}

#[test]
fn settings_without_tls_1_3_are_unfit() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let doors = QuicDoors { doq: Some(DoorId(0)), doh3: None };
    let crypto = Crypto { tls: Arc::new(tls), tokens: Tokens::new(keys(None)) };
    let config = transport::server_config(crypto, doors, &Limits::default());
    assert!(matches!(config, Err(transport::Unfit::Tls(_))));
}

#[tokio::test]
async fn doq_22_early_data_is_never_offered() {
    let rig = Rig::with(Plan { early_data: u32::MAX, ..Plan::default() });
    let client = rig.client("doq");
    for _ in 0..2 {
        // The second attempt has a ticket of the first, but none for early data.
        let connecting = client.connect(rig.address, "dns.test").unwrap();
        let Err(connecting) = connecting.into_0rtt() else { panic!("early data is possible") };
        ask(&connecting.await.unwrap(), "now").await;
    }
}
