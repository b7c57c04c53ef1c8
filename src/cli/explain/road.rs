//! The road as a list: one stage a line, in path order, words aligned.

use std::fmt::{self, Write as _};

use crate::admin::explained::{Attempt, Cache, Explained, Outcome, Words};

/// Columns of the stage's name.
const STAGE: usize = 12;

/// The list.
pub(super) fn render(road: &Explained) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut Lines(&mut out), road);
    out
}

fn write(lines: &mut Lines<'_>, road: &Explained) -> fmt::Result {
    lines.stage("question", &road.question)?;
    lines.stage("door", &format!("{} at {}, on behalf of {}", road.transport, road.door, road.client))?;
    lines.stage("access", &road.access)?;
    lines.stage("cookie", &road.cookie)?;
    lines.stage("limit", &road.limit)?;
    lines.stage("decision", &road.decision)?;
    cache(lines, &road.cache)?;
    lines.stage("join", &road.join)?;
    attempts(lines, road)?;
    if let Some(sudden) = &road.sudden {
        lines.stage("denial", sudden)?;
    }
    lines.stage("added", &listed(&road.added))?;
    lines.stage("cut", &listed(&road.cut))?;
    outcome(lines, road)
}

fn cache(lines: &mut Lines<'_>, cache: &Cache) -> fmt::Result {
    let mut text = cache.outcome.to_string();
    if let Some(age) = cache.age {
        write!(text, ", {age} s old")?;
    }
    if let Some(left) = cache.ttl_left {
        if cache.outcome == "failure" {
            write!(text, ", not asked again for {left} s")?;
        } else {
            write!(text, ", {left} s left")?;
        }
    }
    if let Some(expired) = cache.expired {
        write!(text, ", expired {expired} s ago")?;
    }
    if let Some(hits) = cache.hits {
        match hits {
            0 => write!(text, ", not served before")?,
            1 => write!(text, ", served once before")?,
            _ => write!(text, ", served {hits} times before")?,
        }
    }
    if let Some(supplier) = &cache.supplier {
        write!(text, ", supplied by {supplier}")?;
    }
    if let Some(refresh) = &cache.refresh {
        write!(text, ", {refresh}")?;
    }
    lines.stage("cache", &text)?;
    if cache.outcome == "not asked" {
        return Ok(());
    }
    let key = &cache.key;
    let mut text = format!("key: {} {} {}", key.name, key.rtype, key.class);
    for (flag, name) in [(key.dnssec_ok, "DO"), (key.checking_disabled, "CD")] {
        if flag {
            write!(text, ", {name}")?;
        }
    }
    write!(text, ", route {}", key.route)?;
    if let Some(pool) = &key.pool {
        write!(text, " to pool {pool}")?;
    }
    lines.more(&text)
}

fn attempts(lines: &mut Lines<'_>, road: &Explained) -> fmt::Result {
    let said = |attempt: &Attempt| {
        let Attempt { server, why, told, end, micros } = attempt;
        let why = if matches!(why.as_ref(), "" | "first") { String::new() } else { format!(" ({why})") };
        let told = told.as_ref().map(|told| format!(", {told}")).unwrap_or_default();
        format!("{server}: {end} after {}{why}{told}", time(*micros))
    };
    let Some((first, others)) = road.attempts.split_first() else {
        return lines.stage("upstream", "not asked for this client");
    };
    lines.stage("upstream", &said(first))?;
    let untold = usize::from(road.attempts_made).saturating_sub(road.attempts.len());
    for (after, attempt) in (1..=others.len()).rev().zip(others) {
        if after == 1 && untold > 0 {
            lines.more(&format!("and {untold} more"))?;
        }
        lines.more(&said(attempt))?;
    }
    Ok(())
}

fn outcome(lines: &mut Lines<'_>, road: &Explained) -> fmt::Result {
    match &road.outcome {
        Outcome::Dropped { reason } => lines.stage("reply", &format!("none: {reason}")),
        Outcome::Replied { rcode, ede, source, octets, answer, authority } => {
            let from = if source == "error" { "made here" } else { &format!("from {source}") };
            let mut text = format!("{rcode}, {octets} octets, {from}, in {}", time(road.micros));
            if let Some(ede) = ede {
                write!(text, "; extended error {ede}")?;
            }
            lines.stage("reply", &text)?;
            answer.iter().chain(authority).try_for_each(|record| lines.more(record))
        }
    }
}

fn listed(words: &[Words]) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// Milliseconds with as much as can be read at a glance.
fn time(micros: u32) -> String {
    let (whole, thousandths) = (micros / 1000, micros % 1000);
    match whole {
        0..10 => format!("{whole}.{thousandths:03} ms"),
        10..100 => format!("{whole}.{} ms", thousandths / 100),
        _ => format!("{whole} ms"),
    }
}

struct Lines<'a>(&'a mut String);

impl Lines<'_> {
    fn stage(&mut self, name: &str, text: &str) -> fmt::Result {
        writeln!(self.0, "{name:STAGE$}{}", Tame(text))
    }

    fn more(&mut self, text: &str) -> fmt::Result {
        self.stage("", text)
    }
}

/// Text whose control characters cannot reach the terminal: records hold what strangers wrote.
struct Tame<'a>(&'a str);

impl fmt::Display for Tame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character == '\t' {
                f.write_char(' ')?;
            } else if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::held::Key;

    fn road() -> Explained {
        let key = Key {
            name: "example.com.".into(),
            rtype: "A".into(),
            class: "IN".into(),
            dnssec_ok: true,
            checking_disabled: false,
            route: "00000000000000ab".into(),
            pool: Some("default".into()),
        };
        Explained {
            question: "Example.com. A IN".into(),
            transport: "dot".into(),
            door: "127.0.0.1:8853".into(),
            client: "192.0.2.7".parse().unwrap(),
            access: "allowed".into(),
            cookie: "none".into(),
            limit: "within the client's rate".into(),
            decision: "looked up, asked upstream where needed".into(),
            cache: Cache {
                outcome: "hit".into(),
                key,
                age: Some(12),
                ttl_left: Some(288),
                hits: Some(5),
                expired: None,
                supplier: Some("tls://dns.quad9.net".into()),
                refresh: Some("asked for again before it expires".into()),
            },
            join: "not needed".into(),
            attempts_made: 0,
            attempts: Vec::new(),
            sudden: None,
            added: vec!["OPT".into(), "padding".into()],
            cut: Vec::new(),
            outcome: Outcome::Replied {
                rcode: "NOERROR".into(),
                ede: None,
                source: "cache".into(),
                octets: 56,
                answer: vec!["example.com. 288 IN A 192.0.2.1".into()],
                authority: Vec::new(),
            },
            micros: 21,
        }
    }

    #[test]
    fn hit_is_told_stage_by_stage() {
        let expected = "\
question    Example.com. A IN
door        dot at 127.0.0.1:8853, on behalf of 192.0.2.7
access      allowed
cookie      none
limit       within the client's rate
decision    looked up, asked upstream where needed
cache       hit, 12 s old, 288 s left, served 5 times before, supplied by tls://dns.quad9.net, asked for again before it expires
            key: example.com. A IN, DO, route 00000000000000ab to pool default
join        not needed
upstream    not asked for this client
added       OPT, padding
cut         nothing
reply       NOERROR, 56 octets, from cache, in 0.021 ms
            example.com. 288 IN A 192.0.2.1
";
        assert_eq!(render(&road()), expected);
    }

    #[test]
    fn attempts_are_listed_and_the_rest_counted() {
        let attempt = |why: &'static str, end: &'static str, micros| {
            let server = "udp://192.0.2.53:53".into();
            let told = (why == "hedge").then(|| "told /24 of the client's network".into());
            Attempt { server, why: why.into(), told, end: end.into(), micros }
        };
        let attempts = vec![attempt("first", "timed out", 1_500_000), attempt("hedge", "answered", 12_345)];
        let text = render(&Explained { attempts_made: 5, attempts, ..road() });
        assert!(text.contains("\nupstream    udp://192.0.2.53:53: timed out after 1500 ms\n"), "{text}");
        assert!(
            text.contains(
                "\n            and 3 more\n            udp://192.0.2.53:53: answered after 12.3 ms (hedge), \
                 told /24 of the client's network\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_stale_answer_says_how_long_it_has_expired() {
        let mut road = road();
        road.cache = Cache {
            outcome: "stale: why".into(),
            age: Some(99),
            ttl_left: None,
            expired: Some(9),
            hits: Some(1),
            ..road.cache
        };
        let text = render(&road);
        let told = "\ncache       stale: why, 99 s old, expired 9 s ago, served once before, supplied by tls://";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn a_remembered_failure_says_when_it_is_tried_again() {
        let mut road = road();
        road.cache = Cache {
            outcome: "failure".into(),
            age: None,
            ttl_left: Some(4),
            hits: None,
            supplier: None,
            refresh: None,
            ..road.cache
        };
        let text = render(&road);
        assert!(text.contains("\ncache       failure, not asked again for 4 s\n"), "{text}");
    }

    #[test]
    fn records_cannot_drive_the_terminal() {
        let outcome = Outcome::Dropped { reason: "\u{1b}[2Jgone\nnew line\u{9b}".into() };
        let text = render(&Explained { outcome, ..road() });
        assert!(text.ends_with("reply       none: \\u{1b}[2Jgone\\nnew line\\u{9b}\n"), "{text}");
    }
}
