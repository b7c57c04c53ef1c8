//! The demo's outcome, for people and for programs.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::tour::{Plan, Row};
use crate::cli::paint::Paint;
use crate::cli::query::{Outcome, cipher_name, version_name};
use crate::peer::Transport;
use crate::upstream::delivery::Secured;

/// The table, with what is wrong below it.
#[must_use]
pub fn text(plan: &Plan, rows: &[Row], taken: &[SocketAddr], paint: Paint) -> String {
    let mut out = String::new();
    if !taken.is_empty() {
        let _ = writeln!(out, "Taken on this machine, so other ports stand in for them: {}\n", ports(taken));
    }
    let heading = format!("{:4}  {:21}  {:>9}  {:>9}  {:15}  TLS", "door", "address", "first", "second", "origin");
    let _ = writeln!(out, "{}", paint.heading(&heading));
    for row in rows {
        let origins = row.sources.map(|source| source.map_or("?", crate::reply::Source::name)).join(", ");
        let (door, address) = (row.transport.name(), row.address.to_string());
        let [first, second] = [&row.first, &row.second].map(|outcome| time(outcome, paint));
        let tls = tls(row).unwrap_or_else(|| "-".into());
        let _ = writeln!(out, "{door:4}  {address:21}  {first}  {second}  {origins:15}  {tls}");
    }
    for row in rows.iter().filter(|row| !row.is_good()) {
        let _ = writeln!(out, "{}", paint.bad(&format!("{}: {}", row.transport.name(), fault(row))));
    }
    let good = rows.iter().filter(|row| row.is_good()).count();
    let verdict = format!("{good} of {} doors answered", Transport::ALL.len());
    let verdict = if good == Transport::ALL.len() { paint.good(&verdict) } else { paint.bad(&verdict) };
    let _ = writeln!(
        out,
        "\n{verdict}. Times are of whole visits: connection, handshake, answer. Certificates were verified against\n{}",
        plan.authority.display()
    );
    out
}

/// Each port once: an address of IPv4 and one of IPv6 share it.
fn ports(taken: &[SocketAddr]) -> String {
    let mut ports: Vec<String> = taken.iter().map(|address| address.port().to_string()).collect();
    ports.dedup();
    ports.join(", ")
}

/// What is wrong with a row that is not good.
fn fault(row: &Row) -> String {
    let error = [&row.first, &row.second].into_iter().find_map(|outcome| outcome.as_ref().err());
    error
        .cloned()
        .unwrap_or_else(|| "the answers are not those of the sample zone, or not from where they should be".into())
}

fn time(outcome: &Result<Outcome, String>, paint: Paint) -> String {
    match outcome {
        Ok(outcome) => format!("{:>6.2} ms", outcome.took.as_secs_f64() * 1000.0),
        Err(_) => paint.bad("   failed"),
    }
}

fn tls(row: &Row) -> Option<String> {
    row.first.as_ref().ok()?.facts.secured.map(secured)
}

/// `TLS 1.3, h2, TLS_AES_128_GCM_SHA256`; QUIC does not tell the cipher.
fn secured(secured: Secured) -> String {
    let parts = [
        Some(version_name(secured.version).to_owned()),
        secured.alpn.map(ToOwned::to_owned),
        secured.cipher.map(cipher_name),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The same rows as one JSON object on one line.
#[must_use]
pub fn json(plan: &Plan, rows: &[Row], taken: &[SocketAddr]) -> Value {
    let doors: Vec<Value> = rows
        .iter()
        .map(|row| {
            let millis = |outcome: &Result<Outcome, String>| {
                outcome.as_ref().ok().map(|o| (o.took.as_secs_f64() * 1e6).round() / 1e3)
            };
            json!({
                "door": row.transport.name(),
                "address": row.address.to_string(),
                "first_ms": millis(&row.first),
                "second_ms": millis(&row.second),
                "origin": row.sources.map(|source| source.map(crate::reply::Source::name)),
                "tls": tls(row),
                "good": row.is_good(),
                "error": (!row.is_good()).then(|| fault(row)),
            })
        })
        .collect();
    json!({
        "doors": doors,
        "answered": rows.iter().filter(|row| row.is_good()).count(),
        "of": Transport::ALL.len(),
        "authority": plan.authority.display().to_string(),
        "moved_from": taken.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "admin": plan.admin.map(|address| address.to_string()),
    })
}
