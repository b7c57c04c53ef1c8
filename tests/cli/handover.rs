//! One process takes the doors over from another while clients ask: no question is lost, and connections stay with who has them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Handle;

use crate::dns::{Upstream, question, receive_tcp, receive_udp, send_tcp, send_udp, told};
use crate::program::{Home, Serving};

const HANDS_OVER: [&str; 4] = ["--set", "process.handover=true", "--set", "workers=2"];

fn serve(home: &Home, upstream: &Upstream, more: &[&str]) -> Serving {
    let serving = home.serve(upstream.address, &[&HANDS_OVER[..], more].concat());
    serving.running.until("may be taken over");
    serving
}

fn door(serving: &Serving, name: &str) -> SocketAddr {
    serving.doors.iter().find(|(door, _)| door == name).unwrap().1
}

/// Asks on and on until it is told to stop; how often it was answered.
struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    asking: JoinHandle<()>,
}

impl Steady {
    fn asking(ask: impl FnMut() + Send + 'static) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted, mut ask) = (Arc::clone(&stop), Arc::clone(&answered), ask);
        let asking = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                ask();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answered, asking }
    }

    /// Waits until it has been answered this much more often.
    fn go_on(&self, times: u32) {
        let until = self.answered.load(Ordering::Relaxed) + times;
        while self.answered.load(Ordering::Relaxed) < until && !self.asking.is_finished() {
            std::thread::yield_now();
        }
    }

    /// Fails where a question was not answered.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.join().unwrap();
    }
}

/// Waits until each has been answered some more.
fn go_on(clients: &[&Steady]) {
    for steady in clients {
        steady.go_on(20);
    }
}

/// A DoQ client that trusts the gateway's own authority.
struct Doq {
    runtime: Handle,
    endpoint: quinn::Endpoint,
    address: SocketAddr,
}

impl Doq {
    fn new(home: &Home, address: SocketAddr) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let authority = home.path("hushgate/authority.pem");
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"doq".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let driver = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runtime = driver.handle().clone();
        std::thread::spawn(move || driver.block_on(std::future::pending::<()>()));
        let mut endpoint = {
            let _inside = runtime.enter();
            quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap()
        };
        endpoint.set_default_client_config(config);
        Self { runtime, endpoint, address }
    }

    fn connect(&self) -> quinn::Connection {
        self.runtime.block_on(async { self.endpoint.connect(self.address, "localhost").unwrap().await.unwrap() })
    }

    fn ask(&self, connection: &quinn::Connection) {
        let reply = self.runtime.block_on(async {
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            let mut message = question("localhost");
            message[..2].fill(0);
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            send.write_all(&[&length[..], &message].concat()).await.unwrap();
            send.finish().unwrap();
            receive.read_to_end(65_537).await.unwrap()
        });
        assert_eq!(told(&reply[2..]), (0, 1));
    }
}

#[test]
fn one_process_after_another_takes_over_and_no_question_is_lost() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let mut first = serve(&home, &upstream, &["--set", "shutdown.handover_grace=10m"]);
    let dns = first.dns;
    let udp = Steady::asking(move || assert_eq!(told(&receive_udp(&send_udp(dns, "localhost"))), (0, 1)));
    let tcp = Steady::asking(move || assert_eq!(told(&receive_tcp(&mut send_tcp(dns, "localhost"))), (0, 1)));
    let doq = Arc::new(Doq::new(&home, door(&first, "doq")));
    let (old, mut kept) = (doq.connect(), send_tcp(dns, "localhost"));
    receive_tcp(&mut kept);
    let asker = Arc::clone(&doq);
    let moving = Steady::asking(move || asker.ask(&asker.connect()));
    let clients = [&udp, &tcp, &moving];
    go_on(&clients);

    let mut second = serve(&home, &upstream, &["--replace", "--set", "shutdown.handover_grace=10m"]);
    first.running.until("another process serves");
    assert_eq!((second.dns, door(&second, "doq"), second.admin), (dns, doq.address, first.admin));
    go_on(&clients);
    // Nobody has shaken hands again.
    doq.ask(&old);
    kept.write_all(&framed("localhost")).unwrap();
    assert_eq!(told(&receive_tcp(&mut kept)), (0, 1));
    let middle = doq.connect();
    doq.ask(&middle);

    let third = serve(&home, &upstream, &["--replace"]);
    second.running.until("another process serves");
    go_on(&clients);
    for connection in [&old, &middle, &doq.connect()] {
        doq.ask(connection);
        doq.ask(connection);
    }
    assert!(old.close_reason().is_none() && middle.close_reason().is_none());
    // With its last connection each process ends by itself.
    drop(kept);
    old.close(0_u32.into(), b"");
    assert!(first.running.end().success());
    doq.ask(&middle);
    middle.close(0_u32.into(), b"");
    assert!(second.running.end().success());
    go_on(&clients);
    [udp, tcp, moving].into_iter().for_each(Steady::end);
    third.running.signal("TERM");
    third.running.until("stopped");
}

fn framed(name: &str) -> Vec<u8> {
    let message = question(name);
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
}

#[test]
fn a_successor_that_fails_or_is_none_changes_nothing() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let serving = serve(&home, &upstream, &[]);
    let socket = home.path("hushgate/handover.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let asks = || assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))), (0, 1));
    // Another number of workers.
    let upstream_set = format!("upstream.servers=[\"udp://{}\"]", upstream.address);
    let mut arguments = vec!["serve", "--replace", "--set", &upstream_set, "--set", "workers=3"];
    for set in crate::program::ANY_PORTS {
        arguments.extend(["--set", set]);
    }
    let ended = home.run(&arguments);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.errors.contains("2 worker(s) and this one would by 3"), "{}", ended.errors);
    serving.running.until("were not handed over");
    asks();
    // What is no hand-over, one of another time, and one that stops before it is ready.
    for (said, heard) in
        [("GET / HTTP/1.1\n", "no hand-over"), ("{\"version\":9}\n", "version 9"), ("{\"version\":1}\n", "")]
    {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        if heard.is_empty() {
            let mut some = [0; 64];
            assert!(stream.read(&mut some).unwrap() > 0);
        }
        drop(stream);
        let line = serving.running.until("were not handed over");
        assert!(line.contains(heard), "{line}");
        asks();
    }
    let doq = Doq::new(&home, door(&serving, "doq"));
    doq.ask(&doq.connect());
    // Everything is as it was, so that the next may have it.
    let next = serve(&home, &upstream, &["--replace"]);
    serving.running.until("another process serves");
    assert_eq!(told(&receive_udp(&send_udp(next.dns, "localhost"))), (0, 1));
    assert!(UdpSocket::bind(next.dns).is_err() && TcpStream::connect(next.dns).is_ok());
}

#[test]
fn nobody_hands_over_where_nobody_serves() {
    let home = Home::new();
    let ended = home.run(&["serve", "--replace", "--set", "upstream.servers=[\"udp://192.0.2.1\"]"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.errors.contains("handover.sock") && ended.errors.contains("process.handover = true"),
        "{}",
        ended.errors
    );
}
