//! Names that answered a moment ago and are denied now: shown, and under guard asked again at another server.

use hushgate::admin::Explained;
use hushgate::peer::Transport;

use crate::admin::{get, scrape};
use crate::harness::{Answer, Ask, Rig, Upstream, message};
use crate::over_all;

fn data(octet: u8) -> Answer {
    Answer::new().a(60, [192, 0, 2, octet])
}

fn denial(rcode: u16) -> Answer {
    Answer::new().rcode(rcode).soa("corp.example", 600, 600)
}

/// A gateway that forwards corp.example to the servers in order, the names in guarded.corp.example under guard.
async fn before(servers: &[&Upstream]) -> Rig {
    let servers: Vec<String> = servers.iter().map(|server| format!("udp://{}", server.address)).collect();
    let toml = format!(
        "[pool.corp]\nservers = {servers:?}\nstrategy = \"ordered\"\ntimeout = \"20s\"\nattempt_timeout = \"15s\"\n\
         [[forward]]\ndomains = [\"corp.example\"]\npool = \"corp\"\n\
         [[cache.rule]]\ndomains = [\"guarded.corp.example\"]\nguard = true\n"
    );
    Rig::with(&toml).await
}

async fn explain(rig: &Rig, name: &str) -> Explained {
    let page = get(rig.admin(), &format!("/api/explain?name={name}&type=A")).await;
    serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("{error}: {page:?}"))
}

/// Lets `name` be answered by the first server and expire.
async fn known(rig: &Rig, first: &Upstream, transport: Transport, name: &str) {
    first.always(data(1));
    let answered = rig.ask(transport, &Ask::a(name).id(0).bytes()).await.message;
    assert!(answered.ends_with(&[192, 0, 2, 1]), "{answered:02x?}");
    rig.pass(61);
}

#[tokio::test]
async fn under_guard_what_another_server_still_has_is_answered_and_kept_over_each_transport() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(data(2));
    let rig = before(&[&first, &second]).await;
    over_all!(Transport::ALL, |transport| {
        for (label, rcode) in [("nxdomain", 3), ("nodata", 0)] {
            let name = format!("{label}.{}.guarded.corp.example", transport.name());
            known(&rig, &first, transport, &name).await;
            first.always(denial(rcode));
            let asked = (first.count(), second.count());
            for _ in 0..2 {
                let answered = rig.ask(transport, &Ask::a(&name).id(0).bytes()).await.message;
                assert_eq!((message::rcode(&answered), message::ttls(&answered)), (0, vec![60]));
                assert!(answered.ends_with(&[192, 0, 2, 2]), "{answered:02x?}");
            }
            assert_eq!((first.count(), second.count()), (asked.0 + 1, asked.1 + 1));
        }
    });
    let told = scrape(rig.admin()).await;
    assert!((told.value("sudden_denials_total{outcome=\"contradicted\"}") - 14.0).abs() < 1e-9);

    let name = "told.guarded.corp.example";
    known(&rig, &first, Transport::Udp, name).await;
    first.always(denial(3));
    let road = explain(&rig, name).await;
    assert_eq!(
        road.sudden.as_deref(),
        Some("sudden, and not believed: there was data 61 s ago, and another server has it still")
    );
    let attempts: Vec<(&str, &str)> = road.attempts.iter().map(|one| (one.server.as_str(), one.why.as_ref())).collect();
    let (first, second) = (format!("udp://{}", first.address), format!("udp://{}", second.address));
    assert_eq!(attempts, [(first.as_str(), "first"), (second.as_str(), "doubt")]);
}

#[tokio::test]
async fn under_guard_a_denial_that_is_confirmed_lives_for_thirty_seconds_over_each_transport() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(denial(3));
    let rig = before(&[&first, &second]).await;
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.guarded.corp.example", transport.name());
        known(&rig, &first, transport, &name).await;
        first.always(denial(3));
        let asked = (first.count(), second.count());
        let ask = Ask::a(&name).id(0).bytes();
        for left in [30, 1] {
            let answered = rig.ask(transport, &ask).await.message;
            assert_eq!((message::rcode(&answered), message::ttls(&answered)), (3, vec![left]));
            rig.pass(29);
        }
        assert_eq!((first.count(), second.count()), (asked.0 + 1, asked.1 + 1));
        let answered = rig.ask(transport, &ask).await.message;
        assert_eq!((message::rcode(&answered), message::ttls(&answered)), (3, vec![300]), "no news any more");
        assert_eq!((first.count(), second.count()), (asked.0 + 2, asked.1 + 1));
    });
    let told = scrape(rig.admin()).await;
    assert!((told.value("sudden_denials_total{outcome=\"confirmed\"}") - 7.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_pool_of_one_believes_it_and_nobody_else_hears_the_name() {
    let only = Upstream::start().await;
    let rig = before(&[&only]).await;
    let name = "alone.guarded.corp.example";
    known(&rig, &only, Transport::Udp, name).await;
    only.always(denial(3));
    let road = explain(&rig, name).await;
    assert_eq!(road.sudden.as_deref(), Some("sudden: there was data 61 s ago, and no other server answered"));
    let answered = rig.ask(Transport::Tcp, &Ask::a(name).bytes()).await.message;
    assert_eq!((message::rcode(&answered), message::ttls(&answered)), (3, vec![30]));
    assert_eq!((only.count(), rig.upstream.count()), (2, 0));
}

#[tokio::test]
async fn without_guard_a_sudden_denial_is_believed_and_shown_while_it_lasts() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let rig = before(&[&first, &second]).await;
    let name = "open.corp.example";
    known(&rig, &first, Transport::Udp, name).await;
    first.always(denial(3));
    assert_eq!(explain(&rig, name).await.sudden.as_deref(), Some("sudden: there was data 61 s ago"));
    assert_eq!(explain(&rig, name).await.sudden.as_deref(), Some("sudden when it came"));
    let answered = rig.ask(Transport::Tcp, &Ask::a(name).bytes()).await.message;
    assert_eq!((message::rcode(&answered), message::ttls(&answered)), (3, vec![300]));
    assert_eq!((first.count(), second.count()), (2, 0));
    let held = get(rig.admin(), &format!("/api/cache/entries?name={name}&type=A")).await.json();
    let denial = held["entries"].as_array().unwrap().iter().find(|entry| entry["type"] == "any").unwrap().clone();
    assert_eq!((&denial["kind"], &denial["sudden"]), (&"nxdomain".into(), &true.into()), "{held:#}");
    let page = get(rig.admin(), "/").await.body;
    assert!(page.contains("<th scope=\"row\">sudden denials</th><td>1</td>"), "{page}");
    let told = scrape(rig.admin()).await;
    assert!((told.value("sudden_denials_total{outcome=\"unchecked\"}") - 1.0).abs() < 1e-9);
    assert_eq!(explain(&rig, "never.corp.example").await.sudden, None);
}
