//! Answers that are wrong, over both versions of HTTP: the question fails for the right reason, the connection goes on.

use http::StatusCode;

use super::super::ask::PADDING_BLOCK;
use super::super::testing::{Authority, reply, reply_as, serve_doq};
use super::{Cause, End, Leg, Play, Script, WEB, doq_server, good, outcome, web_server};
use crate::wire::{Edns, Flags, Header, Records};

async fn all_end_in(plays: &[Play], cause: Cause) {
    for web in WEB {
        for (number, &play) in plays.iter().enumerate() {
            assert_eq!(outcome(web, play).await.map(drop), Err(cause), "{web:?}, {number}");
        }
    }
}

#[tokio::test]
async fn doh_27_responses_that_carry_no_dns_message_are_malformed() {
    let plays: [Play; 8] = [
        |query| good(query).status(StatusCode::SERVICE_UNAVAILABLE),
        |query| good(query).status(StatusCode::TEMPORARY_REDIRECT).header("location", "/dns-query"),
        |query| good(query).status(StatusCode::NOT_FOUND).header("content-type", "text/html"),
        |query| good(query).header("content-type", "text/html"),
        |query| {
            let mut script = good(query);
            script.head.as_mut().unwrap().headers_mut().clear();
            script
        },
        |_| Script::of(Vec::new()),
        |_| Script::of(vec![0; 11]),
        |query| good(query).header("content-encoding", "gzip"),
    ];
    all_end_in(&plays, Cause::Malformed).await;
}

#[tokio::test]
async fn lengths_that_lie_and_messages_beyond_65535_octets_are_malformed() {
    let plays: [Play; 3] = [
        |_| Script::of(vec![0; 65_536]),
        |query| good(query).header("content-length", "5"),
        |query| good(query).header("content-length", "5000"),
    ];
    all_end_in(&plays, Cause::Malformed).await;
}

#[tokio::test]
async fn a_head_beyond_16_kib_is_not_read() {
    all_end_in(&[|query| good(query).header("x-bomb", &"b".repeat(40_000))], Cause::Malformed).await;
}

#[tokio::test]
async fn doq_19_a_stream_reset_with_whatever_code_leaves_the_question_unanswered() {
    let plays: [Play; 5] = [
        |_| Script::headless(End::Reset(0x8)),
        |_| Script::headless(End::Reset(0xd)),
        |_| Script::headless(End::Reset(0x3098_ea5e)),
        |query| good(query).end(End::Reset(0x2)),
        |query| good(query).header("content-length", "5000").end(End::Reset(0x3098_ea5e)),
    ];
    all_end_in(&plays, Cause::Closed).await;
}

#[tokio::test]
async fn doh_29_a_request_that_is_always_refused_may_be_asked_again() {
    assert_eq!(outcome(super::Web::H2, |_| Script::headless(End::Reset(0x7))).await.map(drop), Err(Cause::Closed));
    assert_eq!(outcome(super::Web::H3, |_| Script::headless(End::Reset(0x10b))).await.map(drop), Err(Cause::Closed));
}

#[tokio::test]
async fn another_question_or_id_and_a_truncated_answer_are_refused() {
    let other: [Play; 2] = [
        |query| Script::of(reply_as(9, query)),
        |query| {
            let mut message = reply(query, 0);
            message[13] = b'x';
            Script::of(message)
        },
    ];
    all_end_in(&other, Cause::Mismatched).await;
    all_end_in(&[|query| Script::of(reply(query, Flags::TC))], Cause::Truncated).await;
}

#[tokio::test]
async fn interim_responses_trailers_and_loops_of_names_do_not_hold_up_the_answer() {
    let plays: [Play; 3] = [
        |query| Script { interim: 3, ..good(query) },
        |query| Script { trailers: true, ..good(query) },
        |query| {
            let mut message = reply(query, 0);
            let loops = u16::try_from(message.len()).unwrap() | 0xc000;
            message[7] = 1;
            message.extend(loops.to_be_bytes());
            message.extend([0, 1, 0, 1, 0, 0, 0, 9, 0, 0]);
            Script::of(message)
        },
    ];
    for web in WEB {
        for play in plays {
            assert!(outcome(web, play).await.is_ok());
        }
    }
}

/// Answers a query of whole blocks whose last option, and last octets, are padding.
fn padded(query: &[u8]) -> bool {
    let header = Header::parse(query).unwrap();
    let opt = Records::new(query, &header).unwrap().flatten().last().unwrap();
    let edns = Edns::parse(query, opt.class, opt.ttl, opt.rdata).unwrap();
    query.len().is_multiple_of(PADDING_BLOCK)
        && edns.padding
        && usize::from(opt.rdata.end) == query.len()
        && query.ends_with(&[0; 8])
}

#[tokio::test]
async fn pad_04_05_09_questions_of_any_length_are_padded_to_blocks_over_http_and_quic() {
    let play: Play = |query| if padded(query) { good(query) } else { Script::of(Vec::new()) };
    let authority = Authority::new();
    let quic = doq_server(&authority, 100, |connection| {
        serve_doq(connection, |query| if padded(query) { reply(query, 0) } else { Vec::new() })
    });
    let mut legs = vec![Leg::open(&authority.server("quic", quic)).await];
    for web in WEB {
        legs.push(Leg::open(&web_server(&authority, web, play, 100).await.0).await);
    }
    for leg in legs {
        for length in [1, 30, 60] {
            let name = format!("{}.example", "a".repeat(length));
            assert!(leg.ask(&name).await.is_ok(), "{length}");
        }
    }
}

#[tokio::test]
async fn doh_14_the_id_is_0_over_both_versions_of_http() {
    let play: Play = |query| if query[..2] == [0, 0] { good(query) } else { Script::of(Vec::new()) };
    for web in WEB {
        assert!(outcome(web, play).await.is_ok());
    }
}
