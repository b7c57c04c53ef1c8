//! Keeps the certificate from the authority in force: the stored one at the start, a new one whenever it is time.
//!
//! The gateway never waits for any of this. Until there is a certificate, and while the authority cannot be had, it serves with what
//! it has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use instant_acme::{Account, CertificateIdentifier, Error as ProtocolError};
use rustls::crypto::CryptoProvider;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::{Client, Find};
use super::order::{Desk, Issued};
use super::store::{Store, Trouble};
use super::{AcmeError, Challenges, Method, Settings, schedule, web};
use crate::identity::credential::{Credential, unix};
use crate::identity::{Identity, IdentityError, profile};
use crate::telemetry::AcmeGauge;

/// All of an order. Hooks of many names take their time.
const ORDER: Duration = Duration::from_mins(30);
/// Renewal information is asked for in the loop that everything else waits in.
const LOOK: Duration = Duration::from_mins(1);
/// The longest sleep in one piece: the machine may have been suspended, or its clock been set.
const NAP: Duration = Duration::from_hours(1);
/// How soon to ask for renewal information again where it could not be had, and where the authority has none at all.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(24));

/// The time of day that certificates are judged by.
type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The certificate from the authority, and all that is done for it.
pub struct Acme {
    settings: Settings,
    store: Store,
    identity: Arc<Identity>,
    challenges: Arc<Challenges>,
    provider: Arc<CryptoProvider>,
    /// Bound, and not yet served.
    listeners: Mutex<Vec<std::net::TcpListener>>,
    status: Status,
}

/// What metrics tell.
#[derive(Debug, Default)]
struct Status {
    next: AtomicI64,
    succeeded: AtomicI64,
    failing: AtomicU64,
    issued: AtomicU64,
    failed: AtomicU64,
}

/// When to renew the certificate in force, and when to ask the authority what it thinks of that; seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    renew_at: i64,
    look_at: i64,
    /// The window that `renew_at` is a point of: while the authority stays with it, so do we.
    window: Option<(i64, i64)>,
}

impl Acme {
    /// Takes up what is stored for `settings`, and puts it in force where it can be used.
    ///
    /// # Errors
    /// The state directory cannot be used.
    pub fn open(settings: Settings, identity: Arc<Identity>, now: SystemTime) -> Result<Arc<Self>, IdentityError> {
        let store = Store::open(&settings.state_dir, &settings.directory)?;
        let provider = profile::provider();
        match store.certificate(&provider, now) {
            Ok(Some(credential)) => identity.present(Some(credential)),
            Ok(None) => {
                tracing::info!(names = ?settings.domains, "acme: no certificate yet; serving with another until there is");
            }
            Err(error) => tracing::warn!(%error, "acme: the stored certificate is not used; serving with another"),
        }
        let challenges = identity.challenges();
        let listeners = Mutex::default();
        Ok(Arc::new(Self { settings, store, identity, challenges, provider, listeners, status: Status::default() }))
    }

    /// Opens the listener for HTTP-01, if there is to be one.
    ///
    /// # Errors
    /// The address at fault.
    pub fn bind(&self) -> Result<(), AcmeError> {
        if let Method::Http(addresses) = &self.settings.method {
            *self.listeners.lock().unwrap_or_else(PoisonError::into_inner) = web::bind(addresses)?;
        }
        Ok(())
    }

    /// Where HTTP-01 is answered, ports known; nowhere once it is served.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// What metrics tell.
    pub fn gauge(&self) -> AcmeGauge {
        let Status { next, succeeded, failing, issued, failed } = &self.status;
        AcmeGauge {
            next_attempt: next.load(Ordering::Relaxed),
            last_success: succeeded.load(Ordering::Relaxed),
            failing: failing.load(Ordering::Relaxed),
            issued: issued.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
        }
    }

    /// Orders and renews for as long as it is polled. `find` finds the directory's address.
    pub async fn run(self: Arc<Self>, find: Find, now: Now) {
        let mut serving = JoinSet::new();
        for listener in std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner)) {
            serving.spawn(web::serve(listener, Arc::clone(&self.challenges)));
        }
        let client = match Client::new(self.settings.ca.as_deref(), &self.provider, find) {
            Ok(client) => client,
            // Nothing would get better by itself.
            Err(error) => return tracing::error!(%error, "acme: the authority cannot be spoken with"),
        };
        let mut trouble = self.store.trouble(&self.settings.domains);
        let mut plan = Plan::default();
        loop {
            let due = self.due(&client, &trouble, &mut plan, &now).await;
            self.status.failing.store(trouble.failures.into(), Ordering::Relaxed);
            self.status.next.store(due, Ordering::Relaxed);
            let until = if trouble.failures > 0 { due } else { due.min(plan.look_at) };
            if due > unix(now()) {
                let wait = u64::try_from(until - unix(now())).unwrap_or(0);
                sleep(Duration::from_secs(wait.max(1)).min(NAP)).await;
                continue;
            }
            self.attempt(&client, &mut trouble, &now).await;
            plan = Plan::default();
        }
    }

    /// When to order next.
    async fn due(&self, client: &Client, trouble: &Trouble, plan: &mut Plan, now: &Now) -> i64 {
        if trouble.failures > 0 {
            // Later than any wait: the clock was wrong when it was written.
            let is_absurd = trouble.retry_at.saturating_sub(unix(now())) > schedule::OBEDIENCE.as_secs().cast_signed();
            return if is_absurd { unix(now()) } else { trouble.retry_at };
        }
        let Some(current) = self.identity.presented() else { return unix(now()) };
        if !self.covers(&current) {
            return unix(now());
        }
        if plan.look_at <= unix(now()) {
            *plan = self.look(client, &current, *plan, now).await;
        }
        plan.renew_at
    }

    /// Is `credential` for the names that are wanted, no more and no fewer?
    fn covers(&self, credential: &Credential) -> bool {
        let sorted = |names: &[String]| {
            let mut names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        sorted(&self.settings.domains) == sorted(&credential.domains)
    }

    /// Asks the authority when to renew `current` (RFC 9773); its age tells where the authority does not.
    async fn look(&self, client: &Client, current: &Credential, before: Plan, now: &Now) -> Plan {
        let by_age = schedule::by_age(current.not_before, current.not_after, rand::random());
        let in_time = |wait: Duration| unix(now()).saturating_add(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
        let told = match timeout(LOOK, self.desk(client).renewal_info(current)).await {
            Ok(told) => told,
            Err(_) => Err(AcmeError::Timeout),
        };
        match told {
            Ok((window, again)) => {
                let renew_at = match before.window {
                    Some(known) if known == window => before.renew_at,
                    _ => schedule::within(window.0, window.1, rand::random()),
                };
                // Whatever it says, not after the certificate's end.
                let renew_at = renew_at.min(current.not_after);
                Plan { renew_at, look_at: in_time(schedule::look_again(again)), window: Some(window) }
            }
            Err(AcmeError::Protocol(ProtocolError::Unsupported(_))) => {
                let renew_at = if before.renew_at > 0 { before.renew_at } else { by_age };
                Plan { renew_at, look_at: in_time(LOOK_AGAIN.1), window: None }
            }
            Err(error) => {
                tracing::debug!(%error, "acme: no renewal information");
                let renew_at = if before.renew_at > 0 { before.renew_at } else { by_age };
                Plan { renew_at, look_at: in_time(LOOK_AGAIN.0), ..before }
            }
        }
    }

    fn desk<'a>(&'a self, client: &'a Client) -> Desk<'a> {
        let Self { settings, store, challenges, provider, .. } = self;
        Desk { settings, store, client, challenges, provider }
    }

    /// One order, and what comes of it.
    async fn attempt(&self, client: &Client, trouble: &mut Trouble, now: &Now) {
        let _ = client.take_patience();
        let outcome = match timeout(ORDER, self.obtain(client, now)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(AcmeError::Timeout),
        };
        let domains = self.settings.domains.clone();
        let error = match outcome {
            Ok(()) => {
                self.status.issued.fetch_add(1, Ordering::Relaxed);
                self.status.succeeded.store(unix(now()), Ordering::Relaxed);
                tracing::info!(names = ?domains, "acme: a new certificate is in force");
                if trouble.failures > 0 {
                    *trouble = Trouble::default();
                    self.remember(trouble);
                }
                return;
            }
            Err(error) => error,
        };
        self.status.failed.fetch_add(1, Ordering::Relaxed);
        if error.is_unknown_account() {
            // An empty account is none: the next order makes another.
            _ = self.store.keep_account(&[]);
        }
        let failures = trouble.failures.saturating_add(1);
        let wait = schedule::backoff(failures, client.take_patience(), rand::random());
        let retry_at = unix(now()).saturating_add(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
        *trouble = Trouble { domains, failures, retry_at };
        self.remember(trouble);
        tracing::error!(%error, failures, retry_in = ?wait, "acme: no new certificate; what was in force stays so");
    }

    async fn obtain(&self, client: &Client, now: &Now) -> Result<(), AcmeError> {
        let current = self.identity.presented();
        let replaced = current.as_deref().and_then(identifier);
        let Issued { chain, key } = self.desk(client).order(replaced).await?;
        let (credential, validity) = self.store.credential(format!("{key}{chain}").as_bytes(), &self.provider)?;
        validity.check(&self.store.certificate_path(), now())?;
        if !self.covers(&credential) {
            return Err(AcmeError::Certificate("it is for other names than those ordered"));
        }
        // In force only once it will be there after a restart, too.
        self.store.keep_certificate(&key, &chain)?;
        self.identity.present(Some(credential));
        Ok(())
    }

    fn remember(&self, trouble: &Trouble) {
        if let Err(error) = self.store.keep_trouble(trouble) {
            tracing::warn!(%error, "acme: failures are not remembered over a restart");
        }
    }
}

impl Desk<'_> {
    /// The window that the authority suggests for renewing `current`, in seconds since 1970, and when to ask again.
    async fn renewal_info(&self, current: &Credential) -> Result<((i64, i64), Duration), AcmeError> {
        let unnamed = AcmeError::Certificate("it does not say who signed it");
        let id = identifier(current).ok_or(unnamed)?;
        let account: Account = self.account().await?;
        let (info, again) = account.renewal_info(&id).await?;
        let window = info.suggested_window;
        Ok(((window.start.unix_timestamp(), window.end.unix_timestamp()), again))
    }
}

/// How the authority knows a certificate (RFC 9773 4.1).
fn identifier(credential: &Credential) -> Option<CertificateIdentifier<'static>> {
    let leaf = credential.certified.cert.first()?;
    CertificateIdentifier::try_from(leaf).ok().map(CertificateIdentifier::into_owned)
}
