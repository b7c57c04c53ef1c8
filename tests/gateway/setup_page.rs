//! The set-up page on the DoH doors, as a browser gets it from a gateway that runs.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body_util::Full;
use hushgate::peer::Transport;

use crate::harness::Rig;

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
