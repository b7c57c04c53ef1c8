//! Gateways that share a secret: a client known to one is known to all, and to nobody else.

use std::sync::Arc;
use std::time::Duration;

use hushgate::peer::Transport;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Ask, ENCRYPTED, Rig, client, message};
use crate::over_all;

const FLEET: &str = "[fleet]\nsecret_file = \"fleet\"";

/// A gateway of the fleet with the secret of these octets, in hex.
async fn member(octet: &str) -> Rig {
    let rig = Rig::beside(&[("fleet", &octet.repeat(32))], FLEET, &[]).await;
    rig.upstream.always(Answer::new().a(300, [192, 0, 2, 7]));
    rig
}

/// What one client is to all gateways: it trusts the authority of `first` alone, so that it gets nowhere else but by resuming.
fn known_to(first: &Rig, transport: Transport) -> ClientConfig {
    let alpn: &[u8] = match transport {
        Transport::Dot => b"dot",
        Transport::Doh1 => b"http/1.1",
        Transport::Doh2 => b"h2",
        Transport::Doh3 => b"h3",
        _ => b"doq",
    };
    client::trust(&first.authority(), &[alpn])
}

/// Asks a question on a connection of its own; how its handshake was made, where the client can tell; `None` where there is no connection.
async fn ask(rig: &Rig, transport: Transport, config: &ClientConfig) -> Option<Option<HandshakeKind>> {
    let (config, bytes) = (config.clone(), Ask::a("fleet.example.org").id(0).bytes());
    let kind = match transport {
        Transport::Dot => {
            let mut stream = client::tls(rig.dot(), config).await.ok()?;
            client::framed(&mut stream, &bytes).await?;
            stream.get_ref().1.handshake_kind()
        }
        Transport::Doh1 | Transport::Doh2 => {
            let stream = client::tls(rig.doh(), config).await.ok()?;
            let kind = stream.get_ref().1.handshake_kind();
            let asked = rig.post(&bytes);
            let reply = match transport {
                Transport::Doh1 => client::http1(stream, asked).await?,
                _ => client::http2(stream, asked).await?,
            };
            assert_eq!(reply.0, 200);
            kind
        }
        Transport::Doh3 => {
            let connection = client::quic(rig.doh(), config).await.ok()?;
            assert_eq!(client::http3(connection, rig.post(&bytes)).await?.0, 200);
            None
        }
        _ => {
            let (_endpoint, connection) = client::quic(rig.doq(), config).await.ok()?;
            client::doq_exchange(&connection, &bytes).await?;
            None
        }
    };
    Some(kind)
}

/// A value of `/metrics`.
async fn metric(rig: &Rig, series: &str) -> u64 {
    let mut stream = TcpStream::connect(rig.admin()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn tls_07_a_client_of_one_gateway_resumes_at_another_with_the_same_secret_and_at_no_other() {
    let (here, there, stranger) = (member("5a").await, member("5A").await, member("5b").await);
    over_all!(ENCRYPTED, |transport| {
        let config = known_to(&here, transport);
        let resumed = match transport {
            Transport::Doh3 | Transport::Doq => None,
            _ => Some(HandshakeKind::Resumed),
        };
        assert!(ask(&here, transport, &config).await.is_some());
        assert_eq!(ask(&there, transport, &config).await, Some(resumed));
        // A ticket of the second is as good as one of the first.
        assert_eq!(ask(&here, transport, &config).await, Some(resumed));
        assert_eq!(
            ask(&stranger, transport, &config).await,
            None,
            "a whole handshake, with a certificate it does not trust"
        );
    });
    for (doors, transports) in [("stream", 3), ("quic", 2)] {
        let tickets = |outcome| format!("hushgate_tickets_total{{doors=\"{doors}\",outcome=\"{outcome}\"}}");
        assert_eq!(metric(&there, &tickets("resumed")).await, transports);
        assert_eq!(metric(&stranger, &tickets("unknown")).await, transports);
        assert_eq!(metric(&stranger, &tickets("resumed")).await, 0);
        assert!(metric(&here, &tickets("made")).await >= 2 * transports);
    }
}

#[tokio::test]
async fn tls_07_clients_of_tls_1_2_resume_at_another_gateway_too() {
    let (here, there, stranger) = (member("5a").await, member("5a").await, member("5b").await);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&here.authority()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let old = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let mut config = old.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"dot".to_vec()];
    let stream = client::tls(here.dot(), config.clone()).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(ask(&there, Transport::Dot, &config).await, Some(Some(HandshakeKind::Resumed)));
    assert_eq!(ask(&stranger, Transport::Dot, &config).await, None);
}

#[tokio::test]
async fn tls_07_a_gateway_joins_the_fleet_while_it_runs_and_a_broken_file_changes_nothing() {
    let (here, joining) = (member("5a").await, member("5b").await);
    let config = known_to(&here, Transport::Dot);
    ask(&here, Transport::Dot, &config).await.unwrap();
    let own = known_to(&joining, Transport::Dot);
    ask(&joining, Transport::Dot, &own).await.unwrap();
    let write = |lines: String| {
        // As an operator should: the file is whole at every moment.
        std::fs::write(joining.folder().join("next"), lines).unwrap();
        std::fs::rename(joining.folder().join("next"), joining.folder().join("fleet")).unwrap();
    };
    let counted = async |series: &str| {
        while metric(&joining, series).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    write("5a".repeat(31));
    tokio::time::timeout(3 * client::PATIENCE, counted("hushgate_secrets_refused_total")).await.expect("refused");
    assert_eq!(ask(&joining, Transport::Dot, &own).await, Some(Some(HandshakeKind::Resumed)));
    assert_eq!(ask(&joining, Transport::Dot, &config).await, None);
    ask(&here, Transport::Dot, &config).await.unwrap();
    write(format!("# ours\n{}\n{}\n", "5b".repeat(32), "5a".repeat(32)));
    tokio::time::timeout(3 * client::PATIENCE, counted("hushgate_secrets_taken_total")).await.expect("taken");
    assert_eq!(ask(&joining, Transport::Dot, &config).await, Some(Some(HandshakeKind::Resumed)));
    assert_eq!(ask(&joining, Transport::Dot, &own).await, Some(Some(HandshakeKind::Resumed)));
}

#[tokio::test]
async fn cki_17_cookies_of_one_gateway_are_good_at_another_with_the_same_secret() {
    let (here, there, stranger) = (member("5a").await, member("5a").await, member("5b").await);
    let shown = async |rig: &Rig, cookie: &[u8]| {
        let asked = Ask::a("fleet.example.org").option(10, cookie).bytes();
        message::option(&rig.ask(Transport::Udp, &asked).await.message, 10).unwrap()
    };
    let given = shown(&here, &[7; 8]).await;
    assert_eq!(given.len(), 24);
    // A cookie that is good and young comes back as it is.
    assert_eq!(shown(&there, &given).await, given);
    assert_ne!(shown(&stranger, &given).await, given);
}
