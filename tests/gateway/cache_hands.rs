//! Hands on a running cache: what it holds is shown, explained and dropped through the admin listener.

use hushgate::peer::Transport;
use serde_json::Value;

use crate::admin::{Page, get, post, send};
use crate::harness::{Act, Answer, Ask, Rig};
use crate::over_all;

async fn entries(rig: &Rig, query: &str) -> Value {
    let page = get(rig.admin(), &format!("/api/cache/entries?{query}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    page.json()
}

/// How many answers and failures a flush dropped.
async fn flush(rig: &Rig, query: &str) -> (u64, u64) {
    let page = post(rig.admin(), &format!("/api/cache/flush?{query}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let dropped = page.json();
    (dropped["entries"].as_u64().unwrap(), dropped["failures"].as_u64().unwrap())
}

async fn fill(rig: &Rig, names: &[&str]) {
    for name in names {
        rig.ask(Transport::Tcp, &Ask::a(name).bytes()).await;
    }
}

/// Is `name` held?
async fn holds(rig: &Rig, name: &str) -> bool {
    !entries(rig, &format!("name={name}")).await["entries"].as_array().unwrap().is_empty()
}

#[tokio::test]
async fn an_answer_asked_over_any_transport_is_shown_whole_and_flushed_alone() {
    let rig = Rig::start().await;
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.Shown.example.org", transport.name());
        let ask = Ask::a(&name).id(0).bytes();
        rig.ask(transport, &ask).await;
        rig.pass(7);
        rig.ask(transport, &ask).await;
        let held = entries(&rig, &format!("name={}", name.to_uppercase())).await;
        assert_eq!(held["entries"].as_array().unwrap().len(), 1, "{held:#}");
        let entry = &held["entries"][0];
        let lower = format!("{}.", name.to_lowercase());
        for (key, value) in [
            ("name", Value::from(lower)),
            ("type", "A".into()),
            ("class", "IN".into()),
            ("kind", "answer".into()),
            ("rcode", "NOERROR".into()),
            ("state", "fresh".into()),
            ("age", 7.into()),
            ("hits", 1.into()),
            ("do", false.into()),
            ("cd", false.into()),
            ("ad", false.into()),
            ("pool", "default".into()),
            ("supplier", format!("udp://{}", rig.upstream.address).into()),
        ] {
            assert_eq!(entry[key], value, "{key}: {held:#}");
        }
        let left = entry["ttl_left"].as_i64().unwrap();
        assert!((270..=293).contains(&left), "{left}");
        let record = entry["records"][0].as_str().unwrap();
        let told = format!("{}. 293 IN A 192.0.2.1", name.to_lowercase());
        assert_eq!(record, told, "in lower case, whatever went upstream");
        let asked = rig.upstream.count();
        assert_eq!(flush(&rig, &format!("name={name}&type=AAAA")).await, (0, 0));
        assert_eq!(flush(&rig, &format!("name={name}&type=A")).await, (1, 0));
        rig.ask(transport, &ask).await;
        assert_eq!(rig.upstream.count(), asked + 1, "it is asked anew");
    });
}

#[tokio::test]
async fn a_suffix_drops_whole_labels_below_it_and_its_siblings_stay() {
    let rig = Rig::start().await;
    let below = ["example.com", "www.example.com", "A.b.EXAMPLE.com"];
    let beside = ["notexample.com", "example.com.net", "com", "example.org"];
    fill(&rig, &below).await;
    fill(&rig, &beside).await;
    assert_eq!(flush(&rig, "suffix=Example.COM.").await, (3, 0));
    for name in beside {
        assert!(holds(&rig, name).await, "{name}");
    }
    assert!(!holds(&rig, "www.example.com").await);
    assert_eq!(flush(&rig, "name=com").await, (1, 0), "a name is not all below it");
    assert_eq!(flush(&rig, "suffix=.").await, (3, 0), "the root is everything");
    fill(&rig, &beside).await;
    assert_eq!(flush(&rig, "all").await, (4, 0));
    assert_eq!(get(rig.admin(), "/api/cache").await.json()["entries"], 0);
}

#[tokio::test]
async fn variants_of_a_name_denials_and_failures_are_told_apart() {
    let rig = Rig::start().await;
    for ask in [Ask::a("v.example.org"), Ask::a("v.example.org").dnssec(), Ask::a("v.example.org").flags(0x0110)] {
        rig.ask(Transport::Tcp, &ask.bytes()).await;
    }
    rig.upstream.always(Answer::new().rcode(3).soa("example.org", 60, 60));
    fill(&rig, &["gone.example.org"]).await;
    rig.upstream.always(Answer::new().rcode(2));
    fill(&rig, &["broken.example.org"]).await;
    let held = entries(&rig, "name=v.example.org").await;
    let entries_of = held["entries"].as_array().unwrap();
    let bits: Vec<_> = entries_of
        .iter()
        .map(|entry| (entry["type"].as_str().unwrap(), entry["do"] == true, entry["cd"] == true))
        .collect();
    assert_eq!(bits.len(), 3);
    for variant in [("A", false, false), ("A", true, false), ("A", false, true)] {
        assert!(bits.contains(&variant), "{bits:?}");
    }
    assert_eq!(entries(&rig, "name=v.example.org&type=AAAA").await["entries"].as_array().unwrap().len(), 0);
    let gone = entries(&rig, "name=gone.example.org").await;
    assert_eq!((&gone["entries"][0]["kind"], &gone["entries"][0]["rcode"]), (&"nxdomain".into(), &"NXDOMAIN".into()));
    let broken = entries(&rig, "name=broken.example.org").await;
    assert_eq!(broken["entries"].as_array().unwrap().len(), 0);
    let failure = &broken["failures"][0];
    assert_eq!(
        (&failure["rcode"], &failure["pool"], &failure["recursive"]),
        (&"SERVFAIL".into(), &"default".into(), &true.into())
    );
    assert_eq!(get(rig.admin(), "/api/cache").await.json()["failures"], 1);
    assert_eq!(flush(&rig, "suffix=example.org").await, (4, 1));
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    fill(&rig, &["broken.example.org"]).await;
    assert!(holds(&rig, "broken.example.org").await, "it is tried again at once");
}

#[tokio::test]
async fn escaped_labels_are_names_of_their_own() {
    let rig = Rig::start().await;
    fill(&rig, &["a.b.example.org"]).await;
    assert!(!holds(&rig, r"a%5C.b.example.org").await, "a dot within a label is no boundary");
    assert_eq!(flush(&rig, r"suffix=b%5C.example.org").await, (0, 0));
    assert_eq!(flush(&rig, r"suffix=%5C098.example.org").await, (1, 0), "an escaped letter is that letter");
}

#[tokio::test]
async fn what_has_expired_is_shown_as_what_it_still_is() {
    let rig = Rig::start().await;
    fill(&rig, &["old.example.org"]).await;
    rig.pass(310);
    let held = entries(&rig, "name=old.example.org").await;
    let entry = &held["entries"][0];
    let left = entry["ttl_left"].as_i64().unwrap();
    assert!((-45..=-10).contains(&left), "{held:#}");
    assert!(["stale", "expired"].contains(&entry["state"].as_str().unwrap()), "{held:#}");
    assert!(entry["records"][0].as_str().unwrap().contains(" 0 IN A "), "{held:#}");
}

#[tokio::test]
async fn what_is_under_way_when_it_is_flushed_is_answered_and_not_kept() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new().a(300, [192, 0, 2, 1])));
    let ask = Ask::a("flying.example.org").bytes();
    let flushing = async {
        rig.upstream.asked(1).await;
        assert_eq!(flush(&rig, "suffix=example.org").await, (0, 0));
        rig.upstream.release();
    };
    let (answered, ()) = tokio::join!(rig.ask(Transport::Dot, &ask), flushing);
    assert_eq!(crate::harness::message::rcode(&answered.message), 0);
    assert!(!holds(&rig, "flying.example.org").await);
}

#[tokio::test]
async fn the_figures_add_up() {
    let rig = Rig::start().await;
    fill(&rig, &["one.example.org", "one.example.org", "two.example.org"]).await;
    rig.upstream.always(Answer::new().soa("example.org", 60, 60));
    fill(&rig, &["empty.example.org"]).await;
    let stats = get(rig.admin(), "/api/cache").await.json();
    assert_eq!((&stats["entries"], &stats["inserted"]), (&3.into(), &3.into()), "{stats:#}");
    assert_eq!(
        (&stats["kinds"]["answer"], &stats["kinds"]["nodata"], &stats["kinds"]["nxdomain"]),
        (&2.into(), &1.into(), &0.into())
    );
    assert_eq!(stats["states"]["fresh"], 3);
    assert_eq!(
        (&stats["answered_from"]["cache"], &stats["answered_from"]["upstream"]),
        (&1.into(), &3.into()),
        "{stats:#}"
    );
    assert!(stats["octets_used"].as_u64().unwrap() > 0 && stats["octets_allowed"] == 64 << 20);
}

#[tokio::test]
async fn a_flush_is_posted_by_programs_and_by_no_other_sites_page() {
    let rig = Rig::start().await;
    fill(&rig, &["kept.example.org"]).await;
    let host = rig.admin();
    let say = async |method: &str, path: &str, fields: &str| -> Page {
        send(host, &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0{fields}")).await
    };
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let page = say(method, "/api/cache/flush?all", "").await;
        assert_eq!((page.status, page.header("allow")), (405, Some("POST")), "{method}");
    }
    for path in ["/api/cache", "/api/cache/entries?name=a"] {
        assert_eq!(say("POST", path, "").await.header("allow"), Some("GET, HEAD"), "{path}");
    }
    for fields in [
        "",
        "\r\nContent-Type: text/plain",
        "\r\nContent-Type: application/x-www-form-urlencoded",
        "\r\nContent-Type: application/json\r\nOrigin: http://evil.example",
        "\r\nOrigin: null",
        "\r\nContent-Type: text/plain\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate",
    ] {
        assert_eq!(say("POST", "/api/cache/flush?all", fields).await.status, 403, "{fields:?}");
    }
    for query in ["", "?name=a&all", "?suffix=a..b", "?everything"] {
        let page = post(host, &format!("/api/cache/flush{query}")).await;
        assert!(page.status == 400 && page.json()["error"].is_string(), "{page:?}");
    }
    assert!(holds(&rig, "kept.example.org").await, "nothing of that dropped anything");
}
