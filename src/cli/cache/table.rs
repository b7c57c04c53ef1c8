//! The cache for people: figures by name, an answer a line with its records below.

use std::fmt::Write as _;

use super::super::paint::Paint;
use crate::admin::held::{Entry, Failure, Flushed, Held, Key, Stats};
use crate::presentation::printable;

/// The figures.
pub fn stats(stats: &Stats, paint: Paint) -> String {
    let memory = match stats.octets_allowed {
        0 => "none: the cache is off (cache.size)".to_owned(),
        allowed => format!("{} of {allowed} octets", stats.octets_used),
    };
    let counted = |count: &u64, what: &str| format!("{count} {what}");
    let mut rows = vec![("memory".to_owned(), memory), ("held".to_owned(), stats.entries.to_string())];
    rows.extend(stats.kinds.iter().map(|(kind, count)| (String::new(), counted(count, kind))));
    rows.extend(stats.states.iter().map(|(state, count)| (String::new(), counted(count, state))));
    for (name, count) in [
        ("failures", stats.failures),
        ("under way", stats.under_way),
        ("kept", stats.inserted),
        ("evicted", stats.evicted),
        ("too large", stats.rejected),
        ("over share", stats.limited),
    ] {
        rows.push((name.to_owned(), count.to_string()));
    }
    rows.extend(stats.answered_from.iter().map(|(source, count)| (format!("from {source}"), count.to_string())));
    let mut out = String::new();
    for (name, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {}", paint.heading(&format!("{:13}", printable(&name))), printable(&value));
    }
    out
}

const HEADS: [&str; 8] = ["type", "holds", "state", "left", "age", "hits", "octets", "from"];

/// What is held for a name.
pub fn held(held: &Held, paint: Paint) -> String {
    let rtype = held.rtype.as_deref().map(|rtype| format!(" {rtype}")).unwrap_or_default();
    if held.entries.is_empty() && held.failures.is_empty() {
        let what = printable(&format!("{}{rtype}", held.name));
        // A name ends with a point of its own.
        return format!("Nothing is held for {}.\n", what.strip_suffix('.').unwrap_or(&what));
    }
    let rows: Vec<[String; 8]> = held.entries.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = format!("{}\n", paint.heading(&printable(&held.name)));
    if !rows.is_empty() {
        let _ = writeln!(out, "{}", paint.heading(&line(&HEADS.map(str::to_owned), &widths)));
    }
    for (row, entry) in rows.iter().zip(&held.entries) {
        let text = line(row, &widths);
        let _ = writeln!(out, "{}", if entry.state == "fresh" { text } else { paint.bad(&text) });
        for record in &entry.records {
            let _ = writeln!(out, "    {}", printable(record));
        }
        if entry.records_more > 0 {
            let _ = writeln!(out, "    and {} more records", entry.records_more);
        }
    }
    if held.more > 0 {
        let _ = writeln!(out, "and {} more answers", held.more);
    }
    for failure in &held.failures {
        let _ = writeln!(out, "{}", paint.bad(&failed(failure)));
    }
    out
}

/// What was dropped.
pub fn flushed(Flushed { entries, failures }: Flushed) -> String {
    let counted = |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    format!("Dropped {} and {}.\n", counted(entries, "answer"), counted(failures, "failure"))
}

fn row(entry: &Entry) -> [String; 8] {
    let left = match entry.stale_left {
        None => format!("{} s", entry.ttl_left),
        Some(left) => format!("{} s, stands in for {left} s", entry.ttl_left),
    };
    let mut from = entry.supplier.clone();
    for word in
        [entry.authentic.then_some("AD"), entry.sudden.then_some("sudden"), entry.ede.as_deref()].into_iter().flatten()
    {
        let _ = write!(from, ", {word}");
    }
    let holds = if entry.kind == "answer" { entry.rcode.to_string() } else { entry.kind.to_string() };
    let cells = [
        typed(&entry.key),
        holds,
        entry.state.to_string(),
        left,
        format!("{} s", entry.age),
        entry.hits.to_string(),
        entry.octets.to_string(),
        from,
    ];
    cells.map(|cell| printable(&cell))
}

/// The type, and what else the question said.
fn typed(key: &Key) -> String {
    let mut text = key.rtype.clone();
    if key.class != "IN" {
        let _ = write!(text, " {}", key.class);
    }
    for (bit, name) in [(key.dnssec_ok, "DO"), (key.checking_disabled, "CD")] {
        if bit {
            let _ = write!(text, " {name}");
        }
    }
    match key.pool.as_deref() {
        Some("default") => {}
        Some(pool) => _ = write!(text, " by {pool}"),
        None => text.push_str(" by servers of before"),
    }
    text
}

fn failed(failure: &Failure) -> String {
    let recursion = if failure.recursive { "" } else { " without recursion" };
    let Failure { rcode, ede, left, .. } = failure;
    printable(&format!("{}{recursion}  failed: {rcode}, {ede}; tried again in {left} s", typed(&failure.key)))
}

fn line(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, &width)| format!("{cell:width$}  "));
    cells.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pool: Option<&str>) -> Key {
        Key {
            name: "a.example.".into(),
            rtype: "A".into(),
            class: "IN".into(),
            dnssec_ok: true,
            checking_disabled: false,
            route: "00000000000000ab".into(),
            pool: pool.map(ToOwned::to_owned),
        }
    }

    fn entry() -> Entry {
        Entry {
            key: key(Some("default")),
            kind: "answer".into(),
            rcode: "NOERROR".into(),
            state: "fresh".into(),
            age: 12,
            ttl_left: 288,
            stale_left: None,
            hits: 5,
            supplier: "tls://dns.quad9.net".into(),
            authentic: true,
            sudden: false,
            ede: None,
            octets: 184,
            records: vec!["a.example. 288 IN A 192.0.2.1".into()],
            records_more: 2,
        }
    }

    #[test]
    fn answers_are_a_line_each_with_their_records_below_and_failures_last() {
        let stale = Entry {
            key: key(Some("home")),
            kind: "nxdomain".into(),
            state: "stale".into(),
            ttl_left: -7,
            stale_left: Some(60),
            authentic: false,
            sudden: true,
            records: Vec::new(),
            records_more: 0,
            ..entry()
        };
        let failure = Failure {
            key: key(None),
            rcode: "SERVFAIL".into(),
            ede: "23 (Network Error)".into(),
            left: 4,
            recursive: true,
        };
        let list = Held {
            name: "a.example.".into(),
            rtype: None,
            entries: vec![entry(), stale],
            more: 3,
            failures: vec![failure],
        };
        let expected = "\
a.example.
type          holds     state  left                    age   hits  octets  from
A DO          NOERROR   fresh  288 s                   12 s  5     184     tls://dns.quad9.net, AD
    a.example. 288 IN A 192.0.2.1
    and 2 more records
A DO by home  nxdomain  stale  -7 s, stands in for 60 s  12 s  5     184     tls://dns.quad9.net, sudden
and 3 more answers
A DO by servers of before  failed: SERVFAIL, 23 (Network Error); tried again in 4 s
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&held(&list, Paint::Plain)), squeezed(expected));
        let empty = Held { name: "a.example.".into(), rtype: Some("AAAA".into()), ..Held::default() };
        assert_eq!(held(&empty, Paint::Plain), "Nothing is held for a.example. AAAA.\n");
        assert_eq!(held(&Held { rtype: None, ..empty }, Paint::Plain), "Nothing is held for a.example.\n");
    }

    #[test]
    fn nothing_that_strangers_wrote_steers_the_terminal() {
        let odd = Entry { supplier: "\u{1b}[2J".into(), records: vec!["\u{1b}[2J\n".into()], ..entry() };
        let text = held(&Held { entries: vec![odd], ..Held::default() }, Paint::Plain);
        assert!(!text.contains('\u{1b}') && text.lines().count() == 5, "{text}");
    }

    #[test]
    fn what_was_dropped_is_counted_in_words() {
        assert_eq!(flushed(Flushed { entries: 1, failures: 0 }), "Dropped 1 answer and 0 failures.\n");
    }
}
