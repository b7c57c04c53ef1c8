//! HTTP/2.

use ::h2::client::{self, SendRequest};
use ::h2::{Reason, RecvStream};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::*;
use crate::listen::rehearsal::{assert_answers, query};

pub(super) struct Client {
    pub(super) requests: SendRequest<Bytes>,
    pub(super) server: JoinHandle<()>,
}

impl Client {
    pub(super) async fn of(rehearsal: &Rehearsal) -> Self {
        let (stream, server) = connect(rehearsal, Some(b"h2")).await;
        // No stream before the server has said how many: what a client guesses may be refused.
        let mut builder = client::Builder::new();
        let (requests, connection) = builder.initial_max_send_streams(0).handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { requests: requests.ready().await.unwrap(), server }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<()>,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Bytes>, ::h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut stream) = requests.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body.into(), true)?;
        }
        whole(response.await?).await
    }

    pub(super) async fn get(&mut self, label: &str) -> Response<Bytes> {
        self.send(get(label), None).await.unwrap()
    }

    pub(super) async fn post(&mut self, body: Vec<u8>) -> Response<Bytes> {
        self.send(post(), Some(body)).await.unwrap()
    }
}

pub(super) async fn whole(response: Response<RecvStream>) -> Result<Response<Bytes>, ::h2::Error> {
    let (head, mut body) = response.into_parts();
    let mut octets = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        octets.extend_from_slice(&data);
    }
    Ok(Response::from_parts(head, octets.into()))
}

pub(super) fn get(label: &str) -> Request<()> {
    let dns = URL_SAFE_NO_PAD.encode(query(0, label));
    Request::get(format!("https://a.example/dns-query?dns={dns}")).body(()).unwrap()
}

pub(super) fn post() -> Request<()> {
    let request = Request::post("https://a.example/dns-query").header("content-type", "application/dns-message");
    request.body(()).unwrap()
}

#[tokio::test]
async fn doh_01_03_get_and_post_answer_200_with_one_message_and_its_length() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    for (id, response) in [(0, client.get("now").await), (7, client.post(query(7, "now")).await)] {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/dns-message");
        assert_eq!(response.headers()["content-length"], response.body().len().to_string());
        assert_answers(response.body(), id, "now");
    }
    assert!(rehearsal.heard(Transport::Doh2));
    assert_eq!(rehearsal.context.counters.connections_open[Transport::Doh2 as usize].value(), 1);
}

#[tokio::test]
async fn doh_02_05_what_is_no_query_is_a_bad_request() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut response = query(0, "now");
    response[2] |= 0x80;
    for body in [response, vec![0; 11], vec![]] {
        let answer = client.post(body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers()["content-type"], "text/plain");
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
    for target in ["/dns-query", "/dns-query?dns=", "/dns-query?dns=AA==", "/dns-query?dns=+AAA"] {
        let request = Request::get(format!("https://a.example{target}")).body(()).unwrap();
        assert_eq!(client.send(request, None).await.unwrap().status(), StatusCode::BAD_REQUEST, "{target}");
    }
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn doh_04_a_malformed_question_is_answered_by_dns() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut broken = query(9, "now");
    broken.truncate(20);
    let answer = client.post(broken).await;
    assert_eq!((answer.status(), answer.body()[3] & 0xf), (StatusCode::OK, 1), "FORMERR in a 200");
}

#[tokio::test]
async fn doh_06_07_09_wrong_media_types_methods_and_paths_are_told_apart() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let ask = |method: Method, path: &str| {
        let uri = format!("https://a.example{path}");
        Request::builder().method(method).uri(uri).header("content-type", "text/plain").body(()).unwrap()
    };
    let cases = [
        (ask(Method::POST, "/dns-query"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (ask(Method::PUT, "/dns-query"), StatusCode::METHOD_NOT_ALLOWED),
        (ask(Method::from_bytes(b"BREW").unwrap(), "/dns-query"), StatusCode::NOT_IMPLEMENTED),
        (ask(Method::GET, "/x"), StatusCode::NOT_FOUND),
    ];
    for (request, status) in cases {
        let answer = client.send(request, Some(query(0, "now"))).await.unwrap();
        assert_eq!(answer.status(), status);
        let allow = answer.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(allow, (status == StatusCode::METHOD_NOT_ALLOWED).then_some("GET, HEAD, POST"));
    }
    let mut long = ask(Method::GET, "/dns-query");
    long.headers_mut().insert("x-long", HeaderValue::from_bytes(&[b'a'; 9000]).unwrap());
    assert_eq!(client.send(long, None).await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn doh_08_a_body_over_65535_octets_is_too_large_announced_or_not() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut announced = post();
    announced.headers_mut().insert("content-length", HeaderValue::from(65_536));
    for request in [announced, post()] {
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (response, mut stream) = requests.send_request(request, false).unwrap();
        stream.send_data(vec![0; 65_536].into(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn doh_10_head_has_the_headers_of_get_and_no_body() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let get_answer = client.get("now").await;
    let mut request = get("now");
    *request.method_mut() = Method::HEAD;
    let head = client.send(request, None).await.unwrap();
    assert_eq!(head.body().len(), 0);
    assert_eq!(head.status(), get_answer.status());
    for name in ["content-type", "content-length", "cache-control", "alt-svc"] {
        assert_eq!(head.headers()[name], get_answer.headers()[name], "{name}");
    }
}

#[tokio::test]
async fn doh_11_13_freshness_follows_the_facts() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    for (label, value) in [("now", "max-age=300"), ("private", "private, max-age=60"), ("nostore", "no-store")] {
        assert_eq!(client.get(label).await.headers()["cache-control"], value);
    }
    rehearsal.open();
    assert_eq!(client.get("later").await.headers()["cache-control"], "max-age=300");
    for (label, status) in [("access", StatusCode::FORBIDDEN), ("limit", StatusCode::TOO_MANY_REQUESTS)] {
        let answer = client.get(label).await;
        assert_eq!(
            (answer.status(), &answer.headers()["cache-control"]),
            (status, &HeaderValue::from_static("no-store"))
        );
    }
}

#[tokio::test]
async fn doh_18_slow_questions_hold_up_none_of_500() {
    let mut rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let (mut slow, mut fast) = (JoinSet::new(), JoinSet::new());
    for number in 0..500_u16 {
        let mut requests = client.requests.clone().ready().await.unwrap();
        let label = if number % 10 == 0 && number < 400 { "later" } else { "now" };
        let (response, mut stream) = requests.send_request(post(), false).unwrap();
        stream.send_data(query(number, label).into(), true).unwrap();
        let answer = async move { (number, whole(response.await.unwrap()).await.unwrap()) };
        if label == "later" {
            slow.spawn(answer)
        } else {
            fast.spawn(answer)
        };
    }
    rehearsal.pending(40).await;
    while let Some(answered) = fast.join_next().await {
        let (number, answer) = answered.unwrap();
        assert_answers(answer.body(), number, "now");
    }
    assert_eq!(slow.len(), 40);
    assert!(slow.try_join_next().is_none(), "none is answered before its time");
    rehearsal.open();
    while let Some(answered) = slow.join_next().await {
        let (number, answer) = answered.unwrap();
        assert_answers(answer.body(), number, "later");
    }
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn doh_18_streams_over_the_limit_are_not_open_at_once() {
    let mut rehearsal = Rehearsal::with(|limits| limits.streams_per_connection = 3);
    let client = Client::of(&rehearsal).await;
    let mut answers = JoinSet::new();
    for _ in 0..5 {
        let mut requests = client.requests.clone();
        answers.spawn(async move {
            requests = requests.ready().await.unwrap();
            let (response, _) = requests.send_request(get("later"), true).unwrap();
            whole(response.await.unwrap()).await.unwrap().status()
        });
    }
    rehearsal.pending(3).await;
    rehearsal.open();
    assert!(answers.join_all().await.into_iter().all(|status| status == StatusCode::OK));
}

#[tokio::test]
async fn doh_20_a_body_that_is_not_as_long_as_announced_ends_its_stream_alone() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut request = post();
    request.headers_mut().insert("content-length", HeaderValue::from(500));
    let error = client.send(request, Some(query(0, "now"))).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    assert_eq!(client.get("now").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn doh_21_accept_is_no_condition() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut html = get("now");
    html.headers_mut().insert("accept", HeaderValue::from_static("text/html"));
    for request in [html, get("now")] {
        let answer = client.send(request, None).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/dns-message");
    }
}

#[tokio::test]
async fn doh_23_answers_name_neither_server_nor_client() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let mut names: Vec<String> = client.get("now").await.headers().keys().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["alt-svc", "cache-control", "content-length", "content-type", "date"]);
}

#[tokio::test]
async fn dh3_02_replies_say_where_http_3_is() {
    let rehearsal = Rehearsal::new();
    assert_eq!(Client::of(&rehearsal).await.get("now").await.headers()["alt-svc"], ALT_SVC);
}

#[tokio::test]
async fn a_page_is_served_beside_dns_and_only_read() {
    let rehearsal = Rehearsal::new();
    let mut client = Client::of(&rehearsal).await;
    let ask = |method| Request::builder().method(method).uri("https://a.example/set-up").body(()).unwrap();
    let get = client.send(ask(Method::GET), None).await.unwrap();
    assert_eq!((get.status(), &get.body()[..]), (StatusCode::OK, &b"<p>How to</p>"[..]));
    let head = client.send(ask(Method::HEAD), None).await.unwrap();
    assert_eq!((&head.headers()["content-length"], head.body().len()), (&HeaderValue::from_static("13"), 0));
    assert_eq!(client.send(ask(Method::DELETE), None).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}
