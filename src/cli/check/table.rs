//! What `check --live` found, for people: a line a server, below it why it failed, and at the end what that means for the pools.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::super::paint::Paint;
use super::super::query::version_name;
use super::live::{Role, Told, Tried};

const HEADS: [&str; 8] = ["pool", "server", "at", "found by", "tls", "certificate", "first", "again"];

/// A longer URL is cut: `--json` has all of it.
const WIDEST: usize = 48;

/// The table.
#[must_use]
pub fn table(tried: &[Tried], paint: Paint) -> String {
    let rows: Vec<[String; 8]> = tried.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = format!("{}\n", paint.heading(&line("", &HEADS.map(ToOwned::to_owned), &widths)));
    for (row, tried) in rows.iter().zip(tried) {
        // Writing to a String cannot fail.
        let _ = match &tried.outcome {
            Ok(_) => writeln!(out, "{}", line(&paint.good("ok    "), row, &widths)),
            Err(why) => writeln!(out, "{}\n          {why}", line(&paint.bad("failed"), row, &widths)),
        };
    }
    out
}

/// The state and the cells, aligned.
fn line(state: &str, cells: &[String; 8], widths: &[usize; 8]) -> String {
    let state = if state.is_empty() { "      " } else { state };
    let cells = cells.iter().zip(widths).map(|(cell, &width)| format!("  {cell:width$}"));
    format!("{state}{}", cells.collect::<String>()).trim_end().to_owned()
}

fn row(tried: &Tried) -> [String; 8] {
    let mut server = tried.url.replace(char::is_control, "?");
    if server.chars().count() > WIDEST {
        server = server.chars().take(WIDEST - 1).chain(['…']).collect();
    }
    match tried.role {
        Role::Server => {}
        Role::Fallback | Role::Bootstrap => _ = write!(server, " ({})", tried.role.name()),
    }
    let told = tried.outcome.as_ref().ok();
    let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        tried.pool.to_string(),
        server,
        cell(told.map(|told| told.facts.address.to_string())),
        tried.found_by.to_owned(),
        cell(told.and_then(tls)),
        cell(told.and_then(|told| told.certificate.as_ref()).map(|shown| format!("{} d left", shown.days_left))),
        cell(told.map(|told| millis(told.first))),
        cell(told.and_then(|told| told.again).map(millis)),
    ]
}

fn tls(told: &Told) -> Option<String> {
    let secured = told.facts.secured?;
    let version = version_name(secured.version).trim_start_matches("TLS ");
    Some(secured.alpn.map_or_else(|| version.to_owned(), |alpn| format!("{version} {alpn}")))
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// What it means for the pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every server answers.
    All,
    /// Some do not, and every pool has one that does.
    Some,
    /// These pools have nobody.
    Nobody(Vec<Arc<str>>),
}

/// Judges it.
#[must_use]
pub fn standing(tried: &[Tried]) -> Standing {
    let answers = |tried: &Tried| tried.role != Role::Bootstrap && tried.outcome.is_ok();
    let mut nobody: Vec<Arc<str>> = Vec::new();
    for one in tried {
        let has_one = tried.iter().any(|other| other.pool == one.pool && answers(other));
        if !has_one && !nobody.contains(&one.pool) {
            nobody.push(Arc::clone(&one.pool));
        }
    }
    match nobody.as_slice() {
        [] if tried.iter().all(|tried| tried.outcome.is_ok()) => Standing::All,
        [] => Standing::Some,
        [..] => Standing::Nobody(nobody),
    }
}

/// The last line.
#[must_use]
pub fn summary(tried: &[Tried]) -> String {
    let good = tried.iter().filter(|tried| tried.outcome.is_ok()).count();
    let counted = format!("{good} of {} servers answer", tried.len());
    match standing(tried) {
        Standing::All => format!("{counted}.\n"),
        Standing::Some => format!("{counted}; every pool has one that does.\n"),
        Standing::Nobody(pools) => format!("{counted}; nobody in {}.\n", pools.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Transport;
    use crate::upstream::delivery::Facts;

    fn tried(pool: &str, role: Role, works: bool) -> Tried {
        let facts = Facts { address: "192.0.2.53:53".parse().unwrap(), transport: Transport::Udp, secured: None };
        let told = Told {
            facts,
            certificate: None,
            rcode: "NOERROR".into(),
            first: Duration::from_micros(45_100),
            again: Some(Duration::from_micros(900)),
        };
        let outcome = if works { Ok(told) } else { Err("cannot connect".to_owned()) };
        Tried { pool: pool.into(), role, url: "udp://192.0.2.53".into(), found_by: "given", outcome }
    }

    #[test]
    fn a_pool_is_served_by_its_servers_and_its_fallback_and_not_by_bootstrap() {
        let good = tried("upstream", Role::Server, true);
        assert_eq!(standing(std::slice::from_ref(&good)), Standing::All);
        let fallback = [tried("corp", Role::Server, false), tried("corp", Role::Fallback, true), good.clone()];
        assert_eq!(standing(&fallback), Standing::Some);
        assert_eq!(standing(&[good.clone(), tried("upstream", Role::Bootstrap, false)]), Standing::Some);
        let bootstrap = [tried("corp", Role::Server, false), tried("corp", Role::Bootstrap, true), good];
        assert_eq!(standing(&bootstrap), Standing::Nobody(vec!["corp".into()]));
        assert_eq!(summary(&bootstrap), "2 of 3 servers answer; nobody in corp.\n");
    }

    #[test]
    fn the_table_has_a_line_for_each_server_and_one_for_each_reason() {
        let list = [tried("upstream", Role::Server, true), tried("upstream", Role::Fallback, false)];
        let expected =
            "        pool      server                       at             found by  tls  certificate  first    again
ok      upstream  udp://192.0.2.53             192.0.2.53:53  given     -    -            45.1 ms  0.9 ms
failed  upstream  udp://192.0.2.53 (fallback)  -              given     -    -            -        -
          cannot connect
";
        assert_eq!(table(&list, Paint::Plain), expected);
    }

    #[test]
    fn a_long_url_does_not_widen_the_table() {
        let long = Tried { url: format!("https://dns.example/{}", "x".repeat(200)), ..tried("a", Role::Server, true) };
        assert!(table(&[long], Paint::Plain).lines().all(|line| line.chars().count() < 140));
    }
}
