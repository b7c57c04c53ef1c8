//! The challenges that are pending: what the doors and the HTTP-01 listener answer validators with (RFC 8737 3, RFC 8555 8.3).
//!
//! Nearly always there is none, and then a handshake reads one atomic. There are never more than the configuration has names.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use rustls::server::ClientHello;
use tokio::sync::oneshot;

/// What a validator offers by ALPN, and nothing else (RFC 8737 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Connections from outside the access list that may say what they are at one time: an authority looks from a handful of places.
const GUESTS: usize = 16;

/// See the module.
pub struct Challenges {
    /// TLS challenges pending.
    pending: AtomicUsize,
    raised: Mutex<Raised>,
    /// The oldest first; closed where one has gone by itself.
    guests: Mutex<VecDeque<oneshot::Sender<()>>>,
}

/// A connection from outside the access list, until it has said what it is or has to make room.
#[derive(Debug)]
pub struct Guest(oneshot::Receiver<()>);

impl Guest {
    /// Waits until others need its place.
    pub async fn outstayed(self) {
        // The sender is dropped, and never says anything.
        let _ = self.0.await;
    }
}

/// What is pending, by name and by token.
#[derive(Default)]
struct Raised {
    tls: HashMap<String, Arc<ServerConfig>>,
    http: HashMap<String, String>,
}

/// A challenge that can be answered until this is dropped.
#[derive(Debug)]
pub struct Pending {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Tls(String),
    Http(String),
}

impl Default for Challenges {
    fn default() -> Self {
        Self { pending: AtomicUsize::new(0), raised: Mutex::default(), guests: Mutex::default() }
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Challenges {
    /// May a client hello be a validator's?
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }

    /// The configuration that proves control of the name in `hello`; `None` for everybody who is no validator.
    #[must_use]
    pub fn proof(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if !self.is_pending() || !hello.alpn()?.eq([ACME_TLS]) {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.raised().tls.get(&name).map(Arc::clone)
    }

    /// Lets a connection from outside the access list in for as long as a client hello takes; `None` while nothing is pending.
    ///
    /// Where too many are in, the oldest goes: a validator speaks at once, and who is silent must not keep it out.
    #[must_use]
    pub fn guest(&self) -> Option<Guest> {
        if !self.is_pending() {
            return None;
        }
        let (place, guest) = oneshot::channel();
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|guest| !guest.is_closed());
        if guests.len() >= GUESTS {
            guests.pop_front();
        }
        guests.push_back(place);
        Some(Guest(guest))
    }

    /// What stands at `token` of `/.well-known/acme-challenge/`.
    #[must_use]
    pub fn key_authorization(&self, token: &str) -> Option<String> {
        self.raised().http.get(token).cloned()
    }

    /// Answers validators that ask for `name` by `config`.
    pub fn raise_tls(self: &Arc<Self>, name: &str, config: Arc<ServerConfig>) -> Pending {
        let name = name.to_ascii_lowercase();
        let mut raised = self.raised();
        raised.tls.insert(name.clone(), config);
        self.pending.store(raised.tls.len(), Ordering::Relaxed);
        Pending { challenges: Arc::clone(self), key: Key::Tls(name) }
    }

    /// Answers validators that ask for `token` by `content`.
    pub fn raise_http(self: &Arc<Self>, token: &str, content: &str) -> Pending {
        self.raised().http.insert(token.to_owned(), content.to_owned());
        Pending { challenges: Arc::clone(self), key: Key::Http(token.to_owned()) }
    }

    /// Each map is right after every single insert and remove, so a panic of another holder does no harm.
    fn raised(&self) -> MutexGuard<'_, Raised> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut raised = self.challenges.raised();
        match &self.key {
            Key::Tls(name) => _ = raised.tls.remove(name),
            Key::Http(token) => _ = raised.http.remove(token),
        }
        self.challenges.pending.store(raised.tls.len(), Ordering::Relaxed);
    }
}
