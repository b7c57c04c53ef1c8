//! Answers in use are asked for again before they expire, and nobody waits for that.

use std::time::Duration;

use hushgate::admin::Explained;
use hushgate::peer::Transport;

use crate::admin::{get, scrape_until};
use crate::harness::{Act, Answer, Ask, Rig, message};
use crate::over_all;

fn answer() -> Answer {
    Answer::new().a(100, [192, 0, 2, 9])
}

/// Seconds after which a life of 100 is in its last tenth.
const LATE: u64 = 92;

#[tokio::test]
async fn a_name_in_use_is_renewed_in_time_over_each_transport() {
    let rig = Rig::start().await;
    rig.upstream.always(answer());
    let mut done = 0.0;
    over_all!(Transport::ALL, |transport| {
        let query = Ask::a(&format!("{}.renewed.example", transport.name())).id(0).bytes();
        let before = rig.upstream.count();
        rig.ask(transport, &query).await;
        rig.pass(LATE);
        rig.ask(transport, &query).await;
        assert_eq!(rig.upstream.count(), before + 1, "once more may be the last time");
        let answered = rig.ask(transport, &query).await.message;
        assert!((1..=8).contains(&message::ttls(&answered)[0]), "what is kept is served meanwhile");
        done += 1.0;
        scrape_until(rig.admin(), |now| now.value("refreshes_done_total") > done - 0.5).await;
        rig.pass(20);
        let answered = rig.ask(transport, &query).await.message;
        assert!((60..=80).contains(&message::ttls(&answered)[0]), "{:?}", message::read(&answered));
        assert_eq!(rig.upstream.count(), before + 2);
    });
}

#[tokio::test]
async fn explain_tells_of_a_refresh() {
    let rig = Rig::start().await;
    rig.upstream.always(answer());
    let query = Ask::a("told.example").bytes();
    rig.ask(Transport::Udp, &query).await;
    rig.pass(LATE);
    rig.ask(Transport::Udp, &query).await;
    let page = get(rig.admin(), "/api/explain?name=told.example&type=A").await;
    let road: Explained = serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("{error}: {page:?}"));
    assert_eq!((road.cache.outcome.as_ref(), road.cache.refresh.is_some()), ("hit", true));
    rig.upstream.asked(2).await;
}

#[tokio::test]
async fn a_gateway_that_stops_does_not_wait_for_a_refresh() {
    let mut rig = Rig::start().await;
    rig.upstream.always(answer());
    let query = Ask::a("left.example").bytes();
    rig.ask(Transport::Udp, &query).await;
    rig.upstream.script(|_| Act::Silence);
    rig.pass(LATE);
    rig.ask(Transport::Udp, &query).await;
    rig.ask(Transport::Udp, &query).await;
    rig.upstream.asked(2).await;
    // A refresh may take ten seconds, and so may what is still in flight.
    tokio::time::timeout(Duration::from_secs(8), rig.stop()).await.expect("it waits").unwrap();
}
