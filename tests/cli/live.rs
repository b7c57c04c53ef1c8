//! `check --live` against servers that answer, and against each kind that does not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::program::{Ended, Home};

/// An authority, and its certificate as PEM.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// TLS for a server called `name` until the end of `year`.
    fn identity(&self, name: &str, year: i32) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], secret).unwrap();
        config.alpn_protocols = vec![b"dot".to_vec()];
        Arc::new(config)
    }
}

/// A DoT server that answers with `rcode`. It ends with the test's process.
fn dot(config: Arc<ServerConfig>, rcode: u8) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let acceptor = TlsAcceptor::from(config);
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while let Ok(length) = stream.read_u16().await {
                        let mut message = vec![0; length.into()];
                        stream.read_exact(&mut message).await.unwrap();
                        let reply = reply(&message, rcode);
                        stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                        stream.write_all(&reply).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

/// A plain server that answers with `rcode`, or nothing without one.
fn udp(rcode: Option<u8>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(rcode) = rcode {
                socket.send_to(&reply(&buffer[..length], rcode), from).unwrap();
            }
        }
    });
    address
}

fn reply(query: &[u8], rcode: u8) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|&octet| octet == 0).unwrap() + 5;
    let mut reply = query[..end].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, 0, 0, 0, 0, 0]);
    reply
}

/// A port that is taken and that nobody listens on.
fn closed() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn live(home: &Home, upstream: &str, more: &[&str]) -> Ended {
    let text = format!("[upstream]\ntimeout = \"25s\"\nattempt_timeout = \"20s\"\n{upstream}\n");
    let file = home.write("hushgate.toml", &text);
    home.run(&[&["check", "--live", "--config", file.to_str().unwrap()], more].concat())
}

#[test]
fn servers_that_answer_are_listed_with_what_they_are_and_the_status_is_0() {
    let (home, authority) = (Home::new(), Authority::new());
    home.write("ca.pem", &authority.pem);
    let (dot, udp) = (dot(authority.identity("127.0.0.1", 2120), 0), udp(Some(0)));
    let upstream = format!("servers = [{{ url = \"tls://{dot}\", ca = \"ca.pem\" }}]\nfallback = [\"udp://{udp}\"]");
    let ended = live(&home, &upstream, &[]);
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""), "{ended:?}");
    let row = |part: &str| ended.output.lines().find(|line| line.contains(part)).unwrap().to_owned();
    let secured = row(&format!("tls://{dot}"));
    assert!(secured.starts_with("ok      upstream  ") && secured.contains("1.3 dot"), "{secured}");
    assert!(secured.contains(" d left") && secured.ends_with(" ms"), "{secured}");
    assert!(row(&format!("udp://{udp} (fallback)")).starts_with("ok "), "{}", ended.output);
    assert!(ended.output.ends_with("2 of 2 servers answer.\n") && !ended.output.contains('\u{1b}'), "{}", ended.output);

    let json: Value = serde_json::from_str(&live(&home, &upstream, &["--json"]).output).unwrap();
    let server = &json["upstreams"][0];
    assert_eq!((&json["ok"], &server["ok"], &server["rcode"]), (&true.into(), &true.into(), &"NOERROR".into()));
    assert_eq!(
        (&server["pool"], &server["role"], &server["found_by"]),
        (&"upstream".into(), &"server".into(), &"given".into())
    );
    assert_eq!((&server["address"], &server["transport"]), (&dot.to_string().into(), &"dot".into()));
    assert_eq!((&server["tls"]["version"], &server["tls"]["alpn"]), (&"TLS 1.3".into(), &"dot".into()));
    let certificate = &server["tls"]["certificate"];
    assert_eq!(certificate["names"], serde_json::json!(["127.0.0.1"]));
    assert!(certificate["days_left"].as_i64().unwrap() > 30_000 && certificate["authority"].is_string());
    assert!(server["time_ms"].is_f64() && server["again_ms"].is_f64() && server["error"].is_null(), "{server}");
    assert_eq!(json["upstreams"][1]["role"], "fallback");
    assert!(!home.path("hushgate").exists(), "nothing was made");
}

#[test]
fn servers_that_do_not_answer_say_why_and_what_to_do_and_the_status_is_1() {
    let (home, authority, stranger) = (Home::new(), Authority::new(), Authority::new());
    home.write("ca.pem", &authority.pem);
    let (_held, refused) = closed();
    let cases = [
        (dot(stranger.identity("127.0.0.1", 2120), 0), "not trusted here. Name that authority with `ca`"),
        (dot(authority.identity("127.0.0.1", 2021), 0), "its certificate expired on 2021-12-31"),
        (dot(authority.identity("dns.example", 2120), 0), "not for 127.0.0.1 but for dns.example. Say with `tls_name`"),
        (dot(authority.identity("127.0.0.1", 2120), 5), "it answers REFUSED. Ask its operator"),
        (refused, "cannot connect: nothing listens there"),
    ];
    let mut servers: Vec<String> =
        cases.iter().map(|(address, _)| format!("{{ url = \"tls://{address}\", ca = \"ca.pem\" }}")).collect();
    servers.push(format!("\"udp://{}\"", udp(Some(0))));
    let upstream = format!("servers = [{}]\nfallback = []", servers.join(", "));
    let ended = live(&home, &upstream, &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let lines: Vec<&str> = ended.output.lines().collect();
    let reason = |address: SocketAddr| {
        let at = lines.iter().position(|line| line.contains(&address.to_string())).unwrap();
        assert!(lines[at].starts_with("failed  "), "{}", lines[at]);
        lines[at + 1]
    };
    for (address, expected) in cases {
        assert!(reason(address).contains(expected), "{}", ended.output);
    }
    assert!(ended.output.ends_with("1 of 6 servers answer; every pool has one that does.\n"), "{}", ended.output);
}

#[test]
fn a_pool_with_nobody_and_a_server_that_cannot_be_set_up_are_status_2() {
    let home = Home::new();
    let (_held, refused) = closed();
    let upstream = format!("servers = [\"tcp://{refused}\"]\nfallback = []");
    let ended = live(&home, &upstream, &[]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.output.ends_with("0 of 1 servers answer; nobody in upstream.\n"), "{}", ended.output);
    let json: Value = serde_json::from_str(&live(&home, &upstream, &["--json"]).output).unwrap();
    assert_eq!((&json["ok"], &json["upstreams"][0]["ok"]), (&false.into(), &false.into()));
    assert!(json["upstreams"][0]["error"].as_str().unwrap().contains("cannot connect"), "{json}");

    let silent = format!("servers = [\"udp://{}\"]\nfallback = []", udp(None));
    let short = ["--set", "upstream.timeout=200ms", "--set", "upstream.attempt_timeout=200ms"];
    let ended = live(&home, &silent, &short);
    assert!(ended.code == 2 && ended.output.contains("\n          no answer in time"), "{ended:?}");

    home.write("ca.pem", "no certificate\n");
    let broken = live(&home, "servers = [{ url = \"tls://127.0.0.1\", ca = \"ca.pem\" }]", &[]);
    assert_eq!((broken.code, broken.output.as_str()), (2, ""));
    assert!(broken.errors.contains("ca.pem holds no certificate"), "{}", broken.errors);
}

#[test]
fn a_proxy_that_is_not_there_and_a_name_that_is_not_found_are_told_as_such() {
    let home = Home::new();
    let (_held, refused) = closed();
    let nobody = udp(Some(3));
    let upstream = format!(
        "servers = [{{ url = \"tcp://far.example\", proxy = \"socks5://{refused}\" }}, \"tls://dns.example\"]\n\
         fallback = []\nbootstrap = [\"{nobody}\"]"
    );
    let ended = live(&home, &upstream, &[]);
    let row = ended.output.lines().find(|line| line.contains("tcp://far.example")).unwrap();
    assert!(row.contains("  proxy  "), "{row}");
    assert!(ended.output.contains("\n          cannot connect through its `proxy`: "), "{}", ended.output);
    assert!(
        ended.output.contains("cannot be found. Check the name, and `bootstrap` or `addresses`\n"),
        "{}",
        ended.output
    );
}

#[test]
fn query_tells_whose_certificate_it_was_and_why_there_was_none() {
    let (home, authority) = (Home::new(), Authority::new());
    let ca = home.write("ca.pem", &authority.pem);
    let ask = |address: SocketAddr| {
        home.run(&["query", &format!("tls://{address}"), "a.example", "--ca", ca.to_str().unwrap()])
    };
    let good = ask(dot(authority.identity("127.0.0.1", 2120), 0));
    assert!(good.output.contains("\n;; certificate for 127.0.0.1; ") && good.code == 0, "{good:?}");
    let expired = ask(dot(authority.identity("127.0.0.1", 2021), 0));
    assert_eq!(expired.code, 1);
    assert!(expired.errors.contains("its certificate expired on 2021-12-31"), "{}", expired.errors);
}

#[test]
fn pools_and_bootstrap_servers_are_rows_of_their_own_and_one_pool_with_nobody_is_status_2() {
    let home = Home::new();
    let (_held, refused) = closed();
    let (good, other, bootstrap) = (udp(Some(0)), udp(Some(0)), udp(Some(0)));
    let config = |inside: &str| {
        format!(
            "servers = [\"udp://{good}\"]\nfallback = []\nbootstrap = [\"{bootstrap}\"]\n\
             [pool.corp]\nservers = [{inside}]\ntimeout = \"25s\"\nattempt_timeout = \"20s\"\n\
             [[forward]]\ndomains = [\"corp.example\"]\npool = \"corp\"\n\
             [[forward]]\ndomains = [\"lan\"]\nservers = [\"udp://{other}\"]\n"
        )
    };
    let dead = format!("\"tcp://{refused}\"");
    let both = format!("{dead}, \"udp://{other}\"");
    // The bootstrap server is each pool's.
    for (inside, status, last) in [
        (format!("\"udp://{other}\""), 0, "6 of 6 servers answer.\n"),
        (both, 1, "6 of 7 servers answer; every pool has one that does.\n"),
        (dead, 2, "5 of 6 servers answer; nobody in corp.\n"),
    ] {
        let ended = live(&home, &config(&inside), &[]);
        assert_eq!((ended.code, ended.errors.as_str()), (status, ""), "{ended:?}");
        assert!(ended.output.ends_with(last), "{}", ended.output);
        let json: Value = serde_json::from_str(&live(&home, &config(&inside), &["--json"]).output).unwrap();
        let rows = json["upstreams"].as_array().unwrap();
        let pools: Vec<&str> = rows.iter().map(|row| row["pool"].as_str().unwrap()).collect();
        for pool in ["upstream", "corp", "forward[1]"] {
            assert!(pools.contains(&pool), "{pools:?}");
        }
        assert_eq!(rows.iter().filter(|row| row["role"] == "bootstrap").count(), 3, "{json}");
        assert_eq!(json["ok"], status == 0);
    }
}
