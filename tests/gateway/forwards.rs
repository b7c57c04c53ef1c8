//! Conditional forwarding: which pool hears of a name, and above all which does not.

use hushgate::admin::{Explained, Outcome};
use hushgate::peer::Transport;

use crate::admin::get;
use crate::harness::{Act, Answer, Ask, Rig, Upstream, message};
use crate::over_all;

fn last(octet: u8) -> Answer {
    Answer::new().a(300, [192, 0, 2, octet])
}

/// An upstream that answers everything with 192.0.2.`octet`.
async fn answering(octet: u8) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.always(last(octet));
    upstream
}

/// `[pool.NAME]` with `upstream` alone, slow enough for a loaded machine, and forwards to it.
fn corp(upstream: &Upstream, domains: &str, more: &str) -> String {
    format!(
        "[pool.corp]\nservers = [\"udp://{}\"]\ntimeout = \"20s\"\nattempt_timeout = \"15s\"\n{more}\n\
         [[forward]]\ndomains = {domains}\npool = \"corp\"\n",
        upstream.address
    )
}

/// The same whose servers are given up soon.
const IMPATIENT: &str = "timeout = \"400ms\"\nattempt_timeout = \"100ms\"";

fn impatient(upstream: &Upstream, domains: &str) -> String {
    format!(
        "[pool.corp]\nservers = [\"udp://{}\"]\n{IMPATIENT}\n[[forward]]\ndomains = {domains}\npool = \"corp\"\n",
        upstream.address
    )
}

async fn octet(rig: &Rig, transport: Transport, name: &str) -> u8 {
    let answered = rig.ask(transport, &Ask::a(name).id(0).bytes()).await.message;
    assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (0, 1), "{name}: {answered:02x?}");
    let at = message::question_end(&answered) + 12;
    answered[at + 3]
}

async fn explain(rig: &Rig, name: &str) -> Explained {
    let page = get(rig.admin(), &format!("/api/explain?name={name}&type=A")).await;
    serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("{error}: {page:?}"))
}

fn names(upstream: &Upstream) -> Vec<String> {
    let log = upstream.log().into_iter().map(|asked| asked.name().to_ascii_lowercase());
    log.filter(|name| !name.is_empty()).collect()
}

#[tokio::test]
async fn names_of_a_forward_go_to_its_pool_over_each_transport_and_nobody_else_hears_them() {
    let inside = answering(9).await;
    let rig = Rig::with(&corp(&inside, "[\"corp.example\", \"lan\", \"10.in-addr.arpa\"]", "")).await;
    over_all!(Transport::ALL, |transport| {
        let own = transport.name();
        for (name, expected) in [
            (format!("{own}.corp.example"), 9),
            (format!("{own}.deep.CORP.Example"), 9),
            (format!("{own}.lan"), 9),
            (format!("{own}.3.2.10.IN-ADDR.arpa"), 9),
            (format!("{own}.xcorp.example"), 1),
            (format!("{own}.corp.example.org"), 1),
            (format!("{own}.wlan"), 1),
            (format!("{own}.110.in-addr.arpa"), 1),
        ] {
            assert_eq!(octet(&rig, transport, &name).await, expected, "{name}");
        }
    });
    let is_inside =
        |name: &String| [".corp.example", ".lan", ".10.in-addr.arpa"].iter().any(|zone| name.ends_with(zone));
    assert!(names(&inside).iter().all(is_inside), "{:?}", names(&inside));
    assert!(!names(&rig.upstream).iter().any(is_inside), "{:?}", names(&rig.upstream));
    assert_eq!((inside.count(), rig.upstream.count()), (28, 28));
}

#[tokio::test]
async fn the_longest_domain_of_all_forwards_wins_and_the_root_is_the_shortest() {
    let [root, corp, lab] = [answering(2).await, answering(3).await, answering(4).await];
    let forward = |domain: &str, upstream: &Upstream| {
        format!("[[forward]]\ndomains = [{domain:?}]\nservers = [\"udp://{}\"]\n", upstream.address)
    };
    let toml = [forward("corp.example", &corp), forward(".", &root), forward("lab.CORP.example", &lab)].concat();
    let rig = Rig::with(&toml).await;
    for (name, expected) in [
        ("corp.example", 3),
        ("a.corp.example", 3),
        ("LAB.corp.example", 4),
        ("a.b.lab.corp.example", 4),
        ("xlab.corp.example", 3),
        ("example", 2),
        ("www.example.org", 2),
    ] {
        assert_eq!(octet(&rig, Transport::Udp, name).await, expected, "{name}");
    }
    assert_eq!(rig.upstream.count(), 0);
    // SUD-01, SUD-05: names that are answered here stay here, whoever has the root.
    for (name, rcode) in [("x.localhost", 0), ("x.onion", 3), ("x.invalid", 3), ("_dns.resolver.arpa", 0)] {
        let answered = rig.ask(Transport::Udp, &Ask::a(name).bytes()).await.message;
        assert_eq!(message::rcode(&answered), rcode, "{name}");
    }
    assert_eq!(root.count(), 2);
}

#[tokio::test]
async fn a_forward_that_fails_is_a_servfail_in_time_and_the_default_pool_learns_nothing() {
    let inside = Upstream::start().await;
    inside.script(|_| Act::Silence);
    let rig = Rig::with(&impatient(&inside, "[\"corp.example\"]")).await;
    over_all!(Transport::ALL, |transport| {
        let begun = std::time::Instant::now();
        let ask = Ask::a(&format!("{}.corp.example", transport.name())).id(0).edns();
        let answered = rig.ask(transport, &ask.bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::ede(&answered)), (2, Some(22)));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "the pool's own time, not that of [upstream]");
    });
    inside.script(|asked| if asked.tcp { Act::Close } else { Act::Answer(Answer::new().flag(0x0200)) });
    let answered = rig.ask(Transport::Tcp, &Ask::a("cut.corp.example").edns().bytes()).await.message;
    assert_eq!(message::rcode(&answered), 2);
    assert!([22, 23].contains(&message::ede(&answered).unwrap()));
    assert_eq!(names(&rig.upstream), Vec::<String>::new());
}

#[tokio::test]
async fn a_forward_that_fails_falls_through_where_it_is_told_to_and_denials_never_do() {
    let inside = Upstream::start().await;
    inside.script(|asked| match asked.name().split('.').next() {
        Some("none") => Act::Answer(Answer::new().rcode(3).soa("corp.example", 60, 60)),
        Some("empty") => Act::Answer(Answer::new().soa("corp.example", 60, 60)),
        Some("refused") => Act::Answer(Answer::new().rcode(5)),
        _ => Act::Silence,
    });
    let toml = format!("{}fallthrough = true\n", impatient(&inside, "[\"corp.example\"]"));
    // The time that is left must do for the default pool on a loaded machine too.
    let rig = Rig::with(&toml.replace("400ms", "8s")).await;
    for (name, rcode) in [("none", 3), ("empty", 0), ("refused", 5)] {
        let answered = rig.ask(Transport::Udp, &Ask::a(&format!("{name}.corp.example")).bytes()).await.message;
        assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (rcode, 0), "{name}");
    }
    assert_eq!(rig.upstream.count(), 0);
    assert_eq!(octet(&rig, Transport::Udp, "lost.corp.example").await, 1);
    assert_eq!(names(&rig.upstream), ["lost.corp.example"]);
    let road = explain(&rig, "gone.corp.example").await;
    let server = |place: Option<&hushgate::admin::explained::Attempt>| place.map(|attempt| attempt.server.clone());
    assert_eq!(server(road.attempts.first()), Some(format!("udp://{}", inside.address)));
    assert_eq!(server(road.attempts.last()), Some(format!("udp://{}", rig.upstream.address)));
}

#[tokio::test]
async fn an_explanation_names_the_pool_and_the_routes_are_apart() {
    let (inside, place) = (answering(9).await, answering(8).await);
    let in_place = format!("[[forward]]\ndomains = [\"lan\"]\nservers = [\"udp://{}\"]\n", place.address);
    let rig = Rig::with(&(corp(&inside, "[\"corp.example\"]", "") + &in_place)).await;
    let mut routes = std::collections::HashSet::new();
    for (name, pool, server) in [
        ("www.CORP.example", "corp", &inside),
        ("host.lan", "forward[1]", &place),
        ("www.example.org", "default", &rig.upstream),
    ] {
        let road = explain(&rig, name).await;
        assert_eq!(road.cache.key.pool.as_deref(), Some(pool));
        assert_eq!(road.attempts[0].server, format!("udp://{}", server.address));
        assert!(matches!(road.outcome, Outcome::Replied { .. }));
        let again = explain(&rig, name).await;
        assert_eq!((again.cache.outcome.as_ref(), &again.cache.key.route), ("hit", &road.cache.key.route));
        assert_eq!(again.cache.supplier, Some(road.attempts[0].server.clone()));
        routes.insert(road.cache.key.route);
    }
    assert_eq!(routes.len(), 3);
}

#[tokio::test]
async fn a_pool_of_a_few_domains_says_nothing_of_whether_the_default_pool_lives() {
    let (inside, dead) = (answering(9).await, Upstream::start().await);
    dead.script(|_| Act::Silence);
    let servers = format!("upstream.servers=[\"udp://{}\"]", dead.address);
    let sets = [&servers, "upstream.timeout=300ms", "upstream.attempt_timeout=100ms", "admin.ready_wait=10m"];
    let rig = Rig::set(&corp(&inside, "[\"corp.example\"]", ""), &sets).await;
    // Until the default pool has been probed again and again while the other one answered.
    let mut asked = 0;
    while dead.log().len() < 5 {
        assert_eq!(octet(&rig, Transport::Udp, &format!("{asked}.corp.example")).await, 9);
        assert_eq!(get(rig.admin(), "/readyz?upstream").await.status, 503, "after {asked} questions");
        asked += 1;
    }
    assert!(asked > 0 && asked < 100_000);
    assert_eq!(get(rig.admin(), "/readyz").await.status, 503, "no upstream of the default pool has answered yet");

    inside.script(|_| Act::Silence);
    dead.always(last(1));
    crate::admin::get_until(rig.admin(), "/readyz?upstream", 200).await;
}
