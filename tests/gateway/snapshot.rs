//! The cache over a restart: what was known is known again at its true age, and a file that cannot be believed does no harm.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use hushgate::peer::Transport;
use hushgate::upstream::Server;
use hushgate::upstream::timekeeper::built;

use crate::admin::{scrape, scrape_until};
use crate::clock::Hand;
use crate::harness::{Ask, Rig, Upstream, message};

/// One machine that outlives its gateways: a state directory, a clock, an upstream.
struct Machine {
    state: tempfile::TempDir,
    hand: Hand,
    upstream: Upstream,
}

impl Machine {
    async fn new() -> Self {
        let machine =
            Self { state: tempfile::tempdir().unwrap(), hand: Hand::new(), upstream: Upstream::start().await };
        machine.set(0);
        machine
    }

    /// Sets the clock to so many seconds after a certain time.
    fn set(&self, seconds: u64) {
        self.hand.set(built() + 1000 + seconds);
    }

    fn file(&self) -> PathBuf {
        self.state.path().join("cache.snapshot")
    }

    async fn start(&self, extra: &str) -> Rig {
        let set = format!("state_dir={:?}", self.state.path().display().to_string());
        let servers = vec![Server::new(format!("udp://{}", self.upstream.address).parse().unwrap())];
        Rig::adjusted(extra, &[&set], self.hand.clock(), |adjusting| {
            adjusting.config.upstream.default.servers = servers;
        })
        .await
    }

    async fn start_with_snapshot(&self) -> Rig {
        self.start("[cache]\nsnapshot = true\n").await
    }

    /// A gateway that has learned `names` comes and goes.
    async fn learn(&self, names: &[&str]) {
        let mut rig = self.start_with_snapshot().await;
        for name in names {
            assert_eq!(ttl(&rig, name).await, 300);
        }
        rig.stop().await.unwrap();
    }
}

/// The TTL of the address of `name`.
async fn ttl(rig: &Rig, name: &str) -> u32 {
    let reply = rig.ask(Transport::Udp, &Ask::a(name).bytes()).await.message;
    assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{name}");
    message::ttls(&reply)[0]
}

/// Waits until `count` answers have been taken over.
async fn loaded(rig: &Rig, count: f64) {
    scrape_until(rig.admin(), |scraped| scraped.value("snapshot_loaded") > count - 0.5).await;
}

/// Waits until a file was refused.
async fn refused(rig: &Rig) {
    scrape_until(rig.admin(), |scraped| scraped.value("snapshot_refused_total") > 0.5).await;
    assert!(scrape(rig.admin()).await.value("snapshot_loaded") < 0.5);
}

#[tokio::test]
async fn names_are_answered_after_a_restart_without_the_upstream_and_their_age_counts_the_time_between() {
    let machine = Machine::new().await;
    machine.learn(&["a.example", "b.example"]).await;
    assert_eq!(machine.upstream.count(), 2);
    let mode = std::fs::metadata(machine.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    machine.set(100);
    let mut rig = machine.start_with_snapshot().await;
    loaded(&rig, 2.0).await;
    for name in ["a.example", "B.EXAMPLE"] {
        let left = ttl(&rig, name).await;
        assert!((180..=200).contains(&left), "{left}");
    }
    assert_eq!(machine.upstream.count(), 2);
    // A clock that is set while we serve changes no age (TTL-12).
    machine.set(0);
    assert!(ttl(&rig, "a.example").await <= 200);
    machine.set(150);
    rig.pass(50);
    rig.stop().await.unwrap();

    // Ages add up over two restarts; what is over is asked for anew.
    machine.set(310);
    let rig = machine.start_with_snapshot().await;
    // Expired, but fit to stand in while the upstream is away.
    loaded(&rig, 2.0).await;
    assert_eq!(ttl(&rig, "a.example").await, 300);
    assert_eq!(machine.upstream.count(), 3);
}

#[tokio::test]
async fn rules_for_a_domain_hold_for_what_was_kept_before_they_were_made() {
    let machine = Machine::new().await;
    machine.learn(&["never.example", "short.example", "a.example"]).await;
    machine.set(100);
    let rules = "[[cache.rule]]\ndomains = [\"never.example\"]\nnever = true\n\
                 [[cache.rule]]\ndomains = [\"short.example\"]\nmax_ttl = \"60s\"\nstale_window = \"0s\"\n";
    let mut rig = machine.start(&format!("[cache]\nsnapshot = true\n{rules}")).await;
    loaded(&rig, 1.0).await;
    assert_eq!(ttl(&rig, "a.example").await, 200);
    assert_eq!(machine.upstream.count(), 3);
    ttl(&rig, "never.example").await;
    assert_eq!(ttl(&rig, "short.example").await, 60);
    assert_eq!(machine.upstream.count(), 5, "both are asked for anew");
    rig.stop().await.unwrap();
}

#[tokio::test]
async fn explain_names_the_server_that_an_answer_came_from_before_the_restart() {
    let machine = Machine::new().await;
    machine.learn(&["a.example"]).await;
    let rig = machine.start_with_snapshot().await;
    loaded(&rig, 1.0).await;
    let told = crate::admin::get(rig.admin(), "/api/explain?name=a.example").await.json();
    assert_eq!(told["cache"]["outcome"], "hit", "{told}");
    assert_eq!(told["cache"]["supplier"], format!("udp://{}", machine.upstream.address), "{told}");
}

#[tokio::test]
async fn what_another_server_said_is_not_served_once_the_upstream_has_changed() {
    let mut machine = Machine::new().await;
    machine.learn(&["a.example"]).await;
    machine.upstream = Upstream::start().await;
    let rig = machine.start_with_snapshot().await;
    loaded(&rig, 1.0).await;
    let held = crate::admin::get(rig.admin(), "/api/cache/entries?name=a.example").await.json();
    assert_eq!(held["entries"][0]["supplier"], "a server that is no longer configured", "{held:#}");
    assert_eq!(ttl(&rig, "a.example").await, 300);
    assert_eq!(machine.upstream.count(), 1);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_replaced_at_the_end() {
    let machine = Machine::new().await;
    machine.learn(&["a.example"]).await;
    let mut octets = std::fs::read(machine.file()).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(machine.file(), &octets).unwrap();
    let mut rig = machine.start_with_snapshot().await;
    refused(&rig).await;
    assert_eq!(ttl(&rig, "a.example").await, 300);
    assert_eq!(machine.upstream.count(), 2);
    assert_eq!(std::fs::read(machine.file()).unwrap(), octets, "it lies where it lay");
    rig.stop().await.unwrap();
    let rig = machine.start_with_snapshot().await;
    loaded(&rig, 1.0).await;
}

#[tokio::test]
async fn a_file_from_the_future_is_refused() {
    let machine = Machine::new().await;
    machine.set(500);
    machine.learn(&["a.example"]).await;
    machine.set(499);
    let rig = machine.start_with_snapshot().await;
    refused(&rig).await;
    assert_eq!(ttl(&rig, "a.example").await, 300);
}

#[tokio::test]
async fn a_clock_that_is_behind_is_waited_for_and_nothing_is_lost() {
    let machine = Machine::new().await;
    machine.learn(&["a.example"]).await;
    let before = std::fs::read(machine.file()).unwrap();
    machine.hand.set(0);
    let mut rig = machine.start_with_snapshot().await;
    assert_eq!(ttl(&rig, "b.example").await, 300);
    rig.stop().await.unwrap();
    assert_eq!(std::fs::read(machine.file()).unwrap(), before);

    let rig = machine.start_with_snapshot().await;
    machine.set(50);
    loaded(&rig, 1.0).await;
    assert!((230..=250).contains(&ttl(&rig, "a.example").await));
}

#[tokio::test]
async fn a_gateway_killed_while_it_wrote_has_left_the_file_before() {
    let machine = Machine::new().await;
    machine.learn(&["a.example"]).await;
    let part = machine.state.path().join("cache.snapshot.new");
    std::fs::write(&part, b"hushgate, cut sh").unwrap();
    let mut rig = machine.start_with_snapshot().await;
    loaded(&rig, 1.0).await;
    assert_eq!(ttl(&rig, "b.example").await, 300);
    rig.stop().await.unwrap();
    assert!(!part.exists());
    let rig = machine.start_with_snapshot().await;
    loaded(&rig, 2.0).await;
}

#[tokio::test]
async fn without_the_setting_nothing_is_written_and_what_lies_there_is_neither_read_nor_deleted() {
    let machine = Machine::new().await;
    let mut rig = machine.start("").await;
    assert_eq!(ttl(&rig, "a.example").await, 300);
    rig.stop().await.unwrap();
    assert!(!machine.file().exists());
    machine.learn(&["a.example"]).await;
    let before = std::fs::read(machine.file()).unwrap();
    let mut rig = machine.start("").await;
    assert_eq!(ttl(&rig, "a.example").await, 300);
    rig.stop().await.unwrap();
    assert_eq!(machine.upstream.count(), 3);
    assert_eq!(std::fs::read(machine.file()).unwrap(), before);
}

#[tokio::test]
async fn the_metrics_say_that_nothing_has_been_written_yet() {
    let machine = Machine::new().await;
    let rig = machine.start_with_snapshot().await;
    let scraped = scrape(rig.admin()).await;
    for series in ["snapshot_entries", "snapshot_bytes", "snapshot_timestamp_seconds", "snapshot_failed_total"] {
        assert!(scraped.value(series) < 0.5, "{series}");
    }
}
