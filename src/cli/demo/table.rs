//! The demo's outcome, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::tour::{Plan, Row};
use crate::cli::query::Outcome;
use crate::peer::Transport;
use crate::upstream::delivery::Secured;

/// The table, with what is wrong below it.
#[must_use]
pub fn text(plan: &Plan, rows: &[Row], moved: bool) -> String {
    let mut out = String::new();
    if moved {
        let _ = writeln!(out, "The usual ports are taken on this machine, so the doors are on others.\n");
    }
    let _ = writeln!(out, "{:5}  {:21}  {:>9}  {:>9}  {:16}  TLS", "door", "address", "first", "second", "origin");
    for row in rows {
        let origins = row.sources.map(|source| source.map_or("?", crate::reply::Source::name)).join(", ");
        let _ = writeln!(
            out,
            "{:5}  {:21}  {:>9}  {:>9}  {:16}  {}",
            row.transport.name(),
            row.address.to_string(),
            time(&row.first),
            time(&row.second),
            origins,
            tls(row)
        );
    }
    for row in rows {
        for error in [&row.first, &row.second].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
            let _ = writeln!(out, "{}: {error}", row.transport.name());
        }
    }
    let good = rows.iter().filter(|row| row.is_good()).count();
    let _ = writeln!(
        out,
        "\n{good} of {} doors answered, certificates verified against {}",
        Transport::ALL.len(),
        plan.authority.display()
    );
    out
}

fn time(outcome: &Result<Outcome, String>) -> String {
    match outcome {
        Ok(outcome) => format!("{:.2} ms", outcome.took.as_secs_f64() * 1000.0),
        Err(_) => "failed".into(),
    }
}

fn tls(row: &Row) -> String {
    match &row.first {
        Ok(outcome) => outcome.facts.secured.map_or_else(|| "-".into(), secured),
        Err(_) => "-".into(),
    }
}

/// `TLS 1.3, h2, AES-128-GCM`-like; QUIC hides the cipher.
fn secured(secured: Secured) -> String {
    let version = match secured.version {
        rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
        rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "TLS",
    };
    let mut out = version.to_owned();
    for part in [secured.alpn.map(ToOwned::to_owned), secured.cipher.and_then(|c| c.as_str().map(ToOwned::to_owned))] {
        out.extend(part.map(|part| format!(", {part}")));
    }
    out
}

/// The same rows as one JSON object on one line.
#[must_use]
pub fn json(plan: &Plan, rows: &[Row]) -> Value {
    let doors: Vec<Value> = rows
        .iter()
        .map(|row| {
            let millis =
                |outcome: &Result<Outcome, String>| outcome.as_ref().ok().map(|o| o.took.as_secs_f64() * 1000.0);
            json!({
                "door": row.transport.name(),
                "address": row.address.to_string(),
                "first_ms": millis(&row.first),
                "second_ms": millis(&row.second),
                "origin": row.sources.map(|source| source.map(crate::reply::Source::name)),
                "tls": tls(row),
                "good": row.is_good(),
                "error": row.first.as_ref().err().or(row.second.as_ref().err()),
            })
        })
        .collect();
    json!({
        "doors": doors,
        "answered": rows.iter().filter(|row| row.is_good()).count(),
        "of": Transport::ALL.len(),
        "authority": plan.authority.display().to_string(),
        "admin": plan.admin.map(|address| address.to_string()),
    })
}

/// What to try while the demo stays up.
#[must_use]
pub fn next_steps(plan: &Plan) -> String {
    let port =
        |transport| plan.doors.iter().find(|(found, _)| *found == transport).map_or(0, |(_, address)| address.port());
    let authority = plan.authority.display();
    let mut out = format!(
        "
Still serving. In another terminal, try:

  dig @127.0.0.1 -p {dns} any.demo.example
  kdig @127.0.0.1 -p {dot} +tls-ca={authority} +tls-hostname=localhost any.demo.example
  curl --cacert {authority} -H 'accept: application/dns-message' -o - \\
       'https://localhost:{doh}/dns-query?dns=AAABAAABAAAAAAAAA2FueQRkZW1vB2V4YW1wbGUAAAEAAQ' | od -c
  hushgate query quic://localhost:{doq} any.demo.example TXT --ca {authority}
",
        dns = port(Transport::Udp),
        dot = port(Transport::Dot),
        doh = port(Transport::Doh2),
        doq = port(Transport::Doq),
    );
    if let Some(admin) = plan.admin {
        let _ = write!(
            out,
            "  hushgate explain any.demo.example --door dot --admin {admin}\n\nStatus page: http://{admin}/   metrics: http://{admin}/metrics\n"
        );
    }
    out.push_str(
        "
To use it for real: `hushgate serve` asks a public resolver over TLS on these same ports, with this same authority.
To open it to your network, write a hushgate.toml with [listen] addresses such as \"0.0.0.0:853\" and [tls] names, and
run `hushgate check --config hushgate.toml` first. Ctrl-C stops the demo.
",
    );
    out
}
