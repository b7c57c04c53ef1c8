//! Requests in good order, and some in bad, from the client of the `h3` crate.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use h3::client::{self, SendRequest};
use http::{HeaderValue, Method, StatusCode};

use super::*;
use crate::listen::rehearsal::{assert_answers, query};

type ClientStream = client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

struct Client {
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
    line: Line,
}

impl Client {
    async fn of(rehearsal: &Rehearsal) -> Self {
        let line = Line::to(rehearsal).await;
        let transport = h3_quinn::Connection::new(line.connection.clone());
        let (mut driver, requests) = client::new(transport).await.unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        Self { requests, line }
    }

    async fn begin(&self, request: Request<()>) -> ClientStream {
        self.requests.clone().send_request(request).await.unwrap()
    }

    async fn send(&self, request: Request<()>, body: &[&[u8]]) -> Response<Bytes> {
        let mut stream = self.begin(request).await;
        for &part in body {
            stream.send_data(Bytes::copy_from_slice(part)).await.unwrap();
        }
        stream.finish().await.unwrap();
        whole(stream).await
    }

    async fn get(&self, label: &str) -> Response<Bytes> {
        self.send(get(label), &[]).await
    }

    async fn post(&self, body: &[u8]) -> Response<Bytes> {
        self.send(post(), &[body]).await
    }
}

async fn whole(mut stream: ClientStream) -> Response<Bytes> {
    let (head, ()) = stream.recv_response().await.unwrap().into_parts();
    let mut octets = Vec::new();
    while let Some(mut data) = stream.recv_data().await.unwrap() {
        octets.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Response::from_parts(head, octets.into())
}

fn get(label: &str) -> Request<()> {
    let dns = URL_SAFE_NO_PAD.encode(query(0, label));
    Request::get(format!("https://a.example/dns-query?dns={dns}")).body(()).unwrap()
}

fn post() -> Request<()> {
    let request = Request::post("https://a.example/dns-query").header("content-type", "application/dns-message");
    request.body(()).unwrap()
}

#[tokio::test]
async fn doh_01_03_dh3_01_get_and_post_are_answered_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    for (id, response) in [(0, client.get("now").await), (7, client.post(&query(7, "now")).await)] {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/dns-message");
        assert_eq!(response.headers()["content-length"], response.body().len().to_string());
        assert_answers(response.body(), id, "now");
    }
    assert!(rehearsal.heard(Transport::Doh3));
    assert_eq!(rehearsal.context.counters.connections_open[Transport::Doh3 as usize].value(), 1);
}

#[tokio::test]
async fn doh_01_a_post_in_several_frames_is_one_question_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let message = query(3, "now");
    let mut stream = client.begin(post()).await;
    for part in message.chunks(9) {
        stream.send_data(Bytes::copy_from_slice(part)).await.unwrap();
        // A round trip of another request: the parts come in packets of their own.
        assert_eq!(client.get("now").await.status(), StatusCode::OK);
    }
    stream.finish().await.unwrap();
    assert_answers(whole(stream).await.body(), 3, "now");
    let parts: Vec<_> = message.chunks(1).collect();
    assert_answers(client.send(post(), &parts).await.body(), 3, "now");
}

#[tokio::test]
async fn doh_02_04_05_what_is_no_query_is_told_apart_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut response = query(0, "now");
    response[2] |= 0x80;
    for body in [response, vec![0; 11]] {
        let answer = client.post(&body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
    assert_eq!(client.send(post(), &[]).await.status(), StatusCode::BAD_REQUEST);
    let padded = Request::get("https://a.example/dns-query?dns=AA==").body(()).unwrap();
    assert_eq!(client.send(padded, &[]).await.status(), StatusCode::BAD_REQUEST);
    let answer = client.post(&query(9, "now")[..20]).await;
    assert_eq!((answer.status(), answer.body()[3] & 0xf), (StatusCode::OK, 1), "FORMERR in a 200");
}

#[tokio::test]
async fn doh_06_07_09_media_types_methods_and_paths_are_told_apart_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let ask = |method: Method, path: &str| {
        let uri = format!("https://a.example{path}");
        Request::builder().method(method).uri(uri).header("content-type", "text/plain").body(()).unwrap()
    };
    let cases = [
        (ask(Method::POST, "/dns-query"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (ask(Method::PUT, "/dns-query"), StatusCode::METHOD_NOT_ALLOWED),
        (ask(Method::from_bytes(b"BREW").unwrap(), "/dns-query"), StatusCode::NOT_IMPLEMENTED),
        (ask(Method::GET, "/x"), StatusCode::NOT_FOUND),
        (ask(Method::GET, &format!("/dns-query?dns={}", "A".repeat(6200))), StatusCode::URI_TOO_LONG),
    ];
    for (request, status) in cases {
        let answer = client.send(request, &[]).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let allow = answer.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(allow, (status == StatusCode::METHOD_NOT_ALLOWED).then_some("GET, HEAD, POST"));
    }
}

#[tokio::test]
async fn doh_08_a_body_over_65535_octets_is_too_large_announced_or_not_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut announced = post();
    announced.headers_mut().insert("content-length", HeaderValue::from(65_536));
    for request in [announced, post()] {
        let mut stream = client.begin(request).await;
        // The server may stop reading before it has all.
        _ = stream.send_data(vec![0; 65_536].into()).await;
        assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn doh_10_head_has_the_headers_of_get_and_no_body_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let whole = client.get("now").await;
    let mut request = get("now");
    *request.method_mut() = Method::HEAD;
    let head = client.send(request, &[]).await;
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
    for name in ["content-type", "content-length", "cache-control"] {
        assert_eq!(head.headers()[name], whole.headers()[name], "{name}");
    }
}

#[tokio::test]
async fn doh_11_13_freshness_follows_the_facts_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    for (label, value) in [("now", "max-age=300"), ("private", "private, max-age=60"), ("nostore", "no-store")] {
        assert_eq!(client.get(label).await.headers()["cache-control"], value);
    }
    rehearsal.open();
    assert_eq!(client.get("later").await.headers()["cache-control"], "max-age=300");
    for (label, status) in [("access", StatusCode::FORBIDDEN), ("limit", StatusCode::TOO_MANY_REQUESTS)] {
        assert_eq!(client.get(label).await.status(), status);
    }
}

#[tokio::test]
async fn doh_18_slow_questions_hold_up_no_others_over_http3() {
    let mut rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut slow = JoinSet::new();
    for number in 0..50 {
        // More than the first credit: it grows as they come.
        let mut stream = client.begin(post()).await;
        stream.send_data(query(number, "later").into()).await.unwrap();
        stream.finish().await.unwrap();
        slow.spawn(async move { (number, whole(stream).await) });
    }
    rehearsal.pending(50).await;
    for number in 0..50 {
        assert_answers(client.post(&query(number, "now")).await.body(), number, "now");
    }
    assert_eq!(slow.len(), 50);
    rehearsal.open();
    while let Some(answer) = slow.join_next().await {
        let (number, response) = answer.unwrap();
        assert_answers(response.body(), number, "later");
    }
    assert_eq!(rehearsal.context.counters.overflow.value(), 0);
}

#[tokio::test]
async fn doh_03_large_answers_come_whole_over_http3() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    rehearsal.open();
    for label in ["big", "laterbig"] {
        assert_answers(client.post(&query(1, label)).await.body(), 1, label);
    }
}

#[tokio::test]
async fn dh3_09_a_question_whose_answer_is_stopped_is_dropped() {
    let mut rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut stream = client.begin(get("never")).await;
    stream.finish().await.unwrap();
    rehearsal.pending(1).await;
    stream.stop_sending(Code::H3_REQUEST_CANCELLED);
    rehearsal.pending(0).await;
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn dh3_09_a_question_that_is_reset_is_dropped() {
    let mut rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut stream = client.begin(get("never")).await;
    rehearsal.pending(1).await;
    stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    rehearsal.pending(0).await;
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn dh3_09_questions_of_a_lost_connection_are_dropped() {
    let mut rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let mut stream = client.begin(get("never")).await;
    stream.finish().await.unwrap();
    rehearsal.pending(1).await;
    client.line.connection.close(0x100_u32.into(), b"");
    rehearsal.pending(0).await;
    client.line.server.await.unwrap();
    assert_eq!(rehearsal.context.counters.connections_open[Transport::Doh3 as usize].value(), 0);
    assert_eq!(rehearsal.context.counters.protocol_errors.value(), 0);
}

#[tokio::test]
async fn a_page_is_served_beside_dns_and_only_read() {
    let rehearsal = Rehearsal::new();
    let client = Client::of(&rehearsal).await;
    let ask = |method| Request::builder().method(method).uri("https://a.example/set-up").body(()).unwrap();
    let get = client.send(ask(Method::GET), &[]).await;
    assert_eq!((get.status(), &get.body()[..]), (StatusCode::OK, &b"<p>How to</p>"[..]));
    let head = client.send(ask(Method::HEAD), &[]).await;
    assert_eq!((&head.headers()["content-length"], head.body().len()), (&HeaderValue::from_static("13"), 0));
    assert_eq!(client.send(ask(Method::DELETE), &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}
