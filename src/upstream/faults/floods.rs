//! HTTP/2 frames that no proper server sends, written out here.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::super::settings::Server;
use super::super::testing::{Authority, reply, tls_server};
use super::{Cause, Leg};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `:status: 200` and the media type (RFC 7541 6.1, 6.2.2).
fn head() -> Vec<u8> {
    let media = b"application/dns-message";
    [&[0x88, 0x0f, 0x10, u8::try_from(media.len()).unwrap()][..], media].concat()
}

fn answer(stream: u32, query: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &head()), frame(DATA, END_STREAM, stream, &reply(query, 0))].concat()
}

/// A server that writes what `respond` makes of a stream and its query, and holds the connection as long as the client does.
async fn server(authority: &Authority, respond: fn(u32, &[u8]) -> Vec<u8>) -> Server {
    let (config, _) = authority.identity(&["127.0.0.1"], &["h2"]);
    let address = tls_server(config, move |stream| async move {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            while let Some(octets) = told.recv().await {
                // A client that has enough goes away.
                if writing.write_all(&octets).await.is_err() || writing.flush().await.is_err() {
                    return;
                }
            }
        });
        tell.send(frame(SETTINGS, 0, 0, &[])).unwrap();
        let mut preface = [0; 24];
        reading.read_exact(&mut preface).await.unwrap();
        let mut head = [0; 9];
        while reading.read_exact(&mut head).await.is_ok() {
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            reading.read_exact(&mut payload).await.unwrap();
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] == DATA && !payload.is_empty() {
                let _ = tell.send(respond(stream, &payload));
            }
        }
    })
    .await;
    authority.server("https", address)
}

async fn outcome(respond: fn(u32, &[u8]) -> Vec<u8>) -> (Result<(), Cause>, Leg) {
    let authority = Authority::new();
    let leg = Leg::open(&server(&authority, respond).await).await;
    let outcome = timeout(Duration::from_secs(15), leg.ask("a.example")).await.expect("it hangs").map(drop);
    (outcome, leg)
}

#[tokio::test]
async fn floods_of_settings_and_pings_before_an_answer_hold_nothing_up() {
    let (outcome, leg) = outcome(|stream, query| {
        let flood = [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[7; 8])].concat();
        [flood.repeat(1000), answer(stream, query)].concat()
    })
    .await;
    assert_eq!(outcome, Ok(()));
    assert!(leg.is_open());
}

#[tokio::test]
async fn headers_without_end_are_given_up() {
    let (outcome, _) = outcome(|stream, _| {
        let more = frame(CONTINUATION, 0, stream, &[&[0, 1, b'x', 0x7f, 0x80, 0x7f][..], &[b'v'; 16_000]].concat());
        [frame(HEADERS, 0, stream, &head()), more.repeat(1000)].concat()
    })
    .await;
    assert!(matches!(outcome, Err(Cause::Malformed | Cause::Closed)), "{outcome:?}");
}

#[tokio::test]
async fn a_push_ends_the_connection() {
    let (outcome, leg) = outcome(|stream, query| {
        let promise = [&2_u32.to_be_bytes()[..], &[0x82, 0x87, 0x84]].concat();
        [frame(PUSH_PROMISE, END_HEADERS, stream, &promise), answer(stream, query)].concat()
    })
    .await;
    assert_eq!(outcome, Err(Cause::Closed));
    leg.until_closed().await;
}

#[tokio::test]
async fn doh_29_a_request_above_the_goaway_may_be_asked_again_at_once() {
    let (outcome, leg) = outcome(|_, _| frame(GOAWAY, 0, 0, &[0; 8])).await;
    assert_eq!(outcome, Err(Cause::Closed));
    assert!(!leg.is_open());
}

#[tokio::test]
async fn a_response_that_ends_with_its_head_is_malformed() {
    let (outcome, leg) = outcome(|stream, _| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head())).await;
    assert_eq!(outcome, Err(Cause::Malformed));
    assert!(leg.is_open());
}

#[tokio::test]
async fn octets_that_are_no_http_end_the_connection() {
    let (outcome, leg) = outcome(|_, _| vec![0xff; 64]).await;
    assert_eq!(outcome, Err(Cause::Closed));
    leg.until_closed().await;
}
