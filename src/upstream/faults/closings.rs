//! Connections that end under a question, or are about to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Response;
use tokio::sync::{Notify, mpsc, oneshot};

use super::super::server::Upstream;
use super::super::testing::{
    Authority, ask, attempt, dns_response, home, quic_server_with, reply, serve_doq, serve_h3, tls_server, window,
};
use super::{Cause, Leg, doq_server, good, h2_server, h3_server};
use crate::trail::{Attempts, UpstreamId};

#[tokio::test]
async fn doh_29_after_goaway_no_more_goes_over_h2_and_what_was_accepted_is_answered() {
    let authority = Authority::new();
    let (config, _) = authority.identity(&["127.0.0.1"], &["h2"]);
    let answer = Arc::new(Notify::new());
    let may_answer = Arc::clone(&answer);
    let address = tls_server(config, move |stream| {
        let may_answer = Arc::clone(&may_answer);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move {
                let query = h2_server::read(request).await;
                may_answer.notified().await;
                let (head, body) = dns_response(reply(&query, 0)).into_parts();
                respond.send_response(Response::from_parts(head, ()), false).unwrap().send_data(body, true).unwrap();
            });
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        }
    })
    .await;
    let leg = Leg::open(&authority.server("https", address)).await;
    let watching = async {
        leg.until_closed().await;
        assert_eq!(leg.ask("late.example").await.map(drop), Err(Cause::Closed));
        answer.notify_one();
    };
    let (answered, ()) = tokio::join!(leg.ask("early.example"), watching);
    assert!(answered.is_ok());
}

#[tokio::test]
async fn doh_29_after_goaway_h3_requests_beyond_the_line_fail_at_once_and_the_others_are_answered() {
    let authority = Authority::new();
    let (config, _) = authority.identity(&["127.0.0.1"], &["h3"]);
    let answer = Arc::new(Notify::new());
    let told = Arc::clone(&answer);
    let address = quic_server_with(config, "127.0.0.1:0".parse().unwrap(), 100, move |connection| {
        let told = Arc::clone(&told);
        async move {
            let mut control = h3_server::greet(&connection).await;
            let (sending, mut receiving) = connection.accept_bi().await.unwrap();
            let query = h3_server::body(&receiving.read_to_end(65_536).await.unwrap());
            let _unanswered = connection.accept_bi().await.unwrap();
            h3_server::leave(&mut control, 4).await;
            told.notified().await;
            h3_server::respond(sending, good(&query), mpsc::unbounded_channel().0).await;
            connection.closed().await;
        }
    });
    let leg = Leg::open(&authority.server("h3", address)).await;
    let beyond = async {
        assert_eq!(leg.ask("second.example").await.map(drop), Err(Cause::Closed));
        assert!(!leg.is_open());
        assert_eq!(leg.ask("late.example").await.map(drop), Err(Cause::Closed));
        answer.notify_one();
    };
    let (answered, ()) = tokio::join!(biased; leg.ask("first.example"), beyond);
    assert!(answered.is_ok(), "{answered:?}");
}

#[tokio::test]
async fn a_connection_closed_under_a_question_is_known_at_once() {
    let authority = Authority::new();
    let (config, _) = authority.identity(&["127.0.0.1"], &["h2"]);
    let address = tls_server(config, |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let _request = connection.accept().await;
    })
    .await;
    let mut servers = vec![authority.server("https", address)];
    for (scheme, alpn) in [("h3", "h3"), ("quic", "doq")] {
        let (config, _) = authority.identity(&["127.0.0.1"], &[alpn]);
        let address = quic_server_with(config, "127.0.0.1:0".parse().unwrap(), 100, |connection| async move {
            let _stream = connection.accept_bi().await;
            connection.close(0x3098_ea5e_u32.into(), b"");
        });
        servers.push(authority.server(scheme, address));
    }
    for server in servers {
        let leg = Leg::open(&server).await;
        assert_eq!(leg.ask("a.example").await.map(drop), Err(Cause::Closed), "{}", server.url);
        leg.until_closed().await;
    }
}

#[tokio::test]
async fn doq_30_a_query_stopped_by_the_server_ends_the_connection() {
    let authority = Authority::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let (config, _) = authority.identity(&["127.0.0.1"], &["doq"]);
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut limits = quinn::TransportConfig::default();
    // Less than a query, so that it is never received whole.
    limits.stream_receive_window(20_u32.into());
    config.transport_config(Arc::new(limits));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (_sending, mut receiving) = connection.accept_bi().await.unwrap();
        receiving.stop(0x3098_ea5e_u32.into()).unwrap();
        let _ = tell.send(connection.closed().await);
    });
    let leg = Leg::open(&authority.server("quic", address)).await;
    assert_eq!(leg.ask("a.example").await.map(drop), Err(Cause::Malformed));
    let closed = told.recv().await.unwrap();
    assert!(matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 2_u32.into()));
}

#[tokio::test]
async fn doq_30_a_server_cannot_open_streams() {
    let authority = Authority::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let address = doq_server(&authority, 100, move |connection| {
        let tell = tell.clone();
        async move {
            tokio::select! {
                biased;
                opened = connection.open_uni() => assert!(opened.is_err()),
                opened = connection.open_bi() => assert!(opened.is_err()),
                () = serve_doq(connection.clone(), |query| reply(query, 0)) => {}
            }
            let _ = tell.send(());
        }
    });
    let leg = Leg::open(&authority.server("quic", address)).await;
    assert!(leg.ask("a.example").await.is_ok());
    drop(leg);
    told.recv().await.unwrap();
}

#[tokio::test]
async fn a_server_that_agrees_on_no_protocol_of_ours_is_not_spoken_to_over_quic() {
    for (scheme, alpn) in [("h3", &["doq"][..]), ("quic", &["h3"]), ("h3", &["h2"])] {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], alpn);
        let address = quic_server_with(config, "127.0.0.1:0".parse().unwrap(), 100, |_| async {
            panic!("the handshake succeeded")
        });
        let (result, _) = attempt(&authority.server(scheme, address), &ask("a.example")).await;
        assert_eq!(result.unwrap_err().cause, Cause::Tls, "{scheme}");
    }
}

/// A server that restarts without a word knows its connections no more, and cannot say so.
#[tokio::test]
async fn doq_21_a_restart_of_the_server_is_not_noticed() {
    for (scheme, alpn) in [("h3", "h3"), ("quic", "doq")] {
        let authority = Authority::new();
        let (config, _) = authority.identity(&["127.0.0.1"], &[alpn]);
        let served = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&served);
        let start = move |bind: std::net::SocketAddr| {
            let served = Arc::clone(&counter);
            quic_server_with(Arc::clone(&config), bind, 100, move |connection| {
                served.fetch_add(1, Ordering::SeqCst);
                async move {
                    if alpn == "doq" {
                        serve_doq(connection, |query| reply(query, 0)).await;
                    } else {
                        serve_h3(connection, |_, query| dns_response(reply(query, 0))).await;
                    }
                }
            })
        };
        let (tell, told) = oneshot::channel();
        let (kill, killed) = oneshot::channel::<()>();
        let first = start.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tell.send(first("127.0.0.1:0".parse().unwrap())).unwrap();
                let _ = killed.await;
            });
        });
        let address = told.await.unwrap();
        let upstream = Upstream::new(&authority.server(scheme, address), UpstreamId(0), &home()).unwrap();
        let question = ask("a.example");
        upstream.attempt(&question, window(10_000, 2), &mut Attempts::default()).await.unwrap();
        // All tasks of the first are dropped, its socket with them.
        drop(kill);
        thread.join().unwrap();
        start(address);
        upstream.attempt(&question, window(10_000, 2), &mut Attempts::default()).await.unwrap();
        assert_eq!(served.load(Ordering::SeqCst), 2);
    }
}
