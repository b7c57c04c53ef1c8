//! HTTP/1.1, spoken by hand and by hyper.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::listen::rehearsal::{assert_answers, query};

fn target(label: &str) -> String {
    format!("/dns-query?dns={}", URL_SAFE_NO_PAD.encode(query(0, label)))
}

/// Says `words`, half-closes, and hears all that comes.
async fn said(rehearsal: &Rehearsal, words: &[u8]) -> String {
    let (mut stream, server) = connect(rehearsal, Some(b"http/1.1")).await;
    stream.write_all(words).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    server.await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn doh_16_http_1_1_is_kept_alive_for_get_and_post() {
    let rehearsal = Rehearsal::new();
    rehearsal.open();
    let (stream, _server) = connect(&rehearsal, Some(b"http/1.1")).await;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for label in ["now", "later", "big"] {
        let get = Request::get(target(label)).header("host", "a").body(Full::default()).unwrap();
        let post = Request::post("/dns-query").header("host", "a").header("content-type", "application/dns-message");
        for request in [get, post.body(Full::new(Bytes::from(query(0, label)))).unwrap()] {
            let response = requests.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["cache-control"], "max-age=300");
            assert_eq!(response.headers()["alt-svc"], ALT_SVC, "dh3_02");
            assert!(response.headers().get("server").is_none(), "doh_23");
            assert_answers(&response.into_body().collect().await.unwrap().to_bytes(), 0, label);
        }
    }
    assert!(rehearsal.heard(Transport::Doh1));
}

#[tokio::test]
async fn doh_16_pipelined_requests_are_answered_in_order_after_a_half_close() {
    let rehearsal = Rehearsal::new();
    rehearsal.open();
    let one = |label| format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", target(label));
    let heard = said(&rehearsal, [one("later"), one("private"), one("nostore")].concat().as_bytes()).await;
    let places: Vec<_> =
        ["control: max-age=300", "private, max-age=60", "no-store"].iter().map(|text| heard.find(text)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{heard}");
}

#[tokio::test]
async fn doh_10_head_over_http_1_1_has_a_length_and_no_body() {
    let rehearsal = Rehearsal::new();
    let words = format!("HEAD {} HTTP/1.1\r\nhost: a\r\n\r\n", target("now"));
    let heard = said(&rehearsal, words.as_bytes()).await;
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    assert!(heard.contains(&format!("content-length: {}\r\n", query(0, "now").len())), "{heard}");
    assert!(heard.ends_with("\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn doh_24_http_1_1_without_host_is_a_bad_request_and_http_1_0_is_not() {
    let rehearsal = Rehearsal::new();
    let without = |version| format!("GET {} HTTP/{version}\r\n\r\n", target("now"));
    assert!(said(&rehearsal, without("1.1").as_bytes()).await.starts_with("HTTP/1.1 400"));
    assert!(said(&rehearsal, without("1.0").as_bytes()).await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn doh_17_a_tls_hello_gets_no_dns_answer() {
    let rehearsal = Rehearsal::new();
    let heard = said(&rehearsal, &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]).await;
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 400"), "{heard}");
}

#[tokio::test]
async fn doh_08_a_body_without_a_length_is_read_to_the_limit_and_no_further() {
    let rehearsal = Rehearsal::new();
    let (mut stream, _server) = connect(&rehearsal, Some(b"http/1.1")).await;
    let words = "POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-type: application/dns-message\r\n\
                transfer-encoding: chunked\r\n\r\n10001\r\n";
    stream.write_all(words.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; 65_537]).await.unwrap();
    let mut heard = [0; 12];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"HTTP/1.1 413");
}

#[tokio::test]
async fn bodies_that_come_in_pieces_are_put_together() {
    let rehearsal = Rehearsal::new();
    let message = query(5, "now");
    let mut words = b"POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-type: application/dns-message\r\n\
                      transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for octet in &message {
        words.extend([b'1', b'\r', b'\n', *octet, b'\r', b'\n']);
    }
    words.extend(b"0\r\n\r\n");
    assert!(said(&rehearsal, &words).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_body_or_a_head_that_does_not_come_is_given_up() {
    let rehearsal = Rehearsal::new();
    let (mut stream, server) = connect(&rehearsal, Some(b"http/1.1")).await;
    let words =
        "POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-type: application/dns-message\r\ncontent-length: 99\r\n\r\n";
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    server.await.unwrap();
    for alpn in [Some(&b"http/1.1"[..]), None] {
        let (_stream, server) = connect(&rehearsal, alpn).await;
        server.await.unwrap();
    }
}

#[tokio::test]
async fn doh_30_drain_finishes_the_request_and_closes() {
    let mut rehearsal = Rehearsal::with(|limits| limits.idle_timeout = Duration::from_hours(1));
    let (mut stream, server) = connect(&rehearsal, None).await;
    stream.write_all(format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", target("later")).as_bytes()).await.unwrap();
    rehearsal.pending(1).await;
    rehearsal.stop.begin();
    rehearsal.open();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 200"));
    server.await.unwrap();
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_no_connection_behind() {
    let rehearsal = Rehearsal::new();
    let (mut stream, server) = connect(&rehearsal, None).await;
    stream.write_all(b"GET /dns-qu").await.unwrap();
    drop(stream);
    server.await.unwrap();
    assert_eq!(rehearsal.context.counters.connections_open[Transport::Doh1 as usize].value(), 0);
}

#[tokio::test]
async fn a_page_is_served_beside_dns_and_only_read() {
    let rehearsal = Rehearsal::new();
    let ask = |method: &str| format!("{method} /set-up?x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let get = said(&rehearsal, ask("GET").as_bytes()).await;
    assert!(get.starts_with("HTTP/1.1 200 ") && get.ends_with("\r\n\r\n<p>How to</p>"), "{get}");
    assert!(get.contains("content-security-policy: default-src 'none'; "), "{get}");
    let head = said(&rehearsal, ask("HEAD").as_bytes()).await;
    assert!(head.contains("content-length: 13\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let put = said(&rehearsal, ask("PUT").as_bytes()).await;
    assert!(put.starts_with("HTTP/1.1 405 ") && put.contains("allow: GET, HEAD\r\n"), "{put}");
    let hostless = said(&rehearsal, b"GET /set-up HTTP/1.1\r\n\r\n").await;
    assert!(hostless.starts_with("HTTP/1.1 400 "), "doh_24: {hostless}");
}
