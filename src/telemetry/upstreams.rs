//! What is told of each upstream server: the same facts for metrics, the API and the page, and their metrics.
//!
//! Pools and URLs come from the configuration, so labels are as many as it has servers.

use std::fmt;

use serde::Serialize;

use super::metrics::Page;

/// One server at the moment of looking. In JSON under the names of its fields; what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpstreamFacts {
    /// The pool it is in.
    pub pool: String,
    /// Its URL, a path that may be a secret left out; unlike any other of the pool.
    pub url: String,
    /// One of [`STATES`].
    pub state: &'static str,
    /// Questions put to it, hedges and rescues among them.
    pub questions: u64,
    /// Answers that settled a question.
    pub answers: u64,
    /// Attempts that ended otherwise.
    pub failures: u64,
    /// Connections opened.
    pub handshakes: u64,
    /// Those of them that resumed a session.
    pub handshakes_resumed: u64,
    /// Connections that could not be opened.
    pub handshakes_failed: u64,
    /// Connections opened for a thousand questions; None before the first question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes_per_thousand_questions: Option<f64>,
    /// Questions asked again on a fresh connection.
    pub replayed: u64,
    /// Questions asked here because another server was slow.
    pub hedges: u64,
    /// Questions asked here because another server had fallen silent.
    pub rescues: u64,
    /// Times its breaker opened.
    pub breaker_opened: u64,
    /// How long it has been in its state, in seconds; None while it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// Seconds until it is probed; None while it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_probe_seconds: Option<u64>,
    /// Questions it owes an answer.
    pub outstanding: u32,
    /// The time within which half of its answers come, in microseconds; None before it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_micros: Option<u32>,
    /// The time within which nineteen of twenty answers come, in microseconds; None before it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_micros: Option<u32>,
    /// How its last failed attempt ended; None before one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// The states a server can be in.
pub const STATES: [&str; 3] = ["up", "down", "suspect"];

/// A counter: its name, what it counts, and where it stands.
type Count = (&'static str, &'static str, fn(&UpstreamFacts) -> u64);

const COUNTS: [Count; 10] = [
    ("upstream_questions", "Questions put to the server, hedges and rescues among them", |one| one.questions),
    ("upstream_answers", "Answers that settled a question", |one| one.answers),
    ("upstream_failures", "Attempts that ended without such an answer", |one| one.failures),
    ("upstream_handshakes", "Connections opened to the server", |one| one.handshakes),
    ("upstream_handshakes_resumed", "Connections opened by resuming a session", |one| one.handshakes_resumed),
    ("upstream_handshakes_failed", "Connections that could not be opened", |one| one.handshakes_failed),
    ("upstream_replayed", "Questions asked again because their connection closed", |one| one.replayed),
    ("upstream_hedges", "Questions asked here because another server was slow", |one| one.hedges),
    ("upstream_rescues", "Questions asked here because another server fell silent", |one| one.rescues),
    ("upstream_breaker_opened", "Times the server was put aside for failing", |one| one.breaker_opened),
];

impl UpstreamFacts {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("pool", &self.pool), ("upstream", &self.url)]
    }
}

/// Writes the metrics of all servers; nothing where there is none.
pub(super) fn write(page: &mut Page<'_>, upstreams: &[UpstreamFacts]) -> fmt::Result {
    if upstreams.is_empty() {
        return Ok(());
    }
    for (name, help, count) in COUNTS {
        page.totals(name, help, upstreams.iter().map(|one| (one.labels(), count(one))))?;
    }
    let states = upstreams.iter().flat_map(|one| STATES.map(|state| (one, state)));
    let states = states.map(|(one, state)| {
        let [pool, upstream] = one.labels();
        ([pool, upstream, ("state", state)], i64::from(one.state == state))
    });
    page.gauges("upstream_state", "1 for the state the server is in", states)?;
    let ratios = upstreams.iter().filter_map(|one| Some((one.labels(), one.handshakes_per_thousand_questions?)));
    let help = "Connections opened for a thousand questions, since the start";
    page.gauges("upstream_handshakes_per_thousand_questions", help, ratios)?;
    let p50 = upstreams.iter().filter_map(|one| Some((one.labels(), f64::from(one.p50_micros?) / 1e6)));
    page.gauges("upstream_p50_seconds", "Time within which half of the server's answers come", p50)?;
    let outstanding = upstreams.iter().map(|one| (one.labels(), i64::from(one.outstanding)));
    page.gauges("upstream_outstanding", "Questions that the server owes an answer", outstanding)?;
    let p95 = upstreams.iter().filter_map(|one| Some((one.labels(), f64::from(one.p95_micros?) / 1e6)));
    page.gauges("upstream_p95_seconds", "Time within which nineteen of twenty answers of the server come", p95)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::{Gauges, metrics};

    fn facts(pool: &str, url: &str) -> UpstreamFacts {
        UpstreamFacts {
            pool: pool.into(),
            url: url.into(),
            state: "suspect",
            questions: 1001,
            answers: 1002,
            failures: 1003,
            handshakes: 1004,
            handshakes_resumed: 1005,
            handshakes_failed: 1006,
            handshakes_per_thousand_questions: Some(2.5),
            replayed: 1007,
            hedges: 1008,
            rescues: 1009,
            breaker_opened: 1010,
            since_seconds: None,
            next_probe_seconds: None,
            outstanding: 3,
            p50_micros: Some(7_500),
            p95_micros: Some(12_500),
            last_failure: None,
        }
    }

    fn lines(upstreams: Vec<UpstreamFacts>) -> Vec<String> {
        let text = metrics::encode(&[], Gauges { upstreams, ..Gauges::default() });
        let of_one = |line: &&str| line.contains("upstream=");
        text.lines().filter(of_one).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn every_fact_of_a_server_is_a_series_of_its_own() {
        let labels = "pool=\"default\",upstream=\"tls://a.example\"";
        let lines = lines(vec![facts("default", "tls://a.example")]);
        let mut expected = BTreeSet::new();
        for (value, name) in (1001..).zip(COUNTS.map(|(name, _, _)| name)) {
            expected.insert(format!("hushgate_{name}_total{{{labels}}} {value}"));
        }
        for (state, value) in [("up", 0), ("down", 0), ("suspect", 1)] {
            expected.insert(format!("hushgate_upstream_state{{{labels},state=\"{state}\"}} {value}"));
        }
        expected.insert(format!("hushgate_upstream_handshakes_per_thousand_questions{{{labels}}} 2.5"));
        expected.insert(format!("hushgate_upstream_outstanding{{{labels}}} 3"));
        expected.insert(format!("hushgate_upstream_p50_seconds{{{labels}}} 0.0075"));
        expected.insert(format!("hushgate_upstream_p95_seconds{{{labels}}} 0.0125"));
        assert_eq!(lines.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert_eq!(lines.len(), expected.len(), "a series twice");
    }

    #[test]
    fn what_is_not_known_is_no_series_and_no_field() {
        let fresh = UpstreamFacts { state: "up", ..UpstreamFacts::default() };
        let json = serde_json::to_string(&fresh).unwrap();
        assert!(!json.contains("per_thousand") && !json.contains("p95") && !json.contains("last_failure"), "{json}");
        let lines = lines(vec![fresh]);
        assert_eq!(lines.len(), COUNTS.len() + STATES.len() + 1, "{lines:#?}");
        assert!(super::tests::lines(Vec::new()).is_empty());
    }

    #[test]
    fn one_url_in_two_pools_is_two_series() {
        let both = lines(vec![facts("default", "udp://192.0.2.1"), facts("corp", "udp://192.0.2.1")]);
        assert_eq!(both.iter().collect::<BTreeSet<_>>().len(), 2 * lines(vec![facts("corp", "udp://192.0.2.1")]).len());
    }
}
