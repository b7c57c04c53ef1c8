//! The handshakes of the encrypted doors (STANDARDS groups DOT and TLS).

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::version::TLS12;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::raw::{rest, server};
use crate::harness::{Ask, Rig, client, message};

async fn shake(address: SocketAddr, config: &Arc<rustls::ClientConfig>, name: &str) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::clone(config)).connect(server(name), tcp).await
}

type Tls = TlsStream<TcpStream>;

#[tokio::test]
async fn dot_01_and_doh_17_clear_text_at_a_tls_door_gets_an_alert_and_no_dns() {
    let rig = Rig::start().await;
    let query = Ask::a("clear.example.org").bytes();
    let get =
        b"GET /dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    for address in [rig.dot(), rig.doh()] {
        for words in [[&(query.len() as u16).to_be_bytes()[..], &query].concat(), query.clone(), get.clone()] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&words).await.unwrap();
            stream.shutdown().await.unwrap();
            let heard = rest(&mut stream).await;
            assert!(heard.is_empty() || (heard[0] == 21 && heard.len() == 7), "an alert at most: {heard:02x?}");
        }
    }
    assert_eq!(rig.upstream.count(), 0);
}

#[tokio::test]
async fn dot_04_tls_10_and_doq_01_each_door_speaks_its_own_protocol_alone() {
    let rig = Rig::start().await;
    let own: [(SocketAddr, &[&[u8]]); 2] = [(rig.dot(), &[b"dot"]), (rig.doh(), &[b"h2", b"http/1.1"])];
    let all: [&[u8]; 8] = [b"dot", b"h2", b"http/1.1", b"h3", b"doq", b"dq", b"doq-i02", b"h2c"];
    for (address, own) in own {
        for alpn in all {
            let shaken = client::tls(address, client::trust(&rig.authority(), &[alpn])).await;
            if own.contains(&alpn) {
                assert_eq!(shaken.unwrap().get_ref().1.alpn_protocol(), Some(alpn));
            } else {
                let error = shaken.unwrap_err().to_string();
                assert!(error.contains("NoApplicationProtocol"), "{error}");
            }
        }
        client::tls(address, client::trust(&rig.authority(), &[])).await.unwrap();
    }
    let both = client::tls(rig.doh(), client::trust(&rig.authority(), &[b"http/1.1", b"h2"])).await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "DOH-16: HTTP/2 is preferred");
    for (address, own) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        for alpn in all.into_iter().filter(|alpn| *alpn != own).map(|alpn| vec![alpn]).chain([vec![]]) {
            let error = client::quic(address, client::trust(&rig.authority(), &alpn)).await.unwrap_err();
            let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
            assert_eq!(u64::from(close.error_code), 0x178, "no_application_protocol");
        }
    }
}

#[tokio::test]
async fn dot_07_sessions_resume_at_any_worker_and_dot_08_and_doh_31_early_data_is_never_offered() {
    let rig = Rig::start().await;
    let doors: [(SocketAddr, &[u8]); 2] = [(rig.dot(), b"dot"), (rig.doh(), b"http/1.1")];
    for (address, alpn) in doors {
        let mut config = client::trust(&rig.authority(), &[alpn]);
        config.enable_early_data = true;
        let config = Arc::new(config);
        for round in 0..8 {
            let mut stream = shake(address, &config, "localhost").await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), round > 0, "round {round}: {kind:?}");
            // The tickets come before the answer.
            if alpn == b"dot" {
                client::framed(&mut stream, &Ask::a("resumed.example.org").bytes()).await.unwrap();
            } else {
                let query = rig.get(&Ask::a("resumed.example.org").id(0).bytes());
                client::http1(stream, query).await.unwrap();
            }
        }
        let mut next = rustls::ClientConnection::new(Arc::clone(&config), server("localhost")).unwrap();
        assert!(next.early_data().is_none(), "a ticket must not allow early data");
    }
}

#[tokio::test]
async fn dot_17_a_client_without_a_server_name_gets_the_default_certificate() {
    let rig = Rig::start().await;
    let config = Arc::new(client::trust(&rig.authority(), &[b"dot"]));
    let mut stream = shake(rig.dot(), &config, "127.0.0.1").await.unwrap();
    client::framed(&mut stream, &Ask::a("nameless.example.org").bytes()).await.unwrap();
}

#[tokio::test]
async fn tls_02_version_1_3_is_preferred_and_1_2_served() {
    let rig = Rig::start().await;
    for address in [rig.dot(), rig.doh()] {
        let newest = client::tls(address, client::trust(&rig.authority(), &[])).await.unwrap();
        assert_eq!(newest.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let old = shake(address, &Arc::new(only_1_2(&rig)), "localhost").await.unwrap();
        assert_eq!(old.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    }
    let mut old = shake(rig.dot(), &Arc::new(only_1_2(&rig)), "localhost").await.unwrap();
    let answered = client::framed(&mut old, &Ask::a("old.example.org").bytes()).await.unwrap();
    assert_eq!(message::counts(&answered.message)[1], 1);
}

fn only_1_2(rig: &Rig) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&rig.authority()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12]).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// A client hello without extensions beyond those a version 1.2 server needs, that offers no compression.
pub fn hello(version: u16, suites: &[u16]) -> Vec<u8> {
    hello_with(version, suites, &[0])
}

/// The same that offers these compression methods.
fn hello_with(version: u16, suites: &[u16], compressions: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend((suites.len() as u16 * 2).to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.push(compressions.len() as u8);
    body.extend(compressions);
    // Groups x25519 and secp256r1; signatures ECDSA and RSA-PSS with SHA-256; uncompressed points.
    let extensions = [
        &[0, 10, 0, 6, 0, 4, 0, 29, 0, 23][..],
        &[0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1],
        &[0, 11, 0, 2, 1, 0],
        &[0, 23, 0, 0],
    ]
    .concat();
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn tls_01_old_versions_and_tls_03_weak_suites_are_refused_by_an_alert() {
    let rig = Rig::start().await;
    let good = [0xc02b, 0xc02f, 0xcca9, 0xcca8];
    // Static RSA, CBC, RC4, NULL, export, 3DES, static and ephemeral DH.
    let weak = [0x002f, 0x0035, 0x009c, 0xc009, 0xc013, 0xc023, 0x0005, 0x0002, 0x0003, 0x000a, 0x0033, 0x009e, 0xc02d];
    for address in [rig.dot(), rig.doh()] {
        for (version, suites, alert) in
            [(0x0300, &good[..], 70), (0x0301, &good, 70), (0x0302, &good, 70), (0x0303, &weak, 40)]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&hello(version, suites)).await.unwrap();
            assert_eq!(rest(&mut stream).await.get(5..7), Some(&[2, alert][..]), "{version:04x}");
        }
        // The same hello with a modern suite gets a server hello: it is the suites that are refused.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello(0x0303, &good)).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.first(), Some(&22));
    }
}

/// The first record that a connection brings, its header included.
async fn record(stream: &mut TcpStream) -> Vec<u8> {
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).await.unwrap();
    record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
    stream.read_exact(&mut record[5..]).await.unwrap();
    record
}

/// The cipher suites and the versions that a client hello offers.
fn offered(record: &[u8]) -> (Vec<u16>, Vec<u16>) {
    let words = |octets: &[u8]| octets.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect::<Vec<_>>();
    let length = |at: usize| usize::from(u16::from_be_bytes([record[at], record[at + 1]]));
    // Record, handshake, version and random come first.
    let suites = 44 + usize::from(record[43]);
    let mut at = suites + 2 + length(suites);
    at += 1 + usize::from(record[at]) + 2;
    while record[at..at + 2] != [0, 43] {
        at += 4 + length(at + 2);
    }
    (words(&record[suites + 2..suites + 2 + length(suites)]), words(&record[at + 5..at + 4 + length(at + 2)]))
}

#[tokio::test]
async fn tls_01_and_tls_03_servers_are_offered_nothing_old_or_weak_and_one_that_insists_gets_an_alert() {
    let modern = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9];
    for scheme in ["tls", "https"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let servers = format!("upstream.servers=[\"{scheme}://{}\"]", listener.local_addr().unwrap());
        let rig = Rig::set("", &[&servers]).await;
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&Ask::a("old.example.org").bytes(), rig.dns()).await.unwrap();
        let (mut stream, _) = tokio::time::timeout(client::PATIENCE, listener.accept()).await.unwrap().unwrap();
        let (suites, versions) = offered(&record(&mut stream).await);
        // The last is the signal that nothing is renegotiated in the old way.
        assert!(suites.iter().all(|suite| modern.contains(suite) || *suite == 0x00ff), "{suites:04x?}");
        assert!(
            !versions.is_empty() && versions.iter().all(|version| [0x0303, 0x0304].contains(version)),
            "{versions:04x?}"
        );
        // A server hello of TLS 1.1 with AES in CBC.
        let hello = [&[22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
        stream.write_all(&hello).await.unwrap();
        let heard = rest(&mut stream).await;
        assert_eq!(
            (heard.len(), heard.first(), heard.get(5)),
            (7, Some(&21), Some(&2)),
            "a fatal alert alone: {heard:02x?}"
        );
    }
}

#[tokio::test]
async fn tls_04_x25519_and_p_256_are_spoken_by_every_door() {
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519};
    let rig = Rig::start().await;
    for group in [X25519, SECP256R1] {
        let provider = || {
            let all = rustls::crypto::aws_lc_rs::default_provider();
            Arc::new(rustls::crypto::CryptoProvider { kx_groups: vec![group], ..all })
        };
        let client = |versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[u8]| {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&rig.authority()) {
                roots.add(certificate.unwrap()).unwrap();
            }
            let builder = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
            let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            config
        };
        for version in [&TLS12, &rustls::version::TLS13] {
            for (address, alpn) in [(rig.dot(), &b"dot"[..]), (rig.doh(), b"h2")] {
                let shaken = shake(address, &Arc::new(client(&[version], alpn)), "localhost").await.unwrap();
                let agreed = shaken.get_ref().1.negotiated_key_exchange_group().unwrap();
                assert_eq!(agreed.name(), group.name(), "{version:?}");
            }
        }
        for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
            client::quic(address, client(&[&rustls::version::TLS13], alpn)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn tls_05_no_compression_is_ever_agreed_on() {
    let rig = Rig::start().await;
    for address in [rig.dot(), rig.doh()] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello_with(0x0303, &[0xc02b, 0xc02f], &[1, 64, 0])).await.unwrap();
        stream.shutdown().await.unwrap();
        let heard = rest(&mut stream).await;
        // Record, handshake header, version, random, session id, suite: then the compression method.
        let id = usize::from(heard[43]);
        assert_eq!((heard[0], heard[5], heard[44 + id + 2]), (22, 2, 0), "a server hello without compression");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello_with(0x0303, &[0xc02b, 0xc02f], &[1])).await.unwrap();
        assert_eq!(rest(&mut stream).await.first(), Some(&21), "an alert for who insists on compression");
    }
}

/// Lenient, as discovery by address needs (DDR): the client is to judge the certificate that it is shown.
#[tokio::test]
async fn tls_09_an_unknown_server_name_is_shown_the_default_certificate_and_no_alert() {
    let rig = Rig::start().await;
    let verdict = |error: &dyn std::error::Error| error.to_string();
    for (address, alpn) in [(rig.dot(), &b"dot"[..]), (rig.doh(), b"h2")] {
        let config = Arc::new(client::trust(&rig.authority(), &[alpn]));
        let error = shake(address, &config, "bogus.example").await.unwrap_err();
        assert!(verdict(&error).contains("not valid for name"), "{error}");
    }
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let crypto = client::trust(&rig.authority(), &[alpn]);
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let error = endpoint.connect_with(config, address, "bogus.example").unwrap().await.unwrap_err();
        assert!(verdict(&error).contains("not valid for name"), "{error}");
    }
}

#[tokio::test]
async fn tls_09_where_names_are_strict_an_unknown_one_gets_the_alert_and_no_name_the_default() {
    let rig = Rig::with("[tls]\nstrict_sni = true").await;
    for (address, alpn) in [(rig.dot(), &b"dot"[..]), (rig.doh(), b"h2")] {
        let mut config = client::trust(&rig.authority(), &[alpn]);
        let error = shake(address, &Arc::new(config.clone()), "bogus.example").await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        let error = shake(address, &Arc::new(only_1_2(&rig)), "bogus.example").await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        client::tls(address, config.clone()).await.unwrap();
        shake(address, &Arc::new(config.clone()), "127.0.0.1").await.unwrap();
        config.enable_sni = false;
        client::tls(address, config).await.unwrap();
    }
    for (address, alpn) in [(rig.doq(), &b"doq"[..]), (rig.doh(), b"h3")] {
        let crypto = client::trust(&rig.authority(), &[alpn]);
        client::quic(address, crypto.clone()).await.unwrap();
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = client::endpoint();
        let error = endpoint.connect_with(config, address, "bogus.example").unwrap().await.unwrap_err();
        let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
        assert_eq!(u64::from(close.error_code), 0x170, "unrecognized_name");
    }
    let counted = |now: &crate::admin::openmetrics::Scrape| {
        [("dot", 2.0), ("doh", 2.0), ("doq", 1.0), ("doh3", 1.0)].into_iter().all(|(over, count): (_, f64)| {
            let key = format!("handshakes_failed_total{{reason=\"server_name\",transport=\"{over}\"}}");
            (now.value(&key) - count).abs() < 1e-9
        })
    };
    crate::admin::scrape_until(rig.admin(), counted).await;
}
