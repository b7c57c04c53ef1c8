//! Every transport against every way in which a server may fail it: alone it is a failure within the deadline, and beside a good
//! server of the same pool nobody notices.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::commons::Commons;
use super::testing::{
    Authority, Handler, Respond, ask, datagrams, dns_response, https_server, listener, plain, quic_server, read_frame,
    reply, reply_as, serve_doq, serve_h3, serve_stream, tcp_server, tls_server, udp_server,
};
use super::{Exchange as _, Pool, PoolSettings, Server};
use crate::wire::Header;

const ATTEMPT: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_secs(5);
/// Far past the deadline: for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong, and the server of whom it is true.
type Case = (String, Server);

fn wrong_id(query: &[u8]) -> Vec<u8> {
    reply_as(u16::from_be_bytes([query[0], query[1]]) ^ 1, query)
}

fn wrong_question(query: &[u8]) -> Vec<u8> {
    let mut message = reply(query, 0);
    message[13] ^= 2;
    message
}

fn truncated(query: &[u8]) -> Vec<u8> {
    reply(query, 0x0200)
}

fn no_header(_: &[u8]) -> Vec<u8> {
    vec![0; 5]
}

fn a_query_again(query: &[u8]) -> Vec<u8> {
    query.to_vec()
}

/// Announces a record that is not there.
fn cut_short(query: &[u8]) -> Vec<u8> {
    let mut message = reply(query, 0);
    message[7] = 1;
    message
}

/// A CNAME whose name points ahead of itself.
fn astray(query: &[u8]) -> Vec<u8> {
    let mut message = cut_short(query);
    message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 0xff]);
    message
}

/// An OPT with an option longer than itself.
fn torn_options(query: &[u8]) -> Vec<u8> {
    let mut message = reply(query, 0);
    message[11] = 1;
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 15, 0, 9]);
    message
}

const MESSAGES: [(&str, Respond); 8] = [
    ("cut short", cut_short),
    ("a name that leads astray", astray),
    ("torn options", torn_options),
    ("wrong id", wrong_id),
    ("wrong question", wrong_question),
    ("truncated", truncated),
    ("no header", no_header),
    ("a query", a_query_again),
];

fn good(query: &[u8]) -> Vec<u8> {
    reply(query, 0)
}

fn status(code: u16, body: Vec<u8>) -> Response<Bytes> {
    let mut response = dns_response(body);
    *response.status_mut() = code.try_into().unwrap();
    response
}

const HTTP: [(&str, Handler); 8] = [
    ("cut short", |_, body| dns_response(cut_short(body))),
    ("status 500", |_, body| status(500, good(body))),
    ("status 404", |_, body| status(404, good(body))),
    ("redirect", |_, body| {
        let mut response = status(307, good(body));
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        response
    }),
    ("wrong media type", |_, body| {
        let mut response = dns_response(good(body));
        response.headers_mut().insert("content-type", "text/html".parse().unwrap());
        response
    }),
    ("oversized", |_, _| dns_response(vec![0; 70_000])),
    ("empty", |_, _| dns_response(Vec::new())),
    ("wrong question", |_, body| dns_response(wrong_question(body))),
];

/// What is wrong with a connection before any answer.
#[derive(Clone, Copy, Debug)]
enum Break {
    ClosesAtOnce,
    NeverAnswers,
    Noise,
    Alert,
    ClosesOnceAsked,
    HalfAnAnswer,
    Drips,
}

impl Break {
    const ALL: [Self; 7] = [
        Self::ClosesAtOnce,
        Self::NeverAnswers,
        Self::Noise,
        Self::Alert,
        Self::ClosesOnceAsked,
        Self::HalfAnAnswer,
        Self::Drips,
    ];

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) {
        match self {
            Self::ClosesAtOnce => {}
            Self::NeverAnswers => sleep(PATIENCE).await,
            Self::Noise => {
                let _ = stream.write_all(&[0xa5; 600]).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            Self::Alert => {
                let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).await;
                let _ = stream.shutdown().await;
            }
            Self::ClosesOnceAsked => _ = stream.read_u8().await,
            Self::HalfAnAnswer => {
                if let Some(query) = read_frame(&mut stream).await {
                    let answer = good(&query);
                    let _ = stream.write_all(&[0, answer.len().to_be_bytes()[7]]).await;
                    let _ = stream.write_all(&answer[..9]).await;
                    let _ = stream.flush().await;
                }
            }
            Self::Drips => {
                if let Some(query) = read_frame(&mut stream).await {
                    let answer = good(&query);
                    for octet in [&[0, answer.len().to_be_bytes()[7]][..], &answer].concat() {
                        if stream.write_all(&[octet]).await.is_err() || stream.flush().await.is_err() {
                            break;
                        }
                        sleep(ATTEMPT).await;
                    }
                }
            }
        }
    }
}

/// A server whose every TCP connection is served by `fault`.
async fn broken(fault: Break) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(fault.serve::<TcpStream>(stream));
        }
    });
    address
}

async fn of_messages(authority: &Authority) -> Vec<Case> {
    let identity = |alpn: &[&str]| authority.identity(&["127.0.0.1"], alpn).0;
    let mut cases = Vec::new();
    for (name, respond) in MESSAGES {
        let (udp, _) = udp_server(respond).await;
        cases.push((format!("udp, {name}"), plain("udp", udp)));
        cases.push((format!("tcp, {name}"), plain("tcp", tcp_server(respond).await)));
        let dot = tls_server(identity(&["dot"]), move |stream| serve_stream(stream, respond)).await;
        cases.push((format!("dot, {name}"), authority.server("tls", dot)));
        let doq = quic_server(identity(&["doq"]), move |connection| serve_doq(connection, respond));
        cases.push((format!("doq, {name}"), authority.server("quic", doq)));
    }
    for (name, handler) in HTTP {
        let doh = https_server(identity(&["h2"]), handler).await;
        cases.push((format!("doh, {name}"), authority.server("https", doh)));
        let doh3 = quic_server(identity(&["h3"]), move |connection| serve_h3(connection, handler));
        cases.push((format!("doh3, {name}"), authority.server("h3", doh3)));
    }
    cases
}

async fn of_connections(authority: &Authority) -> Vec<Case> {
    let mut cases = Vec::new();
    for fault in Break::ALL {
        for scheme in ["tls", "https"] {
            cases.push((format!("{scheme} before TLS, {fault:?}"), authority.server(scheme, broken(fault).await)));
        }
        cases.push((format!("tcp, {fault:?}"), plain("tcp", broken(fault).await)));
        for (scheme, alpn) in [("tls", "dot"), ("https", "h2")] {
            let (identity, _) = authority.identity(&["127.0.0.1"], &[alpn]);
            let address = tls_server(identity, move |stream| fault.serve(stream)).await;
            cases.push((format!("{scheme} after TLS, {fault:?}"), authority.server(scheme, address)));
        }
    }
    for (scheme, alpn) in [("h3", "h3"), ("quic", "doq")] {
        let (silent, address) = datagrams().await;
        tokio::spawn(async move {
            sleep(PATIENCE).await;
            drop(silent);
        });
        cases.push((format!("{scheme}, silent"), authority.server(scheme, address)));
        let (noise, _) = udp_server(|_| vec![0xa5; 600]).await;
        cases.push((format!("{scheme}, noise"), authority.server(scheme, noise)));
        let identity = || authority.identity(&["127.0.0.1"], &[alpn]).0;
        let closes = quic_server(identity(), |connection| async move { connection.close(2_u8.into(), b"") });
        cases.push((format!("{scheme}, closes at once"), authority.server(scheme, closes)));
        let mute = quic_server(identity(), |connection| async move { _ = connection.closed().await });
        cases.push((format!("{scheme}, never answers"), authority.server(scheme, mute)));
    }
    cases
}

/// Whether `servers` give a good answer in time, an attempt at each taking as long as `attempt_timeout`.
async fn is_answered(servers: Vec<Server>, attempt_timeout: Duration) -> bool {
    let settings = PoolSettings { timeout: DEADLINE, attempt_timeout, ..PoolSettings::new(servers) };
    let pool = Pool::new(&settings, &Commons::new(Handle::current())).unwrap();
    let asked = pool.exchange(ask("a.example"), Instant::now() + DEADLINE);
    let ended = timeout(PATIENCE, asked).await.expect("the deadline ends it all");
    ended.result.is_ok_and(|answered| Header::parse(&answered.message).unwrap().flags.rcode() == 0)
}

/// What each case came to that it should not have.
async fn unexpected(cases: Vec<Case>) -> Vec<String> {
    let (good, _) = udp_server(good).await;
    let judging = cases.into_iter().map(|(name, server)| {
        tokio::spawn(async move {
            let alone = is_answered(vec![server.clone()], ATTEMPT).await;
            let beside = is_answered(vec![server, plain("udp", good)], ATTEMPT).await;
            let wrong = [(alone, "taken for an answer"), (!beside, "not made good by the other server")];
            let wrong = wrong.into_iter().filter(|(is_wrong, _)| *is_wrong);
            wrong.map(|(_, what)| format!("{name}: {what}")).collect::<Vec<_>>()
        })
    });
    let judging: Vec<_> = judging.collect();
    let mut all = Vec::new();
    for one in judging {
        all.extend(one.await.unwrap());
    }
    all
}

#[tokio::test]
async fn the_same_servers_without_a_fault_are_answers() {
    let authority = Authority::new();
    let identity = |alpn: &[&str]| authority.identity(&["127.0.0.1"], alpn).0;
    let http: Handler = |_, body| dns_response(good(body));
    let (udp, _) = udp_server(good).await;
    let dot = tls_server(identity(&["dot"]), |stream| serve_stream(stream, good)).await;
    let doh = https_server(identity(&["h2"]), http).await;
    let doh3 = quic_server(identity(&["h3"]), move |connection| serve_h3(connection, http));
    let doq = quic_server(identity(&["doq"]), |connection| serve_doq(connection, good));
    let encrypted = [("tls", dot), ("https", doh), ("h3", doh3), ("quic", doq)];
    let mut servers = vec![plain("udp", udp), plain("tcp", tcp_server(good).await)];
    servers.extend(encrypted.map(|(scheme, address)| authority.server(scheme, address)));
    for server in servers {
        let url = server.url.to_string();
        assert!(is_answered(vec![server], DEADLINE).await, "{url}");
    }
}

#[tokio::test]
async fn a_server_with_wrong_answers_is_a_failure_alone_and_unnoticed_beside_a_good_one() {
    let authority = Authority::new();
    let found = unexpected(of_messages(&authority).await).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn a_server_with_broken_connections_is_a_failure_alone_and_unnoticed_beside_a_good_one() {
    let authority = Authority::new();
    let found = unexpected(of_connections(&authority).await).await;
    assert!(found.is_empty(), "{found:#?}");
}
