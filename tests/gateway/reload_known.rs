//! Who is known, and how clients are met, over reloads: on connections that are open and on new ones.

use std::sync::Arc;

use hushgate::gateway::reload::Way;
use hushgate::peer::Transport;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::admin::scrape;
use crate::harness::client::{self, framed};
use crate::harness::{Ask, ENCRYPTED, Rig, message};
use crate::identified::{Certificate, Guise, NAMES, STRANGER, TOKEN, at, is_answered, tls};
use crate::over_all;
use crate::reload::{REFUSED, rcode, replaced, with};

const KITCHEN: &str = "[[client]]\nname = \"kitchen\"\nlabel = \"kitchen\"\ntoken_file = \"token\"\n";
const CELLAR: &str = "[[client]]\nname = \"cellar\"\nlabel = \"cellar\"\n";
const BY_LABEL: Guise<'static> = Guise { name: "kitchen.dns.home.example", certificate: None };

async fn reload(rig: &Rig) {
    let reloaded = rig.reload(Way::Apply).await;
    assert!(reloaded.applied, "{reloaded:#?}");
}

/// A connection to the DoT door in `guise`.
async fn dot(rig: &Rig, guise: Guise<'_>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(rig.dot()).await.unwrap();
    let name = ServerName::try_from(guise.name).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(tls(rig, b"dot", guise))).connect(name, tcp).await.unwrap()
}

#[tokio::test]
async fn who_is_struck_off_is_a_stranger_on_open_connections_too_and_the_others_are_counted_on() {
    let pinned = Certificate::self_signed();
    let by_key = format!("[[client]]\nname = \"tablet\"\ncertificate = \"{}\"\n", pinned.pin());
    let extra = format!("{NAMES}[access]\nidentified_only = true\n{CELLAR}{KITCHEN}{by_key}");
    let rig = Rig::beside(&[("token", TOKEN)], &extra, &[]).await;
    let guise = Guise { name: "localhost", certificate: Some(&pinned) };
    let (mut by_label, mut by_certificate) = (dot(&rig, BY_LABEL).await, dot(&rig, guise).await);
    let mut stays = dot(&rig, Guise { name: "cellar.dns.home.example", certificate: None }).await;
    let query = Ask::a("known.example.org").bytes();
    for stream in [&mut by_label, &mut by_certificate, &mut stays] {
        assert_eq!(rcode(&framed(stream, &query).await.unwrap().message), 0);
    }
    let [by_token, _] = at(&rig, &format!("/dns-query/{TOKEN}"), &query);
    assert_eq!(rig.http(Transport::Doh2, by_token.clone()).await.unwrap().0, 200);

    rig.rewrite(replaced(KITCHEN, ""));
    rig.rewrite(replaced(&by_key, ""));
    reload(&rig).await;
    for stream in [&mut by_label, &mut by_certificate] {
        assert_eq!(rcode(&framed(stream, &query).await.unwrap().message), REFUSED);
    }
    assert_ne!(rig.http(Transport::Doh2, by_token).await.unwrap().0, 200);
    assert_eq!(rcode(&framed(&mut stays, &query).await.unwrap().message), 0);
    let page = scrape(rig.admin()).await;
    assert_eq!(page.value("client_questions_total{client=\"cellar\"}") as u64, 2);
}

#[tokio::test]
async fn clients_may_begin_to_be_known_by_certificate_and_names_to_be_strict_while_it_runs() {
    let pinned = Certificate::self_signed();
    let rig = Rig::with(&format!("[access]\nidentified_only = true\n{CELLAR}{NAMES}")).await;
    let guise = Guise { name: "localhost", certificate: Some(&pinned) };
    assert!(!is_answered(&rig, Transport::Dot, guise).await);
    rig.rewrite(|text| {
        text + &format!("strict_sni = true\n[[client]]\nname = \"tablet\"\ncertificate = \"{}\"\n", pinned.pin())
    });
    reload(&rig).await;
    over_all!(ENCRYPTED, |transport| {
        assert!(is_answered(&rig, transport, guise).await);
        assert!(!is_answered(&rig, transport, STRANGER).await);
    });
    let unknown = ServerName::try_from("bogus.example").unwrap();
    let shake = async || {
        let tcp = TcpStream::connect(rig.dot()).await.unwrap();
        let config = Arc::new(client::trust(&rig.authority(), &[b"dot"]));
        tokio_rustls::TlsConnector::from(config).connect(unknown.clone(), tcp).await.unwrap_err().to_string()
    };
    assert!(shake().await.contains("UnrecognisedName"));
    rig.rewrite(replaced("strict_sni = true\n", ""));
    reload(&rig).await;
    let error = shake().await;
    assert!(!error.contains("UnrecognisedName"), "{error}");
}

#[tokio::test]
async fn a_door_is_known_by_its_id_and_not_by_its_place_in_the_file() {
    let client = format!("{KITCHEN}allow = [\"127.0.0.0/8\"]\n");
    let extra = format!("{NAMES}[access]\nallow = [\"192.0.2.0/24\"]\n{client}");
    let rig = Rig::beside(&[("token", TOKEN)], &extra, &[]).await;
    over_all!(ENCRYPTED, |transport| assert!(is_answered(&rig, transport, BY_LABEL).await));
    rig.rewrite(replaced("dns = [\"127.0.0.1:0\"]", "dns = []"));
    reload(&rig).await;
    over_all!(ENCRYPTED, |transport| assert!(is_answered(&rig, transport, BY_LABEL).await));
}

#[tokio::test]
async fn cookies_switched_on_by_a_reload_are_those_of_the_fleet() {
    let fleet = "[fleet]\nsecret_file = \"fleet\"\n";
    let secret = "5a".repeat(32);
    let member = async |cookies: &str| Rig::beside(&[("fleet", &secret)], &format!("{fleet}{cookies}"), &[]).await;
    let (here, there) =
        (member("[cookies]\nserver = false\n").await, member("[cookies]\nrequire = \"always\"\n").await);
    let ask = async |rig: &Rig, cookie: &[u8]| {
        let query = Ask::a("cookie.example").option(10, cookie).bytes();
        rig.ask(Transport::Udp, &query).await.message
    };
    assert_eq!(message::option(&ask(&here, b"client!!").await, 10), None);
    here.rewrite(replaced("server = false", "server = true"));
    reload(&here).await;
    let cookie = message::option(&ask(&here, b"client!!").await, 10).unwrap();
    assert_eq!(message::counts(&ask(&there, &cookie).await)[1], 1, "one of the fleet's is good at another");
    here.rewrite(with("[privacy]\npadding = false"));
    reload(&here).await;
    let cookie = message::option(&ask(&here, b"client!!").await, 10).unwrap();
    assert_eq!(message::counts(&ask(&there, &cookie).await)[1], 1, "and so after the next reload");
    assert_eq!(message::counts(&ask(&there, b"client!!").await)[1], 0, "while others are not");
}
