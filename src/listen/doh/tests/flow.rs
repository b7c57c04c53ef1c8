//! HTTP/2 over time: what comes in pieces, what waits, what breaks off, and how it ends.

use std::time::Duration;

use ::h2::Reason;
use ::h2::client::{self, SendRequest};
use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::two::{Client, get, post, whole};
use super::*;
use crate::guard::Trust;
use crate::listen::rehearsal::{assert_answers, query};

#[tokio::test]
async fn bodies_in_several_frames_are_put_together() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (response, mut stream) = requests.send_request(post(), false).unwrap();
    let message = query(3, "now");
    for (at, octet) in message.iter().enumerate() {
        stream.send_data(vec![*octet].into(), at + 1 == message.len()).unwrap();
        tokio::task::yield_now().await;
    }
    assert_answers(whole(response.await.unwrap()).await.unwrap().body(), 3, "now");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (response, mut stream) = requests.send_request(post(), false).unwrap();
    stream.send_data(query(3, "now").into(), false).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_reset_drops_the_question_that_waits() {
    let mut rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (_response, mut stream) = requests.send_request(get("never"), true).unwrap();
    rehearsal.pending(1).await;
    stream.send_reset(Reason::CANCEL);
    rehearsal.pending(0).await;
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn doh_19_who_takes_back_behind_a_web_server_is_refused_alone_and_its_neighbours_are_not() {
    let mut rehearsal = Rehearsal::guarded(
        |limits| limits.streams_per_connection = 8,
        |settings| {
            settings.trust = vec![Trust { forwarded: vec!["127.0.0.1".parse().unwrap()], ..Trust::default() }];
            settings.resets_per_second = 2;
        },
    );
    let mut client = Client::of(&rehearsal).await;
    let by = |asker: &str, label| {
        let mut request = get(label);
        request.headers_mut().insert("x-forwarded-for", asker.parse().unwrap());
        request
    };
    let (greedy, good) = ("198.51.100.7", "198.51.100.8");
    for turn in 0..40 {
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (response, mut stream) = requests.send_request(by(greedy, "never"), true).unwrap();
        // The limit, its burst, and the one that goes over it.
        if turn > 8 {
            assert_eq!(response.await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
            continue;
        }
        rehearsal.pending(1).await;
        stream.send_reset(Reason::CANCEL);
        rehearsal.pending(0).await;
    }
    assert_eq!(client.send(by(good, "now"), None).await.unwrap().status(), StatusCode::OK);
    assert_eq!(client.send(by(greedy, "now"), None).await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rehearsal.context.counters.protocol_errors.value(), 0);
}

#[tokio::test]
async fn doh_19_asking_only_to_take_it_back_ends_the_connection() {
    let rehearsal = Rehearsal::with(|limits| limits.streams_per_connection = 8);
    let client = Client::of(&rehearsal).await;
    while let Ok(mut requests) = client.requests.clone().ready().await {
        let Ok((_response, mut stream)) = requests.send_request(get("never"), true) else { break };
        // Each on its own way, else neither leaves.
        tokio::task::yield_now().await;
        stream.send_reset(Reason::CANCEL);
        tokio::task::yield_now().await;
    }
    // Whether GOAWAY is read before the client's next write fails is TCP's affair.
    client.server.await.unwrap();
    assert_eq!(rehearsal.context.counters.protocol_errors.value(), 1);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let mut rehearsal = Rehearsal::new();
    let (stream, server) = connect(&rehearsal, Some(b"h2")).await;
    let (mut requests, connection) = client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let (_response, _) = requests.send_request(get("never"), true).unwrap();
    rehearsal.pending(1).await;
    connection.abort();
    server.await.unwrap();
    rehearsal.pending(0).await;
    assert_eq!(rehearsal.context.counters.connections_open[Transport::Doh2 as usize].value(), 0);
}

#[tokio::test]
async fn answers_larger_than_the_window_arrive_as_it_opens() {
    let rehearsal = Rehearsal::new();
    let (stream, _server) = connect(&rehearsal, Some(b"h2")).await;
    let mut builder = client::Builder::new();
    let (requests, connection) = builder.initial_window_size(100).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let answers: Vec<_> = (0..4).map(|_| requests.send_request(get("big"), true).unwrap().0).collect();
    for answer in answers {
        assert_answers(whole(answer.await.unwrap()).await.unwrap().body(), 0, "big");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_window_loses_its_stream() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (first, _) = requests.send_request(get("big"), true).unwrap();
    let mut requests = requests.ready().await.unwrap();
    let (second, _) = requests.send_request(get("big"), true).unwrap();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let mut body = second.into_body();
    let error = loop {
        match body.data().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    drop(first);
}

#[tokio::test]
async fn doh_30_drain_says_goaway_and_finishes_what_is_open() {
    let mut rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (response, _) = requests.send_request(get("later"), true).unwrap();
    rehearsal.pending(1).await;
    rehearsal.stop.begin();
    // The client hears of it: once GOAWAY has arrived it may open no more streams.
    while client.requests.clone().ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    rehearsal.open();
    assert_answers(whole(response.await.unwrap()).await.unwrap().body(), 0, "later");
    client.server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_one_that_waits_is_not() {
    let rehearsal = Rehearsal::with(|limits| limits.idle_timeout = Duration::from_secs(30));
    let client = Client::of(&rehearsal).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (response, _) = requests.send_request(get("later"), true).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!client.server.is_finished());
    rehearsal.open();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    client.server.await.unwrap();
}

#[tokio::test]
async fn prior_knowledge_of_http_2_is_seen_in_clear_text() {
    let rehearsal = Rehearsal::new();
    let (stream, _server) = connect(&rehearsal, None).await;
    let (requests, connection) = client::handshake::<_>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut requests: SendRequest<Bytes> = requests.ready().await.unwrap();
    let (response, _) = requests.send_request(get("now"), true).unwrap();
    assert_answers(whole(response.await.unwrap()).await.unwrap().body(), 0, "now");
    assert!(rehearsal.heard(Transport::Doh2));
}

#[tokio::test]
async fn octets_that_are_no_http_2_end_the_connection() {
    let rehearsal = Rehearsal::new();
    let (mut stream, server) = connect(&rehearsal, Some(b"h2")).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.ok();
    server.await.unwrap();
    assert_eq!(rehearsal.context.counters.protocol_errors.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_without_a_word_does_not_hold_up_the_end() {
    let rehearsal = Rehearsal::with(|limits| limits.handshake_timeout = Duration::from_secs(2));
    let (mut stream, server) = connect(&rehearsal, Some(b"h2")).await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let acknowledged = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    stream.write_all(&[PREFACE, &settings, &acknowledged].concat()).await.unwrap();
    let mut octets = [0; 9];
    stream.read_exact(&mut octets).await.unwrap();
    let begun = tokio::time::Instant::now();
    rehearsal.stop.begin();
    server.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
