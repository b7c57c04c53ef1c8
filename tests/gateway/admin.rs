//! The admin listener as probes, scrapers and browsers meet it: health, readiness, metrics, and who may ask.

pub mod openmetrics;

use std::net::SocketAddr;
use std::time::Duration;

use hushgate::peer::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::openmetrics::Scrape;
use crate::harness::{Act, Answer, Ask, ENCRYPTED, Rig, Upstream, client, message};
use crate::over_all;

/// One answer of the admin listener.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Page {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Sends `head` as it is, a blank line after it.
pub async fn send(address: SocketAddr, head: &str) -> Page {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(client::PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Page { status, head: head.to_owned(), body: body.to_owned() }
}

/// `GET path` as a well-behaved client on the same machine.
pub async fn get(address: SocketAddr, path: &str) -> Page {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}")).await
}

/// `POST path` as `hushgate cache` does.
pub async fn post(address: SocketAddr, path: &str) -> Page {
    send(address, &format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json")).await
}

/// What `/metrics` says, read strictly.
pub async fn scrape(address: SocketAddr) -> Scrape {
    let page = get(address, "/metrics").await;
    assert_eq!(page.status, 200);
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(page.header("content-type"), Some(media_type));
    Scrape::read(&page.body)
}

/// Scrapes until `wanted` holds: counters are written by other threads.
pub async fn scrape_until(address: SocketAddr, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    let scraping = async {
        loop {
            let scraped = scrape(address).await;
            if wanted(&scraped) {
                return scraped;
            }
        }
    };
    tokio::time::timeout(client::PATIENCE, scraping).await.expect("the metrics never said so")
}

/// Asks for `path` until its status is `status`.
pub async fn get_until(address: SocketAddr, path: &str, status: u16) -> Page {
    let asking = async {
        loop {
            let page = get(address, path).await;
            if page.status == status {
                return page;
            }
        }
    };
    tokio::time::timeout(client::PATIENCE, asking).await.unwrap_or_else(|_| panic!("{path} was never {status}"))
}

/// A rig whose upstream says nothing from the start.
async fn silent(ready_wait: &str) -> (Rig, Upstream) {
    let upstream = Upstream::start().await;
    upstream.script(|_| Act::Silence);
    let servers = format!("upstream.servers=[\"udp://{}\"]", upstream.address);
    let wait = format!("admin.ready_wait=\"{ready_wait}\"");
    let sets = [&servers, &wait, "upstream.attempt_timeout=\"100ms\"", "upstream.timeout=\"200ms\""];
    (Rig::set("", &sets.map(|set| set as &str)).await, upstream)
}

fn reasons(page: &Page) -> Vec<String> {
    let reasons = page.json()["reasons"].as_array().unwrap().clone();
    reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn health_is_told_and_other_paths_and_methods_are_not_understood() {
    let rig = Rig::start().await;
    let page = get(rig.admin(), "/healthz").await;
    assert_eq!((page.status, page.body.as_str()), (200, "ok\n"));
    for path in ["/healthz/", "/health", "/api", "/metrics/x", "//", "/dns-query"] {
        assert_eq!(get(rig.admin(), path).await.status, 404, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/explain?name=a.example", "/api/upstreams", "/"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0");
            let page = send(rig.admin(), &head).await;
            assert_eq!((page.status, page.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
        let page = send(rig.admin(), &format!("HEAD {path} HTTP/1.1\r\nHost: localhost")).await;
        assert_eq!((page.status, page.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(get(rig.admin(), "/readyz?everything").await.status, 400);
}

#[tokio::test]
async fn readiness_waits_for_an_upstream_and_says_for_what() {
    let (rig, upstream) = silent("10m").await;
    let page = get(rig.admin(), "/readyz").await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header("content-type"), Some("application/json"));
    assert_eq!(page.json()["ready"], false);
    assert_eq!(reasons(&page), ["no upstream has answered yet"]);
    assert!(scrape(rig.admin()).await.value("ready").abs() < 0.5);
    upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    let page = get_until(rig.admin(), "/readyz", 200).await;
    assert_eq!((page.json()["ready"].clone(), reasons(&page).len()), (true.into(), 0));
    assert!((scrape(rig.admin()).await.value("ready") - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn readiness_tells_the_truth_once_the_wait_has_passed_and_of_the_upstream_when_asked() {
    let (rig, upstream) = silent("300ms").await;
    assert_eq!(get(rig.admin(), "/healthz").await.status, 200, "alive, whatever the upstream does");
    assert_eq!(get_until(rig.admin(), "/readyz", 200).await.json()["ready"], true);
    let page = get(rig.admin(), "/readyz?upstream").await;
    assert_eq!((page.status, reasons(&page)), (503, vec!["no upstream is answering".to_owned()]));
    upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    get_until(rig.admin(), "/readyz?upstream", 200).await;
}

#[tokio::test]
async fn readiness_ends_with_the_word_to_stop_while_questions_are_still_answered() {
    let mut rig = Rig::with("[shutdown]\ndelay = \"2s\"").await;
    get_until(rig.admin(), "/readyz", 200).await;
    let stopped = rig.stop();
    let page = get_until(rig.admin(), "/readyz", 503).await;
    assert_eq!(reasons(&page), ["stopping"]);
    assert_eq!(get(rig.admin(), "/readyz?upstream").await.status, 503);
    assert_eq!(get(rig.admin(), "/healthz").await.status, 200);
    rig.ask(Transport::Udp, &Ask::a("late.example.org").bytes()).await;
    stopped.await.unwrap();
}

/// One missed and one remembered question a transport, each over a connection of its own; then a name that does not exist, a
/// message that is no query, and a client that does not trust us.
async fn traffic(rig: &Rig) {
    over_all!(Transport::ALL, |transport| {
        let ask = Ask::a(&format!("{}.example.org", transport.name())).id(0).bytes();
        for _ in 0..2 {
            rig.ask(transport, &ask).await;
        }
    });
    rig.upstream.always(Answer::new().rcode(3).soa("example.org", 300, 300));
    rig.ask(Transport::Tcp, &Ask::a("gone.example.org").bytes()).await;
    let badvers = rig.ask(Transport::Tcp, &Ask::a("version.example.org").version(1).bytes()).await;
    assert_eq!(message::read(&badvers.message).metadata.response_code.low(), 0);
    let stranger = Rig::start().await;
    client::tls(rig.dot(), client::trust(&stranger.authority(), &[])).await.unwrap_err();
}

#[tokio::test]
async fn metrics_count_known_traffic_exactly() {
    let rig = Rig::start().await;
    traffic(&rig).await;
    let open = |scraped: &Scrape| scraped.sum("connections_open");
    let scraped = scrape_until(rig.admin(), |now| open(now) < 0.5 && now.sum("handshakes_failed_total") > 0.5).await;
    let count = |key: &str, expected: u32| {
        let value = scraped.value(key);
        assert!((value - f64::from(expected)).abs() < 1e-9, "{key} is {value}, not {expected}");
    };
    for transport in Transport::ALL {
        let name = transport.name();
        let more = if transport == Transport::Tcp { 2 } else { 0 };
        count(&format!("questions_total{{transport=\"{name}\"}}"), 2 + more);
        let connections = if transport == Transport::Udp { 0 } else { 2 + more };
        count(&format!("connections_total{{transport=\"{name}\"}}"), connections);
    }
    for (source, expected) in [("upstream", 8), ("cache", 7), ("error", 1), ("local", 0)] {
        count(&format!("answers_total{{source=\"{source}\"}}"), expected);
    }
    for (rcode, expected) in [("NOERROR", 14), ("NXDOMAIN", 1), ("BADVERS", 1), ("SERVFAIL", 0), ("FORMERR", 0)] {
        count(&format!("rcodes_total{{rcode=\"{rcode}\"}}"), expected);
    }
    let handshakes = 2 * u32::try_from(ENCRYPTED.len()).unwrap();
    for (key, expected) in [
        ("handshakes_total", handshakes),
        ("handshakes_failed_total{reason=\"bad_signature\",transport=\"dot\"}", 1),
        ("connections_refused_total", 0),
        ("waited_total", 8),
        ("joined_total", 0),
        ("upstream_attempts_total", 8),
        ("upstream_attempts_failed_total", 0),
        ("upstream_seconds_count", 8),
        ("cache_entries", 8),
        ("cache_limit_bytes", 64 << 20),
        ("cache_limited_total", 0),
        ("joins", 0),
        ("connections_held", 0),
        ("workers", 2),
        ("panics_total", 0),
        ("protocol_errors_total", 0),
        ("truncated_total", 0),
    ] {
        count(key, expected);
    }
    let bytes = scraped.value("cache_bytes");
    assert!(bytes > 8.0 * 64.0 && bytes < f64::from(64 << 20), "{bytes}");
    assert!((0.0..80.0).contains(&scraped.value("upstream_seconds_sum")));
    assert_eq!(scraped.matching("build_info").len(), 1);
}

#[tokio::test]
async fn metrics_count_what_is_dropped_truncated_and_open_now() {
    let rig = Rig::with("[access]\nallow = [\"127.0.0.2/32\"]\nrefuse = \"drop\"").await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&Ask::a("outside.example.org").bytes(), rig.dns()).await.unwrap();
    socket.send_to(&[0; 5], rig.dns()).await.unwrap();
    let dropped = |scraped: &Scrape| scraped.sum("dropped_total");
    let scraped = scrape_until(rig.admin(), |now| dropped(now) > 1.5).await;
    assert!((scraped.value("dropped_total{reason=\"access\"}") - 1.0).abs() < 1e-9);
    assert!((scraped.value("dropped_total{reason=\"no_query\"}") - 1.0).abs() < 1e-9);

    let rig = Rig::start().await;
    rig.upstream.always(Answer::new().big(3000, 300));
    rig.ask(Transport::Udp, &Ask::new("big.example.org", 16).bytes()).await;
    let mut kept = rig.dot_stream().await;
    client::framed(&mut kept, &Ask::a("open.example.org").bytes()).await.unwrap();
    let scraped = scrape_until(rig.admin(), |now| now.sum("connections_open") > 0.5).await;
    assert!((scraped.value("truncated_total") - 1.0).abs() < 1e-9);
    assert!((scraped.value("connections_open{transport=\"dot\"}") - 1.0).abs() < 1e-9);
    assert!((scraped.value("connections_held") - 1.0).abs() < 1e-9);
    drop(kept);
    scrape_until(rig.admin(), |now| now.sum("connections_open") < 0.5 && now.value("connections_held") < 0.5).await;
}

#[tokio::test]
async fn each_upstream_is_told_of_by_itself_in_metrics_api_and_page() {
    let (good, bad) = (Upstream::start().await, Upstream::start().await);
    bad.always(Answer::new().rcode(2));
    let (bad_url, good_url) = (format!("udp://{}", bad.address), format!("tcp://{}", good.address));
    // The last is never asked while another answers; its path may be a customer's token.
    let servers = format!("upstream.servers=[\"{bad_url}\", \"{good_url}\"]");
    let fallback = "upstream.fallback=[\"https://127.0.0.1:1/t0ken\", \"https://127.0.0.1:1/t0ken\"]";
    let rig = Rig::set("", &[&servers, fallback, "upstream.strategy=\"ordered\""]).await;
    // The probe's question came to an end: what is counted from here on is ours.
    get_until(rig.admin(), "/readyz", 200).await;
    let of = |name: &str, url: &str| format!("upstream_{name}{{pool=\"default\",upstream=\"{url}\"}}");
    let before = scrape(rig.admin()).await;
    rig.ask(Transport::Udp, &Ask::a("first.example.org").bytes()).await;
    bad.always(Answer::new().a(300, [192, 0, 2, 1]));
    for index in 0..4 {
        rig.ask(Transport::Udp, &Ask::a(&format!("n{index}.example.org")).bytes()).await;
    }
    let after = scrape(rig.admin()).await;
    for (name, of_bad, of_good) in [
        ("questions_total", 5.0, 1.0),
        ("answers_total", 4.0, 1.0),
        ("failures_total", 1.0, 0.0),
        ("handshakes_total", 0.0, 0.0),
        ("handshakes_failed_total", 0.0, 0.0),
        ("replayed_total", 0.0, 0.0),
    ] {
        for (url, expected) in [(&bad_url, of_bad), (&good_url, of_good)] {
            let key = of(name, url);
            let grown: f64 = after.value(&key) - before.value(&key);
            assert!((grown - expected).abs() < 1e-9, "{key} grew by {grown}, not {expected}");
        }
    }
    let (questions, connections) =
        (after.value(&of("questions_total", &good_url)), u32::try_from(good.connections()).unwrap());
    let ratio = after.value(&of("handshakes_per_thousand_questions", &good_url));
    assert!((ratio - (1e6 * f64::from(connections) / questions).round() / 1e3).abs() < 1e-9, "{ratio}");
    assert_eq!(after.matching("upstream_state").len(), 4 * 3);
    assert!((after.sum("upstream_state") - 4.0).abs() < 1e-9, "each in one state");
    for url in ["https://127.0.0.1:1/…", "https://127.0.0.1:1/… #2"] {
        assert!(after.value(&of("questions_total", url)).abs() < 1e-9);
    }
    let api = get(rig.admin(), "/api/upstreams").await;
    assert_eq!((api.status, api.header("content-type")), (200, Some("application/json")));
    let told = api.json()["upstreams"].as_array().unwrap().clone();
    let urls: Vec<&str> = told.iter().map(|one| one["url"].as_str().unwrap()).collect();
    assert_eq!(urls, [&bad_url, &good_url, "https://127.0.0.1:1/…", "https://127.0.0.1:1/… #2"]);
    assert_eq!((&told[1]["pool"], &told[1]["state"]), (&"default".into(), &"up".into()));
    assert_eq!(told[1]["questions"].as_u64().unwrap(), questions as u64);
    assert_eq!(told[1]["handshakes"].as_u64().unwrap(), u64::from(connections));
    let page = get(rig.admin(), "/").await.body;
    assert!(page.contains(&format!("<td>default</td><th scope=\"row\">{good_url}</th><td>up</td>")), "{page}");
    for text in [&page, &api.body, &get(rig.admin(), "/metrics").await.body] {
        assert!(!text.contains("t0ken"), "{text}");
    }
}

#[tokio::test]
async fn metrics_that_the_readme_names_exist() {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let rig = Rig::start().await;
    let page = get(rig.admin(), "/metrics").await.body;
    let named = readme.split("`hushgate_").skip(1).map(|rest| rest.split(['`', '{']).next().unwrap());
    let mut seen = 0;
    for name in named {
        let family = name.strip_suffix("_total").unwrap_or(name);
        let kind = if family == name { "gauge" } else { "counter" };
        assert!(page.contains(&format!("# TYPE hushgate_{family} {kind}\n")), "{name}");
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
}

#[tokio::test]
async fn metrics_tell_the_days_that_certificates_have_left() {
    let folder = tempfile::tempdir().unwrap();
    let chain = crate::identity::self_signed(folder.path(), "ten", &["ten.example"], Duration::from_hours(10 * 24 + 1));
    let rig = Rig::with(&format!("[tls]\ncertificates = [{chain}]")).await;
    let scraped = scrape(rig.admin()).await;
    let days = scraped.matching("certificate_days_left");
    assert_eq!(days.len(), 1, "{days:?}");
    let (key, left) = days[0];
    assert!(key.contains("name=\"ten.example\"") && key.contains("ten.pem"), "{key}");
    assert!((left - 10.0).abs() < 1e-9, "{left}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let ends = scraped.sum("certificate_expiry_timestamp_seconds");
    assert!((now + 239.0 * 3600.0..now + 242.0 * 3600.0).contains(&ends), "{ends}");
}

#[tokio::test]
async fn no_web_page_of_another_site_gets_an_answer() {
    let rig = Rig::start().await;
    let admin = rig.admin();
    let ask = |path: &str, headers: &str| {
        let head = format!("GET {path} HTTP/1.1{headers}");
        async move { send(admin, &head).await.status }
    };
    for path in ["/", "/healthz", "/readyz", "/metrics", "/api/explain?name=a.example"] {
        assert_eq!(ask(path, "\r\nHost: localhost").await, 200, "{path}");
        assert_eq!(ask(path, &format!("\r\nHost: {admin}\r\nOrigin: http://{admin}")).await, 200, "{path}");
        for headers in [
            "\r\nHost: rebound.example",
            "\r\nHost: 192.0.2.1",
            "\r\nHost: localhost\r\nHost: rebound.example",
            "\r\nHost: localhost\r\nOrigin: http://rebound.example",
            "\r\nHost: localhost\r\nOrigin: null",
        ] {
            let status = ask(path, headers).await;
            assert!(matches!(status, 400 | 403), "{path} {headers:?}: {status}");
        }
        assert!(matches!(ask(path, "").await, 400 | 403), "{path} without a host");
    }
    let page = get(admin, "/").await;
    assert!(page.header("access-control-allow-origin").is_none());
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
}

#[tokio::test]
async fn a_token_is_wanted_where_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let rig = Rig::set("", &[&format!("admin.token_file={file:?}")]).await;
    let page = get(rig.admin(), "/metrics").await;
    assert_eq!((page.status, page.header("www-authenticate")), (401, Some("Bearer")));
    let with = |token: &str| format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}");
    assert_eq!(send(rig.admin(), &with("0123456789abcdef0124")).await.status, 401);
    assert_eq!(send(rig.admin(), &with("0123456789abcdef0123")).await.status, 200);
}
