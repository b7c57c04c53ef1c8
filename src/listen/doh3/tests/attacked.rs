//! What a well-made client would not send, frame by frame; and what the server says when it goes.

use super::*;
use crate::listen::rehearsal::{assert_answers, query};

/// A QPACK field section by the static table: a POST of a DNS message (RFC 9204 appendix A).
fn post(content_length: Option<&str>) -> Vec<u8> {
    let mut section = vec![0, 0, METHOD_POST, SCHEME_HTTPS, DNS_MESSAGE];
    literal(&mut section, 1, "/dns-query");
    literal(&mut section, 0, "a.example");
    if let Some(length) = content_length {
        literal(&mut section, 4, length);
    }
    section
}

/// A field whose name is in the static table.
fn literal(section: &mut Vec<u8>, name: u8, value: &str) {
    section.push(0x50 | name);
    section.push(u8::try_from(value.len()).unwrap());
    section.extend(value.bytes());
}

/// A frame of under 16 384 octets.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap() | 0x4000;
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// Whole fields of the static table.
const METHOD_POST: u8 = 0xd4;
const SCHEME_HTTPS: u8 = 0xd7;
const DNS_MESSAGE: u8 = 0xec;

/// `431` in the code of RFC 7541 appendix B.
const HUFFMAN_431: &[u8] = &[0x69, 0x90, 0xff];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const GREASE: u8 = 0x21;

/// The type of a QPACK encoder's stream, and the one instruction that it may hold (RFC 9204 4.2, 4.3.1).
const ENCODER: u8 = 2;
const CAPACITY_ZERO: u8 = 0x20;

/// A line on which the control stream has been opened.
async fn line(rehearsal: &Rehearsal) -> (Line, quinn::SendStream) {
    let line = Line::to(rehearsal).await;
    let mut control = line.connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(SETTINGS, b"")].concat()).await.unwrap();
    (line, control)
}

/// Sends `octets` as a request; answers what comes back, or the code it is reset with.
async fn ask(line: &Line, octets: &[u8]) -> Result<Vec<u8>, u64> {
    let (mut send, mut receive) = line.connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    send.finish().unwrap();
    match receive.read_to_end(100_000).await {
        Ok(answer) => Ok(answer),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Err(code.into_inner()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn dh3_04_an_incomplete_or_malformed_request_ends_its_stream_alone() {
    let rehearsal = Rehearsal::new();
    let (line, _control) = line(&rehearsal).await;
    let message = query(5, "now");
    assert_eq!(ask(&line, b"").await, Err(0x10d), "no header");
    let short = [frame(HEADERS, &post(Some("99"))), frame(DATA, &message)].concat();
    assert_eq!(ask(&line, &short).await, Err(0x10e), "a body shorter than announced");
    let long = [frame(HEADERS, &post(Some("9"))), frame(DATA, &message)].concat();
    assert_eq!(ask(&line, &long).await, Err(0x10e), "a body longer than announced");
    let pathless = frame(HEADERS, &[0, 0, METHOD_POST, SCHEME_HTTPS]);
    assert_eq!(ask(&line, &pathless).await, Err(0x10e), "no path");
    let good = [frame(HEADERS, &post(None)), frame(DATA, &message)].concat();
    let answer = ask(&line, &good).await.unwrap();
    let begins = answer.windows(2).rposition(|two| two == &message[..2]).unwrap();
    assert_answers(&answer[begins..], 5, "now");
}

#[tokio::test]
async fn dh3_05_unknown_frames_and_streams_are_ignored() {
    let rehearsal = Rehearsal::new();
    let (line, mut control) = line(&rehearsal).await;
    control.write_all(&frame(GREASE, b"ignored")).await.unwrap();
    let mut unknown = line.connection.open_uni().await.unwrap();
    unknown.write_all(&[GREASE, 1, 2, 3]).await.unwrap();
    let request = [
        frame(GREASE, b"before"),
        frame(HEADERS, &post(None)),
        frame(GREASE, b"between"),
        frame(DATA, &query(5, "now")),
        frame(GREASE, b"after"),
    ];
    assert!(ask(&line, &request.concat()).await.unwrap().len() > 40);
}

#[tokio::test]
async fn dh3_05_06_frames_out_of_place_and_what_qpack_cannot_read_close_the_connection() {
    let headers = frame(HEADERS, &post(None));
    let cases = [
        (frame(DATA, b"first"), 0x105),
        ([headers.clone(), frame(SETTINGS, b"")].concat(), 0x105),
        ([headers, vec![DATA, 9, 1]].concat(), 0x106),
        (frame(HEADERS, &[0, 0, 0xff, 0xff, 0xff, 0x00]), 0x200),
    ];
    for (octets, code) in cases {
        let rehearsal = Rehearsal::new();
        let (line, _control) = line(&rehearsal).await;
        let (mut send, _receive) = line.connection.open_bi().await.unwrap();
        send.write_all(&octets).await.unwrap();
        send.finish().unwrap();
        assert_eq!(line.closed().await, code);
        line.server.await.unwrap();
        assert_eq!(rehearsal.context.counters.protocol_errors.value(), 1);
    }
}

#[tokio::test]
async fn dh3_06_a_dynamic_table_that_was_not_allowed_closes_the_connection() {
    const CAPACITY_1: &[u8] = &[0x21];
    const CAPACITY_4096: &[u8] = &[0x3f, 0xe1, 0x1f];
    const INSERT: &[u8] = &[0xc1, 1, b'a'];
    // In one piece with the stream's type, and after it.
    for instruction in [CAPACITY_1, CAPACITY_4096, INSERT] {
        for apart in [false, true] {
            let rehearsal = Rehearsal::new();
            let (line, _control) = line(&rehearsal).await;
            let mut encoder = line.connection.open_uni().await.unwrap();
            encoder.write_all(&[ENCODER, CAPACITY_ZERO]).await.unwrap();
            if apart {
                let good = [frame(HEADERS, &post(None)), frame(DATA, &query(5, "now"))].concat();
                assert!(ask(&line, &good).await.unwrap().len() > 40, "a capacity of zero is legal");
            }
            encoder.write_all(instruction).await.unwrap();
            assert_eq!(line.closed().await, 0x201, "{instruction:?} {apart}");
            line.server.await.unwrap();
            assert_eq!(rehearsal.context.counters.protocol_errors.value(), 1);
        }
    }
}

#[tokio::test]
async fn dh3_06_a_closed_encoder_stream_closes_the_connection_and_an_endless_one_too() {
    let rehearsal = Rehearsal::new();
    let (first, _control) = line(&rehearsal).await;
    let mut encoder = first.connection.open_uni().await.unwrap();
    encoder.write_all(&[ENCODER]).await.unwrap();
    encoder.finish().unwrap();
    assert_eq!(first.closed().await, 0x104);

    let (second, _control) = line(&rehearsal).await;
    let mut encoder = second.connection.open_uni().await.unwrap();
    let flood = async {
        _ = encoder.write_all(&[ENCODER]).await;
        while encoder.write_all(&[CAPACITY_ZERO; 4096]).await.is_ok() {}
    };
    let (code, ()) = tokio::join!(second.closed(), flood);
    assert_eq!(code, 0x107);
}

#[tokio::test]
async fn dh3_05_a_closed_control_stream_closes_the_connection() {
    let rehearsal = Rehearsal::new();
    let (line, mut control) = line(&rehearsal).await;
    control.finish().unwrap();
    assert_eq!(line.closed().await, 0x104);
}

#[tokio::test]
async fn dh3_10_a_header_over_the_limit_is_refused_with_431() {
    let rehearsal = Rehearsal::new();
    let (line, _control) = line(&rehearsal).await;
    let mut section = post(None);
    for _ in 0..100 {
        literal(&mut section, 5, &"c".repeat(100));
    }
    let answer = ask(&line, &frame(HEADERS, &section)).await.unwrap();
    assert!(answer.ends_with(HUFFMAN_431), "{answer:?}");
    let good = [frame(HEADERS, &post(None)), frame(DATA, &query(5, "now"))].concat();
    assert!(ask(&line, &good).await.unwrap().len() > 40);
}

#[tokio::test]
async fn dh3_10_a_flood_of_requests_begun_and_reset_closes_the_connection() {
    let rehearsal = Rehearsal::new();
    let (line, _control) = line(&rehearsal).await;
    let flood = async {
        while let Ok((mut send, _receive)) = line.connection.open_bi().await {
            _ = send.write_all(&frame(HEADERS, &post(None))).await;
            _ = send.reset(0x10c_u32.into());
        }
    };
    let (code, ()) = tokio::join!(line.closed(), flood);
    assert_eq!(code, 0x107);
    assert_eq!(rehearsal.context.counters.protocol_errors.value(), 1);
}

#[tokio::test]
async fn dh3_10_a_frame_that_never_ends_closes_the_connection() {
    for on_control in [true, false] {
        let rehearsal = Rehearsal::new();
        let (line, mut control) = line(&rehearsal).await;
        let (mut request, _receive) = line.connection.open_bi().await.unwrap();
        let stream = if on_control { &mut control } else { &mut request };
        let flood = async {
            // Its length is 2^29 octets.
            _ = stream.write_all(&[GREASE, 0xa0, 0, 0, 0]).await;
            while stream.write_all(&[0; 4096]).await.is_ok() {}
        };
        let (code, ()) = tokio::join!(line.closed(), flood);
        assert_eq!(code, 0x107);
        line.server.await.unwrap();
        assert_eq!(rehearsal.context.counters.protocol_errors.value(), 1);
    }
}

#[tokio::test]
async fn doh_30_dh3_09_drain_says_goaway_and_finishes_what_is_in_flight_over_http3() {
    let mut rehearsal = Rehearsal::new();
    let (line, _control) = line(&rehearsal).await;
    let request = [frame(HEADERS, &post(None)), frame(DATA, &query(5, "later"))].concat();
    let (early, ()) = tokio::join!(ask(&line, &request), async {
        rehearsal.pending(1).await;
        rehearsal.stop.begin();
        let said = goaway(&line).await;
        assert_eq!(said, [GOAWAY, 1, 4], "the second request is the first not to be served");
        assert_eq!(ask(&line, &request).await, Err(0x10b));
        rehearsal.open();
    });
    assert!(early.unwrap().len() > 40);
    assert_eq!(line.closed().await, 0x100);
    line.server.await.unwrap();
    assert_eq!(rehearsal.context.counters.protocol_errors.value(), 0);
}

/// What the server says on its control stream after its settings.
async fn goaway(line: &Line) -> [u8; 3] {
    loop {
        let mut stream = line.connection.accept_uni().await.unwrap();
        let mut head = [0; 3];
        stream.read_exact(&mut head[..1]).await.unwrap();
        if head[0] != 0 {
            continue;
        }
        stream.read_exact(&mut head[..2]).await.unwrap();
        assert_eq!(head[0], SETTINGS);
        stream.read_exact(&mut vec![0; usize::from(head[1])]).await.unwrap();
        stream.read_exact(&mut head).await.unwrap();
        return head;
    }
}

#[tokio::test]
async fn dh3_09_an_idle_connection_is_told_to_go() {
    let rehearsal = Rehearsal::with(|limits| limits.idle_timeout = Duration::from_millis(50));
    let (line, _control) = line(&rehearsal).await;
    assert_eq!(goaway(&line).await[0], GOAWAY);
    assert_eq!(line.closed().await, 0x100);
}

#[tokio::test]
async fn doh_08_a_body_or_header_that_does_not_come_is_not_waited_for_over_http3() {
    let rehearsal = Rehearsal::new();
    let (line, _control) = line(&rehearsal).await;
    let good = [frame(HEADERS, &post(None)), frame(DATA, &query(5, "now"))].concat();
    assert!(ask(&line, &good).await.unwrap().len() > 40);
    tokio::time::pause();
    let (mut send, mut receive) = line.connection.open_bi().await.unwrap();
    send.write_all(&frame(HEADERS, &post(None))).await.unwrap();
    let answer = receive.read_to_end(1000).await.unwrap();
    assert!(answer.ends_with(b"The body did not come in time.\n"));
    assert_eq!(send.stopped().await.unwrap(), Some(0x100_u32.into()), "the rest is not wanted");
    let (mut send, mut receive) = line.connection.open_bi().await.unwrap();
    send.write_all(&[HEADERS, 9]).await.unwrap();
    let reset = receive.read_to_end(1000).await.unwrap_err();
    let cancelled = quinn::ReadError::Reset(0x10c_u32.into());
    assert_eq!(reset, quinn::ReadToEndError::Read(cancelled));
}

#[tokio::test]
async fn dh3_10_streams_are_granted_as_they_are_used_and_never_past_the_limit() {
    let mut rehearsal = Rehearsal::with(|limits| limits.streams_per_connection = 40);
    let (line, _control) = line(&rehearsal).await;
    let request = [frame(HEADERS, &post(None)), frame(DATA, &query(5, "never"))].concat();
    let mut held = Vec::new();
    for count in 1..=40 {
        let (mut send, receive) = line.connection.open_bi().await.unwrap();
        send.write_all(&request).await.unwrap();
        send.finish().unwrap();
        held.push(receive);
        rehearsal.pending(count).await;
    }
    let more = tokio::time::timeout(Duration::from_millis(50), line.connection.open_bi()).await;
    assert!(more.is_err(), "no more than the limit");
    drop(held);
    rehearsal.pending(0).await;
    line.connection.open_bi().await.unwrap();
}

#[tokio::test]
async fn dh3_03_a_control_stream_begins_with_settings() {
    let rehearsal = Rehearsal::new();
    let line = Line::to(&rehearsal).await;
    let mut control = line.connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(GOAWAY, &[0])].concat()).await.unwrap();
    assert_eq!(line.closed().await, 0x10a);
}

#[tokio::test]
async fn dh3_10_streams_to_ignore_are_not_endless() {
    let rehearsal = Rehearsal::new();
    let (line, _control) = line(&rehearsal).await;
    let flood = async {
        while let Ok(mut stream) = line.connection.open_uni().await {
            _ = stream.write_all(&[GREASE]).await;
            _ = stream.finish();
        }
    };
    let (code, ()) = tokio::join!(line.closed(), flood);
    assert_eq!(code, 0x107);
}

#[tokio::test]
async fn a_client_that_goes_right_after_the_handshake_ends_its_connection_and_nothing_else() {
    let rehearsal = Rehearsal::new();
    let (client, accepted, _endpoints) = Line::shake().await;
    client.close(0_u32.into(), b"");
    accepted.closed().await;
    let server = tokio::spawn(serve(accepted, session(&rehearsal), rehearsal.context.clone()));
    server.await.expect("the connection's task ends without a panic");
}
