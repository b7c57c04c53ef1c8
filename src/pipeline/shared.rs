//! What the pipelines of all workers share.

use std::sync::Arc;

use super::Settings;
use super::cookie::Cookies;
use super::crowd::{Crowds, Place};
use super::dns64::Dns64;
use super::finish::Finish;
use super::flushes::Flushes;
use super::join::{FLIGHTS, FOLLOWERS, Joins, Ticket};
use super::keys::{self, Keys};
use super::options::Passing;
use super::own::Own;
use super::refresh::Errands;
use super::special::Zones;
use crate::cache::{self, At, Cache, EntryFacts, Failures, Selection};
use crate::clock::{Clock, Moment};
use crate::guard::Guard;
use crate::upstream::Exchange;

/// One gateway's memory, limits and way out.
#[derive(Debug)]
pub struct Shared {
    pub(super) settings: Settings,
    pub(super) cache_settings: cache::Settings,
    pub(super) finish: Finish,
    pub(super) own: Own,
    pub(super) cookies: Option<Arc<Cookies>>,
    pub(super) special: Zones,
    pub(super) passing: Passing,
    pub(super) cache: Cache,
    pub(super) failures: Failures,
    pub(super) flushes: Arc<Flushes>,
    pub(super) joins: Arc<Joins>,
    pub(super) crowds: Arc<Crowds>,
    pub(super) errands: Arc<Errands>,
    pub(super) guard: Arc<Guard>,
    pub(super) exchange: Arc<dyn Exchange>,
    pub(super) clock: Clock,
}

impl Shared {
    /// With an empty cache, asking through `exchange`.
    #[must_use]
    pub fn new(
        settings: Settings,
        cache_settings: cache::Settings,
        guard: Arc<Guard>,
        exchange: Arc<dyn Exchange>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            finish: Finish::new(&settings),
            own: Own::new(settings.about.clone()),
            cookies: settings.cookies.then(|| Arc::new(Cookies::new(&settings.secrets, clock.now()))),
            special: Zones::new(&settings.special, &settings.about, settings.dns64.as_ref().map(Dns64::pointers)),
            passing: Passing::new(&settings.pass),
            cache: Cache::new(&cache_settings),
            failures: Failures::new(&cache_settings),
            flushes: Arc::default(),
            joins: Joins::new(FLIGHTS, FOLLOWERS),
            crowds: Crowds::new(settings.outstanding_per_domain),
            errands: Arc::default(),
            settings,
            cache_settings,
            guard,
            exchange,
            clock,
        })
    }

    /// What it becomes by other settings, servers and limits: answers, failures, flights, places, errands and cookies stay what they
    /// are, and so does whatever still goes by the former one. Nothing changes before it is used.
    #[must_use]
    pub fn renewed(
        &self,
        settings: Settings,
        cache_settings: cache::Settings,
        guard: Arc<Guard>,
        exchange: Arc<dyn Exchange>,
    ) -> Arc<Self> {
        let made = || Arc::new(Cookies::new(&settings.secrets, self.clock.now()));
        // Who made the secrets and who does now: else those in force stay, and the file's are taken when this is used.
        let is_same_source = self.settings.secrets.is_empty() == settings.secrets.is_empty();
        let kept = self.cookies.clone().filter(|_| is_same_source);
        Arc::new(Self {
            finish: Finish::new(&settings),
            own: Own::new(settings.about.clone()),
            cookies: settings.cookies.then(|| kept.unwrap_or_else(made)),
            special: Zones::new(&settings.special, &settings.about, settings.dns64.as_ref().map(Dns64::pointers)),
            passing: Passing::new(&settings.pass),
            cache: self.cache.renewed(&cache_settings),
            failures: self.failures.renewed(&cache_settings),
            flushes: Arc::clone(&self.flushes),
            joins: Arc::clone(&self.joins),
            crowds: self.crowds.renewed(settings.outstanding_per_domain),
            errands: Arc::clone(&self.errands),
            settings,
            cache_settings,
            guard,
            exchange,
            clock: self.clock.clone(),
        })
    }

    /// To be called once this has taken the place of `former`: its secrets are in force, and of what is kept goes what it would not
    /// have made.
    pub fn take_effect(&self, former: &Self) {
        if let Some(cookies) = &self.cookies {
            cookies.replace(&self.settings.secrets);
        }
        if self.settings.dns64 != former.settings.dns64 {
            tracing::info!("dns64 has changed: the cache is emptied");
            self.begin_flush(Selection::All);
            self.cache.flush_all();
        }
    }

    /// Joins the flight of the question of `keys`, or leads one ([`Joins::join`]).
    pub(super) fn join(&self, keys: &Keys, landed: impl FnOnce() -> bool) -> Ticket {
        self.joins.join(keys.own().as_bytes(), &self.flushes, landed)
    }

    /// A place for `question` among those of its domain; None where all are taken. What the operator forwards is not counted: a
    /// whole company asks about one domain, of a server of its own.
    pub(super) fn place(&self, keys: &Keys, question: &[u8]) -> Option<Place> {
        if self.exchange.route(question).is_forwarded {
            Some(Place::FREE)
        } else {
            self.crowds.enter(keys.own().name())
        }
    }

    /// `now`, for the failures of a question that begins or is asked again then.
    pub(super) fn at(&self, question: &[u8], now: Moment) -> At {
        At { now, comebacks: self.exchange.comebacks(question) }
    }

    /// Server cookies, if any are given.
    #[must_use]
    pub fn cookies(&self) -> Option<&Cookies> {
        self.cookies.as_deref()
    }

    /// The cache.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What is known of the answers that may serve `question`, where it wants recursion and neither proofs nor CD: the one to
    /// it, and that its name does not exist. Not a visit.
    #[must_use]
    pub fn kept(&self, question: &[u8]) -> [Option<EntryFacts>; 2] {
        let (key, now) = (keys::plain(self, question), self.clock.now());
        [key, key.of_all_types()].map(|key| self.cache.peek(&key, now))
    }

    /// The failures remembered.
    #[must_use]
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Begins a flush: whatever of `selection` is asked at this moment will not be kept. Dropping what is held is left to the caller.
    pub fn begin_flush(&self, selection: Selection) {
        self.flushes.begin(selection);
    }

    /// Exchanges under way.
    #[must_use]
    pub fn joins_in_flight(&self) -> usize {
        self.joins.in_flight()
    }

    /// The way out.
    #[must_use]
    pub const fn exchange(&self) -> &Arc<dyn Exchange> {
        &self.exchange
    }

    /// The clock that answers are aged by.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }
}
