//! Who the gateway is to its clients: an authority that outlives restarts, certificates from files, TLS versions.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hushgate::identity::{Chain, Identity, MinVersion, Settings, UnknownNames};
use hushgate::peer::Transport;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Ask, ENCRYPTED, Rig, client};
use crate::over_all;

/// Writes a self-signed certificate for `names` that ends after `life`, and tells it as an entry of `tls.certificates`.
pub fn self_signed(folder: &Path, file: &str, names: &[&str], life: Duration) -> String {
    let mut params = rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_hours(24)).into();
    params.not_after = (now + life).into();
    let key = rcgen::KeyPair::generate().unwrap();
    let (chain, secret) = (folder.join(format!("{file}.pem")), folder.join(format!("{file}-key.pem")));
    std::fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    format!("{{ chain = \"{}\", key = \"{}\" }}", chain.display(), secret.display())
}

pub const DAY: Duration = Duration::from_hours(24);

pub fn first_certificate(folder: &Path, file: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(format!("{file}.pem"))).unwrap()
}

/// The leaf that a TCP door at `address` shows to a client that asks for `name`.
pub async fn shown(
    address: SocketAddr,
    config: &rustls::ClientConfig,
    name: &str,
) -> std::io::Result<CertificateDer<'static>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config.clone())).connect(name, tcp).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
}

/// The same for a QUIC door.
async fn shown_by_quic(address: SocketAddr, config: &rustls::ClientConfig, name: &str) -> CertificateDer<'static> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config.clone()).unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connection = endpoint.connect(address, name).unwrap().await.unwrap();
    let chain = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    chain[0].clone()
}

/// TLS of `versions` alone that trusts `pem`.
fn only(pem: &[u8], versions: &[&'static rustls::SupportedProtocolVersion]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[tokio::test]
async fn trust_given_once_lasts_over_restarts_on_every_door() {
    let state = tempfile::tempdir().unwrap();
    let set = format!("state_dir={:?}", state.path());
    let trusted = {
        let mut rig = Rig::set("", &[&set]).await;
        let trusted = std::fs::read(state.path().join("authority.pem")).unwrap();
        rig.stop().await.unwrap();
        trusted
    };
    let rig = Rig::set("", &[&set]).await;
    assert_eq!(std::fs::read(state.path().join("authority.pem")).unwrap(), trusted);
    for address in [rig.dot(), rig.doh()] {
        client::tls(address, client::trust(&trusted, &[])).await.unwrap();
    }
    let (_endpoint, connection) = client::quic(rig.doq(), client::trust(&trusted, &[b"doq"])).await.unwrap();
    client::doq_exchange(&connection, &Ask::a("again.example.org").bytes()).await.unwrap();
    client::quic(rig.doh(), client::trust(&trusted, &[b"h3"])).await.unwrap();
}

#[tokio::test]
async fn a_new_state_directory_is_a_new_authority() {
    let (first, second) = (Rig::start().await, Rig::start().await);
    assert_ne!(first.authority(), second.authority());
    over_all!(ENCRYPTED, |transport| _ = second.ask(transport, &Ask::a("own.example.org").id(0).bytes()).await);
}

#[tokio::test]
async fn dot_17_the_server_name_chooses_the_certificate_and_without_one_it_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = String::new();
    for (file, names) in [("first", ["one.example", "127.0.0.1"]), ("second", ["two.example", "*.two.example"])] {
        let _ = write!(entries, "{}, ", self_signed(folder.path(), file, &names, DAY));
    }
    let rig = Rig::with(&format!("[tls]\ncertificates = [{entries}]")).await;
    let [first, second] = ["first", "second"].map(|file| first_certificate(folder.path(), file));
    let pem =
        ["first", "second"].map(|file| std::fs::read(folder.path().join(format!("{file}.pem"))).unwrap()).concat();
    for (address, alpn) in [(rig.dot(), &b"dot"[..]), (rig.doh(), b"h2"), (rig.doh(), b"http/1.1")] {
        let mut config = client::trust(&pem, &[alpn]);
        for (name, expected) in
            [("one.example", &first), ("TWO.example", &second), ("a.two.example", &second), ("127.0.0.1", &first)]
        {
            assert_eq!(shown(address, &config, name).await.unwrap(), *expected, "{name}");
        }
        // None of the certificates is for it: the first is shown, and the client turns away.
        let error = shown(address, &config, "three.example").await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        config.enable_sni = false;
        assert_eq!(shown(address, &config, "one.example").await.unwrap(), first);
        shown(address, &config, "two.example").await.unwrap_err();
    }
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let mut config = client::trust(&pem, &[alpn]);
        assert_eq!(shown_by_quic(address, &config, "one.example").await, first);
        assert_eq!(shown_by_quic(address, &config, "b.two.example").await, second);
        config.enable_sni = false;
        assert_eq!(shown_by_quic(address, &config, "one.example").await, first);
    }
    assert!(!rig.folder().join("state/authority.pem").exists(), "no authority is made where nobody needs one");
}

/// Serves TLS as `identity` to any number of clients; each connection echoes.
async fn echo(identity: &Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(identity.stream_config(&[]));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                while let Ok(octet) = stream.read_u8().await {
                    stream.write_u8(octet).await.ok();
                    stream.flush().await.ok();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn tls_12_changed_files_are_shown_by_a_listener_that_runs_and_cut_nobody_off() {
    let folder = tempfile::tempdir().unwrap();
    self_signed(folder.path(), "dns", &["dns.example"], DAY);
    let chain = Chain { chain: folder.path().join("dns.pem"), key: folder.path().join("dns-key.pem") };
    let settings = Settings {
        state_dir: folder.path().join("state"),
        certificates: vec![chain],
        names: Vec::new(),
        guests: hushgate::identity::Guests::default(),
        min_version: MinVersion::Tls12,
        unknown_names: UnknownNames::Served,
        fleet: hushgate::identity::Fleet::default(),
    };
    let identity = Identity::load(settings).unwrap();
    let address = echo(&identity).await;
    let (old, pem) = (first_certificate(folder.path(), "dns"), std::fs::read(folder.path().join("dns.pem")).unwrap());
    assert_eq!(shown(address, &client::trust(&pem, &[]), "dns.example").await.unwrap(), old);
    let name = ServerName::try_from("dns.example").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client::trust(&pem, &[])));
    let mut kept = connector.connect(name, TcpStream::connect(address).await.unwrap()).await.unwrap();

    self_signed(folder.path(), "dns", &["dns.example", "longer.dns.example"], 2 * DAY);
    let (new, pem) = (first_certificate(folder.path(), "dns"), std::fs::read(folder.path().join("dns.pem")).unwrap());
    assert_eq!(identity.maintain(SystemTime::now()).renewed.len(), 1);
    assert_eq!(shown(address, &client::trust(&pem, &[]), "longer.dns.example").await.unwrap(), new);
    kept.write_u8(7).await.unwrap();
    kept.flush().await.unwrap();
    assert_eq!(kept.read_u8().await.unwrap(), 7);

    std::fs::write(folder.path().join("dns-key.pem"), "torn").unwrap();
    let mut looks = (0..3).flat_map(|_| identity.maintain(SystemTime::now()).faults);
    let error = looks.next().unwrap().to_string();
    assert!(error.contains("dns-key.pem"), "{error}");
    assert_eq!(
        shown(address, &client::trust(&pem, &[]), "dns.example").await.unwrap(),
        new,
        "what was in force stays so"
    );
}

#[tokio::test]
async fn tls_12_a_renewed_certificate_is_in_force_within_seconds_and_sessions_outlive_it() {
    let folder = tempfile::tempdir().unwrap();
    let entry = self_signed(folder.path(), "dns", &["localhost"], DAY);
    let rig = Rig::with(&format!("[tls]\ncertificates = [{entry}]")).await;
    let pem = std::fs::read(folder.path().join("dns.pem")).unwrap();
    let dot = Arc::new(client::trust(&pem, &[b"dot"]));
    let name = || ServerName::try_from("localhost").unwrap();
    let shake = async || {
        let tcp = TcpStream::connect(rig.dot()).await.unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::clone(&dot)).connect(name(), tcp).await.unwrap();
        client::framed(&mut stream, &Ask::a("kept.example.org").bytes()).await.unwrap();
        stream
    };
    // The store of tickets is shared by clones of the configuration.
    let doq = client::trust(&pem, &[b"doq"]);
    let endpoint = client::endpoint();
    let shake_doq = async || {
        let connection = client::quic_from(&endpoint, rig.doq(), doq.clone()).await.unwrap();
        client::doq_exchange(&connection, &Ask::a("kept.example.org").bytes()).await.unwrap();
        connection
    };
    let (mut stream, connection) = (shake().await, shake_doq().await);
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));

    self_signed(folder.path(), "dns", &["localhost", "new.example"], DAY);
    let new = std::fs::read(folder.path().join("dns.pem")).unwrap();
    let waiting = async { while shown(rig.dot(), &client::trust(&new, &[]), "new.example").await.is_err() {} };
    tokio::time::timeout(client::PATIENCE, waiting).await.expect("within ten seconds");
    shown_by_quic(rig.doq(), &client::trust(&new, &[b"doq"]), "new.example").await;

    // Those who trust the old one alone could not make a whole handshake: their tickets are honoured.
    let again = shake().await;
    assert_eq!(again.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    shake_doq().await;
    client::framed(&mut stream, &Ask::a("kept.example.org").bytes()).await.unwrap();
    client::doq_exchange(&connection, &Ask::a("kept.example.org").bytes()).await.unwrap();
}

#[tokio::test]
async fn tls_02_version_1_2_is_the_least_and_1_3_may_be_asked_for() {
    let rig = Rig::start().await;
    for address in [rig.dot(), rig.doh()] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            shown(address, &only(&rig.authority(), &[version]), "localhost").await.unwrap();
        }
        assert_eq!(old_hello(address).await, [0x15, 70], "protocol_version");
    }
    let rig = Rig::with("[tls]\nmin_version = \"1.3\"").await;
    for address in [rig.dot(), rig.doh()] {
        let error = shown(address, &only(&rig.authority(), &[&rustls::version::TLS12]), "localhost").await.unwrap_err();
        assert!(error.to_string().contains("ProtocolVersion"), "{error}");
        shown(address, &only(&rig.authority(), &[&rustls::version::TLS13]), "localhost").await.unwrap();
    }
    over_all!(Transport::ALL, |transport| _ = rig.ask(transport, &Ask::a("strict.example.org").id(0).bytes()).await);
}

/// Says hello in TLS 1.1; answers the type of the record that comes back, and for an alert what it says.
async fn old_hello(address: SocketAddr) -> [u8; 2] {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x14, 0xc0, 0x2f, 1, 0]);
    // Groups and signatures that we share, so that the version alone is wrong.
    let shared = [0, 0x0d, 0, 4, 0, 2, 4, 3, 0, 0x0a, 0, 4, 0, 2, 0, 0x17, 0, 0x0b, 0, 2, 1, 0, 0, 0x17, 0, 0];
    body.extend([0, shared.len() as u8]);
    body.extend(shared);
    let mut hello = vec![0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut alert = [0; 7];
    tokio::time::timeout(client::PATIENCE, stream.read_exact(&mut alert)).await.unwrap().unwrap();
    [alert[0], alert[6]]
}
