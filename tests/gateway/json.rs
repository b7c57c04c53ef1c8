//! Questions and answers as JSON on the DoH paths, over HTTP/1.1, HTTP/2 and HTTP/3 alike and in clear text.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use hushgate::peer::Transport;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::client::{PATIENCE, http1, http2};
use crate::harness::raw::{HTTP, Noise};
use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

type Heard = (u16, HeaderMap, Bytes);

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn request(rig: &Rig, method: Method, target: &str, accept: Option<&str>) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(rig.doh_uri(target));
    if let Some(accept) = accept {
        builder = builder.header("accept", accept);
    }
    builder.body(Full::default()).unwrap()
}

async fn send(rig: &Rig, transport: Transport, request: Request<Full<Bytes>>) -> Heard {
    let label = request.uri().to_string();
    let heard = tokio::time::timeout(PATIENCE, rig.http(transport, request)).await.expect("no response in time");
    heard.unwrap_or_else(|| panic!("no response over {} to {label}", transport.name()))
}

/// What `target` is answered with, which must be JSON.
async fn asked(rig: &Rig, transport: Transport, target: &str) -> (HeaderMap, Value) {
    let (status, headers, body) = send(rig, transport, request(rig, Method::GET, target, Some(JSON))).await;
    assert_eq!((status, text(&headers, "content-type").as_str()), (200, JSON), "{target}: {body:?}");
    (headers, serde_json::from_slice(&body).unwrap())
}

const JSON: &str = "application/dns-json";

#[tokio::test]
async fn a_name_is_answered_as_json_at_once_and_after_a_look_up_with_the_freshness_of_the_wire_form() {
    let rig = Rig::with("[cache]\nprefetch = false").await;
    rig.upstream.always(Answer::new().a(120, [192, 0, 2, 1]).a(120, [192, 0, 2, 2]));
    over_all!(HTTP, |transport| {
        let name = format!("{}.JSON.example.org", transport.name());
        let target = format!("/dns-query?name={name}&type=A&random_padding=xxxx&unknown=1");
        for (passed, ttl) in [(0, 120), (5, 115)] {
            rig.pass(passed);
            let (headers, read) = asked(&rig, transport, &target).await;
            let address =
                |ttl: u32, data: &str| json!({"name": format!("{name}."), "type": 1, "TTL": ttl, "data": data});
            let expected = json!({
                "Status": 0, "TC": false, "RD": true, "RA": true, "AD": false, "CD": false,
                "Question": [{"name": format!("{name}."), "type": 1}],
                "Answer": [address(ttl, "192.0.2.1"), address(ttl, "192.0.2.2")],
            });
            assert_eq!(read.to_string(), expected.to_string(), "fields and their order");
            assert_eq!(text(&headers, "cache-control"), format!("max-age={ttl}"));
            assert_eq!(text(&headers, "vary"), "accept");
            assert_eq!(text(&headers, "x-content-type-options"), "nosniff");
            assert!(
                headers.get("access-control-allow-origin").is_none(),
                "no web page reads a private network's names"
            );
            assert_eq!(headers.get("alt-svc").is_some(), transport != Transport::Doh3);
        }
        let asked = rig.upstream.log().iter().filter(|asked| asked.name().eq_ignore_ascii_case(&name)).count();
        assert_eq!(asked, 1);
    });
}

#[tokio::test]
async fn doh_10_head_of_a_name_has_the_headers_of_get_and_no_body() {
    let rig = Rig::start().await;
    over_all!(HTTP, |transport| {
        let target = format!("/dns-query?name={}.head.example.org", transport.name());
        _ = asked(&rig, transport, &target).await;
        let get = send(&rig, transport, request(&rig, Method::GET, &target, None)).await;
        let head = send(&rig, transport, request(&rig, Method::HEAD, &target, None)).await;
        assert_eq!((get.0, head.0, head.2.len()), (200, 200, 0));
        assert_eq!(text(&get.1, "content-length"), get.2.len().to_string());
        for name in ["content-type", "content-length", "cache-control", "vary", "alt-svc"] {
            assert_eq!(text(&head.1, name), text(&get.1, name), "{name}");
        }
    });
}

#[tokio::test]
async fn a_dns_variable_wins_and_a_name_is_given_in_the_form_that_the_client_takes() {
    let rig = Rig::start().await;
    let wire = {
        use base64::Engine as _;
        let query = Ask::a("wire.example.org").id(0).bytes();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(query)
    };
    let both = format!("/dns-query?name=json.example.org&dns={wire}");
    let (named, wished) = ("/dns-query?name=json.example.org", "/dns-query?name=json.example.org&ct=");
    let dns = "application/dns-message";
    let table = [
        (both.clone(), None, 200, dns),
        (both, Some(JSON), 200, dns),
        (named.into(), None, 200, JSON),
        (named.into(), Some("*/*"), 200, JSON),
        (named.into(), Some("text/html,application/xhtml+xml,*/*;q=0.8"), 200, JSON),
        (named.into(), Some("Application/DNS-JSON;q=0.5, application/json;q=0.4"), 200, JSON),
        (named.into(), Some("application/json, text/plain, */*"), 200, "application/json"),
        (named.into(), Some("application/dns-json;q=0, application/*"), 200, "application/json"),
        (named.into(), Some("application/dns-message"), 200, dns),
        (named.into(), Some("text/html"), 406, "text/plain"),
        (named.into(), Some("*/*;q=0"), 406, "text/plain"),
        (format!("{wished}application/dns-json"), Some(dns), 200, JSON),
        (format!("{wished}application%2Fdns-message"), None, 200, dns),
        (format!("{wished}application/x-javascript"), None, 200, JSON),
    ];
    over_all!(HTTP, |transport| {
        for (target, accept, expected, form) in &table {
            let (status, headers, body) = send(&rig, transport, request(&rig, Method::GET, target, *accept)).await;
            assert_eq!((status, text(&headers, "content-type").as_str()), (*expected, *form), "{target} {accept:?}");
            if *form == dns {
                assert_eq!(message::read(&body).answers.len(), 1);
            }
            let varies = status == 200 && !target.contains("dns=");
            assert_eq!(headers.get("vary").is_some(), varies, "{target}: only where one URL has several forms");
        }
    });
}

#[tokio::test]
async fn doh_05_07_09_what_makes_no_question_is_refused_and_nobody_is_asked() {
    let rig = Rig::start().await;
    let long = format!("/dns-query?name={}", "a.".repeat(3500));
    let label = format!("/dns-query?name={}.example", "a".repeat(64));
    let name = format!("/dns-query?name={}", "abc.".repeat(64));
    let table = [
        (400, "/dns-query?type=A"),
        (400, "/dns-query?name="),
        (400, "/dns-query?name"),
        (400, "/dns-query?NAME=example.org"),
        (400, "/dns-query?name=a..example"),
        (400, "/dns-query?name=.example"),
        (400, &label),
        (400, &name),
        (400, "/dns-query?name=b%C3%BCcher.example"),
        (400, "/dns-query?name=%FF.example"),
        (400, "/dns-query?name=a.example&type=0"),
        (400, "/dns-query?name=a.example&type=65536"),
        (400, "/dns-query?name=a.example&type=BOGUS"),
        (400, "/dns-query?name=a.example&type=TYPE%2B28"),
        (400, "/dns-query?name=a.example&type=41"),
        (400, "/dns-query?name=a.example&type=OPT"),
        (400, "/dns-query?name=a.example&type=TYPE250"),
        (400, "/dns-query?name=a.example&cd=2"),
        (400, "/dns-query?name=a.example&do=yes"),
        (400, "/dns-query?name=a.example&edns_client_subnet=192.0.2.0/33"),
        (400, "/dns-query?name=a.example&edns_client_subnet=here"),
        (400, "/dns-query?name=a.example&dns=!"),
        (404, "/resolve?name=a.example"),
        (414, &long),
    ];
    over_all!(HTTP, |transport| {
        for (expected, target) in table {
            let (status, headers, body) = send(&rig, transport, request(&rig, Method::GET, target, Some(JSON))).await;
            assert_eq!((status, text(&headers, "cache-control").as_str()), (expected, "no-store"), "{target}");
            assert!(!body.is_empty());
        }
        for (method, expected) in [(Method::PUT, 405), (Method::POST, 415)] {
            let put = request(&rig, method, "/dns-query?name=a.example", Some(JSON));
            assert_eq!(send(&rig, transport, put).await.0, expected);
        }
    });
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn types_flags_and_odd_names_reach_the_upstream_as_they_were_asked() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().soa("example.org", 60, 60));
    over_all!(HTTP, |transport| {
        for (types, number) in
            [("", 1), ("&type=AAAA", 28), ("&type=https", 65), ("&type=16", 16), ("&type=TYPE257", 257)]
        {
            let name = format!("t{number}.{}.example.org", transport.name());
            let (_, read) = asked(&rig, transport, &format!("/dns-query?name={name}.{types}")).await;
            assert_eq!(read["Question"], json!([{"name": format!("{name}."), "type": number}]));
            assert_eq!(read["Authority"][0]["data"], "ns.example.org. root.example.org. 1 3600 600 86400 60");
            assert!(read.get("Answer").is_none() && read.get("Additional").is_none());
        }
        for (flags, cd, dnssec_ok) in
            [("&cd=1&do=true", true, true), ("&cd=false&do=0", false, false), ("&cd=True&do=", true, false)]
        {
            let name = format!("f{cd}{dnssec_ok}.{}.example.org", transport.name());
            let (_, read) = asked(&rig, transport, &format!("/dns-query?name={name}{flags}")).await;
            assert_eq!((&read["CD"], &read["RD"]), (&json!(cd), &json!(true)));
            let log = rig.upstream.log();
            let sent = log.iter().find(|asked| asked.name() == name).unwrap();
            let read = message::read(&sent.message);
            assert_eq!(read.metadata.checking_disabled, cd, "{flags}");
            assert_eq!(read.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok), dnssec_ok, "{flags}");
        }
        let odd = format!(r"/dns-query?name=a%5C.b.%5C000c+d.{}.example.org", transport.name());
        let (_, read) = asked(&rig, transport, &odd).await;
        assert_eq!(read["Question"][0]["name"], format!(r"a\.b.\000c\032d.{}.example.org.", transport.name()));
    });
}

#[tokio::test]
async fn ecs_02_a_subnet_in_the_url_is_the_option_on_the_wire_and_its_scope_is_told() {
    let rig = Rig::with("[privacy]\necs = \"forward\"\n").await;
    rig.upstream.script(|asked| {
        let Some(mut data) = message::option(&asked.message, 8) else {
            return Act::Answer(Answer::new().a(60, [192, 0, 2, 9]));
        };
        data[3] = data[2];
        Act::Answer(Answer::new().a(60, [192, 0, 2, 1]).opt(&[(8, &data)]))
    });
    over_all!(HTTP, |transport| {
        for (place, (told, sent, said)) in [
            ("198.51.100.0/24", Some(vec![0, 1, 24, 0, 198, 51, 100]), json!("198.51.100.0/24/24")),
            ("198.51.103.77/20", Some(vec![0, 1, 20, 0, 198, 51, 96]), json!("198.51.96.0/20/20")),
            ("198.51.100.7", Some(vec![0, 1, 24, 0, 198, 51, 100]), json!("198.51.100.0/24/24")),
            ("2001:db8:1:2::/56", Some(vec![0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 0]), json!("2001:db8:1::/56/56")),
            ("0.0.0.0/0", Some(vec![0, 1, 0, 0]), json!("0.0.0.0/0/0")),
            ("", None, Value::Null),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("{place}.{}.example.org", transport.name());
            let (_, read) = asked(&rig, transport, &format!("/dns-query?name={name}&edns_client_subnet={told}")).await;
            assert_eq!(read["edns_client_subnet"], said, "{told}");
            let log = rig.upstream.log();
            let arrived = log.iter().find(|asked| asked.name() == name).unwrap();
            assert_eq!(message::option(&arrived.message, 8), sent, "{told}");
        }
    });
}

#[tokio::test]
async fn ede_every_error_says_what_it_is_in_a_comment() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Answer(Answer::new().rcode(2).opt(&[(15, b"\0\x16all \x1b\"servers\"")])));
    over_all!(HTTP, |transport| {
        let (headers, read) =
            asked(&rig, transport, &format!("/dns-query?name={}.example.org", transport.name())).await;
        assert_eq!((&read["Status"], text(&headers, "cache-control").as_str()), (&json!(2), "no-store"));
        let comment = read["Comment"][0].as_str().unwrap();
        assert!(comment.starts_with("EDE(22): No Reachable Authority"), "{comment}");
    });
}

#[tokio::test]
async fn records_that_break_their_type_are_shown_in_the_generic_form() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        let answer = |rdata: &[u8]| Answer::new().answer("@", asked.rtype(), 60, rdata);
        Act::Answer(match asked.rtype() {
            1 => answer(&[192, 0, 2]),
            16 => answer(&[9, b'x']).answer("@", 16, 60, b"\x03a\"\x1b"),
            65 => answer(b"\0\x01\0\0\x01\0\x06\x02h2\x02h3"),
            _ => answer(&[1, 0xab]),
        })
    });
    over_all!(HTTP, |transport| {
        for (rtype, expected) in [
            ("A", vec![r"\# 3 c00002"]),
            ("TXT", vec![r"\# 2 0978", r#""a\"\027""#]),
            ("HTTPS", vec!["1 . alpn=h2,h3"]),
            ("TYPE65400", vec![r"\# 2 01ab"]),
        ] {
            let target = format!("/dns-query?name={}.example.org&type={rtype}", transport.name());
            let (_, read) = asked(&rig, transport, &target).await;
            let answers = read["Answer"].as_array().unwrap_or_else(|| panic!("{rtype}: {read}"));
            let data: Vec<_> = answers.iter().map(|record| record["data"].as_str().unwrap()).collect();
            assert_eq!(data, expected, "{rtype}");
        }
    });
}

#[tokio::test]
async fn a_reply_that_grows_too_long_in_words_is_cut_and_says_so() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        if !asked.tcp {
            return Act::Answer(Answer::new().flag(0x0200));
        }
        Act::Answer((0..1500).fold(Answer::new(), |answer, _| answer.answer("@", 2, 60, &[0xc0, 12])))
    });
    // Octets of which each takes five in JSON.
    let label = "%5C000".repeat(60);
    over_all!(HTTP, |transport| {
        let target = format!("/dns-query?name={}.{label}.{label}.{label}.org&type=NS", transport.name());
        let (headers, read) = asked(&rig, transport, &target).await;
        assert_eq!(read["TC"], true);
        let answers = read["Answer"].as_array().unwrap().len();
        assert!((100..1500).contains(&answers), "{answers}");
        let length: usize = text(&headers, "content-length").parse().unwrap();
        assert!((400_000..600_000).contains(&length), "{length}");
    });
}

#[tokio::test]
async fn in_clear_text_the_same_is_answered() {
    let rig = Rig::start().await;
    let target = "/dns-query?name=clear.example.org";
    let stream = || async { TcpStream::connect(rig.doh_clear()).await.unwrap() };
    let one = http1(stream().await, request(&rig, Method::GET, target, None)).await.unwrap();
    let two = http2(stream().await, request(&rig, Method::GET, target, None)).await.unwrap();
    for (status, headers, body) in [one, two] {
        assert_eq!((status, text(&headers, "content-type").as_str()), (200, JSON));
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["Status"], 0);
    }
}

#[tokio::test]
async fn mutated_variables_get_an_answer_or_a_refusal_and_the_next_good_question_is_answered() {
    let rig = Rig::start().await;
    let mut noise = Noise::new(9110);
    over_all!(HTTP, |transport| {
        for _ in 0..40 {
            let length = noise.below(60);
            let octets = noise.octets(length).iter().fold(String::new(), |text, octet| text + &format!("%{octet:02x}"));
            let key = ["name", "type", "cd", "edns_client_subnet", "ct"][noise.below(5)];
            let target = format!("/dns-query?{key}={octets}&name=a.example.org");
            let (status, _, _) = send(&rig, transport, request(&rig, Method::GET, &target, Some(JSON))).await;
            assert!([200, 400].contains(&status), "{status} for {target}");
        }
        assert_eq!(asked(&rig, transport, "/dns-query?name=good.example.org").await.1["Status"], 0);
    });
}
