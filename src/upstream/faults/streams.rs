//! Servers that are slow or silent: the asker may leave at any time, the server hears of it, the connection goes on.

use super::super::testing::{Authority, label, reply};
use super::{End, Leg, Play, Script, Seen, WEB, doq_server, frame, good, web_server};

/// Leaves once the server has the question; answers when the server has heard of it.
async fn leave(leg: &Leg, told: &mut tokio::sync::mpsc::UnboundedReceiver<Seen>) {
    tokio::select! {
        outcome = leg.ask("slow.example") => panic!("{outcome:?}"),
        () = async { while told.recv().await.unwrap() != Seen::Question("slow".into()) {} } => {}
    }
    while told.recv().await.unwrap() != Seen::Cancelled {}
    assert!(leg.is_open());
    leg.ask("good.example").await.expect("another question is answered");
}

#[tokio::test]
async fn an_asker_that_leaves_a_silent_or_dripping_response_cancels_its_stream() {
    let plays: [Play; 3] = [
        |_| Script::headless(End::Never),
        |query| good(query).end(End::Never),
        |_| Script::of(vec![0; 3]).end(End::Never),
    ];
    for web in WEB {
        for play in plays {
            let authority = Authority::new();
            let (server, mut told) = web_server(&authority, web, play, 100).await;
            leave(&Leg::open(&server).await, &mut told).await;
        }
    }
}

#[tokio::test]
async fn an_asker_that_leaves_a_doq_stream_stops_it() {
    for part in [0, 1, 20] {
        let authority = Authority::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let address = doq_server(&authority, 100, move |connection| {
            let tell = tell.clone();
            async move {
                while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
                    let query = receiving.read_to_end(65_537).await.unwrap();
                    let answer = frame(&reply(&query[2..], 0));
                    let _ = tell.send(Seen::Question(label(&query[2..])));
                    if label(&query[2..]) == "good" {
                        sending.write_all(&answer).await.unwrap();
                        continue;
                    }
                    sending.write_all(&answer[..part]).await.unwrap();
                    // The code is DOQ_REQUEST_CANCELLED.
                    assert_eq!(sending.stopped().await.unwrap(), Some(3_u32.into()));
                    let _ = tell.send(Seen::Cancelled);
                }
            }
        });
        leave(&Leg::open(&authority.server("quic", address)).await, &mut told).await;
    }
}
