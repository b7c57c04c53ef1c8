//! A strict reader of the `OpenMetrics` text format, version 1.0: panics at whatever the format does not allow.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// One scrape: every series with its value, the key as written, labels sorted.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Reads a whole text.
    pub fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF and nothing after it");
        let mut reader = Reader::default();
        for line in body.lines() {
            reader.line(line);
        }
        reader.end_family();
        assert_eq!(body.lines().count(), body.matches('\n').count(), "every line ends");
        Self(reader.series)
    }

    /// The value of the series `key`, written as in the text without the prefix of all names.
    pub fn value(&self, key: &str) -> f64 {
        let key = format!("hushgate_{key}");
        *self.0.get(&key).unwrap_or_else(|| panic!("no series {key} among {:#?}", self.0.keys()))
    }

    /// The sum of all series of `name`, whatever their labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.matching(name).iter().map(|(_, value)| value).sum()
    }

    /// All series of `name` with their labels.
    pub fn matching(&self, name: &str) -> Vec<(&str, f64)> {
        let name = format!("hushgate_{name}");
        let of = |key: &str| key.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.iter().filter(|(key, _)| of(key)).map(|(key, value)| (key.as_str(), *value)).collect()
    }
}

#[derive(Default)]
struct Family {
    name: String,
    kind: Option<String>,
    helped: bool,
    unit: Option<String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

#[derive(Default)]
struct Reader {
    series: BTreeMap<String, f64>,
    finished: HashSet<String>,
    family: Option<Family>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        assert!(!line.is_empty() && line.trim() == line, "no blank lines, no stray blanks: {line:?}");
        if let Some(described) = line.strip_prefix("# ") {
            return self.describe(described);
        }
        assert!(!line.starts_with('#'), "no comments: {line:?}");
        let (key, value) = line.rsplit_once(' ').expect("a series and its value");
        let (name, labels) = split(key);
        let family = self.family.as_mut().expect("a sample belongs to a family");
        let kind = family.kind.as_deref().expect("a family has a type");
        let end = name.strip_prefix(family.name.as_str()).unwrap_or_else(|| panic!("{line:?} is not {}", family.name));
        let allowed: &[&str] = match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            other => panic!("unknown type {other}"),
        };
        assert!(allowed.contains(&end), "{line:?} does not fit a {kind}");
        let value = number(value);
        assert!(kind == "gauge" || value >= 0.0, "{line:?} is negative");
        let sorted: Vec<String> = labels.iter().map(|(label, text)| format!("{label}={text:?}")).collect();
        let key = if sorted.is_empty() { name.clone() } else { format!("{name}{{{}}}", sorted.join(",")) };
        family.samples.push((name, labels, value));
        assert!(self.series.insert(key, value).is_none(), "twice: {line:?}");
    }

    fn describe(&mut self, described: &str) {
        let mut words = described.splitn(3, ' ');
        let (keyword, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        assert!(is_name(name), "{name:?} is no name");
        if self.family.as_ref().is_none_or(|family| family.name != name) {
            self.end_family();
            assert!(!self.finished.contains(name), "the family {name} comes in two pieces");
            self.family = Some(Family { name: name.to_owned(), ..Family::default() });
        }
        let family = self.family.as_mut().unwrap();
        assert!(family.samples.is_empty(), "what describes {name} comes before its samples");
        match keyword {
            "TYPE" => assert!(family.kind.replace(rest.to_owned()).is_none(), "two types of {name}"),
            "UNIT" => assert!(family.unit.replace(rest.to_owned()).is_none(), "two units of {name}"),
            "HELP" => {
                assert!(!std::mem::replace(&mut family.helped, true), "two helps of {name}");
                assert!(!rest.is_empty() && is_escaped(rest), "{rest:?}");
            }
            other => panic!("unknown keyword {other}"),
        }
    }

    fn end_family(&mut self) {
        let Some(family) = self.family.take() else { return };
        let name = &family.name;
        assert!(family.kind.is_some() && family.helped, "{name} has a type and a help");
        assert!(family.unit.is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name} ends in its unit");
        if family.kind.as_deref() == Some("histogram") {
            histogram(name, &family.samples);
        }
        self.finished.insert(family.name);
    }
}

/// Buckets grow, end at +Inf, and agree with the count. Of histograms without labels, the only ones there are.
fn histogram(name: &str, samples: &[(String, BTreeMap<String, String>, f64)]) {
    let buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter(|(sample, ..)| sample.ends_with("_bucket"))
        .map(|(_, labels, value)| (number(&labels["le"]), *value))
        .collect();
    assert!(buckets.is_sorted_by(|left, right| left.0 < right.0 && left.1 <= right.1), "{name}: {buckets:?}");
    let (last, whole) = *buckets.last().expect("buckets");
    assert!(last.is_infinite(), "{name} ends at +Inf");
    let single = |end: &str| {
        let found: Vec<f64> = samples.iter().filter(|(s, ..)| s.ends_with(end)).map(|(.., value)| *value).collect();
        assert_eq!(found.len(), 1, "{name}{end}");
        found[0]
    };
    assert!((single("_count") - whole).abs() < 0.5, "{name}");
    single("_sum");
}

/// A name and its labels.
fn split(key: &str) -> (String, BTreeMap<String, String>) {
    let Some((name, rest)) = key.split_once('{') else {
        assert!(is_name(key), "{key:?} is no name");
        return (key.to_owned(), BTreeMap::new());
    };
    assert!(is_name(name), "{name:?} is no name");
    let mut rest = rest.strip_suffix('}').expect("labels end in a brace");
    let (mut labels, mut seen) = (BTreeMap::new(), BTreeSet::new());
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("label=\"…\"");
        assert!(is_name(label) && !label.contains(':'), "{label:?} is no label");
        let (value, behind) = after.split_at(end_of_value(after));
        assert!(seen.insert(label.to_owned()), "the label {label} twice");
        labels.insert(label.to_owned(), value.to_owned());
        rest = behind.strip_prefix('"').unwrap_or_default();
        if let Some(next) = rest.strip_prefix(',') {
            assert!(!next.is_empty(), "a comma leads to a label");
            rest = next;
        } else {
            assert!(rest.is_empty(), "a comma between labels: {key:?}");
        }
    }
    (name.to_owned(), labels)
}

/// Where the quote is that ends a label's value.
fn end_of_value(text: &str) -> usize {
    let mut octets = text.bytes().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'"' => return at,
            b'\\' => {
                let (_, escaped) = octets.next().expect("something is escaped");
                assert!(matches!(escaped, b'\\' | b'"' | b'n'), "an unknown escape in {text:?}");
            }
            _ => {}
        }
    }
    panic!("a label's value without an end: {text:?}");
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == ':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn is_escaped(text: &str) -> bool {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\\' && !matches!(rest.next(), Some('\\' | 'n' | '"')) {
            return false;
        }
    }
    true
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        digits => {
            let fits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
            assert!(digits.chars().all(fits), "{digits:?} is no number");
            digits.parse().unwrap_or_else(|_| panic!("{digits:?} is no number"))
        }
    }
}

#[test]
#[should_panic(expected = "two pieces")]
fn a_family_in_two_pieces_is_refused() {
    Scrape::read("# HELP a x\n# TYPE a gauge\na 1\n# HELP b x\n# TYPE b gauge\nb 1\n# HELP a x\n# EOF\n");
}

#[test]
#[should_panic(expected = "does not fit")]
fn a_counter_without_total_is_refused() {
    Scrape::read("# HELP a x\n# TYPE a counter\na 1\n# EOF\n");
}

#[test]
#[should_panic(expected = "a_count")]
fn a_histogram_without_a_count_is_refused() {
    Scrape::read("# HELP a x\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 2\n# EOF\n");
}
