//! Reload: another configuration takes over and no question is lost; one that cannot changes nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hushgate::admin::Takes;
use hushgate::gateway::reload::Way;
use hushgate::listen::DoorKind;
use hushgate::peer::Transport;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::client::{self, PATIENCE, framed};
use crate::harness::{Act, Answer, Ask, Rig, Upstream};

pub const REFUSED: u8 = 5;

pub fn rcode(message: &[u8]) -> u8 {
    message[3] & 15
}

/// The configuration with one table more, or one line in a table that it has.
pub fn with(extra: &'static str) -> impl FnOnce(String) -> String {
    move |text| text + "\n" + extra + "\n"
}

pub fn replaced(from: &str, to: &str) -> impl FnOnce(String) -> String {
    move |text| {
        assert!(text.contains(from), "{from} in {text}");
        text.replacen(from, to, 1)
    }
}

/// What is open now and was not before.
fn new_door(rig: &Rig, before: &[(DoorKind, SocketAddr)]) -> SocketAddr {
    let fresh: Vec<_> = rig.doors_now().into_iter().filter(|door| !before.contains(door)).collect();
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    fresh[0].1
}

/// Asks over every transport until `stop`, always something new; a question that is lost fails the test.
pub fn steady(rig: &Arc<Rig>, stop: &Arc<AtomicBool>, answered: &Arc<AtomicUsize>) -> JoinSet<usize> {
    let mut askers = JoinSet::new();
    for transport in Transport::ALL {
        let (rig, stop, answered) = (Arc::clone(rig), Arc::clone(stop), Arc::clone(answered));
        askers.spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let name = format!("q{count}.{}.example", transport.name());
                let reply = rig.ask(transport, &Ask::a(&name).bytes()).await;
                assert_eq!(rcode(&reply.message), 0, "{name}");
                count += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            count
        });
    }
    askers
}

#[tokio::test]
async fn under_steady_questions_reloads_on_every_level_lose_nothing_and_keep_connections() {
    let rig = Arc::new(Rig::start().await);
    let second = Upstream::start().await;
    second.always(Answer::new());
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut askers = steady(&rig, &stop, &answered);
    let mut kept = rig.dot_stream().await;
    let (_endpoint, quic) = rig.doq_connection().await;
    let query = Ask::a("kept.example").id(0).bytes();
    let first = framed(&mut kept, &query).await.unwrap();
    client::doq_exchange(&quic, &query).await.unwrap();
    let asked = rig.upstream.count();
    let before = rig.doors_now();

    let extra = "[limits]\nidle_timeout = \"40s\"\nexempt = []\nqueries_per_second = 100000\n[access]\nallow = [\"private\", \"192.0.2.0/24\"]\n\
                 [tls]\nnames = [\"localhost\", \"127.0.0.1\", \"::1\", \"dns.example\"]\n[[cache.rule]]\ndomains = [\"corp.example\"]\nmax_ttl = \"5s\"";
    let both = format!("servers = [\"udp://{}\", \"udp://{}\"]", rig.upstream.address, second.address);
    let single = format!("servers = [\"udp://{}\"]", rig.upstream.address);
    rig.rewrite(with(extra));
    rig.rewrite(replaced(&single, &both));
    rig.rewrite(replaced("dot = [\"127.0.0.1:0\"]", "dot = [\"127.0.0.1:0\", \"127.0.0.1:0\"]"));
    let reloaded = rig.reload(Way::Apply).await;
    assert!(reloaded.applied && reloaded.problems.is_empty(), "{reloaded:#?}");
    let keys: Vec<&str> = reloaded.changes.iter().map(|change| change.key.as_str()).collect();
    for key in ["listen.dot", "tls.names", "access.allow", "upstream.servers", "cache.rule", "limits.idle_timeout"] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    let address = new_door(&rig, &before);
    let trust = client::trust(&rig.authority(), &[b"dot"]);
    let mut fresh = client::tls(address, trust).await.unwrap();
    assert_eq!(rcode(&framed(&mut fresh, &query).await.unwrap().message), 0, "the new door answers");

    // And back, with the new door gone.
    rig.rewrite(replaced(&both, &single));
    rig.rewrite(replaced("dot = [\"127.0.0.1:0\", \"127.0.0.1:0\"]", "dot = [\"127.0.0.1:0\"]"));
    let reloaded = rig.reload(Way::Apply).await;
    assert!(reloaded.applied, "{reloaded:#?}");
    assert_eq!(rig.doors_now(), before);
    assert_eq!(fresh.read(&mut [0; 8]).await.unwrap_or(0), 0, "its connections are closed");

    assert_eq!(framed(&mut kept, &query).await.unwrap().message.len(), first.message.len());
    client::doq_exchange(&quic, &query).await.unwrap();
    let seen = answered.load(Ordering::Relaxed);
    let more = async {
        while answered.load(Ordering::Relaxed) < seen + 7 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, more).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    while let Some(count) = askers.join_next().await {
        assert!(count.unwrap() > 0);
    }
    assert!(rig.upstream.count() > asked);
    assert_eq!(rig.metric("hushgate_config_generation").await, 3);
    assert_eq!(rig.metric("hushgate_reloads_total").await, 2);
}

#[tokio::test]
async fn what_is_kept_survives_and_a_server_that_stays_is_the_same() {
    let rig = Rig::start().await;
    let query = Ask::a("kept.example").bytes();
    rig.ask(Transport::Udp, &query).await;
    assert_eq!(rig.upstream.count(), 1);
    let asked = rig.metric("hushgate_upstream_questions_total").await;
    rig.rewrite(with("[limits]\nqueries_per_second = 77\n[privacy]\npadding = false"));
    assert!(rig.reload(Way::Apply).await.applied);
    rig.ask(Transport::Udp, &query).await;
    assert_eq!(rig.upstream.count(), 1, "answered from the cache");
    assert!(asked > 0 && rig.metric("hushgate_upstream_questions_total").await >= asked, "what it has done is known");
}

#[tokio::test]
async fn a_question_in_flight_ends_by_the_old_plan() {
    let rig = Rig::start().await;
    rig.upstream.script(|_| Act::Hold(Answer::new()));
    let mut stream = TcpStream::connect(rig.dns()).await.unwrap();
    client::send_framed(&mut stream, &Ask::a("slow.example").bytes()).await.unwrap();
    rig.upstream.asked(1).await;
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("servers = [\"udp://{}\"]", held.local_addr().unwrap());
    rig.rewrite(replaced(&format!("servers = [\"udp://{}\"]", rig.upstream.address), &elsewhere));
    assert!(rig.reload(Way::Apply).await.applied);
    rig.upstream.release();
    let reply = tokio::time::timeout(PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
    assert_eq!(rcode(&reply), 0);
}

#[tokio::test]
async fn a_client_that_may_no_longer_ask_is_refused_at_its_next_question() {
    let rig = Rig::start().await;
    let query = Ask::a("example.com").bytes();
    let mut stream = rig.dot_stream().await;
    assert_eq!(rcode(&framed(&mut stream, &query).await.unwrap().message), 0);
    rig.rewrite(with("[access]\nallow = [\"192.0.2.0/24\"]"));
    assert!(rig.reload(Way::Apply).await.applied);
    assert_eq!(rcode(&framed(&mut stream, &query).await.unwrap().message), REFUSED);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_changes_nothing_and_says_why() {
    let rig = Rig::start().await;
    let file = rig.folder().join("hushgate.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("dot = [\"127.0.0.1:0\", \"{}\"]", held.local_addr().unwrap());
    // A DoH door behind a proxy is another kind of door, and the one that is open still holds the address.
    let behind = format!("doh = [{{ address = \"{}\", proxy = [\"192.0.2.1\"] }}", rig.doh());
    let broken: BTreeMap<&str, (String, String)> = BTreeMap::from([
        ("a mistake", (format!("{good}\n[cache]\nmax_ttl = \"soon\"\n"), "cache.max_ttl".to_owned())),
        ("no TOML", (format!("{good}\n]]\n"), "not TOML".to_owned())),
        ("no server", (good.replacen("udp://", "bogus://", 1), "upstream.servers".to_owned())),
        ("our own port", (good.replacen("doh = [\"127.0.0.1:0\"", &behind, 1), "take it away first".to_owned())),
        ("a port in use", (good.replacen("dot = [\"127.0.0.1:0\"]", &taken, 1), "in use".to_owned())),
        (
            "no certificate",
            (
                format!("{good}\n[[tls.certificates]]\nchain = \"none.pem\"\nkey = \"none.key\"\n"),
                "none.pem".to_owned(),
            ),
        ),
    ]);
    let before = rig.doors_now();
    let mut kept = rig.dot_stream().await;
    let query = Ask::a("kept.example").bytes();
    framed(&mut kept, &query).await.unwrap();
    let asked = rig.upstream.count();
    for (count, (what, (text, told))) in (1..).zip(broken) {
        std::fs::write(&file, text + "[access]\nallow = [\"192.0.2.0/24\"]\n").unwrap();
        let reloaded = rig.reload(Way::Apply).await;
        assert!(!reloaded.applied && reloaded.problems.iter().any(|one| one.contains(&told)), "{what}: {reloaded:#?}");
        assert_eq!(rig.doors_now(), before, "{what}");
        let reply = rig.ask(Transport::Udp, &Ask::a("example.com").bytes()).await;
        assert_eq!(rcode(&reply.message), 0, "{what}: the old access list holds");
        assert_eq!(rcode(&framed(&mut kept, &query).await.unwrap().message), 0, "{what}");
        assert_eq!(rig.metric("hushgate_reloads_total").await, count, "{what}");
    }
    assert_eq!(rig.upstream.count(), asked + 1, "the cache is as it was");
    assert_eq!(rig.metric("hushgate_config_generation").await, 1);
    assert_eq!(rig.metric("hushgate_config_reload_good").await, 0);
}

#[tokio::test]
async fn a_dry_run_tells_everything_and_changes_nothing() {
    let rig = Rig::start().await;
    let before = rig.doors_now();
    rig.rewrite(with("[access]\nallow = [\"192.0.2.0/24\"]\n[cache]\nsize = \"8 MiB\""));
    rig.rewrite(replaced("doq = [\"127.0.0.1:0\"]", "doq = []"));
    let tried = rig.reload(Way::Try).await;
    assert!(!tried.applied && tried.dry_run && tried.is_good(), "{tried:#?}");
    let takes: Vec<_> = tried.changes.iter().map(|change| (change.key.as_str(), change.takes)).collect();
    assert_eq!(takes, [("listen.doq", Takes::Reload), ("access.allow", Takes::Reload), ("cache.size", Takes::Restart)]);
    assert_eq!(rig.doors_now(), before);
    assert_eq!(rcode(&rig.ask(Transport::Doq, &Ask::a("example.com").id(0).bytes()).await.message), 0);
    // What waits for a restart is still different after the reload, and nothing else is.
    assert!(rig.reload(Way::Apply).await.applied);
    let again = rig.reload(Way::Try).await;
    assert_eq!(again.changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["cache.size"]);
}

#[tokio::test]
async fn a_door_taken_away_answers_what_is_in_flight_and_closes_its_connections() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        if asked.name().starts_with("slow") { Act::Hold(Answer::new()) } else { Act::Answer(Answer::new()) }
    });
    let mut stream = rig.dot_stream().await;
    let (_endpoint, quic) = rig.doq_connection().await;
    client::doq_exchange(&quic, &Ask::a("example.com").bytes()).await.unwrap();
    client::send_framed(&mut stream, &Ask::a("slow.example").bytes()).await.unwrap();
    rig.upstream.asked(2).await;
    rig.rewrite(replaced("dot = [\"127.0.0.1:0\"]", "dot = []"));
    rig.rewrite(replaced("doq = [\"127.0.0.1:0\"]", "doq = []"));
    assert!(rig.reload(Way::Apply).await.applied);
    let closed = tokio::time::timeout(PATIENCE, quic.closed()).await.unwrap();
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed:?}");
    rig.upstream.release();
    let reply = tokio::time::timeout(PATIENCE, client::read_framed(&mut stream)).await.unwrap().unwrap();
    assert_eq!(rcode(&reply), 0);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    // The address is free again once the last connection has ended.
    let free = async {
        while std::net::TcpListener::bind(rig.dot()).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
    assert_eq!(rcode(&rig.ask(Transport::Doh2, &Ask::a("example.com").bytes()).await.message), 0);
}
