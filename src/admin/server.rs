//! The admin server: few connections, one request each, every wait bounded.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::bind::{AdminError, Bound, Former, Inherited, SocketFile, read_token};
use super::entry::{HostRule, Token};
use super::readiness::Patience;
use super::routes::{Desk, Role};
use super::{Handles, Place, Settings};
use crate::shutdown::Drain;

/// Connections of one socket at a time; more wait in the backlog.
const CONNECTIONS: usize = 64;
/// Octets of a request's head.
const HEAD_LIMIT: usize = 16 * 1024;
/// Header fields of a request.
const FIELD_LIMIT: usize = 64;
/// For a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection: longer than any question may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin listener, bound.
#[derive(Debug)]
pub struct Admin {
    full: Vec<Bound>,
    probes: Vec<Bound>,
    token: Option<Token>,
    ready_wait: Duration,
}

impl Admin {
    /// Opens the sockets and reads the token. Needs no runtime.
    ///
    /// # Errors
    /// The address or file at fault.
    pub fn bind(settings: &Settings) -> Result<Self, AdminError> {
        Self::bind_after(settings, Former::Nobody)
    }

    /// The same where another process has listened until now.
    ///
    /// # Errors
    /// The address or file at fault.
    pub fn bind_after(settings: &Settings, mut former: Former) -> Result<Self, AdminError> {
        let token = settings.token_file.as_deref().map(read_token).transpose()?;
        let exposed = settings.listen.iter().find_map(|place| match place {
            Place::Address(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
            Place::Address(_) | Place::Unix(_) => None,
        });
        if let Some(address) = exposed.filter(|_| token.is_none()) {
            return Err(AdminError::Exposed { address });
        }
        Ok(Self {
            full: settings.listen.iter().map(|place| Bound::open(place, &mut former)).collect::<Result<_, _>>()?,
            probes: settings
                .probes
                .iter()
                .map(|&address| Bound::tcp(address, &mut former))
                .collect::<Result<_, _>>()?,
            token,
            ready_wait: settings.ready_wait,
        })
    }

    /// Duplicates of its TCP listeners, for whoever takes over.
    ///
    /// # Errors
    /// No more open files.
    pub fn duplicates(&self, settings: &Settings) -> std::io::Result<Vec<Inherited>> {
        let full = settings.listen.iter().zip(&self.full).filter_map(|(place, bound)| match place {
            Place::Address(address) => Some((*address, bound)),
            Place::Unix(_) => None,
        });
        let all = full.chain(settings.probes.iter().copied().zip(&self.probes));
        all.filter_map(|(configured, bound)| match bound {
            Bound::Tcp(listener, _) => Some(listener.try_clone().map(|listener| Inherited { configured, listener })),
            Bound::Unix(..) => None,
        })
        .collect()
    }

    /// Where everything is served, ports known.
    pub fn addresses(&self) -> Vec<Place> {
        self.full.iter().map(Bound::place).collect()
    }

    /// Where health and metrics are served, ports known.
    pub fn probe_addresses(&self) -> Vec<SocketAddr> {
        let places = self.probes.iter().map(Bound::place);
        places.filter_map(|place| if let Place::Address(address) = place { Some(address) } else { None }).collect()
    }

    /// Serves until `drain` is wanted, then lets requests under way end. `/readyz` counts `ready_wait` from here.
    pub async fn serve(self, handles: Handles, drain: Drain) {
        let patience = Patience::starting(self.ready_wait);
        let listening = self.full.iter().map(Bound::place).filter_map(|place| match place {
            Place::Address(address) => Some(address.ip()),
            Place::Unix(_) => None,
        });
        let listening: Vec<IpAddr> = listening.collect();
        let desk = |role, hosts, token| {
            Arc::new(Desk { role, hosts, token, handles: handles.clone(), patience, drain: drain.clone() })
        };
        let full = desk(Role::Full, HostRule::Listening(listening), self.token.clone());
        let unix = desk(Role::Full, HostRule::Free, self.token.clone());
        let probes = desk(Role::Probes, HostRule::Free, None);
        let mut sockets = JoinSet::new();
        for bound in self.full {
            let desk = if matches!(bound, Bound::Unix(..)) { &unix } else { &full };
            open(&mut sockets, bound, desk);
        }
        for bound in self.probes {
            open(&mut sockets, bound, &probes);
        }
        while let Some(ended) = sockets.join_next().await {
            if let Err(error) = ended {
                warn!(%error, "an admin socket ended early");
            }
        }
    }
}

fn open(sockets: &mut JoinSet<()>, bound: Bound, desk: &Arc<Desk>) {
    let place = bound.place();
    match Listener::from(bound) {
        Ok(listener) => _ = sockets.spawn(listener.run(Arc::clone(desk))),
        Err(error) => warn!(%error, ?place, "an admin socket cannot be served"),
    }
}

enum Listener {
    Tcp(TcpListener),
    /// The file goes with the listener.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

impl Listener {
    fn from(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener, _) => Self::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener, file) => Self::Unix { listener: UnixListener::from_std(listener)?, _file: file },
        })
    }

    async fn run(self, desk: Arc<Desk>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut drain = desk.drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.wanted() => break,
                Some(_) = connections.join_next() => {}
                // No pattern that could fail: a branch that select has given up on would stop accepting for good.
                accepted = self.accept(&permits, &desk) => accepted.into_iter().for_each(|conversation| {
                    connections.spawn(conversation);
                }),
            }
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }

    /// Accepts one connection as soon as there is a permit for it; `None` after a failure and a pause. Cancel-safe.
    async fn accept(&self, permits: &Arc<Semaphore>, desk: &Arc<Desk>) -> Option<Conversation> {
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        let desk = Arc::clone(desk);
        let accepted: io::Result<Conversation> = match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, _)| Box::pin(converse(stream, desk, permit)) as _)
            }
            Self::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Box::pin(converse(stream, desk, permit)) as _)
            }
        };
        match accepted {
            Ok(conversation) => Some(conversation),
            Err(error) => {
                debug!(%error, "admin: accept failed");
                sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

type Conversation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One request and its answer. No keep-alive: a scrape every few seconds does not need it, and nobody sits on a permit.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Arc<Desk>, _permit: OwnedSemaphorePermit) {
    let answering = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(FIELD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering);
    match timeout(CONNECTION_TIMEOUT, pin!(connection)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "admin: connection failed"),
        Err(_) => debug!("admin: connection out of time"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::admin::held::Flushed;
    use crate::admin::{Asked, CacheAnswer, DoorFacts, ExplainRefused, Reached, Vitals, explained};
    use crate::identity::scratch::Scratch;
    use crate::reply::Why;
    use crate::shutdown::Stop;
    use crate::telemetry::{CertificateGauge, Counters, Gauges, UpstreamFacts};

    const ALIVE: Vitals = Vitals { serving: true, stopping: false, upstream_answered: true, upstream_alive: true };

    fn upstream() -> UpstreamFacts {
        UpstreamFacts {
            pool: "<corp>".into(),
            url: "tls://dns.example".into(),
            state: "suspect",
            questions: 1500,
            failures: 7,
            handshakes_per_thousand_questions: Some(2.0),
            p95_micros: Some(23_450),
            last_failure: Some("timed out".into()),
            ..UpstreamFacts::default()
        }
    }

    fn handles(vitals: &Arc<Mutex<Vitals>>) -> Handles {
        let vitals = Arc::clone(vitals);
        let certificate = CertificateGauge { names: vec!["<b>.example".into()], ..CertificateGauge::default() };
        Handles {
            counters: vec![Arc::new(Counters::default())],
            gauges: Arc::new(move || Gauges {
                certificates: vec![certificate.clone()],
                upstreams: vec![upstream()],
                ..Gauges::default()
            }),
            vitals: Arc::new(move || *vitals.lock().unwrap()),
            explain: Arc::new(|request| {
                Box::pin(async move {
                    if request.door.is_some() {
                        return Err(ExplainRefused::NoSuchDoor);
                    }
                    let client = request.from.unwrap_or(IpAddr::from([127, 0, 0, 1]));
                    let asked = Asked {
                        request: &request,
                        client,
                        door: "127.0.0.1:53".into(),
                        route: 1,
                        pool: "default",
                        micros: 2,
                    };
                    Ok(explained(&asked, Reached::Silence(Why::Limit), &|_| None))
                })
            }),
            cache: Arc::new(|_| Box::pin(std::future::ready(CacheAnswer::Flushed(Flushed::default())))),
            reload: Arc::new(|_| Box::pin(async { None })),
            keys: Arc::new(Vec::new),
            doors: Arc::new(|| vec![DoorFacts { speaks: "dot", address: ([127, 0, 0, 1], 8853).into() }]),
        }
    }

    struct Running {
        address: SocketAddr,
        probes: SocketAddr,
        vitals: Arc<Mutex<Vitals>>,
        stop: Stop,
        serving: JoinHandle<()>,
    }

    fn settings() -> Settings {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Settings {
            listen: vec![Place::Address(any)],
            probes: vec![any],
            token_file: None,
            ready_wait: Duration::from_secs(2),
            self_probe: false,
        }
    }

    fn start(settings: &Settings) -> Running {
        let admin = Admin::bind(settings).unwrap();
        let Place::Address(address) = admin.addresses()[0] else { panic!("a TCP address was asked for") };
        let probes = admin.probe_addresses()[0];
        let vitals = Arc::new(Mutex::new(ALIVE));
        let (stop, drain) = Stop::new();
        let serving = tokio::spawn(admin.serve(handles(&vitals), drain));
        Running { address, probes, vitals, stop, serving }
    }

    async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str, fields: &str) -> String {
        let stream = TcpStream::connect(address).await.unwrap();
        say(stream, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n")).await
    }

    fn status(answer: &str) -> u16 {
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    #[tokio::test]
    async fn every_page_is_served_and_unknown_ones_and_methods_are_refused() {
        let running = start(&settings());
        let health = get(running.address, "/healthz", "").await;
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("\r\n\r\nok\n"), "{health}");
        assert!(health.contains("cache-control: no-store"));
        let metrics = get(running.address, "/metrics", "").await;
        assert!(
            metrics.contains("application/openmetrics-text") && metrics.contains("\nhushgate_ready 1\n"),
            "{metrics}"
        );
        let page = get(running.address, "/", "").await;
        assert!(page.contains("&lt;b&gt;.example") && page.contains("8853") && !page.contains("<script"), "{page}");
        let row = "<tr><td>&lt;corp&gt;</td><th scope=\"row\">tls://dns.example</th><td>suspect</td><td>1500</td><td>7</td>\
                   <td>2.0</td><td>23.4 ms</td><td>timed out</td></tr>";
        assert!(page.contains(row), "{page}");
        let told = get(running.address, "/api/upstreams", "").await;
        assert!(told.contains("application/json") && told.contains("\"last_failure\": \"timed out\""), "{told}");
        assert_eq!(status(&get(running.probes, "/api/upstreams", "").await), 404);
        assert_eq!(status(&get(running.address, "/nothing", "").await), 404);
        let posted = format!("POST /metrics HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\n", running.address);
        let posted = say(TcpStream::connect(running.address).await.unwrap(), &posted).await;
        assert!(status(&posted) == 405 && posted.contains("allow: GET, HEAD"), "{posted}");
    }

    #[tokio::test]
    async fn readiness_tells_why_not() {
        let running = start(&settings());
        assert_eq!(status(&get(running.address, "/readyz", "").await), 200);
        *running.vitals.lock().unwrap() = Vitals { upstream_alive: false, ..ALIVE };
        assert_eq!(status(&get(running.probes, "/readyz", "").await), 200);
        let strict = get(running.probes, "/readyz?upstream", "").await;
        assert!(status(&strict) == 503 && strict.contains("no upstream is answering"), "{strict}");
        *running.vitals.lock().unwrap() = Vitals { stopping: true, ..ALIVE };
        let stopping = get(running.address, "/readyz", "").await;
        assert!(status(&stopping) == 503 && stopping.contains("\"stopping\""), "{stopping}");
        assert!(get(running.address, "/metrics", "").await.contains("\nhushgate_ready 0\n"));
        assert_eq!(status(&get(running.address, "/healthz", "").await), 200);
    }

    #[tokio::test]
    async fn probes_serve_health_and_metrics_alone_under_any_host() {
        let running = start(&settings());
        for (path, expected) in
            [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/api/explain", 404)]
        {
            let ask = format!("GET {path} HTTP/1.1\r\nHost: pod.example\r\n\r\n");
            let answer = say(TcpStream::connect(running.probes).await.unwrap(), &ask).await;
            assert_eq!(status(&answer), expected, "{path}");
        }
        assert_eq!(status(&get(running.probes, "/metrics", "Origin: http://evil.example\r\n").await), 403);
    }

    #[tokio::test]
    async fn rebound_names_and_other_sites_are_turned_away() {
        let running = start(&settings());
        let ask = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        assert_eq!(status(&say(TcpStream::connect(running.address).await.unwrap(), ask).await), 403);
        assert_eq!(status(&get(running.address, "/", "Origin: http://evil.example\r\n").await), 403);
        let own = format!("Origin: http://{}\r\n", running.address);
        assert_eq!(status(&get(running.address, "/", &own).await), 200);
    }

    #[tokio::test]
    async fn token_is_asked_for_everywhere_but_at_probes() {
        let scratch = Scratch::new();
        let token_file = Some(scratch.write("token", "0123456789abcdef\n"));
        let running = start(&Settings { token_file, ..settings() });
        for path in ["/", "/healthz", "/metrics", "/api/explain?name=a", "/nothing"] {
            assert_eq!(status(&get(running.address, path, "").await), 401, "{path}");
        }
        assert_eq!(status(&get(running.address, "/", "Authorization: Bearer 0123456789abcdef\r\n").await), 200);
        assert_eq!(status(&get(running.address, "/", "Authorization: Bearer 0123456789abcdeX\r\n").await), 401);
        assert_eq!(status(&get(running.probes, "/metrics", "").await), 200);
    }

    #[tokio::test]
    async fn explanation_is_json_and_errors_are_too() {
        let running = start(&settings());
        let answer = get(running.address, "/api/explain?name=Example.com&type=AAAA&from=192.0.2.7", "").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let explained: crate::admin::Explained = serde_json::from_str(body).unwrap();
        assert_eq!(
            (explained.question.as_str(), explained.client.to_string()),
            ("Example.com. AAAA IN", "192.0.2.7".into())
        );
        let bad = get(running.address, "/api/explain?name=a..b", "").await;
        assert!(status(&bad) == 400 && bad.contains("\"error\": \"name is not a domain name"), "{bad}");
        assert_eq!(status(&get(running.address, "/api/explain?name=a&door=doq", "").await), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_is_slow_to_ask_is_cut_off() {
        let running = start(&settings());
        let mut slow = TcpStream::connect(running.address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHos").await.unwrap();
        let began = tokio::time::Instant::now();
        let mut answer = Vec::new();
        let _ = slow.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        assert!(began.elapsed() <= CONNECTION_TIMEOUT, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn head_of_a_request_is_bounded() {
        let running = start(&settings());
        let long = format!("X-Long: {}\r\n", "a".repeat(2 * HEAD_LIMIT));
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{long}\r\n").as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn stop_ends_serving_and_takes_the_unix_socket_away() {
        let scratch = Scratch::new();
        let path = scratch.path().join("admin.sock");
        let mut settings = settings();
        settings.listen.push(Place::Unix(path.clone()));
        let running = start(&settings);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let ask = "GET /healthz HTTP/1.1\r\nHost: anything\r\n\r\n";
        assert_eq!(status(&say(UnixStream::connect(&path).await.unwrap(), ask).await), 200);
        assert!(matches!(Admin::bind(&settings), Err(AdminError::InUse { .. })));
        running.stop.begin();
        running.serving.await.unwrap();
        assert!(!path.exists());
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let scratch = Scratch::new();
        let message = |settings: &Settings| Admin::bind(settings).unwrap_err().to_string();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let busy = message(&Settings { listen: vec![Place::Address(address)], ..settings() });
        assert!(busy.contains(&address.to_string()), "{busy}");
        let open = message(&Settings { listen: vec![Place::Address("0.0.0.0:0".parse().unwrap())], ..settings() });
        assert!(open.contains("token_file"), "{open}");
        let token_file = Some(scratch.write("token", "short"));
        assert!(message(&Settings { token_file, ..settings() }).contains("openssl rand"));
        let listen = vec![Place::Unix(scratch.write("file", "kept"))];
        assert!(message(&Settings { listen, ..settings() }).contains("is no socket"));
        assert_eq!(fs::read_to_string(scratch.path().join("file")).unwrap(), "kept");
        // Left by a crash: a socket that nobody listens on.
        let stale = scratch.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        Admin::bind(&Settings { listen: vec![Place::Unix(stale)], ..settings() }).unwrap();
    }
}
