//! HTTP/3 servers that announce a frame without end: what is read of it is bounded (RFC 9114 10.5).

use quinn::{ConnectionError, SendStream};
use tokio::sync::mpsc;

use super::super::testing::{Authority, quic_server};
use super::h3_server::greet;
use super::{Cause, Leg};

/// More than an honest server ever needs.
const MUCH: usize = 4 << 20;

const HEADERS: u8 = 1;
/// Reserved, to be ignored (RFC 9114 7.2.8).
const GREASE: u8 = 0x21;
const EXCESSIVE_LOAD: u64 = 0x107;

/// Writes a frame of `kind` that is to be 2^61 octets long, until the other side wants no more; answers how much that was.
async fn pour(stream: &mut SendStream, kind: u8) -> usize {
    let mut poured = 0;
    let mut written = stream.write_all(&[&[kind][..], &(0b11 << 62 | 1_u64 << 61).to_be_bytes()].concat()).await;
    while written.is_ok() && poured < MUCH {
        written = stream.write_all(&[0; 8192]).await;
        poured += 8192;
    }
    poured
}

#[tokio::test]
async fn dh3_10_a_response_without_end_fails_its_question_and_no_other() {
    let authority = Authority::new();
    let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
    let (tell, mut told) = mpsc::unbounded_channel();
    let address = quic_server(config, move |connection| {
        let tell = tell.clone();
        async move {
            let _control = greet(&connection).await;
            while let Ok((mut sending, _receiving)) = connection.accept_bi().await {
                let _ = tell.send(pour(&mut sending, HEADERS).await);
            }
        }
    });
    let leg = Leg::open(&authority.server("h3", address)).await;
    assert_eq!(leg.ask("a.example").await.map(drop), Err(Cause::Malformed));
    assert!(told.recv().await.unwrap() < MUCH);
    assert!(leg.is_open());
}

#[tokio::test]
async fn dh3_10_a_server_that_talks_without_end_beside_its_answers_loses_the_connection() {
    let authority = Authority::new();
    let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
    let (tell, mut told) = mpsc::unbounded_channel();
    let address = quic_server(config, move |connection| {
        let tell = tell.clone();
        async move {
            let mut control = greet(&connection).await;
            let poured = pour(&mut control, GREASE).await;
            let _ = tell.send((poured, connection.close_reason()));
        }
    });
    let leg = Leg::open(&authority.server("h3", address)).await;
    let (poured, reason) = told.recv().await.unwrap();
    assert!(poured < MUCH);
    assert!(
        matches!(&reason, Some(ConnectionError::ApplicationClosed(close)) if close.error_code.into_inner() == EXCESSIVE_LOAD),
        "{reason:?}"
    );
    leg.until_closed().await;
}
