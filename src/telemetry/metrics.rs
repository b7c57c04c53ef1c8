//! Metrics as text for Prometheus (`OpenMetrics` 1.0): the workers' counters, summed on scrape, and gauges handed in.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::confinement::Part;
use super::counters::{Counter, Counters, UPSTREAM_MICROS};
use super::handshakes::{Failure, Shaking};
use super::limited::Limited;
use super::proxies::{Forwarding, Introduction};
use super::upstreams;
use super::{CertificateGauge, Gauges, MemoryGauge, ProbeGauge, SnapshotGauge, acme, names, totals};
use crate::peer::Transport;
use crate::reply::Source;
use crate::trail::{Here, Stale, Sudden};

/// The media type of [`encode`]'s text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One scrape.
#[must_use]
pub fn encode(workers: &[Arc<Counters>], gauges: Gauges) -> String {
    let mut registry = Registry::with_prefix("hushgate");
    registry.register_collector(Box::new(Scrape { totals: totals::sum(workers), gauges }));
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Scrape {
    totals: Counters,
    gauges: Gauges,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.questions(&mut page)?;
        self.upstreams(&mut page)?;
        self.connections(&mut page)?;
        self.clients(&mut page)?;
        self.troubles(&mut page)?;
        self.state(&mut page)?;
        self.snapshot(&mut page)?;
        self.gauges.reloads.encode(&mut page)?;
        self.memory(&mut page)?;
        self.certificates(&mut page)?;
        self.probes(&mut page)?;
        acme::write(&mut page, self.gauges.acme)
    }
}

impl Scrape {
    fn questions(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = &self.totals;
        let transports = Transport::ALL.map(Transport::name);
        let sources = Source::ALL.map(Source::name);
        page.counters("questions", "Questions asked", ("transport", &transports), &totals.questions)?;
        page.counters("answers", "Answers given, by where they came from", ("source", &sources), &totals.answers)?;
        let help = "Answers given by RCODE, higher ones than BADCOOKIE counted with it";
        page.counters("rcodes", help, ("rcode", names::rcodes()), &totals.rcodes)?;
        page.counters(
            "dropped",
            "Questions not answered",
            ("reason", &["no_query", "access", "limit"]),
            &totals.dropped,
        )?;
        let help = "Questions answered here whatever an upstream would say, by why";
        page.counters("local", help, ("reason", &Here::ALL.map(Here::name)), &totals.local)?;
        let help = "Answers made of A records because there was no AAAA record (DNS64)";
        page.counter("synthesised", help, &totals.synthesised)?;
        page.counter("truncated", "Answers sent with TC because they did not fit", &totals.truncated)?;
        let reasons = Stale::ALL.map(Stale::name);
        let help = "Expired answers that stood in, by why no fresh one was to be had";
        page.counters("stale", help, ("reason", &reasons), &totals.stale)?;
        page.counter("failures_recalled", "Answers from the table of recent failures", &totals.failures_recalled)?;
        let help = "Denials of what was there a moment before, by whether another server was asked and what it said";
        page.counters("sudden_denials", help, ("outcome", &Sudden::OUTCOMES), &totals.sudden)
    }

    fn upstreams(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Answers from servers that were told some bits of a client's network";
        page.counter("subnets_told", help, &self.totals.subnets_told)?;
        let help = "Questions asked with options of their client's that pass from end to end";
        page.counter("options_passed", help, &self.totals.options_passed)?;
        let totals = &self.totals;
        page.counter("waited", "Questions that waited for an upstream", &totals.waited)?;
        page.counter("joined", "Questions that joined an equal one in flight", &totals.joined)?;
        page.counter("join_full", "Questions refused because too many were in flight", &totals.join_full)?;
        let help = "Questions refused because too many about their domain were in flight";
        page.counter("crowded", help, &totals.crowded)?;
        page.counter("refreshes", "Answers to be asked for again before they expire", &totals.refreshes)?;
        page.counter(
            "refreshes_done",
            "Answers asked for again before they expired that came",
            &totals.refreshes_done,
        )?;
        page.counter("refreshes_dropped", "Answers not asked for again for want of room", &totals.refreshes_dropped)?;
        page.counter("upstream_attempts", "Attempts at upstreams", &totals.attempts)?;
        page.counter("upstream_attempts_failed", "Attempts without an answer", &totals.attempts_failed)?;
        page.upstream_seconds(totals)?;
        upstreams::write(page, &self.gauges.upstreams)
    }

    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = &self.totals;
        let transports = Transport::ALL.map(Transport::name);
        page.counters("connections", "Connections accepted", ("transport", &transports), &totals.connections)?;
        let mut family =
            page.0.encode_descriptor("connections_open", "Connections open now", None, MetricType::Gauge)?;
        for (transport, open) in transports.iter().zip(&totals.connections_open) {
            // One worker may take away what another added: the sum wraps back to the truth.
            family.encode_family(&[("transport", *transport)])?.encode_gauge(&signed(open.value()))?;
        }
        let help = "Questions refused while only clients that are known by name are heard";
        page.counter("strangers", help, &totals.strangers)?;
        page.counter("connections_refused", "Connections refused for want of a permit", &totals.connections_refused)?;
        page.counter("handshakes", "TLS and QUIC handshakes completed", &totals.handshakes)?;
        let series = Shaking::ALL.into_iter().zip(&totals.handshakes_failed).flat_map(|(over, row)| {
            let labels = move |why: Failure| [("transport", over.name()), ("reason", why.name())];
            Failure::ALL.into_iter().zip(row).map(move |(why, counter)| (labels(why), counter.value()))
        });
        page.totals("handshakes_failed", "TLS and QUIC handshakes that came to nothing, by why", series)?;
        let doors = ["stream", "quic"].into_iter().zip(self.gauges.tickets);
        let series = doors.flat_map(|(doors, counts)| {
            let outcomes = ["made", "resumed", "unknown"].into_iter().zip(counts);
            outcomes.map(move |(outcome, count)| ([("doors", doors), ("outcome", outcome)], count))
        });
        let help = "Session tickets: made, resumed from, or of keys that are not or no longer known";
        page.totals("tickets", help, series)?;
        let help = "PROXY headers, by what came of them";
        page.counters("proxy_headers", help, ("result", &Introduction::NAMES), &totals.introductions)?;
        let help = "Requests from trusted web servers, by what their header told of who asks";
        page.counters("forwarded_requests", help, ("result", &Forwarding::NAMES), &totals.forwardings)?;
        self.moves(page)
    }

    fn moves(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = &self.totals;
        let help = "QUIC datagrams that one worker received and handed to another, whose they were";
        page.counter("quic_handed_over", help, &totals.quic_handed_over)?;
        let help = "QUIC datagrams passed on to another process of this port";
        page.counter("quic_passed_on", help, &totals.quic_passed_on)?;
        let help = "QUIC datagrams lost because their worker or process was gone or had too many waiting";
        page.counter("quic_lost", help, &totals.quic_lost)
    }

    fn clients(&self, page: &mut Page<'_>) -> fmt::Result {
        let series = self.gauges.clients.iter().map(|(name, asked)| ([("client", name.clone())], *asked));
        page.totals("client_questions", "Questions asked by clients that are known by name", series)
    }

    fn troubles(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = &self.totals;
        page.limited(totals)?;
        page.counter("protocol_errors", "Connections closed for breaking their protocol", &totals.protocol_errors)?;
        let help = "Changes of a file of secrets that are in force";
        page.counter("secrets_taken", help, &totals.secrets_taken)?;
        let help = "Changes of a file of secrets that could not be used";
        page.counter("secrets_refused", help, &totals.secrets_refused)?;
        page.counter("panics", "Turns that panicked and were caught", &totals.panics)?;
        page.counter("send_failed", "Datagrams that could not be sent", &totals.send_failed)?;
        page.counter("overflow", "Questions dropped because too many were waiting", &totals.overflow)
    }

    fn state(&self, page: &mut Page<'_>) -> fmt::Result {
        let Gauges { cache_entries, cache_bytes, cache_bytes_limit, joins, connections_held, .. } = &self.gauges;
        page.gauge("cache_entries", "Answers in the cache", *cache_entries)?;
        page.gauge("cache_bytes", "Octets that the answers in the cache take", *cache_bytes)?;
        page.gauge(
            "cache_limit_bytes",
            "Octets that the cache may take, index and spare room included",
            *cache_bytes_limit,
        )?;
        let help = "Times an answer got no lasting place in the cache because its domain has its share";
        page.count("cache_limited", help, self.gauges.cache_limited)?;
        page.gauge("joins", "Different questions waiting for an upstream now", *joins)?;
        page.gauge("connections_held", "Connection permits given out", *connections_held)?;
        page.gauge("workers", "Workers serving", self.gauges.workers)?;
        page.gauge("ready", "1 while /readyz says yes", u64::from(self.gauges.ready))?;
        page.gauge("start_time_seconds", "When the gateway started, since 1970", self.gauges.started)?;
        let parts = Part::ALL.map(Part::name).into_iter().zip(self.gauges.sandbox);
        let parts = parts.map(|(part, is_in_force)| ([("part", part)], i64::from(is_in_force)));
        page.gauges("sandbox", "1 for each part of the sandbox that is in force", parts)?;
        let help = "1 while the clock says a time that is past, by what this program knows";
        page.gauge("clock_behind", help, u64::from(self.gauges.clock_behind))?;
        let help = "Upstream certificates judged by a later time than the clock's";
        page.count("clock_adjusted", help, self.gauges.clock_adjusted)?;
        let help = "Questions for time servers asked in plain DNS because the clock has never been right";
        page.count("time_names_in_plain", help, self.gauges.time_names_in_plain)?;
        let mut info = page.0.encode_descriptor("build", "What is running", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn snapshot(&self, page: &mut Page<'_>) -> fmt::Result {
        let SnapshotGauge { loaded, refused, entries, octets, written, failed } = self.gauges.snapshot;
        page.gauge("snapshot_loaded", "Answers taken over from the snapshot of the cache at the start", loaded)?;
        page.count(
            "snapshot_refused",
            "Snapshots of the cache that were not used: damaged, foreign, too young",
            refused,
        )?;
        page.gauge("snapshot_entries", "Answers in the last snapshot written", entries)?;
        page.gauge("snapshot_bytes", "Octets of the last snapshot written", octets)?;
        page.gauge(
            "snapshot_timestamp_seconds",
            "When the last snapshot was written, since 1970, 0 if none was",
            written,
        )?;
        page.count("snapshot_failed", "Snapshots that could not be written", failed)
    }

    fn memory(&self, page: &mut Page<'_>) -> fmt::Result {
        let MemoryGauge { resident, limit, held } = self.gauges.memory;
        let kinds = [("resident", resident), ("limit", limit), ("held_for_clients", held)];
        let series = kinds.into_iter().map(|(kind, octets)| ([("kind", kind)], signed(octets)));
        page.gauges("memory_bytes", "Memory of this process: resident, the most it may be, held for clients", series)
    }

    fn certificates(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut seen = HashSet::new();
        // A file that is named twice must not make a series twice.
        let certificates = self.gauges.certificates.iter().filter(|one| seen.insert((one.names.first(), &one.source)));
        let certificates: Vec<_> = certificates.collect();
        let labels = |one: &CertificateGauge| {
            [("name", one.names.first().cloned().unwrap_or_default()), ("source", one.source.clone())]
        };
        let days = certificates.iter().map(|one| (labels(one), one.days_left));
        page.gauges("certificate_days_left", "Whole days until the certificate expires", days)?;
        let stale = certificates.iter().map(|one| (labels(one), i64::from(one.stale)));
        page.gauges("certificate_stale", "1 while the files hold something newer that cannot be used", stale)?;
        let results = ["taken", "refused"].into_iter().zip(self.gauges.certificate_reloads);
        let results = results.map(|(result, count)| ([("result", result)], count));
        page.totals("certificate_reloads", "Changes of certificates, by whether they could be used", results)?;
        let ends = certificates.iter().map(|one| (labels(one), one.not_after));
        page.gauges("certificate_expiry_timestamp_seconds", "When the certificate expires, since 1970", ends)
    }
}

impl Scrape {
    fn probes(&self, page: &mut Page<'_>) -> fmt::Result {
        let probes = &self.gauges.probes;
        let labels = |one: &ProbeGauge| [("door", one.door.to_owned()), ("address", one.address.to_string())];
        let success = probes.iter().map(|one| (labels(one), i64::from(one.success)));
        page.gauges("door_probe_success", "1 if the door stood the gateway's own last probe", success)?;
        let seconds = probes.iter().map(|one| (labels(one), one.seconds));
        page.gauges("door_probe_seconds", "How long the last probe of the door took", seconds)?;
        let help = "Probes of the door by the gateway itself, whose handshakes and questions count with the clients'";
        page.totals("door_probes", help, probes.iter().map(|one| (labels(one), one.probes)))
    }
}

/// The few shapes that metrics have here.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, counter: &Counter) -> fmt::Result {
        self.count(name, help, counter.value())
    }

    pub(super) fn count(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        (label, values): (&str, &[&str]),
        counters: &[Counter],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, counter) in values.iter().zip(counters) {
            let labels = [(label, *value)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&counter.value(), None)?;
        }
        Ok(())
    }

    fn limited(&mut self, totals: &Counters) -> fmt::Result {
        let help = "Times a client was held back, by what it had too many of and the transport";
        let series = Limited::ALL.iter().zip(&totals.limited).flat_map(|(kind, counters)| {
            let labels = move |transport: Transport| [("kind", kind.name()), ("transport", transport.name())];
            Transport::ALL.into_iter().zip(counters).map(move |(over, counter)| (labels(over), counter.value()))
        });
        self.totals("limited", help, series)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&signed(value))
    }

    pub(super) fn totals<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn upstream_seconds(&mut self, totals: &Counters) -> fmt::Result {
        let bounds = UPSTREAM_MICROS.iter().map(|&micros| f64::from(micros) / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(totals.upstream_micros.iter().map(Counter::value)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        #[allow(clippy::cast_precision_loss, reason = "a sum of microseconds is exact for 285 years")]
        let sum = totals.upstream_micros_sum.value() as f64 / 1e6;
        let help = "Time until an upstream answered";
        let mut metric = self.0.encode_descriptor("upstream_seconds", help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn signed(value: u64) -> i64 {
    value.cast_signed()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn gauges() -> Gauges {
        let certificate = CertificateGauge {
            names: vec!["dns.example".into()],
            source: "a \"quoted\"\nfile.pem".into(),
            not_after: 1_900_000_000,
            days_left: 12,
            stale: true,
        };
        Gauges {
            cache_entries: 7,
            cache_limited: 5,
            certificates: vec![certificate.clone(), certificate],
            ready: true,
            tickets: [[3, 2, 1], [6, 5, 4]],
            ..Gauges::default()
        }
    }

    /// Series and their values; panics at anything that is not the exposition format.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let (mut series, mut described) = (BTreeMap::new(), HashSet::new());
        assert!(text.ends_with("# EOF\n"));
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let (keyword, rest) = comment.split_once(' ').unwrap();
                let name = rest.split(' ').next().unwrap();
                assert!(described.insert((keyword, name)), "twice: {line}");
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            assert!(
                name.starts_with("hushgate_") && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'),
                "{line}"
            );
            let family = ["_total", "_bucket", "_sum", "_count", "_info"].iter().find_map(|end| name.strip_suffix(end));
            assert!(described.contains(&("HELP", family.unwrap_or(name))), "no help: {line}");
            assert!(series.insert(key.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
        series
    }

    #[test]
    fn every_counter_is_shown_once_and_summed_over_workers() {
        let workers: Vec<_> = (0..2).map(|_| Arc::new(Counters::default())).collect();
        // Each counter of each worker gets a weight of its own, so that a missing or repeated one shows in the total.
        let mut expected = 0;
        for worker in &workers {
            let arrays: [&[Counter]; 10] = [
                worker.limited.as_flattened(),
                &worker.questions,
                &worker.answers,
                &worker.rcodes,
                &worker.dropped,
                &worker.local,
                &worker.sudden,
                &worker.upstream_micros,
                &worker.connections,
                &worker.connections_open,
            ];
            let singles = [
                &worker.synthesised,
                &worker.subnets_told,
                &worker.options_passed,
                &worker.truncated,
                &worker.waited,
                &worker.joined,
                &worker.join_full,
                &worker.crowded,
                &worker.refreshes,
                &worker.refreshes_done,
                &worker.refreshes_dropped,
                &worker.failures_recalled,
                &worker.attempts,
                &worker.attempts_failed,
                &worker.connections_refused,
                &worker.handshakes,
                &worker.protocol_errors,
                &worker.secrets_taken,
                &worker.secrets_refused,
                &worker.panics,
                &worker.send_failed,
                &worker.overflow,
            ];
            let failed = worker.handshakes_failed.iter().flatten();
            for (weight, counter) in (1_u64..).zip(arrays.into_iter().flatten().chain(failed).chain(singles)) {
                counter.add(weight * weight);
                expected += weight * weight;
            }
            worker.upstream_micros_sum.add(1_500_000);
        }
        let series = parse(&encode(&workers, Gauges::default()));
        let counted = |(key, _): &(&String, &f64)| {
            (key.contains("_total") || key.contains("connections_open"))
                || key.as_str() == "hushgate_upstream_seconds_count"
        };
        let total: f64 = series.iter().filter(counted).map(|(_, value)| value).sum();
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let expected = expected as f64;
        assert!((total - expected).abs() < 0.5, "{total} {expected}");
        assert!((series["hushgate_upstream_seconds_sum"] - 3.0).abs() < 1e-9);
    }

    #[test]
    fn names_and_labels_follow_prometheus() {
        let worker = Arc::new(Counters::default());
        worker.asked(Transport::Doq);
        worker.answered(Source::Cache, 3);
        worker.upstream_time(700);
        let series = parse(&encode(&[worker], gauges()));
        for (key, value) in [
            ("hushgate_questions_total{transport=\"doq\"}", 1.0),
            ("hushgate_answers_total{source=\"cache\"}", 1.0),
            ("hushgate_rcodes_total{rcode=\"NXDOMAIN\"}", 1.0),
            ("hushgate_upstream_seconds_bucket{le=\"0.0005\"}", 0.0),
            ("hushgate_upstream_seconds_bucket{le=\"0.001\"}", 1.0),
            ("hushgate_upstream_seconds_bucket{le=\"+Inf\"}", 1.0),
            ("hushgate_cache_entries", 7.0),
            ("hushgate_cache_limited_total", 5.0),
            ("hushgate_ready", 1.0),
            ("hushgate_certificate_stale{name=\"dns.example\",source=\"a \\\"quoted\\\"\\nfile.pem\"}", 1.0),
            ("hushgate_tickets_total{doors=\"stream\",outcome=\"unknown\"}", 1.0),
            ("hushgate_tickets_total{doors=\"quic\",outcome=\"resumed\"}", 5.0),
            ("hushgate_certificate_days_left{name=\"dns.example\",source=\"a \\\"quoted\\\"\\nfile.pem\"}", 12.0),
        ] {
            assert_eq!(series.get(key), Some(&value), "{key}");
        }
        assert!(series.keys().any(|key| key.starts_with("hushgate_build_info{version=")));
    }

    #[test]
    fn gauge_that_two_workers_share_is_their_difference() {
        let (opened, closed) = (Arc::new(Counters::default()), Arc::new(Counters::default()));
        opened.connections_open[2].add(3);
        closed.connections_open[2].sub_one();
        let series = parse(&encode(&[opened, closed], Gauges::default()));
        assert_eq!(series["hushgate_connections_open{transport=\"dot\"}"].to_bits(), 2.0_f64.to_bits());
    }
}
