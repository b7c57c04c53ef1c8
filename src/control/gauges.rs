//! What is measured at the moment that somebody looks: gauges, and what readiness is judged by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Control, memory};
use crate::admin::Vitals;
use crate::guard::Clients;
use crate::identity::Reloads;
use crate::identity::keys::Doors;
use crate::listen::DoorKind;
use crate::peer::{DoorId, Transport};
use crate::telemetry::{CertificateGauge, Counters, Gauges, MemoryGauge};
use crate::trail::UpstreamId;
use crate::upstream::Exchange as _;
use crate::upstream::facts::facts;

impl Control {
    /// Those that this thread writes. It asks as a worker of its own: counters have one writer.
    pub fn own_counters(&self) -> Arc<Counters> {
        self.counters.last().cloned().unwrap_or_default()
    }

    /// Questions put to servers of the default pool so far, and how many were answered: what a pool for a few domains does tells
    /// nothing of all others.
    pub fn asked_and_answered(&self) -> (u64, u64) {
        let routes = &self.force.load().routes;
        let tallies = routes.default_servers().map(|server| server.tally());
        tallies.fold((0, 0), |(asked, answered), tally| {
            (asked + tally.questions.value(), answered + tally.answers.value())
        })
    }

    /// What readiness is judged by.
    pub fn vitals(&self) -> Vitals {
        let state = &self.state;
        Vitals {
            serving: true,
            stopping: state.stopping.load(Ordering::Relaxed),
            upstream_answered: state.answered.load(Ordering::Relaxed),
            upstream_alive: state.alive.load(Ordering::Relaxed),
        }
    }

    /// The name of a server that supplied an answer.
    pub fn named(&self, upstream: UpstreamId) -> Option<String> {
        // Before a restart, or a reload that took it out.
        let now = self.force.load();
        let name = now.routes.name(upstream).unwrap_or("a server that is no longer configured");
        Some(name.to_owned())
    }

    /// What is measured now.
    pub fn gauges(&self) -> Gauges {
        let now = self.force.load();
        let cache = now.shared.cache().stats();
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let certificates = self.identity.certificates().into_iter().map(|facts| CertificateGauge {
            names: facts.names,
            source: facts.source.to_string(),
            not_after: facts.not_after,
            days_left: facts.days_left,
            stale: facts.stale,
        });
        let Reloads { taken, refused } = self.identity.reloads();
        let asked = now.guard.clients().into_iter().flat_map(Clients::asked);
        Gauges {
            cache_entries: cache.entries,
            cache_bytes: cache.octets_used,
            cache_bytes_limit: cache.octets_allowed,
            cache_limited: cache.limited,
            joins: wide(now.shared.joins_in_flight()),
            clients: asked.map(|(name, asked)| (name.to_owned(), asked)).collect(),
            connections_held: wide(now.guard.connections()),
            certificates: certificates.collect(),
            certificate_reloads: [taken, refused],
            probes: self.findings.gauges(),
            started: self.state.started,
            ready: false,
            clock_behind: self.times.is_behind(),
            clock_adjusted: self.times.adjusted(),
            time_names_in_plain: now.routes.time_names().asked(),
            workers: wide(self.workers),
            snapshot: self.snapshot.gauge(),
            reloads: self.reloader.gauge(),
            sandbox: crate::confine::in_force(),
            upstreams: facts(&now.routes),
            acme: self.acme.as_ref().map(|acme| acme.gauge()),
            tickets: Doors::ALL.map(|doors| self.identity.keys().tally().at(doors).values()),
            memory: MemoryGauge {
                resident: wide(memory::resident().unwrap_or_default()),
                limit: wide(self.force.load().memory.unwrap_or_default()),
                held: wide(now.guard.octets_held()),
            },
        }
    }

    /// The door that a question over `transport` would come through, and where.
    pub fn door(&self, transport: Transport) -> Option<(DoorId, SocketAddr)> {
        let serves = |kind: DoorKind| match transport {
            Transport::Udp | Transport::Tcp => kind == DoorKind::Dns,
            Transport::Dot => kind == DoorKind::Dot,
            Transport::Doh1 | Transport::Doh2 => {
                matches!(kind, DoorKind::Doh | DoorKind::DohTcp | DoorKind::DohClear)
            }
            Transport::Doh3 => kind == DoorKind::Doh,
            Transport::Doq => kind == DoorKind::Doq,
        };
        self.force.load().doors.iter().find(|(_, kind, _)| serves(*kind)).map(|&(id, _, address)| (id, address))
    }
}
