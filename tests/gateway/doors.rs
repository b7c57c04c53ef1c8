//! Every door answers, the second time from memory.

use hushgate::peer::Transport;

use crate::harness::{Act, Answer, Ask, Rig, STREAMS, client, message};
use crate::over_all;

#[tokio::test]
async fn every_door_answers_and_the_second_time_from_the_cache() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.example.org", transport.name());
        let before = rig.upstream.count();
        for _ in 0..2 {
            let answered = rig.ask(transport, &Ask::a(&name).id(0).bytes()).await;
            let read = message::read(&answered.message);
            assert_eq!(read.answers.len(), 1, "{read:?}");
            assert!(read.metadata.recursion_available);
        }
        assert_eq!(rig.upstream.count() - before, 1, "the second answer is from memory");
    });
}

#[tokio::test]
async fn an_answer_that_one_door_fetched_serves_all_others() {
    let rig = Rig::start().await;
    rig.ask(Transport::Udp, &Ask::a("shared.example.org").id(0).bytes()).await;
    over_all!(STREAMS, |transport| {
        let answered = rig.ask(transport, &Ask::a("shared.example.org").id(0).bytes()).await;
        assert_eq!(message::counts(&answered.message)[1], 1);
    });
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn clear_text_doh_serves_a_web_server_in_front_over_http1_and_h2c() {
    let rig = Rig::start().await;
    let query = Ask::a("clear.example.org").id(0).bytes();
    let connect = || tokio::net::TcpStream::connect(rig.doh_clear());
    let mut request = rig.post(&query);
    *request.uri_mut() = format!("http://127.0.0.1:{}/dns-query", rig.doh_clear().port()).parse().unwrap();
    let (status, headers, body) = client::http1(connect().await.unwrap(), request.clone()).await.unwrap();
    assert_eq!((status, message::counts(&body)[1]), (200, 1));
    assert!(headers.get("alt-svc").is_none(), "no HTTP/3 to announce in clear text");
    let (status, _, body) = client::http2(connect().await.unwrap(), request).await.unwrap();
    assert_eq!((status, message::counts(&body)[1]), (200, 1));
}

#[tokio::test]
async fn a_wrong_authority_is_refused_by_the_client_and_delays_nobody() {
    let rig = Rig::start().await;
    let other = Rig::start().await;
    for address in [rig.dot(), rig.doh()] {
        let error = client::tls(address, client::trust(&other.authority(), &[])).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    client::quic(rig.doq(), client::trust(&other.authority(), &[b"doq"])).await.unwrap_err();
    over_all!(Transport::ALL, |transport| _ = rig.ask(transport, &Ask::a("good.example.org").id(0).bytes()).await);
}

#[tokio::test]
async fn garbage_on_any_port_never_stops_the_next_good_question() {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::start().await;
    let garbage: Vec<u8> = (0u32..4000).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for address in [rig.dns(), rig.dot(), rig.doh(), rig.doh_clear()] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(&garbage).await.ok();
    }
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for address in [rig.dns(), rig.doh(), rig.doq()] {
        for length in [0, 1, 11, 12, 100, 1200] {
            socket.send_to(&garbage[..length], address).await.unwrap();
        }
    }
    over_all!(Transport::ALL, |transport| _ = rig.ask(transport, &Ask::a("after.example.org").id(0).bytes()).await);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_nothing_for_the_others() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 9])));
    let query = Ask::a("held.example.org").bytes();
    let mut leaving = tokio::net::TcpStream::connect(rig.dns()).await.unwrap();
    client::send_framed(&mut leaving, &query).await.unwrap();
    rig.upstream.asked(1).await;
    let mut staying = tokio::net::TcpStream::connect(rig.dns()).await.unwrap();
    client::send_framed(&mut staying, &query).await.unwrap();
    drop(leaving);
    rig.upstream.release();
    let answer = client::read_framed(&mut staying).await.unwrap();
    assert_eq!(message::counts(&answer)[1], 1);
    assert_eq!(rig.upstream.count(), 1, "one question served both");
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_then_ends() {
    let mut rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 9])));
    let mut stream = rig.dot_stream().await;
    client::send_framed(&mut stream, &Ask::a("late.example.org").bytes()).await.unwrap();
    rig.upstream.asked(1).await;
    let stopped = rig.stop();
    rig.upstream.release();
    let answer = client::read_framed(&mut stream).await.unwrap();
    assert_eq!(message::counts(&answer)[1], 1);
    assert!(client::read_framed(&mut stream).await.is_none(), "then the connection closes");
    tokio::time::timeout(client::PATIENCE, stopped).await.unwrap().unwrap();
}
