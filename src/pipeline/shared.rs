//! What the pipelines of all workers share.

use std::sync::Arc;

use super::Settings;
use super::cookie::Cookies;
use super::crowd::{Crowds, Place};
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
    pub(super) cookies: Option<Cookies>,
    pub(super) special: Zones,
    pub(super) passing: Passing,
    pub(super) cache: Cache,
    pub(super) failures: Failures,
    pub(super) flushes: Flushes,
    pub(super) joins: Arc<Joins>,
    pub(super) crowds: Arc<Crowds>,
    pub(super) errands: Errands,
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
            cookies: settings.cookies.then(|| Cookies::new(&settings.secrets, clock.now())),
            special: Zones::new(&settings.special, settings.about.iter().map(|place| &*place.name)),
            passing: Passing::new(&settings.pass),
            cache: Cache::new(&cache_settings),
            failures: Failures::new(&cache_settings),
            flushes: Flushes::default(),
            joins: Joins::new(FLIGHTS, FOLLOWERS),
            crowds: Crowds::new(settings.outstanding_per_domain),
            errands: Errands::default(),
            settings,
            cache_settings,
            guard,
            exchange,
            clock,
        })
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
    pub const fn cookies(&self) -> Option<&Cookies> {
        self.cookies.as_ref()
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
