//! What reloads keep when there are many of them: sessions and connections of either side; and how a door that goes says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http_body_util::Full;
use hushgate::gateway::reload::Way;
use hushgate::peer::Transport;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::HandshakeKind;

use crate::harness::client::{self, PATIENCE, framed};
use crate::harness::{Answer, Ask, Rig};
use crate::identity::{DAY, first_certificate, self_signed, shown};
use crate::reload::{rcode, replaced, steady};

async fn reload(rig: &Rig) {
    let reloaded = rig.reload(Way::Apply).await;
    assert!(reloaded.applied, "{reloaded:#?}");
}

#[tokio::test]
async fn under_steady_questions_certificates_change_and_connections_and_sessions_stay() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|file| self_signed(folder.path(), file, &["localhost"], DAY));
    let pem = |file: &str| std::fs::read(folder.path().join(format!("{file}.pem"))).unwrap();
    let rig = Rig::with(&format!("[tls]\ncertificates = [{one}]")).await;
    // Where the rig's clients look for whom to trust.
    std::fs::write(rig.folder().join("state/authority.pem"), [pem("one"), pem("other")].concat()).unwrap();
    let rig = Arc::new(rig);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut askers = steady(&rig, &stop, &answered);
    let query = Ask::a("kept.example").bytes();
    // It trusts the first alone, and so gets nowhere else but by its session.
    let trusting = client::trust(&pem("one"), &[b"dot"]);
    let mut kept = client::tls(rig.dot(), trusting.clone()).await.unwrap();
    framed(&mut kept, &query).await.unwrap();
    let (_endpoint, quic) = rig.doq_connection().await;
    for round in 0..6 {
        let (file, from, to) = if round % 2 == 0 { ("other", &one, &other) } else { ("one", &other, &one) };
        rig.rewrite(replaced(from, to));
        reload(&rig).await;
        let leaf = shown(rig.dot(), &client::trust(&pem(file), &[b"dot"]), "localhost").await.unwrap();
        assert_eq!(leaf, first_certificate(folder.path(), file));
        let mut again = client::tls(rig.dot(), trusting.clone()).await.unwrap();
        framed(&mut again, &query).await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(rcode(&framed(&mut kept, &query).await.unwrap().message), 0);
        assert_eq!(rcode(&client::doq_exchange(&quic, &query).await.unwrap().message), 0);
        let seen = answered.load(Ordering::Relaxed);
        let more = async {
            while answered.load(Ordering::Relaxed) < seen + 7 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(count) = askers.join_next().await {
        assert!(count.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_hundred_reloads_keep_the_connections_to_servers() {
    let rig = Rig::start().await;
    rig.upstream.always(Answer::new());
    rig.rewrite(|text| text.replacen("udp://", "tcp://", 1) + "\n[privacy]\npadding = true\n");
    reload(&rig).await;
    let ask = async |name: &str| rcode(&rig.ask(Transport::Udp, &Ask::a(name).bytes()).await.message);
    assert_eq!(ask("first.example").await, 0);
    let connections = rig.upstream.connections();
    for round in 0..100 {
        let (from, to) = if round % 2 == 0 { ("= true\n", "= false\n") } else { ("= false\n", "= true\n") };
        rig.rewrite(replaced(&format!("padding {from}"), &format!("padding {to}")));
        reload(&rig).await;
    }
    assert_eq!(ask("last.example").await, 0);
    assert_eq!(rig.upstream.connections(), connections);
    assert_eq!(rig.metric("hushgate_config_generation").await, 102);
}

#[tokio::test]
async fn a_doh_door_taken_away_ends_http_2_by_goaway_and_http_3_without_an_error() {
    let rig = Rig::start().await;
    let stream = client::tls(rig.doh(), client::trust(&rig.authority(), &[b"h2"])).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let two = tokio::spawn(connection);
    let request = rig.post(&Ask::a("example.com").id(0).bytes());
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let (_endpoint, three) = client::quic(rig.doh(), client::trust(&rig.authority(), &[b"h3"])).await.unwrap();
    rig.rewrite(replaced("doh = [\"127.0.0.1:0\", ", "doh = ["));
    reload(&rig).await;
    let ended = tokio::time::timeout(PATIENCE, two).await.unwrap().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    let ended = tokio::time::timeout(PATIENCE, three.closed()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = ended else { panic!("{ended:?}") };
    assert_eq!(u64::from(close.error_code), 0x100, "H3_NO_ERROR");
}
