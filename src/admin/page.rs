//! The status page: plain HTML without a script, everything in it also in words.

use std::fmt::{self, Write as _};

use super::Handles;
use super::readiness::Readiness;
use crate::peer::Transport;
use crate::reply::Source;
use crate::telemetry::{Counter, Counters, Gauges, UpstreamFacts};
use crate::trail::Sudden;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"30\"><title>hushgate</title>\n\
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse}th,td{text-align:left;padding:.1rem 1.5rem .1rem 0;font-weight:normal;vertical-align:top}\
td{font-variant-numeric:tabular-nums}h2{font-size:1rem;margin:1.5rem 0 .3rem}</style></head><body>\n";

/// Renders the page.
pub(super) fn render(handles: &Handles, gauges: &Gauges, judged: &Readiness) -> String {
    let mut out = String::with_capacity(8 * 1024);
    // Writing to a String cannot fail.
    let _ = write(&mut out, handles, gauges, judged);
    out
}

fn write(out: &mut String, handles: &Handles, gauges: &Gauges, judged: &Readiness) -> fmt::Result {
    out.push_str(HEAD);
    let state = if judged.ready { "Ready.".to_owned() } else { format!("Not ready: {}.", judged.reasons.join(", ")) };
    writeln!(out, "<h1>hushgate {}</h1>\n<p>{}</p>", env!("CARGO_PKG_VERSION"), Escaped(&state))?;
    let doors = (handles.doors)();
    let doors = doors.iter().map(|door| (door.speaks.to_owned(), door.address.to_string()));
    table(out, "Doors", doors)?;
    let certificates = gauges.certificates.iter().map(|one| {
        let left = if one.days_left < 0 { "expired".to_owned() } else { format!("{} days left", one.days_left) };
        (one.names.join(", "), format!("{left}, from {}", one.source))
    });
    table(out, "Certificates", certificates)?;
    upstreams(out, &gauges.upstreams)?;
    cache(out, handles, gauges)?;
    counters(out, handles, gauges)?;
    out.push_str("<p>All of it: <a href=\"/metrics\">metrics</a>, <a href=\"/api/upstreams\">upstreams</a>, <a href=\"/api/cache\">cache</a>. One question's road: <code>hushgate explain NAME</code>; what is held for a name: <code>hushgate cache show NAME</code>.</p>\n</body></html>\n");
    Ok(())
}

fn cache(out: &mut String, handles: &Handles, gauges: &Gauges) -> fmt::Result {
    let memory = match gauges.cache_bytes_limit {
        0 => "none: the cache is off".to_owned(),
        limit => format!("{} of {limit} octets", gauges.cache_bytes),
    };
    let sudden = (0..Sudden::OUTCOMES.len()).map(|at| sum(handles, &|worker| worker.sudden.get(at)));
    let rows = [
        ("answers", gauges.cache_entries.to_string()),
        ("memory", memory),
        ("over their domain's share", gauges.cache_limited.to_string()),
        ("asked for again before they expire", sum(handles, &|worker| Some(&worker.refreshes)).to_string()),
        ("failures told again", sum(handles, &|worker| Some(&worker.failures_recalled)).to_string()),
        ("sudden denials", sudden.fold(0, u64::wrapping_add).to_string()),
        ("questions refused, too many about their domain", sum(handles, &|worker| Some(&worker.crowded)).to_string()),
    ];
    table(out, "Cache", rows.map(|(name, value)| (name.to_owned(), value)))
}

/// A counter of all workers.
fn sum(handles: &Handles, of: &dyn Fn(&Counters) -> Option<&Counter>) -> u64 {
    let values = handles.counters.iter().filter_map(|worker| of(worker)).map(Counter::value);
    values.fold(0, u64::wrapping_add)
}

fn counters(out: &mut String, handles: &Handles, gauges: &Gauges) -> fmt::Result {
    let sum = |of: &dyn Fn(&Counters) -> Option<&Counter>| sum(handles, of).to_string();
    let questions = Transport::ALL.map(|transport| {
        let count = sum(&|worker| worker.questions.get(transport as usize));
        (format!("over {}", transport.name()), count)
    });
    table(out, "Questions", questions)?;
    let answers = Source::ALL.map(|source| {
        let count = sum(&|worker| worker.answers.get(source as usize));
        (format!("from {}", source.name()), count)
    });
    table(out, "Answers", answers)?;
    let failed = handles.counters.iter().map(|worker| worker.failed_handshakes(|_| true));
    let handshakes_failed = failed.fold(0, u64::wrapping_add);
    let rest = [
        ("upstream attempts", sum(&|worker| Some(&worker.attempts))),
        ("upstream attempts failed", sum(&|worker| Some(&worker.attempts_failed))),
        ("connections held", gauges.connections_held.to_string()),
        ("connections refused", sum(&|worker| Some(&worker.connections_refused))),
        ("handshakes failed", handshakes_failed.to_string()),
        ("questions dropped as overflow", sum(&|worker| Some(&worker.overflow))),
        ("panics caught", sum(&|worker| Some(&worker.panics))),
    ];
    table(out, "Else", rest.map(|(name, count)| (name.to_owned(), count)))
}

const UPSTREAM_COLUMNS: [&str; 8] = [
    "pool",
    "server",
    "state",
    "questions",
    "failures",
    "handshakes per thousand questions",
    "95 % answered within",
    "last failure",
];

fn upstreams(out: &mut String, upstreams: &[UpstreamFacts]) -> fmt::Result {
    writeln!(out, "<h2>Upstreams</h2>")?;
    if upstreams.is_empty() {
        return writeln!(out, "<p>none</p>");
    }
    out.push_str("<table>\n<tr>");
    for column in UPSTREAM_COLUMNS {
        write!(out, "<th scope=\"col\">{column}</th>")?;
    }
    out.push_str("</tr>\n");
    for one in upstreams {
        let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let cells = [
            one.state.to_owned(),
            one.questions.to_string(),
            one.failures.to_string(),
            known(one.handshakes_per_thousand_questions.map(|ratio| format!("{ratio:.1}"))),
            known(one.p95_micros.map(|micros| format!("{:.1} ms", f64::from(micros) / 1e3))),
            known(one.last_failure.clone()),
        ];
        write!(out, "<tr><td>{}</td><th scope=\"row\">{}</th>", Escaped(&one.pool), Escaped(&one.url))?;
        for cell in &cells {
            write!(out, "<td>{}</td>", Escaped(cell))?;
        }
        out.push_str("</tr>\n");
    }
    writeln!(out, "</table>")
}

fn table(out: &mut String, title: &str, rows: impl IntoIterator<Item = (String, String)>) -> fmt::Result {
    let mut rows = rows.into_iter().peekable();
    writeln!(out, "<h2>{title}</h2>")?;
    if rows.peek().is_none() {
        return writeln!(out, "<p>none</p>");
    }
    out.push_str("<table>\n");
    for (name, value) in rows {
        writeln!(out, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", Escaped(&name), Escaped(&value))?;
    }
    writeln!(out, "</table>")
}

/// Text that stays text in HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
