//! Servers that are given by name: found by bootstrap servers while the doors are open, remembered over a restart.

use std::net::SocketAddr;

use hushgate::peer::Transport;

use crate::admin::{get, get_until};
use crate::harness::{Act, Answer, Ask, Rig, Upstream, message};

/// Knows where `dns.example.net` is.
fn knows(asked_type: u16) -> Act {
    let answer = if asked_type == 1 { Answer::new().a(300, [127, 0, 0, 1]) } else { Answer::new() };
    Act::Answer(answer)
}

fn named(upstream: SocketAddr, bootstrap: SocketAddr) -> [String; 3] {
    [
        format!("upstream.servers=[\"udp://dns.example.net:{}\"]", upstream.port()),
        format!("upstream.bootstrap=[\"{bootstrap}\"]"),
        "upstream.timeout=\"2s\"".to_owned(),
    ]
}

async fn rig(upstream: &Upstream, bootstrap: &Upstream, more: &[&str]) -> Rig {
    let sets = named(upstream.address, bootstrap.address);
    let sets: Vec<&str> = sets.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Rig::set("", &sets).await
}

async fn is_answered(rig: &Rig, name: &str) -> bool {
    let answer = rig.ask(Transport::Udp, &Ask::a(name).bytes()).await.message;
    message::rcode(&answer) == 0 && answer.ends_with(&[192, 0, 2, 1])
}

#[tokio::test]
async fn doh_25_a_server_given_by_name_is_found_by_bootstrap_once_and_for_its_name_alone() {
    let (upstream, bootstrap) = (Upstream::start().await, Upstream::start().await);
    bootstrap.script(|asked| knows(asked.rtype()));
    let rig = rig(&upstream, &bootstrap, &[]).await;
    for index in 0..5 {
        assert!(is_answered(&rig, &format!("n{index}.example.org")).await);
    }
    let asked: Vec<String> = bootstrap.log().iter().map(crate::harness::upstream::Asked::name).collect();
    assert_eq!(asked, ["dns.example.net"; 2], "A and AAAA");
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn doh_25_the_doors_are_open_and_readiness_is_truthful_while_bootstrap_is_silent() {
    let (upstream, bootstrap) = (Upstream::start().await, Upstream::start().await);
    bootstrap.script(|_| Act::Silence);
    let more = ["admin.ready_wait=\"10m\"", "upstream.timeout=\"300ms\"", "upstream.attempt_timeout=\"200ms\""];
    let rig = rig(&upstream, &bootstrap, &more).await;
    assert!(!is_answered(&rig, "early.example.org").await, "answered at once, though with a failure");
    assert_eq!(get(rig.admin(), "/readyz").await.status, 503);
    assert_eq!(get(rig.admin(), "/readyz?upstream").await.status, 503);
    bootstrap.script(|asked| knows(asked.rtype()));
    get_until(rig.admin(), "/readyz?upstream", 200).await;
    assert_eq!(get(rig.admin(), "/readyz").await.status, 200);
    assert!(is_answered(&rig, "late.example.org").await);
}

#[tokio::test]
async fn doh_25_a_restart_goes_by_the_last_good_addresses_while_bootstrap_is_silent() {
    let (upstream, bootstrap) = (Upstream::start().await, Upstream::start().await);
    bootstrap.script(|asked| knows(asked.rtype()));
    let mut first = rig(&upstream, &bootstrap, &[]).await;
    assert!(is_answered(&first, "first.example.org").await);
    let state = first.folder().join("state");
    // Written off the workers, while questions are answered.
    while !state.join("upstream-addresses").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    first.stop().await.unwrap();
    bootstrap.script(|_| Act::Silence);
    let state = format!("state_dir={:?}", state.display().to_string());
    let second = rig(&upstream, &bootstrap, &[&state]).await;
    assert!(is_answered(&second, "second.example.org").await);
}
