//! Connections that stay warm: a server that closes what rests is connected to once while questions come, and a quiet gateway with
//! many workers keeps one connection, not one for each.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hushgate::peer::Transport;

use crate::admin::get;
use crate::harness::servers::{Authority, Leg, Server};
use crate::harness::{Ask, Rig, message};

/// The transports that have connections.
const CONNECTED: [Leg; 5] = [Leg::Tcp, Leg::Tls, Leg::Https, Leg::H3, Leg::Quic];

/// A gateway with a pool for each connected transport, whose names are under `<scheme>.example`.
async fn rig(servers: &[Server], authority: &Authority, sets: &[&str]) -> Rig {
    let mut toml = String::new();
    for server in servers {
        let name = server.leg.scheme();
        write!(
            toml,
            "[pool.{name}]\nservers = [{}]\ntimeout = \"9s\"\nattempt_timeout = \"8s\"\n\
             [[forward]]\ndomains = [\"{name}.example\"]\npool = \"{name}\"\n",
            server.entry()
        )
        .unwrap();
    }
    Rig::beside(&[("ca.pem", &authority.pem)], &toml, sets).await
}

async fn servers(authority: &Authority, rest: Option<Duration>) -> Vec<Server> {
    let mut servers = Vec::new();
    for leg in CONNECTED {
        servers.push(Server::good(leg, 1, authority, rest).await);
    }
    servers
}

/// Asks `count` questions of each server, one every `pause`, each from a port of its own, so that workers take turns.
async fn ask_evenly(rig: &Arc<Rig>, count: u32, pause: Duration) {
    let asking: Vec<_> = CONNECTED
        .map(|leg| {
            let rig = Arc::clone(rig);
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(pause);
                for number in 0..count {
                    tick.tick().await;
                    let name = format!("n{number}.{}.example", leg.scheme());
                    let reply = rig.ask(Transport::Udp, &Ask::a(&name).bytes()).await.message;
                    assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{name}");
                }
            })
        })
        .into();
    for one in asking {
        one.await.unwrap();
    }
}

async fn assert_one_connection_each(rig: &Rig, servers: &[Server], questions: u32) {
    let told = get(rig.admin(), "/api/upstreams").await.json();
    for server in servers {
        let name = server.leg.scheme();
        assert_eq!(server.connections(), 1, "{name}: after {} questions", server.questions());
        assert!(server.questions() >= questions as usize, "{name}");
        let one = told["upstreams"].as_array().unwrap().iter().find(|one| one["pool"] == name).unwrap();
        assert_eq!(one["handshakes"], 1, "{one}");
        let per_thousand = 1000.0 / one["questions"].as_f64().unwrap();
        let shown = one["handshakes_per_thousand_questions"].as_f64().unwrap();
        assert!((shown - per_thousand).abs() < 1e-2, "{one}");
    }
}

#[tokio::test]
async fn a_server_that_closes_what_rests_is_connected_to_once_while_questions_come() {
    let authority = Authority::new();
    // Over in 3 s, twice what a connection may rest.
    let servers = servers(&authority, Some(Duration::from_millis(1500))).await;
    let rig = Arc::new(rig(&servers, &authority, &[]).await);
    ask_evenly(&rig, 100, Duration::from_millis(30)).await;
    assert_one_connection_each(&rig, &servers, 100).await;
    // What rests is closed, and nobody notices.
    tokio::time::sleep(Duration::from_millis(1800)).await;
    for server in &servers {
        let name = format!("late.{}.example", server.leg.scheme());
        let reply = rig.ask(Transport::Udp, &Ask::a(&name).bytes()).await.message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1), "{name}");
        assert_eq!(server.connections(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_quiet_gateway_with_many_workers_keeps_one_connection_to_a_server() {
    let authority = Authority::new();
    let servers = servers(&authority, None).await;
    let rig = Arc::new(rig(&servers, &authority, &["workers=8"]).await);
    ask_evenly(&rig, 32, Duration::from_millis(50)).await;
    assert_one_connection_each(&rig, &servers, 32).await;
}
