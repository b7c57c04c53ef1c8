//! DNS over HTTPS over HTTP/1.1, HTTP/2 and HTTP/3 alike (STANDARDS groups DOH and DH3).

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use hushgate::peer::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::raw::{HTTP, Noise};
use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

type Heard = (u16, HeaderMap, Bytes);

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// A request to the DoH door: method, path with query, headers, body.
fn request(rig: &Rig, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(rig.doh_uri(path));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

const DNS: (&str, &str) = ("content-type", "application/dns-message");

async fn send(rig: &Rig, transport: Transport, request: Request<Full<Bytes>>) -> Heard {
    let label = format!("{} {}", request.method(), request.uri());
    let sending = tokio::time::timeout(crate::harness::client::PATIENCE, rig.http(transport, request));
    sending
        .await
        .expect("no response in time")
        .unwrap_or_else(|| panic!("no response over {} to {label}", transport.name()))
}

/// GET and POST of one question.
fn both(rig: &Rig, query: &[u8]) -> [Request<Full<Bytes>>; 2] {
    [rig.get(query), rig.post(query)]
}

fn encoded(query: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(query)
}

#[tokio::test]
async fn doh_01_03_and_14_get_and_post_answer_one_bare_message_with_its_length_and_id() {
    let rig = Rig::start().await;
    over_all!(HTTP, |transport| {
        for id in [0, 0x1234] {
            for request in both(&rig, &Ask::a("plain.example.org").id(id).bytes()) {
                let (status, headers, body) = send(&rig, transport, request).await;
                assert_eq!((status, text(&headers, "content-type").as_str()), (200, "application/dns-message"));
                assert_eq!(text(&headers, "content-length"), body.len().to_string());
                let read = message::read(&body);
                assert_eq!((read.metadata.id, read.answers.len()), (id, 1));
                assert!(text(&headers, "content-encoding").is_empty());
            }
        }
    });
}

#[tokio::test]
async fn doh_02_and_05_what_is_no_query_is_a_bad_request_that_nobody_keeps() {
    let rig = Rig::start().await;
    let good = Ask::a("strict.example.org").id(0).bytes();
    let (value, mut response) = (encoded(&good), good.clone());
    response[2] |= 0x80;
    // 40 octets and a remainder of one: three spellings of the same that are not canonical.
    let padded = encoded(&[&good[..], &[0][..]].concat()[..34]);
    let targets = [
        "/dns-query".to_owned(),
        "/dns-query?".to_owned(),
        "/dns-query?dns".to_owned(),
        "/dns-query?dns=".to_owned(),
        "/dns-query?DNS=AAAA".to_owned(),
        format!("/dns-query?dns={padded}=="),
        format!("/dns-query?dns={padded}%3D%3D"),
        format!("/dns-query?dns={}+", &value[..20]),
        format!("/dns-query?dns={}/", &value[..20]),
        "/dns-query?dns=AAABAAABAA".to_owned(),
        format!("/dns-query?dns={}", encoded(&response)),
    ];
    over_all!(HTTP, |transport| {
        let posts = [&[][..], &good[..11], &response[..]].map(|body| request(&rig, "POST", "/dns-query", &[DNS], body));
        let gets = targets.iter().map(|target| request(&rig, "GET", target, &[], &[]));
        for request in gets.chain(posts) {
            let label = request.uri().to_string();
            let (status, headers, body) = send(&rig, transport, request).await;
            assert_eq!(status, 400, "{label}");
            assert_eq!(text(&headers, "cache-control"), "no-store", "DOH-13");
            assert_ne!(text(&headers, "content-type"), "application/dns-message");
            assert!(!body.is_empty(), "says what is wrong");
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn doh_04_every_rcode_comes_inside_200() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let digits: String = asked.name().chars().filter(char::is_ascii_digit).collect();
        Act::Answer(Answer::new().rcode(digits[digits.len() - 1..].parse().unwrap()))
    });
    over_all!(HTTP, |transport| {
        for rcode in [0, 2, 3, 4, 5] {
            let name = format!("{}.code{rcode}.example.org", transport.name());
            for request in both(&rig, &Ask::a(&name).id(0).bytes()) {
                let (status, headers, body) = send(&rig, transport, request).await;
                assert_eq!((status, message::rcode(&body)), (200, rcode));
                assert!(["no-store", "max-age=0"].contains(&text(&headers, "cache-control").as_str()), "DOH-12");
            }
        }
        // A readable header with a broken question: the gateway's own FORMERR. An opcode unknown: NOTIMP.
        let mut broken = Ask::a("broken.example.org").id(0).bytes();
        broken.truncate(20);
        let opcode = Ask::a("opcode.example.org").id(0).flags(0x3100).bytes();
        for (query, rcode) in [(broken, 1), (opcode, 4)] {
            for request in both(&rig, &query) {
                let (status, _, body) = send(&rig, transport, request).await;
                assert_eq!((status, message::rcode(&body)), (200, rcode));
            }
        }
    });
}

#[tokio::test]
async fn doh_06_and_21_media_types_are_compared_as_media_types_and_accept_is_no_condition() {
    let rig = Rig::start().await;
    let query = Ask::a("media.example.org").id(0).bytes();
    let table: [(u16, &[(&str, &str)]); 10] = [
        (200, &[DNS]),
        (200, &[("content-type", "APPLICATION/DNS-MESSAGE")]),
        (200, &[("content-type", "application/dns-message; charset=utf-8")]),
        (200, &[DNS, ("accept", "text/html")]),
        (200, &[DNS, ("accept", "application/dns-message")]),
        (200, &[DNS, ("accept", "*/*;q=0.1"), ("cookie", "a=b"), ("user-agent", "x")]),
        (415, &[]),
        (415, &[("content-type", "")]),
        (415, &[("content-type", "application/dns-json")]),
        (415, &[("content-type", "text/plain; application/dns-message")]),
    ];
    over_all!(HTTP, |transport| {
        for (expected, headers) in table {
            let (status, heard, _) = send(&rig, transport, request(&rig, "POST", "/dns-query", headers, &query)).await;
            assert_eq!(status, expected, "{headers:?}");
            assert!(expected == 200 || text(&heard, "cache-control") == "no-store");
        }
    });
}

#[tokio::test]
async fn doh_07_and_09_methods_and_paths_are_told_apart() {
    let rig = Rig::start().await;
    let target = format!("/dns-query?dns={}", encoded(&Ask::a("method.example.org").id(0).bytes()));
    over_all!(HTTP, |transport| {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
            let (status, headers, _) = send(&rig, transport, request(&rig, method, &target, &[], &[])).await;
            assert_eq!((status, text(&headers, "allow").as_str()), (405, "GET, HEAD, POST"), "{method}");
        }
        assert_eq!(send(&rig, transport, request(&rig, "BREW", &target, &[], &[])).await.0, 501);
        for path in ["/dns-query/", "/DNS-QUERY", "/dns-query/../dns-query", "//dns-query", "/metrics", "/healthz"] {
            let (status, headers, _) = send(&rig, transport, request(&rig, "GET", path, &[], &[])).await;
            assert_eq!((status, text(&headers, "cache-control").as_str()), (404, "no-store"), "{path}");
        }
        let long = format!("/dns-query?dns={}", "A".repeat(7000));
        assert_eq!(send(&rig, transport, request(&rig, "GET", &long, &[], &[])).await.0, 414);
        let headers: Vec<(String, String)> = (0..100).map(|i| (format!("x-{i}"), "y".repeat(100))).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(send(&rig, transport, request(&rig, "GET", &target, &headers, &[])).await.0, 431);
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn doh_08_a_body_longer_than_any_message_is_too_large() {
    let rig = Rig::start().await;
    over_all!(HTTP, |transport| {
        let (status, headers, _) =
            send(&rig, transport, request(&rig, "POST", "/dns-query", &[DNS], &vec![0; 70_000])).await;
        assert_eq!((status, text(&headers, "cache-control").as_str()), (413, "no-store"));
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn doh_10_head_has_the_headers_of_get_and_no_body() {
    let rig = Rig::start().await;
    let target = format!("/dns-query?dns={}", encoded(&Ask::a("head.example.org").id(0).bytes()));
    over_all!(HTTP, |transport| {
        for path in [target.as_str(), "/dns-query", "/nowhere"] {
            let get = send(&rig, transport, request(&rig, "GET", path, &[], &[])).await;
            let head = send(&rig, transport, request(&rig, "HEAD", path, &[], &[])).await;
            assert_eq!((head.0, head.2.len()), (get.0, 0), "{path}");
            for name in ["content-type", "content-length", "cache-control", "alt-svc"] {
                assert_eq!(text(&head.1, name), text(&get.1, name), "{name} at {path}");
            }
        }
    });
}

#[tokio::test]
async fn doh_11_max_age_is_the_smallest_answer_ttl_as_served_now() {
    let rig = Rig::with("[cache]\nprefetch = false").await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]).a(120, [192, 0, 2, 2]));
    over_all!(HTTP, |transport| {
        let name = format!("{}.age.example.org", transport.name());
        for (passed, left) in [(0, 120), (5, 115), (60, 55), (54, 1)] {
            rig.pass(passed);
            for request in both(&rig, &Ask::a(&name).id(0).bytes()) {
                let (_, headers, body) = send(&rig, transport, request).await;
                assert_eq!(text(&headers, "cache-control"), format!("max-age={left}"));
                assert_eq!(message::ttls(&body).iter().min(), Some(&left));
                assert!(headers.get("age").is_none() && headers.get("expires").is_none());
            }
        }
        assert_eq!(rig.upstream.log().iter().filter(|asked| asked.name() == name).count(), 1);
    });
}

#[tokio::test]
async fn doh_12_negative_freshness_is_the_smaller_of_soa_ttl_and_minimum_and_failures_are_not_kept() {
    let rig = Rig::start().await;
    let negative = |rcode, ttl, minimum| Answer::new().rcode(rcode).soa("example.org", ttl, minimum);
    let table = [
        ("nx", negative(3, 200, 60), "max-age=60", "max-age=55"),
        ("nx2", negative(3, 60, 200), "max-age=60", "max-age=55"),
        ("none", negative(0, 100, 30), "max-age=30", "max-age=25"),
        ("zero", negative(3, 100, 0), "no-store", "no-store"),
        ("bare", Answer::new().rcode(3), "no-store", "no-store"),
        ("empty", Answer::new(), "no-store", "no-store"),
        ("failed", Answer::new().rcode(2), "no-store", "no-store"),
        ("refused", Answer::new().rcode(5), "no-store", "no-store"),
        ("ttl0", Answer::new().a(0, [192, 0, 2, 1]), "no-store", "no-store"),
    ];
    over_all!(HTTP, |transport| {
        for (label, answer, first, later) in &table {
            rig.upstream.always(answer.clone());
            let query = Ask::a(&format!("{label}.{}.example.org", transport.name())).id(0).bytes();
            for (passed, expected) in [(0, first), (5, later)] {
                rig.pass(passed);
                let (status, headers, _) = send(&rig, transport, rig.get(&query)).await;
                let heard = text(&headers, "cache-control").replace("max-age=0", "no-store");
                assert_eq!((status, &heard.as_str()), (200, expected), "{label}");
            }
        }
    });
}

#[tokio::test]
async fn doh_20_a_connection_outlives_requests_that_came_to_nothing() {
    let rig = Rig::start().await;
    let good = Ask::a("survivor.example.org").id(0).bytes();
    let (mut h2, connection) = h2::client::handshake(rig.https(b"h2").await).await.unwrap();
    tokio::spawn(connection);
    let bad = [
        request(&rig, "GET", "/dns-query?dns=!", &[], &[]),
        request(&rig, "POST", "/dns-query", &[DNS, ("content-length", "77")], &[]),
        request(&rig, "GET", "/nowhere", &[], &[]),
        request(&rig, "PUT", "/dns-query", &[], &[]),
    ];
    for bad in bad {
        h2 = h2.ready().await.unwrap();
        let (response, _) = h2.send_request(bad.map(drop), true).unwrap();
        // A response or a reset of the stream: either way the next is answered.
        _ = response.await;
        h2 = h2.ready().await.unwrap();
        let (response, _) = h2.send_request(rig.get(&good).map(drop), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn doh_21_whatever_is_accepted_and_does_not_exclude_the_type_a_message_comes() {
    let rig = Rig::start().await;
    over_all!(HTTP, |transport| {
        for accept in
            ["", "text/html", "*/*", "application/dns-message;q=0.1, text/html", "application/json;q=0", ";,=/"]
        {
            for mut request in both(&rig, &Ask::a("accept.example.org").id(0).bytes()) {
                if !accept.is_empty() {
                    request.headers_mut().insert("accept", accept.parse().unwrap());
                }
                let (status, headers, body) = send(&rig, transport, request).await;
                let kind = text(&headers, "content-type");
                assert_eq!((status, kind.as_str()), (200, "application/dns-message"), "{accept:?}");
                assert_eq!(message::counts(&body)[1], 1, "{accept:?}");
            }
        }
    });
}

#[tokio::test]
async fn doh_22_other_variables_their_order_and_percent_encoding_are_tolerated() {
    let rig = Rig::start().await;
    // An id of 0xfbff makes both characters of the URL alphabet appear.
    let value = encoded(&Ask::a("order.example.org").id(0xfbff).bytes());
    assert!(value.starts_with("-_"));
    let targets = [
        format!("/dns-query?ct=x&dns={value}&y=1"),
        format!("/dns-query?dns={value}&dns=AAAA"),
        format!("/dns-query?&dns={}", value.replace('-', "%2D").replace('_', "%5f")),
        format!("/dns-query?d%6Es={value}&"),
    ];
    over_all!(HTTP, |transport| {
        for target in &targets {
            let (status, _, body) = send(&rig, transport, request(&rig, "GET", target, &[], &[])).await;
            assert_eq!((status, body.get(..2)), (200, Some(&[0xfb, 0xff][..])), "{target}");
        }
    });
}

#[tokio::test]
async fn doh_23_answers_carry_nothing_that_tells_who_serves_or_who_asks() {
    let rig = Rig::start().await;
    let allowed = ["content-type", "content-length", "cache-control", "date", "alt-svc", "allow"];
    over_all!(HTTP, |transport| {
        let good = rig.get(&Ask::a("quiet.example.org").id(0).bytes());
        for request in [good, request(&rig, "GET", "/x", &[("cookie", "a=b"), ("origin", "https://a")], &[])] {
            let (_, headers, _) = send(&rig, transport, request).await;
            for name in headers.keys() {
                assert!(allowed.contains(&name.as_str()), "{name}");
            }
        }
    });
}

#[tokio::test]
async fn dh3_02_tcp_replies_say_on_which_port_http_3_is() {
    let rig = Rig::start().await;
    let expected = format!("h3=\":{}\"; ma=86400", rig.doh().port());
    over_all!([Transport::Doh1, Transport::Doh2], |transport| {
        for request in both(&rig, &Ask::a("alt.example.org").id(0).bytes()) {
            assert_eq!(text(&send(&rig, transport, request).await.1, "alt-svc"), expected);
        }
    });
    let over_h3 = send(&rig, Transport::Doh3, rig.get(&Ask::a("alt.example.org").id(0).bytes())).await;
    assert!(over_h3.1.get("alt-svc").is_none(), "who is here needs no direction");
}

#[tokio::test]
async fn requests_with_mutated_bodies_and_values_get_an_answer_or_a_refusal_and_never_a_broken_connection() {
    let rig = Rig::start().await;
    let mut noise = Noise::new(8484);
    over_all!(HTTP, |transport| {
        for _ in 0..15 {
            let length = noise.below(80);
            let octets = noise.octets(length);
            for request in both(&rig, &octets) {
                let (status, _, _) = send(&rig, transport, request).await;
                assert!([200, 400].contains(&status), "{status} for {octets:02x?}");
            }
        }
    });
}
#[tokio::test]
async fn doh_08_a_client_that_goes_on_sending_still_hears_that_it_is_too_much() {
    let rig = Rig::start().await;
    let head = "POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-type: application/dns-message\r\n";
    let chunk = [b"8000\r\n".to_vec(), vec![b'x'; 0x8000], b"\r\n".to_vec()].concat();
    for (how, body) in
        [("content-length: 200000", vec![b'x'; 200_000]), ("transfer-encoding: chunked", chunk.repeat(6))]
    {
        for _ in 0..20 {
            let (mut reader, mut writer) = tokio::io::split(rig.https(b"http/1.1").await);
            let words = [format!("{head}{how}\r\n\r\n").as_bytes(), &body].concat();
            let sending = async {
                // All of it, then the answer: a client like this sees a reset instead, if there is one.
                writer.write_all(&words).await?;
                writer.flush().await
            };
            sending.await.unwrap();
            let mut heard = [0; 12];
            reader.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"HTTP/1.1 413", "{how}");
        }
    }
}
