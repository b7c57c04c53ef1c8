//! Certificates by ACME: ordered, proven at the gateway's own doors, in force at once, and kept.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::acme::{Authority, Sight, credulous};
use crate::harness::{Ask, Rig, client};

/// A gateway that orders a certificate for `domains` at `authority`.
async fn ordering(authority: &Authority, domains: &[&str], more: &str, sets: &[&str]) -> Rig {
    Rig::beside(&[("ca.pem", &authority.pem)], &authority.section(domains, more), sets).await
}

/// A DoT session with a client that trusts the authority of `pem` alone and asks for `name`.
async fn session(
    address: SocketAddr,
    pem: &str,
    name: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let config = client::trust(pem.as_bytes(), &[b"dot"]);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

fn leaf(stream: &tokio_rustls::client::TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// The session that a client gets as soon as the gateway shows what `authority` issued, and no longer `before`.
async fn issued(
    rig: &Rig,
    authority: &Authority,
    name: &str,
    before: Option<&CertificateDer<'_>>,
) -> CertificateDer<'static> {
    let waiting = async {
        loop {
            match session(rig.dot(), &authority.pem, name).await {
                Ok(stream) if Some(&leaf(&stream)) != before => return leaf(&stream),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(client::PATIENCE, waiting).await.expect("a certificate in time")
}

async fn metric(rig: &Rig, name: &str) -> i64 {
    let mut stream = TcpStream::connect(rig.admin()).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", rig.admin());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("hushgate_{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
}

async fn until(rig: &Rig, name: &str, value: i64) {
    let waiting = async {
        while metric(rig, name).await != value {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(client::PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name} is not {value}"));
}

#[tokio::test]
async fn rfc8737_a_certificate_is_had_by_tls_alpn_01_and_renewed_under_a_session_that_lives_on() {
    let authority = Authority::start().await;
    authority.orders.forget_permits(999);
    // The first certificate is to be renewed at once.
    authority.renew_in(-100);
    let rig = ordering(&authority, &["dns.example", "b.dns.example"], "", &[]).await;
    // Until there is one, the private authority's serves.
    client::tls(rig.dot(), client::trust(&rig.authority(), &[b"dot"])).await.unwrap();
    authority.look(Sight::Door(rig.doh()));
    let first = issued(&rig, &authority, "dns.example", None).await;
    let mut held = session(rig.dot(), &authority.pem, "b.dns.example").await.unwrap();
    client::framed(&mut held, &Ask::a("before.example.org").bytes()).await.unwrap();
    authority.look(Sight::Door(rig.dot()));
    authority.orders.add_permits(1);
    let second = issued(&rig, &authority, "dns.example", Some(&first)).await;
    assert_ne!(first, second);
    client::framed(&mut held, &Ask::a("after.example.org").bytes()).await.unwrap();
    assert!(!authority.replaced(0) && authority.replaced(1), "RFC 9773 5: the authority hears what is replaced");
    assert_eq!((authority.accounts(), authority.asked()), (1, 2));
    until(&rig, "acme_issued_total", 2).await;
    assert_eq!(metric(&rig, "acme_failing").await, 0);
    // It is the default, too, and the DoH door's. Nothing is pending now: a validator is nobody.
    session(rig.dot(), &authority.pem, "127.0.0.1").await.unwrap_err();
    for address in [rig.dot(), rig.doh()] {
        let error = client::tls(address, credulous(&[b"acme-tls/1"])).await.unwrap_err().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    }
}

#[tokio::test]
async fn rfc8737_a_name_is_proven_where_names_that_no_certificate_is_for_are_refused() {
    let authority = Authority::start().await;
    let rig = ordering(&authority, &["new.example"], "", &["tls.strict_sni=true"]).await;
    let refused = async |name| session(rig.dot(), &authority.pem, name).await.unwrap_err().to_string();
    let said = refused("new.example").await;
    assert!(said.contains("UnrecognisedName"), "there is none for it yet: {said}");
    authority.look(Sight::Door(rig.dot()));
    issued(&rig, &authority, "new.example", None).await;
    let said = refused("other.example").await;
    assert!(said.contains("UnrecognisedName"), "{said}");
}

#[tokio::test]
async fn rfc8737_validators_are_let_in_from_outside_the_access_list_and_nobody_else_is() {
    let authority = Authority::start().await;
    let rig = ordering(&authority, &["dns.example"], "", &[r#"access.allow=["192.0.2.0/24"]"#]).await;
    let pending = async {
        while authority.asked() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(client::PATIENCE, pending).await.unwrap();
    for alpn in [&b"dot"[..], b"acme-tls/1"] {
        // Either of no door's protocol or for no name that is pending: the name here is localhost.
        client::tls(rig.dot(), credulous(&[alpn])).await.unwrap_err();
    }
    authority.look(Sight::Door(rig.dot()));
    until(&rig, "acme_issued_total", 1).await;
    client::tls(rig.dot(), credulous(&[b"dot"])).await.unwrap_err();
    assert!(TcpStream::connect(rig.dns()).await.is_err() || rig.upstream.count() == 0);
}

#[tokio::test]
async fn rfc8555_8_3_a_certificate_is_had_by_http_01() {
    let authority = Authority::start().await;
    let more = "challenge = \"http\"\nhttp_listen = [\"127.0.0.1:0\"]";
    let rig = ordering(&authority, &["dns.example"], more, &[]).await;
    authority.look(Sight::Page(rig.acme()));
    issued(&rig, &authority, "dns.example", None).await;
}

#[tokio::test]
async fn rfc8555_8_4_a_wildcard_is_had_by_dns_01_and_the_record_is_cleaned_up() {
    let authority = Authority::start().await;
    let folder = tempfile::tempdir().unwrap();
    let [hook, zone, gone] = ["hook", "zone", "gone"].map(|name| folder.path().join(name));
    let script = format!(
        "#!/bin/sh\ncase $1 in present) echo \"$2 $3\" >> {zone};; cleanup) echo \"$2 $3\" >> {gone};; esac\n",
        zone = zone.display(),
        gone = gone.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).unwrap();
    authority.look(Sight::Zone(zone.clone()));
    let more = format!("challenge = \"dns\"\nhook = \"{}\"", hook.display());
    let rig = ordering(&authority, &["dns.example", "*.dns.example"], &more, &[]).await;
    issued(&rig, &authority, "any.dns.example", None).await;
    session(rig.dot(), &authority.pem, "dns.example").await.unwrap();
    assert_eq!(std::fs::read(zone).unwrap(), std::fs::read(gone).unwrap());
}

#[tokio::test]
async fn a_stored_certificate_serves_from_the_start_and_a_changed_list_of_names_is_ordered() {
    let authority = Authority::start().await;
    let state = tempfile::tempdir().unwrap();
    let set = format!("state_dir={:?}", state.path());
    let first = {
        let mut rig = ordering(&authority, &["dns.example"], "", &[&set]).await;
        authority.look(Sight::Door(rig.dot()));
        let first = issued(&rig, &authority, "dns.example", None).await;
        rig.stop().await.unwrap();
        first
    };
    let mut rig = ordering(&authority, &["dns.example"], "", &[&set]).await;
    let stream = session(rig.dot(), &authority.pem, "dns.example").await.unwrap();
    assert_eq!(leaf(&stream), first, "from the first handshake on");
    drop(stream);
    rig.stop().await.unwrap();
    assert_eq!((authority.asked(), authority.accounts()), (1, 1));
    let rig = ordering(&authority, &["dns.example", "more.dns.example"], "", &[&set]).await;
    authority.look(Sight::Door(rig.dot()));
    issued(&rig, &authority, "more.dns.example", None).await;
    assert_eq!((authority.asked(), authority.accounts()), (2, 1), "a new order of the same account");
}

#[tokio::test]
async fn a_refusal_is_waited_out_as_long_as_the_authority_asks_also_over_a_restart() {
    let authority = Authority::start().await;
    authority.refuse(Some(7200));
    let state = tempfile::tempdir().unwrap();
    let set = format!("state_dir={:?}", state.path());
    for start in 0..2 {
        let mut rig = ordering(&authority, &["dns.example"], "", &[&set]).await;
        until(&rig, "acme_failing", 1).await;
        let started = metric(&rig, "start_time_seconds").await;
        let next = metric(&rig, "acme_next_attempt_timestamp_seconds").await;
        assert!(next - started > 7000, "start {start}: {next} is {} s away", next - started);
        // The gateway serves all the same.
        let pem = std::fs::read(state.path().join("authority.pem")).unwrap();
        let mut stream = client::tls(rig.dot(), client::trust(&pem, &[b"dot"])).await.unwrap();
        client::framed(&mut stream, &Ask::a("served.example.org").bytes()).await.unwrap();
        drop(stream);
        rig.stop().await.unwrap();
    }
    assert_eq!(authority.asked(), 1);
}

#[tokio::test]
async fn a_failed_validation_is_no_certificate_and_the_old_state_serves_on() {
    let authority = Authority::start().await;
    authority.look(Sight::Zone("/nowhere".into()));
    let rig = ordering(&authority, &["dns.example"], "", &[]).await;
    until(&rig, "acme_failed_total", 1).await;
    session(rig.dot(), &authority.pem, "dns.example").await.unwrap_err();
    client::tls(rig.dot(), client::trust(&rig.authority(), &[b"dot"])).await.unwrap();
}
