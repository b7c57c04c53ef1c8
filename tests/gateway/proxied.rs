//! Doors behind a proxy that speaks the PROXY protocol (STANDARDS group PPX): the client that it names is who asks, on every
//! transport, and nobody else is heard.

use std::hash::Hasher as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use crate::harness::raw::{Stream, rest, server};
use crate::harness::{Ask, Rig, client, message};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PROXY: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 2];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
/// May not ask.
const OTHER: [u8; 4] = [203, 0, 113, 9];

/// The doors of the plain transports, of DoH with TLS and of DoH in clear text.
const DOORS: [&str; 5] = ["tcp", "dot", "doh1", "doh2", "clear"];

/// A gateway whose doors, but that of DoQ, are behind a proxy at 127.0.0.1.
async fn rig(sets: &[&str]) -> Rig {
    let door = "[{ address = \"127.0.0.1:0\", proxy = [\"127.0.0.1/32\"] }]";
    let doh = "[{ address = \"127.0.0.1:0\", proxy = [\"127.0.0.1/32\"] }, { address = \"127.0.0.1:0\", tls = false, proxy = [\"127.0.0.1/32\"] }]";
    let doors = [format!("listen.dns={door}"), format!("listen.dot={door}"), format!("listen.doh={doh}")];
    let allow = "access.allow=[\"198.51.100.0/24\", \"2001:db8::/32\"]";
    let sets: Vec<&str> = doors.iter().map(String::as_str).chain([allow]).chain(sets.iter().copied()).collect();
    Rig::set("", &sets).await
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// A header for `client`, on streams (1) or in datagrams (2).
fn of(client: [u8; 4], protocol: u8) -> Vec<u8> {
    v2(0x21, 0x10 | protocol, &[&client[..], &[192, 0, 2, 1, 0x12, 0x67, 3, 85]].concat())
}

fn of_v6(client: Ipv6Addr, protocol: u8) -> Vec<u8> {
    let own: Ipv6Addr = "2001:db8::53".parse().unwrap();
    v2(0x21, 0x20 | protocol, &[&client.octets()[..], &own.octets(), &[0x12, 0x67, 3, 85]].concat())
}

/// A connection; who is refused may find it reset before it is used.
async fn try_connect(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    try_connect(from, to).await.unwrap()
}

fn address(rig: &Rig, door: &str) -> SocketAddr {
    match door {
        "tcp" => rig.dns(),
        "dot" => rig.dot(),
        "clear" => rig.doh_clear(),
        _ => rig.doh_tcp(),
    }
}

/// The reply to `ask` on `stream`, which a header has opened; `None` where the gateway ends it.
async fn exchange(rig: &Rig, door: &str, stream: TcpStream, ask: &Ask) -> Option<Vec<u8>> {
    let asking = async {
        let alpn: &[&[u8]] = match door {
            "dot" => &[b"dot"],
            "doh1" => &[b"http/1.1"],
            _ => &[b"h2"],
        };
        let mut stream: Stream = if matches!(door, "tcp" | "clear") {
            Box::new(stream)
        } else {
            let tls = TlsConnector::from(Arc::new(client::trust(&rig.authority(), alpn)));
            Box::new(tls.connect(server("localhost"), stream).await.ok()?)
        };
        let message = ask.clone().id(0).bytes();
        if matches!(door, "tcp" | "dot") {
            return Some(client::framed(&mut stream, &message).await?.message);
        }
        let uri = format!("https://localhost:{}/dns-query", address(rig, door).port());
        let request = http::Request::post(uri).header("content-type", "application/dns-message");
        let request = request.body(http_body_util::Full::new(message.into())).unwrap();
        let (status, headers, body) = match door {
            "doh1" => client::http1(stream, request).await?,
            _ => client::http2(stream, request).await?,
        };
        assert!(headers.get("alt-svc").is_none(), "PPX-12: there is no HTTP/3 here");
        assert_eq!(status, 200);
        Some(body.to_vec())
    };
    tokio::time::timeout(client::PATIENCE, asking).await.expect("neither an answer nor an end")
}

/// The same on a connection of its own from 127.0.0.1 that begins with `header`.
async fn ask(rig: &Rig, door: &str, header: &[u8], ask: &Ask) -> Option<Vec<u8>> {
    let mut stream = connect(PROXY, address(rig, door)).await;
    stream.write_all(header).await.unwrap();
    exchange(rig, door, stream, ask).await
}

fn answers(reply: &[u8]) -> u16 {
    message::counts(reply)[1]
}

/// The value of `hushgate_proxy_headers_total` for a result.
async fn counted(rig: &Rig, result: &str) -> u64 {
    let mut stream = TcpStream::connect(rig.admin()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let series = format!("hushgate_proxy_headers_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn ppx_01_ppx_04_ppx_09_and_ecs_15_the_client_in_the_header_asks_and_is_told_of_on_every_stream_door() {
    let rig =
        rig(&["privacy.ecs={ add = { v4 = 24, v6 = 32 } }", "access.allow=[\"8.8.4.0/24\", \"2001:db8::/32\"]"]).await;
    let wide: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
    for door in DOORS {
        for (header, subnet) in [
            (of([8, 8, 4, 7], 1), &[0, 1, 24, 0, 8, 8, 4][..]),
            (of_v6(wide, 1), &[0, 2, 32, 0, 0x20, 1, 0x0d, 0xb8]),
            (b"PROXY TCP4 8.8.4.9 192.0.2.1 4711 853\r\n".to_vec(), &[0, 1, 24, 0, 8, 8, 4]),
        ] {
            let name = format!("{}.{door}.example.org", header.len());
            let reply = ask(&rig, door, &header, &Ask::a(&name)).await.unwrap_or_else(|| panic!("{name}"));
            assert_eq!(answers(&reply), 1, "{name}");
            let told = rig.upstream.log().into_iter().find(|asked| asked.name() == name).unwrap();
            assert_eq!(message::option(&told.message, 8).as_deref(), Some(subnet), "{name}");
        }
        assert!(
            ask(&rig, door, &of(OTHER, 1), &Ask::a("other.example.org")).await.is_none(),
            "{door}: who may not ask"
        );
    }
    assert_eq!(counted(&rig, "accepted").await, 4 * 5);
    assert_eq!(rig.metric("hushgate_panics_total").await, 0);
}

#[tokio::test]
async fn ppx_02_strangers_and_proxies_without_a_header_get_no_octet_of_dns() {
    let rig = rig(&[]).await;
    for door in DOORS {
        let name = Ask::a("secret.example.org");
        for header in [of(CLIENT, 1), Vec::new()] {
            let Ok(mut stream) = try_connect(STRANGER, address(&rig, door)).await else { continue };
            _ = stream.write_all(&header).await;
            assert!(exchange(&rig, door, stream, &name).await.is_none(), "{door} from a stranger");
        }
        assert!(ask(&rig, door, b"", &name).await.is_none(), "{door} without a header");
        assert!(ask(&rig, door, &of(CLIENT, 2), &name).await.is_none(), "{door} with a header of datagrams");
    }
    assert_eq!(counted(&rig, "untrusted").await, 2 * 5);
    assert_eq!(counted(&rig, "missing").await, 5);
    assert_eq!(counted(&rig, "malformed").await, 5);
    assert_eq!(rig.upstream.count(), 0);
}

/// The first reply to `datagrams`, sent one after the other from 127.0.0.1 on a socket of their own.
async fn datagrams(rig: &Rig, datagrams: &[Vec<u8>]) -> Vec<u8> {
    let socket = UdpSocket::bind(SocketAddr::from((PROXY, 0))).await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    for octets in datagrams {
        socket.send(octets).await.unwrap();
    }
    let mut reply = vec![0; 4096];
    let receiving = tokio::time::timeout(client::PATIENCE, socket.recv(&mut reply));
    let length = receiving.await.expect("no reply").unwrap();
    reply.truncate(length);
    reply
}

#[tokio::test]
async fn ppx_02_and_ppx_05_each_datagram_of_the_proxy_has_a_header_and_its_reply_none() {
    let rig = rig(&[]).await;
    let ask = Ask::a("datagram.example.org").bytes();
    let with = |header: Vec<u8>| [header, ask.clone()].concat();
    let reply = datagrams(&rig, &[with(of(CLIENT, 2))]).await;
    assert_eq!((&reply[..2], answers(&reply)), (&ask[..2], 1));
    let reply = datagrams(&rig, &[with(of_v6("2001:db8::7".parse().unwrap(), 2))]).await;
    assert_eq!(answers(&reply), 1);
    let reply = datagrams(&rig, &[with(of(OTHER, 2))]).await;
    assert_eq!(message::rcode(&reply), 5, "PPX-09: the client is who may not ask");
    // The proxy asks for itself, which it may not here.
    let reply = datagrams(&rig, &[with(v2(0x20, 0, b""))]).await;
    assert_eq!(message::rcode(&reply), 5);
    // What is dropped is so before the next one, which is answered from memory.
    let good = [of(CLIENT, 2), Ask::a("datagram.example.org").id(0x7777).bytes()].concat();
    let line = b"PROXY TCP4 198.51.100.7 192.0.2.1 1 53\r\n".to_vec();
    for dropped in [with(Vec::new()), with(of(CLIENT, 1)), of(CLIENT, 2)[..20].to_vec(), with(line)] {
        let reply = datagrams(&rig, &[dropped.clone(), good.clone()]).await;
        assert_eq!(&reply[..2], [0x77, 0x77], "{dropped:?}");
    }
    let stranger = UdpSocket::bind(SocketAddr::from((STRANGER, 0))).await.unwrap();
    stranger.send_to(&good, rig.dns()).await.unwrap();
    let seen = async {
        while counted(&rig, "untrusted").await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(client::PATIENCE, seen).await.expect("the stranger is not seen");
    assert!(stranger.try_recv(&mut [0; 512]).is_err(), "a stranger is answered");
    for (result, count) in [("accepted", 3 + 4), ("local", 1), ("missing", 2), ("malformed", 2), ("untrusted", 1)] {
        assert_eq!(counted(&rig, result).await, count, "{result}");
    }
}

#[tokio::test]
async fn ppx_06_a_proxy_that_speaks_for_itself_is_served_by_its_own_rights() {
    let headers = [v2(0x20, 0, b""), v2(0x20, 0x11, &[7; 40]), v2(0x21, 0, b""), b"PROXY UNKNOWN\r\n".to_vec()];
    let may = rig(&["access.allow=[\"127.0.0.1/32\"]"]).await;
    for (door, header) in DOORS.iter().zip(headers.iter().cycle()) {
        let reply = ask(&may, door, header, &Ask::a("health.example.org")).await.unwrap();
        assert_eq!(answers(&reply), 1, "{door}");
    }
    // Its connection stands, so that a check of the port and of TLS succeeds; its questions are those of one who may not ask.
    let may_not = rig(&[]).await;
    for (door, header) in DOORS.iter().zip(headers.iter().cycle()) {
        let reply = ask(&may_not, door, header, &Ask::a("health.example.org")).await.unwrap();
        assert_eq!((message::rcode(&reply), answers(&reply)), (5, 0), "{door}");
    }
    assert_eq!(counted(&may_not, "local").await, 5);
    assert_eq!(may_not.upstream.count(), 0);
}

#[tokio::test]
async fn ppx_08_a_header_in_pieces_with_records_is_read_and_no_octet_after_it() {
    let rig = rig(&[]).await;
    let records = [&[2, 0, 9][..], b"localhost", &[0x20, 0, 4, 1, 2, 3, 4]].concat();
    let body = [&CLIENT[..], &[192, 0, 2, 1, 0x12, 0x67, 3, 85], &records].concat();
    for door in DOORS {
        let mut stream = connect(PROXY, address(&rig, door)).await;
        for piece in v2(0x21, 0x11, &body).chunks(5) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let reply = exchange(&rig, door, stream, &Ask::a("pieces.example.org")).await.unwrap();
        assert_eq!(answers(&reply), 1, "{door}");
    }
    // One write for the header and what follows it.
    let query = Ask::a("pieces.example.org").bytes();
    let mut stream = connect(PROXY, rig.dns()).await;
    let octets = [b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 53\r\n", &crate::harness::raw::frame(&query)[..]].concat();
    stream.write_all(&octets).await.unwrap();
    assert_eq!(answers(&client::read_framed(&mut stream).await.unwrap()), 1);
}

#[tokio::test]
async fn ppx_08_a_header_that_does_not_come_in_time_ends_the_connection() {
    let rig = rig(&["limits.handshake_timeout=150ms"]).await;
    for (door, octets) in DOORS.iter().zip([&b""[..], b"\r", SIGNATURE, b"PROXY TCP4 ", &of(CLIENT, 1)[..27]]) {
        let mut stream = connect(PROXY, address(&rig, door)).await;
        // On a slow machine the time may be over by now.
        _ = stream.write_all(octets).await;
        assert_eq!(rest(&mut stream).await, b"", "{door}");
    }
    assert_eq!(counted(&rig, "timeout").await, 5);
}

#[tokio::test]
async fn ppx_09_connections_count_in_the_bound_of_the_client_and_not_of_the_proxy() {
    let rig = rig(&["limits.connections_per_client=1", "limits.exempt=[]"]).await;
    let mut held = Vec::new();
    for last in 1..=3 {
        let mut stream = connect(PROXY, rig.dns()).await;
        stream.write_all(&of([198, 51, 100, last], 1)).await.unwrap();
        assert!(client::framed(&mut stream, &Ask::a("bound.example.org").bytes()).await.is_some(), "{last}");
        held.push(stream);
    }
    let again = ask(&rig, "tcp", &of([198, 51, 100, 1], 1), &Ask::a("bound.example.org")).await;
    assert!(again.is_none(), "the client has as many as it may");
}

#[tokio::test]
async fn cki_18_the_cookie_is_the_real_clients_also_where_its_address_is_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets");
    std::fs::write(&file, "42".repeat(16)).unwrap();
    let secrets = format!("cookies.secrets_file={:?}", file.display().to_string());
    let rig = rig(&[&secrets]).await;
    let ask = Ask::a("cookie.example.org").option(10, b"client!!").bytes();
    let hash = |cookie: &[u8], client: &[u8]| {
        let mut hasher = SipHasher24::new_with_key(&[0x42; 16]);
        hasher.write(&[&cookie[..16], client].concat());
        hasher.finish().to_le_bytes()
    };
    let six: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let mapped = std::net::Ipv4Addr::from(CLIENT).to_ipv6_mapped();
    for (header, client) in
        [(of(CLIENT, 2), CLIENT.to_vec()), (of_v6(mapped, 2), CLIENT.to_vec()), (of_v6(six, 2), six.octets().to_vec())]
    {
        let reply = datagrams(&rig, &[[header, ask.clone()].concat()]).await;
        let cookie = message::option(&reply, 10).unwrap();
        assert_eq!((cookie.len(), &cookie[16..]), (24, &hash(&cookie, &client)[..]), "{client:?}");
    }
}
