//! Several pools over several transports: each has its names, and one that is dead takes nothing from the others.

use std::time::{Duration, Instant};

use hushgate::admin::Explained;
use hushgate::peer::Transport;

use crate::admin::{get, scrape};
use crate::harness::servers::{Authority, Fault, Leg, Server};
use crate::harness::{Answer, Ask, Rig, message};
use crate::over_all;

#[tokio::test]
async fn a_dead_pool_fails_in_time_for_its_own_names_while_others_answer_and_all_are_told_apart() {
    let authority = Authority::new();
    let good = Server::good(Leg::Tls, 2, &authority, None).await;
    let dead = Server::broken(Leg::Quic, Fault::Silent, &authority).await;
    let toml = format!(
        "[pool.good]\nservers = [{}]\ntimeout = \"9s\"\nattempt_timeout = \"8s\"\n\
         [pool.dead]\nservers = [{}]\ntimeout = \"600ms\"\nattempt_timeout = \"300ms\"\n\
         [[forward]]\ndomains = [\"good.example\", \"lan\"]\npool = \"good\"\n\
         [[forward]]\ndomains = [\"dead.example\", \"10.in-addr.arpa\"]\npool = \"dead\"\n",
        good.entry(),
        dead.entry()
    );
    let rig = Rig::beside(&[("ca.pem", &authority.pem)], &toml, &[]).await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 1]));
    over_all!(Transport::ALL, |transport| {
        let own = transport.name();
        for (domain, octet) in [("good.example", 2), ("lan", 2), ("example.org", 1)] {
            let reply = rig.ask(transport, &Ask::a(&format!("{own}.{domain}")).id(0).bytes()).await.message;
            assert!(reply.ends_with(&[192, 0, 2, octet]), "{domain}: {reply:02x?}");
        }
        let begun = Instant::now();
        for domain in ["dead.example", "7.10.in-addr.arpa"] {
            let reply = rig.ask(transport, &Ask::a(&format!("{own}.{domain}")).id(0).edns().bytes()).await.message;
            assert_eq!((message::rcode(&reply), message::ede(&reply)), (2, Some(22)), "{domain}");
        }
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    });
    assert!(rig.upstream.log().iter().all(|asked| asked.name().is_empty() || asked.name().ends_with("example.org")));

    let default = format!("udp://{}", rig.upstream.address);
    let url = |server: &Server| format!("{}://{}", server.leg.scheme(), server.address);
    let api = get(rig.admin(), "/api/upstreams").await.json();
    let told = scrape(rig.admin()).await;
    for (pool, url, name, answers) in [
        ("default", default, "www.example.org", true),
        ("good", url(&good), "www.good.example", true),
        ("dead", url(&dead), "www.dead.example", false),
    ] {
        let all = api["upstreams"].as_array().unwrap();
        let one = all.iter().find(|one| one["pool"] == pool).unwrap();
        assert_eq!(one["url"], url.as_str());
        assert_eq!(one["answers"].as_u64().unwrap() > 0, answers, "{one}");
        assert_eq!(one["failures"].as_u64().unwrap() > 0, !answers, "{one}");
        let key = format!("upstream_questions_total{{pool=\"{pool}\",upstream=\"{url}\"}}");
        assert!(told.value(&key) >= 7.0, "{key}");
        let page = get(rig.admin(), &format!("/api/explain?name={name}&type=A")).await;
        let road: Explained = serde_json::from_str(&page.body).unwrap();
        assert_eq!(road.cache.key.pool.as_deref(), Some(pool));
        assert!(road.attempts.iter().all(|attempt| attempt.server == url), "{}", page.body);
        assert_eq!(road.attempts.iter().any(|attempt| attempt.end == "answered"), answers, "{}", page.body);
    }
}
