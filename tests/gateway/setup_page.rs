//! The set-up page on the DoH doors, as a browser gets it from a gateway that runs.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body_util::Full;
use hushgate::peer::Transport;

use crate::harness::client::{PATIENCE, http1, http2, http3, quic, tls, trust};
use crate::harness::{Answer, Ask, Rig, message};

async fn got(rig: &Rig, transport: Transport, path: &str) -> (u16, HeaderMap, Bytes) {
    let request = Request::get(rig.doh_uri(path)).body(Full::default()).unwrap();
    rig.http(transport, request).await.unwrap()
}

#[tokio::test]
async fn page_profile_and_authority_are_there_over_every_version_of_http() {
    let rig = Rig::start().await;
    for transport in [Transport::Doh1, Transport::Doh2, Transport::Doh3] {
        let (status, headers, body) = got(&rig, transport, "/").await;
        assert_eq!(
            (status, headers[CONTENT_TYPE].as_bytes()),
            (200, b"text/html; charset=utf-8".as_slice()),
            "{transport:?}"
        );
        assert!(headers.contains_key(CONTENT_SECURITY_POLICY), "{transport:?}");
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(html.contains("href=\"/hushgate.mobileconfig\"") && html.contains("href=\"/authority.crt\""));
        // The port in use, although the configuration left it to the system.
        let port = rig.doh_uri("/").rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
        assert!(html.contains(&format!("https://localhost:{port}/dns-query")), "{html}");

        let (status, headers, body) = got(&rig, transport, "/hushgate.mobileconfig").await;
        assert_eq!((status, headers[CONTENT_TYPE].as_bytes()), (200, b"application/x-apple-aspen-config".as_slice()));
        assert!(plist::Value::from_reader_xml(&body[..]).is_ok(), "{transport:?}");

        let (status, headers, body) = got(&rig, transport, "/authority.crt").await;
        assert_eq!((status, headers[CONTENT_TYPE].as_bytes()), (200, b"application/x-x509-ca-cert".as_slice()));
        assert!(x509_parser::parse_x509_certificate(&body).unwrap().1.is_ca(), "{transport:?}");
    }
}

#[tokio::test]
async fn page_that_is_switched_off_is_not_there() {
    let rig = Rig::with("[doh]\nsetup_page = false\n").await;
    for path in ["/", "/hushgate.mobileconfig", "/authority.crt"] {
        assert_eq!(got(&rig, Transport::Doh2, path).await.0, 404, "{path}");
    }
}

/// What comes back from the door with TLS for strangers; None where the connection is ended first.
async fn got_as_stranger(
    rig: &Rig,
    transport: Transport,
    request: Request<Full<Bytes>>,
) -> Option<(u16, HeaderMap, Bytes)> {
    let trust = |alpn: &[u8]| trust(&rig.authority(), &[alpn]);
    match transport {
        Transport::Doh1 => http1(tls(rig.doh(), trust(b"http/1.1")).await.ok()?, request).await,
        Transport::Doh2 => http2(tls(rig.doh(), trust(b"h2")).await.ok()?, request).await,
        _ => http3(quic(rig.doh(), trust(b"h3")).await.ok()?, request).await,
    }
}

#[tokio::test]
async fn a_client_that_may_not_ask_at_the_door_gets_neither_page_nor_dns_over_any_version_of_http() {
    let doors = "listen.doh=[{ address = \"127.0.0.1:0\", allow = [\"192.0.2.0/24\"] }, { address = \"127.0.0.1:0\", tls = false }]";
    let rig = Rig::set("", &[doors]).await;
    rig.upstream.always(Answer::new().a(60, [192, 0, 2, 1]));
    let query = Ask::a("page.example.org").bytes();
    for transport in [Transport::Doh1, Transport::Doh2, Transport::Doh3] {
        let page = |path: &str| Request::get(rig.doh_uri(path)).body(Full::default()).unwrap();
        for asked in [page("/"), page("/hushgate.mobileconfig"), page("/nothing"), rig.post(&query)] {
            let label = asked.uri().to_string();
            let heard = tokio::time::timeout(PATIENCE, got_as_stranger(&rig, transport, asked)).await;
            assert!(heard.expect("an end").is_none(), "{transport:?}: {label}");
        }
    }
    assert_eq!(rig.upstream.count(), 0);
    // The door beside it is for others: for this client, too.
    let stream = tokio::net::TcpStream::connect(rig.doh_clear()).await.unwrap();
    let request = Request::get(rig.doh_uri("/")).body(Full::default()).unwrap();
    assert_eq!(http1(stream, request).await.unwrap().0, 200);
    assert_eq!(message::rcode(&rig.ask(Transport::Dot, &query).await.message), 0);
}
