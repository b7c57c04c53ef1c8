//! Servers that allow few streams at once serve bursts all the same, on one connection.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::testing::{Authority, label, reply, serve_doq};
use super::{End, Leg, Script, Seen, WEB, Web, doq_server, frame, good, web_server};

async fn burst(leg: Leg, size: usize) -> Leg {
    let leg = Arc::new(leg);
    let mut asking = JoinSet::new();
    for number in 0..size {
        let leg = Arc::clone(&leg);
        asking.spawn(async move {
            let delivered = leg.ask(&format!("n{number}.example")).await.unwrap();
            assert_eq!(label(&delivered.message), format!("n{number}"));
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    Arc::into_inner(leg).unwrap()
}

#[tokio::test]
async fn bursts_are_served_over_http_however_few_streams_there_are() {
    for web in WEB {
        for limit in [1, 3, 10] {
            let authority = Authority::new();
            let (server, mut told) = web_server(&authority, web, good, limit).await;
            let leg = burst(Leg::open(&server).await, 40).await;
            assert!(leg.is_open());
            match web {
                Web::H2 => assert_eq!(leg.capacity(), Some(usize::try_from(limit).unwrap())),
                Web::H3 => assert_eq!(leg.capacity(), None),
            }
            drop(leg);
            let mut connections = 0;
            while let Ok(seen) = told.try_recv() {
                connections += usize::from(seen == Seen::Connection);
            }
            assert_eq!(connections, 1, "{web:?}, {limit}");
        }
    }
}

#[tokio::test]
async fn doq_32_bursts_are_served_over_quic_however_few_streams_there_are() {
    for limit in [1, 3, 10] {
        let authority = Authority::new();
        let address = doq_server(&authority, limit, |connection| serve_doq(connection, |query| reply(query, 0)));
        assert!(burst(Leg::open(&authority.server("quic", address)).await, 40).await.is_open());
    }
}

#[tokio::test]
async fn who_waits_for_a_stream_may_leave_and_others_get_it() {
    let authority = Authority::new();
    let play = |query: &[u8]| if label(query) == "slow" { Script::headless(End::Never) } else { good(query) };
    for web in WEB {
        let (server, mut told) = web_server(&authority, web, play, 1).await;
        let leg = Leg::open(&server).await;
        leg.ask("good.example").await.unwrap();
        {
            let slow = leg.ask("slow.example");
            tokio::pin!(slow);
            tokio::select! {
                _ = slow.as_mut() => panic!("it was answered"),
                () = async { while told.recv().await.unwrap() != Seen::Question("slow".into()) {} } => {}
            }
            for _ in 0..100 {
                let mut waiting = Box::pin(leg.ask("waits.example"));
                assert!(is_pending(waiting.as_mut()), "{web:?}");
            }
        }
        leg.ask("good.example").await.unwrap();
    }
}

/// Polls once: is it pending?
fn is_pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[tokio::test]
async fn doq_28_a_hundred_questions_share_a_connection_and_are_answered_in_any_order() {
    let authority = Authority::new();
    let address = doq_server(&authority, 100, |connection| async move {
        let mut held = Vec::new();
        while held.len() < 100 {
            let (sending, mut receiving) = connection.accept_bi().await.unwrap();
            held.push((sending, receiving.read_to_end(65_537).await.unwrap()));
        }
        for (mut sending, query) in held.into_iter().rev() {
            sending.write_all(&frame(&reply(&query[2..], 0))).await.unwrap();
            sending.finish().unwrap();
        }
        connection.closed().await;
    });
    burst(Leg::open(&authority.server("quic", address)).await, 100).await;
}
