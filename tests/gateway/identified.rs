//! Clients known by name: by a token in the path, the server's name, a certificate, a network. And what strangers hear, always the
//! same.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use hushgate::peer::Transport;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;

use crate::admin::scrape;
use crate::harness::{Ask, ENCRYPTED, Rig, client, message};
use crate::over_all;

const DOHS: [Transport; 3] = [Transport::Doh1, Transport::Doh2, Transport::Doh3];
pub const TOKEN: &str = "kitchen-0123456789_ABCDEF";
const NEXT: &str = "the-token-after-that-one";
/// A wildcard needs two labels below it.
pub const NAMES: &str = "[tls]\nnames = [\"localhost\", \"127.0.0.1\", \"dns.home.example\"]\n";

/// What tells a client apart: the name it asks for, and its certificate.
#[derive(Clone, Copy)]
pub struct Guise<'a> {
    pub name: &'static str,
    pub certificate: Option<&'a Certificate>,
}

pub const STRANGER: Guise<'static> = Guise { name: "localhost", certificate: None };

/// A client's certificate.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: rcgen::KeyPair,
}

impl Certificate {
    pub fn self_signed() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let signed =
            rcgen::CertificateParams::new(vec!["tablet.corp.example".into()]).unwrap().self_signed(&key).unwrap();
        Self { chain: vec![signed.der().clone()], key }
    }

    pub fn pin(&self) -> String {
        use base64::Engine as _;
        let key = hushgate::identity::guest::key_of(&self.chain[0]).unwrap();
        format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(key))
    }
}

/// Authorities in PEM, and a certificate by them for `name`.
fn issued(name: &str) -> (String, Certificate) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let mut leaf = rcgen::CertificateParams::new(vec![name.into()]).unwrap();
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = leaf.signed_by(&key, &issuer).unwrap();
    (pem, Certificate { chain: vec![signed.der().clone()], key })
}

pub fn tls(rig: &Rig, alpn: &[u8], guise: Guise<'_>) -> rustls::ClientConfig {
    let mut config = client::trust(&rig.authority(), &[alpn]);
    if let Some(Certificate { chain, key }) = guise.certificate {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let certified = rustls::sign::CertifiedKey::from_der(chain.clone(), key, config.crypto_provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    }
    config
}

/// Asks `request` or, where there is no HTTP, `message` in `guise`: the DNS message, and on DoH the status and the headers.
async fn ask(
    rig: &Rig,
    transport: Transport,
    guise: Guise<'_>,
    message: &[u8],
    request: Request<Full<Bytes>>,
) -> (Vec<u8>, Option<(u16, HeaderMap)>) {
    let stream = async |address, alpn: &[u8]| {
        let config = Arc::new(tls(rig, alpn, guise));
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(guise.name).unwrap();
        tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap()
    };
    let quic = async |address, alpn: &[u8]| {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(rig, alpn, guise)).unwrap();
        let endpoint = client::endpoint();
        let connecting = endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), address, guise.name);
        let connection = connecting.unwrap().await.unwrap();
        (endpoint, connection)
    };
    let http = |(status, headers, body): (u16, HeaderMap, Bytes)| (body.to_vec(), Some((status, headers)));
    match transport {
        Transport::Udp | Transport::Tcp => (rig.ask(transport, message).await.message, None),
        Transport::Dot => {
            let mut stream = stream(rig.dot(), b"dot").await;
            (client::framed(&mut stream, message).await.unwrap().message, None)
        }
        Transport::Doq => {
            let (_endpoint, connection) = quic(rig.doq(), b"doq").await;
            (client::doq_exchange(&connection, message).await.unwrap().message, None)
        }
        Transport::Doh1 => http(client::http1(stream(rig.doh(), b"http/1.1").await, request).await.unwrap()),
        Transport::Doh2 => http(client::http2(stream(rig.doh(), b"h2").await, request).await.unwrap()),
        Transport::Doh3 => http(client::http3(quic(rig.doh(), b"h3").await, request).await.unwrap()),
    }
}

/// Whether a client in `guise` is answered: REFUSED (with EDE 18) or, on DoH, 403 to whoever is not.
pub async fn is_answered(rig: &Rig, transport: Transport, guise: Guise<'_>) -> bool {
    let message = Ask::a("known.example.org").id(0).edns().bytes();
    let (reply, http) = ask(rig, transport, guise, &message, rig.post(&message)).await;
    if let Some((status, _)) = http
        && status != 200
    {
        assert_eq!((status, &reply[..]), (403, &b"You may not ask here.\n"[..]));
        return false;
    }
    match message::rcode(&reply) {
        0 => message::counts(&reply)[1] == 1,
        rcode => {
            assert_eq!((rcode, message::ede(&reply), message::counts(&reply)[1]), (5, Some(18), 0));
            false
        }
    }
}

pub fn at(rig: &Rig, path: &str, message: &[u8]) -> [Request<Full<Bytes>>; 2] {
    [rig.post(message), rig.get(message)].map(|mut request| {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        *request.uri_mut() = rig.doh_uri(&format!("{path}{query}")).parse().unwrap();
        request
    })
}

#[tokio::test]
async fn a_token_in_the_path_is_answered_and_any_other_path_is_not_found_in_the_same_words() {
    let tokens = format!("{TOKEN}\n{NEXT}\n");
    let client = "[access]\nidentified_only = true\n[[client]]\nname = \"kitchen\"\ntoken_file = \"token\"";
    let rig = Rig::beside(&[("token", &tokens)], client, &[]).await;
    let message = Ask::a("known.example.org").id(0).bytes();
    over_all!(DOHS, |transport| {
        for token in [TOKEN, NEXT] {
            for request in at(&rig, &format!("/dns-query/{token}"), &message) {
                let (status, headers, body) = rig.http(transport, request).await.unwrap();
                assert_eq!((status, message::counts(&body)[1]), (200, 1));
                let told = format!("{headers:?}");
                assert!(!told.contains(token), "{told}");
            }
        }
        let mut refusals = Vec::new();
        let nobodys = "kitchen-0123456789_ABCDEX";
        for path in [format!("/dns-query/{nobodys}"), "/dns-query/x".into(), "/nowhere".into(), format!("/{TOKEN}")] {
            for request in at(&rig, &path, &message) {
                let (status, mut headers, body) = rig.http(transport, request).await.unwrap();
                headers.remove("date");
                refusals.push((status, headers, body));
            }
        }
        assert_eq!(refusals[0].0, 404);
        refusals.dedup();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
    });
    let json = Request::get(rig.doh_uri(&format!("/dns-query/{TOKEN}?name=known.example.org")));
    let (status, _, body) = rig.http(Transport::Doh2, json.body(Full::default()).unwrap()).await.unwrap();
    assert!(status == 200 && String::from_utf8_lossy(&body).contains("\"Answer\""));
    let page = scrape(rig.admin()).await;
    let asked = page.value("client_questions_total{client=\"kitchen\"}");
    assert_eq!(asked as u64, 13);
}

#[tokio::test]
async fn strangers_hear_the_same_whatever_they_ask_and_see_no_page() {
    let client = "[access]\nidentified_only = true\n[[client]]\nname = \"kitchen\"\ntoken_file = \"token\"";
    let rig = Rig::beside(&[("token", TOKEN)], client, &[]).await;
    over_all!(Transport::ALL, |transport| assert!(!is_answered(&rig, transport, STRANGER).await));
    over_all!(DOHS, |transport| {
        let mut heard = Vec::new();
        for name in ["one.example", "localhost"] {
            let message = Ask::a(name).id(0).bytes();
            for request in at(&rig, "/dns-query", &message) {
                let (status, mut headers, body) = rig.http(transport, request).await.unwrap();
                headers.remove("date");
                heard.push((status, headers, body));
            }
        }
        heard.dedup();
        assert_eq!((heard.len(), heard[0].0), (1, 403), "{heard:?}");
        let page = Request::get(rig.doh_uri("/")).body(Full::default()).unwrap();
        assert_eq!(rig.http(transport, page).await.unwrap().0, 404);
    });
    assert_eq!(rig.upstream.count(), 0);
    assert!(scrape(rig.admin()).await.value("strangers_total") >= 19.0);
}

#[tokio::test]
async fn the_servers_name_tells_a_client_apart_on_every_encrypted_door() {
    let extra = format!("{NAMES}[access]\nidentified_only = true\n[[client]]\nname = \"kitchen\"\nlabel = \"Kitchen\"");
    let rig = Rig::with(&extra).await;
    let named = |name| Guise { name, certificate: None };
    over_all!(ENCRYPTED, |transport| {
        assert!(is_answered(&rig, transport, named("kitchen.dns.home.example")).await);
        for other in ["dns.home.example", "cellar.dns.home.example", "localhost"] {
            assert!(!is_answered(&rig, transport, named(other)).await, "{other}");
        }
    });
}

#[tokio::test]
async fn a_certificate_tells_a_client_apart_and_one_of_nobodys_is_as_good_as_none() {
    let (pinned, nobodys) = (Certificate::self_signed(), Certificate::self_signed());
    let (authority, vouched) = issued("tablet.corp.example");
    let (_, foreign) = issued("tablet.corp.example");
    let extra = format!(
        "[tls]\nclient_ca = \"clients.pem\"\n[access]\nidentified_only = true\n\
         [[client]]\nname = \"pinned\"\ncertificate = \"{}\"\n\
         [[client]]\nname = \"tablet\"\ncertificate_name = \"Tablet.corp.example\"",
        pinned.pin()
    );
    let rig = Rig::beside(&[("clients.pem", &authority)], &extra, &[]).await;
    let with = |certificate| Guise { name: "localhost", certificate: Some(certificate) };
    over_all!(ENCRYPTED, |transport| {
        assert!(is_answered(&rig, transport, with(&pinned)).await);
        assert!(is_answered(&rig, transport, with(&vouched)).await);
        for other in [with(&nobodys), with(&foreign), STRANGER] {
            assert!(!is_answered(&rig, transport, other).await);
        }
    });
    let page = scrape(rig.admin()).await;
    for name in ["pinned", "tablet"] {
        let asked = page.value(&format!("client_questions_total{{client=\"{name}\"}}"));
        assert_eq!(asked as u64, 5, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_resumes_is_still_known_by_its_certificate() {
    let pinned = Certificate::self_signed();
    let extra =
        format!("[access]\nidentified_only = true\n[[client]]\nname = \"pinned\"\ncertificate = \"{}\"", pinned.pin());
    let rig = Rig::with(&extra).await;
    let config = Arc::new(tls(&rig, b"dot", Guise { name: "localhost", certificate: Some(&pinned) }));
    let message = Ask::a("known.example.org").bytes();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let tcp = TcpStream::connect(rig.dot()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let mut stream = connector.connect(name, tcp).await.unwrap();
        let reply = client::framed(&mut stream, &message).await.unwrap().message;
        assert_eq!((message::rcode(&reply), message::counts(&reply)[1]), (0, 1));
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds[1], rustls::HandshakeKind::Resumed);
}

#[tokio::test]
async fn a_network_tells_a_client_apart_on_every_door() {
    let client = |network: &str| {
        format!("[access]\nidentified_only = true\n[[client]]\nname = \"printer\"\nnetworks = [\"{network}\"]")
    };
    let rig = Rig::with(&client("127.0.0.0/8")).await;
    over_all!(Transport::ALL, |transport| assert!(is_answered(&rig, transport, STRANGER).await));
    let elsewhere = Rig::with(&client("192.0.2.7")).await;
    over_all!(Transport::ALL, |transport| assert!(!is_answered(&elsewhere, transport, STRANGER).await));
}

#[tokio::test]
async fn a_client_that_may_ask_from_anywhere_is_let_in_where_strangers_are_not() {
    let extra = "[access]\nallow = [\"192.0.2.0/24\"]\n\
                 [[client]]\nname = \"kitchen\"\ntoken_file = \"token\"\nallow = [\"any\"]\n\
                 [[client]]\nname = \"tied\"\ntoken_file = \"next\"";
    let rig = Rig::beside(&[("token", TOKEN), ("next", NEXT)], extra, &[]).await;
    let message = Ask::a("known.example.org").id(0).bytes();
    over_all!(DOHS, |transport| {
        for (token, rcode) in [(TOKEN, 0), (NEXT, 5)] {
            let [request, _] = at(&rig, &format!("/dns-query/{token}"), &message);
            let (status, _, body) = rig.http(transport, request).await.unwrap();
            assert_eq!((status, message::rcode(&body)), (200, rcode), "{token}");
        }
    });
    // The handshake tells strangers nothing: each of their questions is refused.
    over_all!(ENCRYPTED, |transport| assert!(!is_answered(&rig, transport, STRANGER).await));
    // Nobody can show anything at a plain door.
    if let Ok(mut stream) = TcpStream::connect(rig.dns()).await {
        assert!(client::framed(&mut stream, &message).await.is_none());
    }
}

#[tokio::test]
async fn strangers_are_served_as_ever_where_clients_only_have_names() {
    let client = "[[client]]\nname = \"kitchen\"\ntoken_file = \"token\"";
    let rig = Rig::beside(&[("token", TOKEN)], client, &[]).await;
    over_all!(Transport::ALL, |transport| assert!(is_answered(&rig, transport, STRANGER).await));
    let page = scrape(rig.admin()).await;
    assert_eq!(page.value("client_questions_total{client=\"kitchen\"}") as u64, 0);
    assert_eq!(page.value("strangers_total") as u64, 0);
}
