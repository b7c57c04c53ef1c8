//! Made-up names below one domain whose servers say nothing: who asks for anything else does not notice.

use std::collections::HashSet;

use hushgate::peer::Transport;
use tokio::net::UdpSocket;

use crate::admin::scrape_until;
use crate::harness::{Act, Answer, Ask, Rig, Upstream, message};
use crate::over_all;

/// Places of one domain, by default.
const PLACES: usize = 256;

fn good() -> Answer {
    Answer::new().a(300, [192, 0, 2, 9])
}

/// Asks for `count` names below `domain` over UDP, no more at a time than the sockets hold.
async fn flood(rig: &Rig, domain: &str, count: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(rig.dns()).await.unwrap();
    let waited = scrape_until(rig.admin(), |_| true).await.value("waited_total");
    for id in 1..=count {
        socket.send(&Ask::a(&format!("x{id}.{domain}")).edns().id(id).bytes()).await.unwrap();
        if id % 64 == 0 || id == count {
            scrape_until(rig.admin(), |now| now.value("waited_total") > waited + f64::from(id) - 0.5).await;
        }
    }
    socket
}

#[tokio::test]
async fn two_thousand_made_up_names_of_one_domain_leave_all_other_names_answered() {
    let rig = Rig::start().await;
    rig.upstream.script(|asked| {
        if asked.name().to_ascii_lowercase().ends_with("victim.example") { Act::Silence } else { Act::Answer(good()) }
    });
    let socket = flood(&rig, "a.victim.example", 2000).await;
    rig.upstream.asked(PLACES).await;
    over_all!(Transport::ALL, |transport| {
        let name = format!("{}.good.example", transport.name());
        let answered = rig.ask(transport, &Ask::a(&name).edns().id(0).bytes()).await.message;
        let shown = message::read(&answered);
        assert_eq!((message::rcode(&answered), message::counts(&answered)[1]), (0, 1), "{shown:?}");
        let refused = rig.ask(transport, &Ask::a(&format!("{name}.victim.example")).edns().id(0).bytes()).await.message;
        assert_eq!((message::rcode(&refused), message::ede(&refused)), (2, Some(0)), "{:?}", message::read(&refused));
    });
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert_eq!((message::rcode(&buffer[..length]), message::ede(&buffer[..length])), (2, Some(0)));
    let asked: HashSet<String> = rig.upstream.log().iter().map(|asked| asked.name().to_ascii_lowercase()).collect();
    assert_eq!(asked.iter().filter(|name| name.ends_with("victim.example")).count(), PLACES, "no more, and no fewer");
    let scraped = scrape_until(rig.admin(), |_| true).await;
    assert!(scraped.value("crowded_total").to_string() == (2000 - PLACES + 7).to_string());
    assert!(scraped.value("joins").to_string() == PLACES.to_string());
}

#[tokio::test]
async fn names_of_a_forward_are_as_many_as_they_are() {
    let inside = Upstream::start().await;
    inside.script(|_| Act::Hold(good()));
    let rig = Rig::with(&format!(
        "[limits]\noutstanding_per_domain = 3\n[pool.corp]\nservers = [\"udp://{}\"]\ntimeout = \"20s\"\n\
         attempt_timeout = \"15s\"\n[[forward]]\ndomains = [\"corp.example\"]\npool = \"corp\"\n",
        inside.address
    ))
    .await;
    rig.upstream.script(|_| Act::Hold(good()));
    let _inside = flood(&rig, "corp.example", 20).await;
    let _outside = flood(&rig, "other.example", 20).await;
    inside.asked(20).await;
    rig.upstream.asked(3).await;
    let scraped = scrape_until(rig.admin(), |_| true).await;
    assert!((scraped.value("crowded_total") - 17.0).abs() < 0.5);
    assert_eq!((inside.count(), rig.upstream.count()), (20, 3));
}
