//! DoH behind a web server: the hop that it names is who asks, and nobody else can name one (DOH-32).

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hushgate::peer::Transport;
use tokio::net::TcpSocket;

use crate::harness::raw::HTTP;
use crate::harness::{Ask, Rig, client, message};
use crate::over_all;

const WEB_SERVER: [u8; 4] = [127, 0, 0, 1];
const NEIGHBOUR: [u8; 4] = [127, 0, 0, 2];

/// A gateway behind a web server at 127.0.0.1 and a proxy in 10/8 in front of that; the web server itself may not ask.
async fn rig(more: &str) -> Rig {
    let trust = format!("forwarded = [\"127.0.0.1/32\", \"10.0.0.0/8\"]{more}");
    let doors = format!(
        "listen.doh=[{{ address = \"127.0.0.1:0\", {trust} }}, {{ address = \"127.0.0.1:0\", tls = false, {trust} }}]"
    );
    let allow = "access.allow=[\"198.51.100.0/24\", \"2001:db8::/32\", \"127.0.0.2/32\"]";
    Rig::set("", &[&doors, allow]).await
}

fn with(mut request: Request<Full<Bytes>>, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// The status and RCODE of a question with `headers`; None where there is no DNS in the response.
async fn asked(rig: &Rig, transport: Transport, headers: &[(&'static str, &str)]) -> (u16, Option<u16>) {
    let request = with(rig.post(&Ask::a("forwarded.example.org").id(0).bytes()), headers);
    let (status, _, body) = rig.http(transport, request).await.unwrap();
    (status, (status == 200).then(|| message::rcode(&body)))
}

const XFF: &str = "x-forwarded-for";

#[tokio::test]
async fn doh_32_the_last_hop_that_is_no_proxy_asks_over_every_version_of_http() {
    let rig = rig("").await;
    over_all!(HTTP, |transport| {
        for (headers, outcome) in [
            (&[(XFF, "198.51.100.7")][..], (200, Some(0))),
            (&[(XFF, "2001:db8::7")], (200, Some(0))),
            (&[(XFF, "203.0.113.9, 198.51.100.7, 10.1.1.1")], (200, Some(0))),
            (&[(XFF, "203.0.113.9")], (200, Some(5))),
            // What a client has written itself stands on the left.
            (&[(XFF, "198.51.100.7, 203.0.113.9")], (200, Some(5))),
            (&[(XFF, "198.51.100.7"), (XFF, "203.0.113.9, 10.0.0.1")], (200, Some(5))),
            // The other header is the client's own, passed on.
            (&[(XFF, "203.0.113.9"), ("forwarded", "for=198.51.100.7")], (200, Some(5))),
            (&[("forwarded", "for=198.51.100.7")], (200, Some(5))),
            // The web server asks for itself.
            (&[], (200, Some(5))),
            (&[(XFF, "unknown")], (403, None)),
            (&[(XFF, "")], (403, None)),
        ] {
            assert_eq!(asked(&rig, transport, headers).await, outcome, "{headers:?}");
        }
    });
    assert!(rig.metric("hushgate_forwarded_requests_total").await >= 33);
}

#[tokio::test]
async fn doh_32_a_door_may_believe_forwarded_instead() {
    let rig = rig(", forwarded_header = \"forwarded\"").await;
    over_all!(HTTP, |transport| {
        for (headers, outcome) in [
            (&[("forwarded", "for=203.0.113.9, for=\"[2001:db8::7]:4711\";proto=https")][..], (200, Some(0))),
            (&[("forwarded", "for=198.51.100.7, for=203.0.113.9")], (200, Some(5))),
            (&[("forwarded", "for=_hidden")], (403, None)),
            (&[("forwarded", "for=203.0.113.9"), (XFF, "198.51.100.7")], (200, Some(5))),
        ] {
            assert_eq!(asked(&rig, transport, headers).await, outcome, "{headers:?}");
        }
    });
}

/// A request in clear text from `from`.
async fn clear(rig: &Rig, from: [u8; 4], request: Request<Full<Bytes>>) -> (u16, Bytes) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let stream = socket.connect(rig.doh_clear()).await.unwrap();
    let (status, _, body) = client::http1(stream, request).await.unwrap();
    (status, body)
}

#[tokio::test]
async fn doh_32_nobody_else_can_say_who_asks() {
    let rig = rig("").await;
    let ask = |headers| with(rig.post(&Ask::a("spoofed.example.org").id(0).bytes()), headers);
    let (status, body) = clear(&rig, NEIGHBOUR, ask(&[(XFF, "203.0.113.9")])).await;
    assert_eq!((status, message::rcode(&body)), (200, 0), "by its own address");
    let (status, _) = clear(&rig, NEIGHBOUR, ask(&[(XFF, "unknown")])).await;
    assert_eq!(status, 200);
    let (status, body) = clear(&rig, WEB_SERVER, ask(&[(XFF, "203.0.113.9, 127.0.0.2")])).await;
    assert_eq!((status, message::rcode(&body)), (200, 0));
    let (status, body) = clear(&rig, WEB_SERVER, ask(&[(XFF, "203.0.113.9")])).await;
    assert_eq!((status, message::rcode(&body)), (200, 5));
}

#[tokio::test]
async fn doh_32_requests_of_many_clients_share_a_connection_and_each_has_its_own_rights_and_pages() {
    let rig = rig("").await;
    let stream = rig.https(b"h2").await;
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let mut page = |client: &'static str| {
        let request = Request::get(rig.doh_uri("/")).body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(with(request, &[(XFF, client)]));
        async move { response.await.unwrap().status().as_u16() }
    };
    let statuses = tokio::join!(page("198.51.100.7"), page("203.0.113.9"), page("2001:db8::1"), page("unknown"));
    assert_eq!(statuses, (200, 404, 200, 403));
}
