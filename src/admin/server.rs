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

use super::bind::{AdminError, Bound, SocketFile, read_token};
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
        let token = settings.token_file.as_deref().map(read_token).transpose()?;
        let exposed = settings.listen.iter().find_map(|place| match place {
            Place::Address(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
            Place::Address(_) | Place::Unix(_) => None,
        });
        if let Some(address) = exposed.filter(|_| token.is_none()) {
            return Err(AdminError::Exposed { address });
        }
        Ok(Self {
            full: settings.listen.iter().map(Bound::open).collect::<Result<_, _>>()?,
            probes: settings.probes.iter().map(|&address| Bound::tcp(address)).collect::<Result<_, _>>()?,
            token,
            ready_wait: settings.ready_wait,
        })
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
