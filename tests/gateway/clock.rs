//! A gateway whose clock is wrong at boot: certificates hold all the same, and time servers can be found.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hushgate::peer::Transport;
use hushgate::upstream::Server;
use hushgate::upstream::timekeeper::{WallClock, built};
use hushgate::wire::name;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admin::scrape;
use crate::harness::upstream::Asked;
use crate::harness::{Adjusting, Answer, Ask, Rig, client, message};
use crate::over_all;

const DAY: u64 = 86_400;

/// A clock that a test sets.
#[derive(Clone)]
pub struct Hand(Arc<AtomicU64>);

impl Hand {
    /// 1970.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    pub fn clock(&self) -> WallClock {
        let hand = Arc::clone(&self.0);
        WallClock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(hand.load(Ordering::SeqCst)))
    }
}

/// A DoT server with a certificate of its own, which answers 192.0.2.1 until it is told to close instead.
struct Dot {
    server: Server,
    pem: String,
    closing: Arc<AtomicBool>,
}

impl Dot {
    /// Its certificate is valid between these days after the build.
    async fn start(from: u64, to: u64) -> Self {
        let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        let day = |days: u64| OffsetDateTime::from_unix_timestamp((built() + days * DAY).cast_signed()).unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (day(from), day(to));
        let leaf = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new(format!("tls://{}", listener.local_addr().unwrap()).parse().unwrap());
        let closing = Arc::new(AtomicBool::new(false));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&closing)));
        Self { server, pem, closing }
    }

    /// Makes it the gateway's only server.
    fn adopt(&self, adjusting: &mut Adjusting<'_>) {
        let ca = adjusting.folder.join("dot.pem");
        std::fs::write(&ca, &self.pem).unwrap();
        adjusting.config.upstream.default.servers = vec![Server { ca: Some(ca), ..self.server.clone() }];
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, closing: Arc<AtomicBool>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, closing) = (acceptor.clone(), Arc::clone(&closing));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            converse(stream, &closing).await;
        });
    }
}

async fn converse(mut stream: TlsStream<TcpStream>, closing: &AtomicBool) {
    while let Some(query) = client::read_framed(&mut stream).await {
        let answer = Answer::new().a(300, [192, 0, 2, 1]).to(&query);
        if closing.load(Ordering::SeqCst) || client::send_framed(&mut stream, &answer).await.is_err() {
            return;
        }
    }
}

async fn rcode(rig: &Rig, name: &str) -> u16 {
    message::rcode(&rig.ask(Transport::Udp, &Ask::a(name).bytes()).await.message)
}

fn stamp(folder: &Path) -> std::path::PathBuf {
    folder.join("state/clock")
}

#[tokio::test]
async fn a_gateway_that_boots_in_1970_asks_over_tls_and_remembers_the_time_once_it_is_right() {
    let (dot, hand) = (Dot::start(0, 40).await, Hand::new());
    let mut rig = Rig::adjusted("", &[], hand.clock(), |mut adjusting| dot.adopt(&mut adjusting)).await;
    assert_eq!(rcode(&rig, "a.example.org").await, 0);
    let scraped = scrape(rig.admin()).await;
    assert!(scraped.value("clock_behind") > 0.5 && scraped.value("clock_adjusted_total") > 0.5);
    hand.set(built() + 20 * DAY);
    assert!(scrape(rig.admin()).await.value("clock_behind") < 0.5);
    rig.stop().await.unwrap();
    assert!(!stamp(rig.folder()).exists(), "no server has proven itself since the clock was set");

    let mut rig = Rig::adjusted("", &[], hand.clock(), |mut adjusting| dot.adopt(&mut adjusting)).await;
    assert_eq!(rcode(&rig, "a.example.org").await, 0);
    assert!(scrape(rig.admin()).await.value("clock_adjusted_total") < 0.5);
    rig.stop().await.unwrap();
    assert_eq!(std::fs::read_to_string(stamp(rig.folder())).unwrap(), format!("{}\n", built() + 20 * DAY));
}

#[tokio::test]
async fn a_stamp_newer_than_the_build_is_what_certificates_are_judged_by() {
    for (from, to, expected) in [(20, 40, 0), (0, 10, 2)] {
        let (dot, hand) = (Dot::start(from, to).await, Hand::new());
        let rig = Rig::adjusted("", &[], hand.clock(), |mut adjusting| {
            dot.adopt(&mut adjusting);
            std::fs::create_dir(adjusting.folder.join("state")).unwrap();
            std::fs::write(stamp(adjusting.folder), format!("{}\n", built() + 30 * DAY)).unwrap();
        });
        assert_eq!(rcode(&rig.await, "a.example.org").await, expected, "valid from day {from} to {to}");
    }
}

/// Is the server, which is spared handshakes for a moment after it could not prove itself, asked again?
async fn is_asked_again(rig: &Rig) -> bool {
    for number in 0..100 {
        if rcode(rig, &format!("now{number}.example.org")).await == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[tokio::test]
async fn time_servers_are_found_in_plain_dns_until_the_clock_has_been_right_and_never_after() {
    // The certificate has not begun at the build: it needs the true time.
    let (dot, hand) = (Dot::start(10, 40).await, Hand::new());
    let rig = Rig::adjusted("", &[], hand.clock(), |mut adjusting| {
        dot.adopt(&mut adjusting);
        let bootstrap = format!("udp://{}", adjusting.upstream).parse().unwrap();
        adjusting.config.upstream.default.bootstrap = vec![Server::new(bootstrap)];
        adjusting.config.upstream.time_servers_plain = vec![name::from_text("ntp.example.org").unwrap().into()];
    })
    .await;
    rig.upstream.always(Answer::new().a(86_400, [192, 0, 2, 123]));
    let found = rig.ask(Transport::Udp, &Ask::a("2.ntp.example.org").bytes()).await.message;
    assert!(found.ends_with(&[192, 0, 2, 123]), "{found:02x?}");
    assert!(message::ttls(&found).into_iter().all(|ttl| ttl <= 60), "{found:02x?}");
    assert_eq!(rcode(&rig, "www.example.org").await, 2);
    let asked: Vec<String> = rig.upstream.log().iter().map(Asked::name).collect();
    assert_eq!(asked, ["2.ntp.example.org"], "nothing else has left in plain text");
    let in_plain = || async { scrape(rig.admin()).await.value("time_names_in_plain_total") };
    assert!((in_plain().await - 1.0).abs() < 0.5);

    hand.set(built() + 20 * DAY);
    assert!(is_asked_again(&rig).await, "over TLS, under a clock that is right");
    dot.closing.store(true, Ordering::SeqCst);
    hand.set(0);
    assert_eq!(rcode(&rig, "3.ntp.example.org").await, 2);
    assert!((in_plain().await - 1.0).abs() < 0.5);
    assert_eq!(rig.upstream.count(), 1);
}

#[tokio::test]
async fn ttl_12_a_clock_that_is_set_neither_ends_an_answer_nor_makes_it_younger() {
    let hand = Hand::new();
    hand.set(built());
    let rig = Rig::adjusted("", &[], hand.clock(), |_| {}).await;
    let ask = |transport: Transport| Ask::a(&format!("{}.steady.example.org", transport.name())).id(0).bytes();
    over_all!(Transport::ALL, |transport| rig.ask(transport, &ask(transport)).await);
    let count = rig.upstream.count();
    rig.pass(100);
    for seconds in [built() + DAY, built() - DAY, built()] {
        hand.set(seconds);
        over_all!(Transport::ALL, |transport| {
            let answered = rig.ask(transport, &ask(transport)).await.message;
            assert!((150..=200).contains(&message::ttls(&answered)[0]), "{seconds}");
        });
    }
    assert_eq!(rig.upstream.count(), count);
    rig.pass(200);
    hand.set(built() - DAY);
    over_all!(Transport::ALL, |transport| rig.ask(transport, &ask(transport)).await);
    assert_eq!(rig.upstream.count(), 2 * count, "nor revives it");
}
