//! The first packets of QUIC made by hand, so that they can be what no library sends: too small, or of an older TLS; and the first
//! streams of HTTP/3 (STANDARDS groups QUI, TLS and DH3).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{ClientConnection, Keys, Version};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::harness::raw::server;
use crate::harness::{Rig, client};

/// The keys of first packets to `destination` (RFC 9001 5.2).
fn keys(destination: [u8; 8]) -> Keys {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite().unwrap();
    suite.keys(&destination, rustls::Side::Client, Version::V1)
}

/// An Initial packet of `length` octets that brings `hello` (RFC 9000 17.2.2).
fn initial(destination: [u8; 8], source: [u8; 4], hello: &[u8], length: usize) -> Vec<u8> {
    const NUMBER: [u8; 4] = [0; 4];
    const TAG: usize = 16;
    let ids = [&[8][..], &destination, &[4], &source].concat();
    let mut packet = [&[0xc3, 0, 0, 0, 1][..], &ids, &[0]].concat();
    let left = (length - packet.len() - 2) as u16;
    packet.extend((0x4000 | left).to_be_bytes());
    let number = packet.len();
    packet.extend(NUMBER);
    let mut payload = [&[6, 0][..], &(0x4000 | hello.len() as u16).to_be_bytes(), hello].concat();
    payload.resize(usize::from(left) - NUMBER.len() - TAG, 0);
    let keys = keys(destination).local;
    let tag = keys.packet.encrypt_in_place(0, &packet, &mut payload).unwrap();
    packet.extend(payload);
    packet.extend(tag.as_ref());
    let (head, sample) = packet.split_at_mut(number + 4);
    let (first, head) = head.split_first_mut().unwrap();
    keys.header.encrypt_in_place(&sample[..16], first, &mut head[number - 1..]).unwrap();
    assert_eq!(packet.len(), length);
    packet
}

/// What the first packet of `datagram` says, which answers an Initial to `destination` from a source of four octets.
fn opened(destination: [u8; 8], mut datagram: Vec<u8>) -> Vec<u8> {
    let source = 6 + usize::from(datagram[5]);
    assert_eq!(datagram[1..5], [0, 0, 0, 1]);
    // No token; a length of two octets.
    let at = source + usize::from(datagram[source]) + 2;
    assert_eq!((datagram[at - 1], datagram[at] >> 6), (0, 1));
    let length = usize::from(u16::from_be_bytes([datagram[at] & 0x3f, datagram[at + 1]]));
    let number = at + 2;
    datagram.truncate(number + length);
    let keys = keys(destination).remote;
    let (head, sample) = datagram.split_at_mut(number + 4);
    let (first, head) = head.split_first_mut().unwrap();
    keys.header.decrypt_in_place(&sample[..16], first, &mut head[number - 1..]).unwrap();
    let body = number + 1 + usize::from(datagram[0] & 3);
    let (head, payload) = datagram.split_at_mut(body);
    let counted = head[number..].iter().fold(0, |counted, octet| counted << 8 | u64::from(*octet));
    keys.packet.decrypt_in_place(counted, head, payload).unwrap().to_vec()
}

/// The hello of a client that can speak `alpn`.
fn hello(alpn: &[u8], source: [u8; 4]) -> Vec<u8> {
    let params = [&[0x0f, 4][..], &source].concat();
    let config = Arc::new(crate::ports::short_hello(alpn));
    let mut hello = Vec::new();
    ClientConnection::new(config, Version::V1, server("localhost"), params).unwrap().write_hs(&mut hello);
    hello
}

async fn socket(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    socket
}

#[tokio::test]
async fn qui_02_a_good_first_packet_is_answered_in_1200_octets_and_discarded_in_1199() {
    let rig = Rig::start().await;
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let socket = socket(address).await;
        for (number, length) in [(1, 600), (2, 1199), (3, 1200)] {
            let source = [number; 4];
            socket.send(&initial([number; 8], source, &hello(alpn, source), length)).await.unwrap();
        }
        let mut heard = [0; 2000];
        timeout(client::PATIENCE, socket.recv(&mut heard)).await.expect("no answer at all").unwrap();
        assert_eq!(heard[5..10], [4, 3, 3, 3, 3], "the ports keep order: nothing came before");
        while let Ok(length) = timeout(Duration::from_millis(50), socket.recv(&mut heard)).await {
            assert!(length.unwrap() > 20);
            // The destination, behind a long header or a short one.
            let to = if heard[0] & 0x80 == 0 { &heard[1..5] } else { &heard[6..10] };
            assert_eq!(to, [3; 4]);
        }
    }
}

#[tokio::test]
async fn tls_11_a_quic_client_of_tls_1_2_is_told_that_its_version_is_not_spoken() {
    let rig = Rig::start().await;
    // A record's header has no place in QUIC.
    let old = crate::tls::hello(0x0303, &[0xc02b, 0xc02f]).split_off(5);
    for address in [rig.doq(), rig.doh()] {
        let socket = socket(address).await;
        let destination = [5; 8];
        socket.send(&initial(destination, [6; 4], &old, 1200)).await.unwrap();
        let mut heard = vec![0; 2000];
        let length = timeout(client::PATIENCE, socket.recv(&mut heard)).await.expect("no answer at all").unwrap();
        heard.truncate(length);
        let said = opened(destination, heard);
        let closes = said.windows(3).any(|frame| frame == [0x1c, 0x41, 70]);
        assert!(closes, "CONNECTION_CLOSE with the alert protocol_version: {said:02x?}");
    }
}

/// A connection to the HTTP/3 door on which the client has opened its control stream by `octets`.
async fn controlled(rig: &Rig, octets: &[u8]) -> (quinn::Endpoint, quinn::Connection, quinn::SendStream) {
    let (endpoint, connection) = client::quic(rig.doh(), client::trust(&rig.authority(), &[b"h3"])).await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(octets).await.unwrap();
    (endpoint, connection, control)
}

/// The application code that the gateway closes `connection` with.
async fn closed(connection: &quinn::Connection) -> u64 {
    match timeout(client::PATIENCE, connection.closed()).await.expect("stays open") {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dh3_03_settings_come_first_on_both_control_streams() {
    let rig = Rig::start().await;
    let (_endpoint, connection, _control) = controlled(&rig, &[0, 4, 0]).await;
    loop {
        let mut stream = timeout(client::PATIENCE, connection.accept_uni()).await.expect("no control stream").unwrap();
        let mut octets = [0; 2];
        stream.read_exact(&mut octets).await.unwrap();
        if octets[0] == 0 {
            assert_eq!(octets[1], 4, "SETTINGS");
            break;
        }
    }
    let (_endpoint, connection, _control) = controlled(&rig, &[0, 7, 1, 0]).await;
    assert_eq!(closed(&connection).await, 0x10a);
}

#[tokio::test]
async fn dh3_04_an_incomplete_request_costs_its_stream_and_dh3_06_a_bad_reference_the_connection() {
    let rig = Rig::start().await;
    let (_endpoint, connection, _control) = controlled(&rig, &[0, 4, 0]).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.finish().unwrap();
    let reset = quinn::ReadToEndError::Read(quinn::ReadError::Reset(0x10d_u32.into()));
    assert_eq!(receive.read_to_end(100).await, Err(reset));
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    // HEADERS that refer to an entry of the dynamic table, which has no room for one.
    send.write_all(&[1, 3, 2, 0, 0x80]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(closed(&connection).await, 0x200);
}
