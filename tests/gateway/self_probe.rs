//! The gateway knocks at its own encrypted doors, and what it meets there shows in the metrics.

use std::time::Duration;

use hushgate::upstream::timekeeper::WallClock;

use crate::admin::openmetrics::Scrape;
use crate::admin::scrape_until;
use crate::harness::{Adjusting, Rig};

const DAY: Duration = Duration::from_hours(24);

/// A gateway that probes itself, with more configuration.
async fn probing(extra: &str) -> Rig {
    Rig::adjusted(extra, &[], WallClock::default(), |Adjusting { config, .. }| config.admin.self_probe = true).await
}

/// What the metric `name` says of each encrypted door.
fn doors(rig: &Rig, scraped: &Scrape, name: &str) -> Vec<Option<f64>> {
    let doors = [("dot", rig.dot()), ("doh", rig.doh()), ("doh3", rig.doh()), ("doq", rig.doq())];
    let of = |(door, address)| {
        let labels = format!("{name}{{address=\"{address}\",door=\"{door}\"}}");
        scraped.matching(name).iter().find(|(key, _)| key.ends_with(&labels)).map(|(_, value)| *value)
    };
    doors.map(of).to_vec()
}

#[tokio::test]
async fn doors_that_do_what_they_are_there_for_stand_the_probe() {
    let rig = probing("").await;
    let all = |now: &Scrape| doors(&rig, now, "door_probe_success") == [Some(1.0); 4];
    let scraped = scrape_until(rig.admin(), all).await;
    assert!(doors(&rig, &scraped, "door_probe_seconds").iter().flatten().all(|seconds| (0.0..5.0).contains(seconds)));
    assert!(scraped.sum("handshakes_failed_total") < 0.5 && scraped.sum("panics_total") < 0.5);
    assert_eq!(rig.upstream.count(), 0, "the question is answered here");
}

#[tokio::test]
async fn a_certificate_for_other_names_than_clients_are_told_fails_the_probe_until_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let entry = crate::identity::self_signed(folder.path(), "dns", &["other.example"], DAY);
    let extra = format!("[tls]\ncertificates = [{entry}]\n[advertise]\nname = \"dns.example\"");
    let rig = probing(&extra).await;
    scrape_until(rig.admin(), |now| doors(&rig, now, "door_probe_success") == [Some(0.0); 4]).await;
    crate::identity::self_signed(folder.path(), "dns", &["dns.example"], DAY);
    // Not at the next minute: as soon as it is in force.
    let scraped = scrape_until(rig.admin(), |now| doors(&rig, now, "door_probe_success") == [Some(1.0); 4]).await;
    assert_eq!(doors(&rig, &scraped, "door_probes_total"), [Some(2.0); 4]);
}

#[tokio::test]
async fn doors_that_this_machine_may_not_use_are_left_alone() {
    let rig = probing("[access]\nallow = [\"192.0.2.0/24\"]").await;
    let scraped = scrape_until(rig.admin(), |_| true).await;
    assert_eq!(doors(&rig, &scraped, "door_probe_success"), [None; 4]);
    assert!(scraped.value("connections_refused_total") < 0.5);
}
