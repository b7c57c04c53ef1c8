//! What the operator is told of each server, read at the moment of asking.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::route::Routes;
use super::server::Upstream;
use crate::telemetry::UpstreamFacts;

/// Every server of every pool, by id, fallbacks among them.
#[must_use]
pub fn facts(routes: &Routes) -> Vec<UpstreamFacts> {
    let mut seen = HashMap::new();
    let mut all = Vec::new();
    for (pool, servers) in routes.pools() {
        for server in servers.servers() {
            // Two servers of one URL may differ in their addresses or their secret path: both are shown, told apart by number.
            let nth = seen.entry((pool, server.url())).and_modify(|nth| *nth += 1).or_insert(1_u32);
            let url = if *nth == 1 { server.url().to_owned() } else { format!("{} #{nth}", server.url()) };
            all.push(of(server, pool.to_owned(), url));
        }
    }
    all
}

fn of(server: &Upstream, pool: String, url: String) -> UpstreamFacts {
    let (tally, report) = (server.tally(), server.health().report(Instant::now()));
    let (questions, handshakes) = (tally.questions.value(), tally.handshakes.value());
    UpstreamFacts {
        pool,
        url,
        state: report.state.name(),
        questions,
        answers: tally.answers.value(),
        failures: tally.failures.value(),
        handshakes,
        handshakes_resumed: tally.resumed.value(),
        handshakes_failed: tally.handshakes_failed.value(),
        handshakes_per_thousand_questions: per_thousand(handshakes, questions),
        replayed: tally.replayed.value(),
        hedges: tally.hedges.value(),
        rescues: tally.rescues.value(),
        breaker_opened: tally.opened.value(),
        since_seconds: report.since.map(|since| since.as_secs()),
        next_probe_seconds: report.next_probe.map(|wait| wait.as_secs()),
        outstanding: report.outstanding,
        p50_micros: report.p50.map(micros),
        p95_micros: report.p95.map(micros),
        last_failure: server.trouble(),
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Rounded to thousandths, for people read it too.
fn per_thousand(handshakes: u64, questions: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
    let ratio = |handshakes: u64, questions: u64| (handshakes as f64 * 1e6 / questions as f64).round() / 1e3;
    (questions > 0).then(|| ratio(handshakes, questions))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::runtime::Handle;

    use super::super::commons::Commons;
    use super::super::health::State;
    use super::super::{PoolSettings, Server, Settings};
    use super::*;
    use crate::telemetry::upstreams::STATES;

    #[test]
    fn every_state_has_a_series() {
        for state in [State::Closed, State::Open, State::Suspect] {
            let index = match state {
                State::Closed => 0,
                State::Open => 1,
                State::Suspect => 2,
            };
            assert_eq!(STATES[index], state.name());
        }
    }

    #[tokio::test]
    async fn servers_of_one_url_are_told_apart_and_a_path_that_may_be_a_secret_is_not_shown() {
        let urls = [
            "udp://192.0.2.1",
            "udp://192.0.2.1",
            "https://dns.example/dns-query",
            "https://dns.example/3f9a21",
            "https://dns.example/77ab01",
            "udp://192.0.2.1",
        ];
        let mut pool = PoolSettings::new(urls.map(|url| Server::new(url.parse().unwrap())).into());
        pool.fallback = vec![Server::new("tls://9.9.9.9".parse().unwrap())];
        let routes = Routes::new(&Settings::new(pool), &Commons::new(Handle::current())).unwrap();
        let facts = facts(&routes);
        let shown: Vec<&str> = facts.iter().map(|one| one.url.as_str()).collect();
        assert_eq!(
            shown,
            [
                "udp://192.0.2.1",
                "udp://192.0.2.1 #2",
                "https://dns.example/dns-query",
                "https://dns.example/…",
                "https://dns.example/… #2",
                "udp://192.0.2.1 #3",
                "tls://9.9.9.9",
            ]
        );
        assert_eq!(shown.iter().collect::<HashSet<_>>().len(), shown.len());
        assert!(facts.iter().all(|one| one.pool == "default" && one.state == "up" && one.questions == 0));
    }

    #[test]
    fn the_ratio_is_of_questions_and_absent_without_any() {
        for (handshakes, questions, ratio) in
            [(0, 0, None), (3, 0, None), (0, 9, Some(0.0)), (1, 3, Some(333.333)), (2, 1, Some(2000.0))]
        {
            assert_eq!(per_thousand(handshakes, questions), ratio);
        }
    }
}
