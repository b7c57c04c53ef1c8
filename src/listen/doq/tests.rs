//! DNS over QUIC over real sockets: the rules of RFC 9250, by their ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadError, ReadToEndError, RecvStream, SendStream, VarInt};

use crate::listen::Limits;
use crate::listen::quic::QuicDoors;
use crate::listen::quic::rig::{Plan, Rig, answer_to, ask, framed, query, until};
use crate::peer::{DoorId, Transport};

async fn closed_with(connection: &Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("not closed by the application: {other}"),
    }
}

async fn open_with(connection: &Connection, octets: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    (send, recv)
}

/// Sends `octets` and the end of the stream; what the connection is closed with.
async fn fate_of(octets: &[u8]) -> u64 {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (mut send, _recv) = open_with(&connection, octets).await;
    send.finish().unwrap();
    let code = closed_with(&connection).await;
    assert_eq!(rig.counters.protocol_errors.value(), 1);
    assert!(rig.script.peers.lock().unwrap().is_empty(), "the pipeline was asked");
    code
}

#[tokio::test]
async fn doq_03_a_question_may_come_one_octet_a_packet() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    for octet in framed(&query(0, "now", &[])) {
        let before = connection.stats().frame_tx.stream;
        send.write_all(&[octet]).await.unwrap();
        until(|| connection.stats().frame_tx.stream > before).await;
    }
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(1000).await.unwrap(), answer_to("now"));
}

#[tokio::test]
async fn doq_04_and_07_the_reply_has_id_0_and_ends_the_stream() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let stream = ask(&connection, "now").await;
    assert_eq!(stream, answer_to("now"));
    assert_eq!(stream[2..4], [0, 0]);
}

#[tokio::test]
async fn doq_05_a_second_message_on_a_stream_is_fatal() {
    let message = framed(&query(0, "now", &[]));
    assert_eq!(fate_of(&[message.clone(), message].concat()).await, 2);
}

#[tokio::test]
async fn doq_05_a_late_octet_is_fatal_too() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (mut send, mut recv) = open_with(&connection, &framed(&query(0, "now", &[]))).await;
    assert_eq!(recv.read_to_end(1000).await.unwrap(), answer_to("now"));
    send.write_all(&[0]).await.unwrap();
    assert_eq!(closed_with(&connection).await, 2);
}

#[tokio::test]
async fn doq_06_a_message_id_is_fatal() {
    assert_eq!(fate_of(&framed(&query(1, "now", &[]))).await, 2);
}

#[tokio::test]
async fn doq_09_an_end_before_the_counted_octets_is_fatal() {
    let whole = framed(&query(0, "now", &[]));
    for cut in [0, 1, 2, whole.len() - 1] {
        assert_eq!(fate_of(&whole[..cut]).await, 2, "after {cut} octets");
    }
    assert_eq!(fate_of(&framed(&[0; 11])).await, 2);
}

#[tokio::test]
async fn a_response_is_fatal() {
    let mut message = query(0, "now", &[]);
    message[2] |= 0x80;
    assert_eq!(fate_of(&framed(&message)).await, 2);
}

#[tokio::test]
async fn doq_11_the_keepalive_option_is_fatal() {
    assert_eq!(fate_of(&framed(&query(0, "now", &[0, 11, 0, 0]))).await, 2);
    assert_eq!(fate_of(&framed(&query(0, "now", &[0, 11, 0, 2, 0, 9]))).await, 2);
}

#[tokio::test]
async fn doq_13_a_unidirectional_stream_is_fatal() {
    let doors = QuicDoors { doq: Some(DoorId(0)), doh3: Some(DoorId(1)) };
    let rig = Rig::with(Plan { doors, ..Plan::default() });
    let connection = rig.connect().await;
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(b"?").await.unwrap();
    assert_eq!(closed_with(&connection).await, 2);
}

#[tokio::test]
async fn doq_10_a_question_whose_stream_stays_open_is_answered_and_for_a_time_tolerated() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (_send, mut recv) = open_with(&connection, &framed(&query(0, "now", &[]))).await;
    assert_eq!(recv.read_to_end(1000).await.unwrap(), answer_to("now"));
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    assert_eq!(closed_with(&connection).await, 2);
}

#[tokio::test]
async fn a_question_that_never_gets_whole_costs_its_stream_only() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (_send, mut recv) = open_with(&connection, b"\0").await;
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    assert_eq!(recv.read_to_end(9).await, Err(ReadToEndError::Read(ReadError::Reset(5_u32.into()))));
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
}

#[tokio::test]
async fn doq_15_a_stopped_stream_abandons_its_question_and_no_other() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (mut send, mut recv) = open_with(&connection, &framed(&query(0, "later", &[]))).await;
    send.finish().unwrap();
    let other = tokio::spawn({
        let connection = connection.clone();
        async move { ask(&connection, "later").await }
    });
    until(|| rig.script.waiting.load(Ordering::Relaxed) == 2).await;
    recv.stop(3_u32.into()).unwrap();
    rig.script.gone.subscribe().wait_for(|&gone| gone == 1).await.unwrap();
    rig.gate.send_replace(true);
    assert_eq!(other.await.unwrap(), answer_to("later"));
}

#[tokio::test]
async fn doq_16_a_reset_before_the_end_is_answered_with_a_reset() {
    for octets in [&b"\0"[..], &framed(&query(0, "later", &[]))] {
        let rig = Rig::start();
        let connection = rig.connect().await;
        let before = connection.stats().frame_tx.stream;
        let (mut send, mut recv) = open_with(&connection, octets).await;
        until(|| connection.stats().frame_tx.stream > before).await;
        send.reset(3_u32.into()).unwrap();
        let read = recv.read_to_end(1000).await;
        assert_eq!(read, Err(ReadToEndError::Read(ReadError::Reset(3_u32.into()))));
        assert_eq!(ask(&connection, "now").await, answer_to("now"));
    }
}

#[tokio::test]
async fn doq_17_a_client_that_cancels_too_fast_is_sent_away() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    while let Ok((mut send, _recv)) = connection.open_bi().await {
        let _ = send.reset(3_u32.into());
    }
    assert_eq!(closed_with(&connection).await, 4);
}

#[tokio::test]
async fn silence_of_the_pipeline_resets_the_stream() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (mut send, mut recv) = open_with(&connection, &framed(&query(0, "silence", &[]))).await;
    send.finish().unwrap();
    let read = recv.read_to_end(1000).await;
    assert_eq!(read, Err(ReadToEndError::Read(ReadError::Reset(VarInt::from_u32(5)))));
    assert_eq!(ask(&connection, "now").await, answer_to("now"));
}

#[tokio::test]
async fn doq_20_an_idle_connection_is_closed_in_silence() {
    let limits = Limits { idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let rig = Rig::with(Plan { limits, ..Plan::default() });
    let connection = rig.connect().await;
    ask(&connection, "now").await;
    assert_eq!(connection.closed().await, ConnectionError::TimedOut);
    until(|| rig.counters.connections_open[Transport::Doq as usize].value() == 0).await;
}

#[tokio::test]
async fn doq_28_of_100_streams_the_slow_half_holds_up_none_of_the_others() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let spawn = |name: &'static str| {
        let connection = connection.clone();
        tokio::spawn(async move { ask(&connection, name).await })
    };
    let (slow, fast): (Vec<_>, Vec<_>) = (0..50).map(|_| (spawn("later"), spawn("now"))).unzip();
    for reply in fast {
        assert_eq!(reply.await.unwrap(), answer_to("now"));
    }
    until(|| rig.script.waiting.load(Ordering::Relaxed) == 50).await;
    rig.gate.send_replace(true);
    for reply in slow {
        assert_eq!(reply.await.unwrap(), answer_to("later"));
    }
}

#[tokio::test]
async fn doq_32_credit_comes_back_for_ten_thousand_questions_in_turn() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let expected = answer_to("now");
    for _ in 0..10_000 {
        assert_eq!(ask(&connection, "now").await, expected);
    }
}

#[tokio::test]
async fn replies_that_do_not_fit_the_window_are_written_as_it_opens() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let asked: Vec<_> = (0..60)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { ask(&connection, "big").await.len() })
        })
        .collect();
    for length in asked {
        assert_eq!(length.await.unwrap(), answer_to("big").len() + 60_000);
    }
}

#[tokio::test]
async fn a_panic_while_waiting_closes_its_connection_with_0x1() {
    let rig = Rig::start();
    let connection = rig.connect().await;
    let (mut send, _recv) = open_with(&connection, &framed(&query(0, "wait", &[]))).await;
    send.finish().unwrap();
    assert_eq!(closed_with(&connection).await, 1);
    assert_eq!(rig.counters.panics.value(), 1);
    assert_eq!(ask(&rig.connect().await, "now").await, answer_to("now"));
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_then_closes_with_0x0() {
    let rig = Rig::start();
    let connection = Arc::new(rig.connect().await);
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { ask(&connection, "later").await })
        })
        .collect();
    until(|| rig.script.waiting.load(Ordering::Relaxed) == 5).await;
    rig.stop.begin();
    tokio::task::yield_now().await;
    rig.gate.send_replace(true);
    for reply in asked {
        assert_eq!(reply.await.unwrap(), answer_to("later"));
    }
    assert_eq!(closed_with(&connection).await, 0);
    rig.served.await.unwrap();
}
