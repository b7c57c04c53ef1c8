//! Every requirement has its tests, and the table that says which is up to date.
//!
//! Tests are named by the requirements they hold: `gen_04_…`, `edn_01_and_edn_02_…`, and `neg_11_to_neg_14_…` for all between. This
//! test reads those names from the source and compares them with `tests/STANDARDS.md`; `UPDATE_STANDARDS=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what is wrong by failing")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// What must hold: every requirement of the first two priorities, and what was held beyond them.
const REQUIRED: &[(&str, &[u8])] = &[
    ("GEN", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26]),
    ("TTL", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16]),
    ("NEG", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21]),
    ("SEC", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("SPF", &[1, 2, 3, 4, 6, 7, 8]),
    ("EDN", &[1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
    ("CFM", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 19, 20]),
    ("PRG", &[6, 7, 8, 9]),
    ("TCP", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
    ("TCF", &[1, 3, 4, 5, 6]),
    ("FRG", &[3, 4, 5, 6]),
    ("KAL", &[1, 2, 3, 5, 6, 8]),
    ("PAD", &[1, 2, 3, 4, 5, 6, 7, 9, 10]),
    ("DOT", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 14, 17]),
    ("TLS", &[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]),
    (
        "DOH",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
            31, 32,
        ],
    ),
    ("DH3", &[1, 2, 3, 4, 5, 6, 9, 10, 11]),
    ("DOQ", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17, 18, 19, 20, 21, 22, 25, 26, 28, 29, 30, 31, 32]),
    ("QUI", &[1, 2, 5, 6, 7, 9]),
    ("ECS", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    ("CKI", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]),
    ("EDE", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15]),
    ("STL", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("SUD", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15]),
    ("ANY", &[1, 2]),
    ("SVC", &[1, 5, 6, 7]),
    ("DDR", &[1, 2, 3, 4, 5, 6, 7, 8, 12]),
    ("PPX", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("D64", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
];

/// Required, but decided otherwise for now: the reason, in a line.
const DECIDED: &[(&str, &str)] = &[
    (
        "NEG-20",
        "off: servers exist that deny a name and answer one below it; such a denial is the resolver's to widen, not a forwarder's",
    ),
    ("EDE-08", "there are no policy lists: nothing is blocked, censored or filtered here"),
    ("PPX-11", "not yet: upstreams are sent no PROXY header"),
];

/// All groups of requirements; a name that starts otherwise holds none.
const GROUPS: &[&str] = &[
    "GEN", "TTL", "NEG", "SEC", "SPF", "EDN", "CFM", "PRG", "TCP", "TCF", "FRG", "KAL", "PAD", "DOT", "TLS", "DOH",
    "DH3", "DOQ", "QUI", "ECS", "CKI", "EDE", "STL", "SUD", "ANY", "SVC", "DDR", "DNR", "RES", "PPX", "D64", "ODH",
    "OPT",
];

/// The tests of each requirement, as `file::function`.
type Table = BTreeMap<String, BTreeSet<String>>;

/// The order of ids in the table: by group as above, then by number.
fn rank(id: &str) -> (usize, String) {
    let group = id.split('-').next().unwrap();
    (GROUPS.iter().position(|known| *known == group).unwrap_or(GROUPS.len()), id.to_owned())
}

/// The requirements that a test called `name` holds: ids at its start, after `and`, after another id, and after `to`, which means all
/// between; more numbers after one (`gen_05_07_19`) are of its group.
fn ids(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    let number = |at: usize| -> Option<u8> { words.get(at).filter(|digits| digits.len() == 2)?.parse().ok() };
    let id = |at: usize| -> Option<(String, u8)> {
        let group = words.get(at)?.to_ascii_uppercase();
        let number = number(at + 1)?;
        GROUPS.contains(&group.as_str()).then_some((group, number))
    };
    let mut found = Vec::new();
    // Where the id and the numbers before end.
    let mut end = 0;
    for at in 0..words.len() {
        let Some((group, first)) = id(at) else { continue };
        match at.checked_sub(1).map(|before| words[before]) {
            before if at == end || before == Some("and") => {
                let more: Vec<u8> = (at + 2..).map_while(number).collect();
                end = at + 2 + more.len();
                found.extend(std::iter::once(first).chain(more).map(|number| (group.clone(), number)));
            }
            Some("to") => {
                let Some((before, from)) = at.checked_sub(3).and_then(id) else { continue };
                assert_eq!(before, group, "{name} leads from one group to another");
                assert!(from < first, "{name} leads backwards");
                found.extend((from + 1..=first).map(|number| (group.clone(), number)));
                end = at + 2;
            }
            _ => {}
        }
    }
    found.into_iter().map(|(group, number)| format!("{group}-{number:02}")).collect()
}

/// Collects the names of the test functions of one file.
#[derive(Default)]
struct Names(Vec<String>);

impl<'ast> Visit<'ast> for Names {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        // `#[test]`, `#[tokio::test]`, `#[tokio::test(…)]`.
        let is_test =
            |attribute: &syn::Attribute| attribute.path().segments.last().is_some_and(|end| end.ident == "test");
        if item.attrs.iter().any(is_test) {
            self.0.push(item.sig.ident.to_string());
        }
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if item.path.segments.last().is_some_and(|end| end.ident == "proptest") {
            functions(item.tokens.clone(), &mut self.0);
        }
    }
}

/// The functions that a `proptest!` declares.
fn functions(tokens: TokenStream, names: &mut Vec<String>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        if matches!(&token, TokenTree::Ident(word) if word == "fn")
            && let Some(TokenTree::Ident(name)) = tokens.next()
        {
            names.push(name.to_string());
        }
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The tests of each requirement, read from the source.
fn table() -> Table {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut table) = (Vec::new(), Table::new());
    for folder in ["src", "tests"] {
        walk(&root.join(folder), &mut files);
    }
    for file in files {
        let syntax = syn::parse_file(&fs::read_to_string(&file).unwrap());
        let syntax = syntax.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut names = Names::default();
        names.visit_file(&syntax);
        let shown = file.strip_prefix(root).unwrap().to_str().unwrap();
        for name in names.0 {
            for id in ids(&name) {
                table.entry(id).or_default().insert(format!("{shown}::{name}"));
            }
        }
    }
    table
}

/// What `tests/STANDARDS.md` should say.
fn render(table: &Table) -> String {
    let mut text = String::from(
        "# Requirements and the tests that hold them\n\nGenerated from the names of the tests: \
         `UPDATE_STANDARDS=1 cargo test --test standards` writes this file anew.\n\n| Id | Tests |\n|---|---|\n",
    );
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(id, _)| rank(id));
    for (id, tests) in rows {
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        let _ = writeln!(text, "| {id} | {} |", tests.join("<br>"));
    }
    text.push_str("\n## Decided otherwise for now\n\n| Id | Why |\n|---|---|\n");
    for (id, why) in DECIDED {
        let _ = writeln!(text, "| {id} | {why} |");
    }
    text
}

fn required() -> impl Iterator<Item = String> {
    REQUIRED.iter().flat_map(|(group, numbers)| numbers.iter().map(move |number| format!("{group}-{number:02}")))
}

#[test]
fn every_required_id_has_a_test_or_a_decision() {
    let table = table();
    let decided: BTreeMap<&str, &str> = DECIDED.iter().copied().collect();
    let required: BTreeSet<String> = required().collect();
    let is_decided = |id: &str| decided.contains_key(id);
    let missing: Vec<&String> = required.iter().filter(|id| !table.contains_key(*id) && !is_decided(id)).collect();
    let twice: Vec<&str> = decided.keys().copied().filter(|id| table.contains_key(*id)).collect();
    let stray: Vec<&str> = decided.keys().copied().filter(|id| !required.contains(*id)).collect();
    let unexplained: Vec<_> = DECIDED.iter().filter(|(_, why)| why.is_empty() || why.contains('\n')).collect();
    assert_eq!(decided.len(), DECIDED.len(), "an id is decided twice");
    assert!(
        missing.is_empty() && twice.is_empty() && stray.is_empty() && unexplained.is_empty(),
        "\nwithout a test and without a decision ({}): {missing:?}\ndecided otherwise although there is a test: {twice:?}\n\
         decided although not required: {stray:?}\nwithout a reason in one line: {unexplained:?}\n",
        missing.len()
    );
}

#[test]
fn the_table_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/STANDARDS.md");
    let wanted = render(&table());
    if std::env::var_os("UPDATE_STANDARDS").is_some_and(|value| value != "0") {
        return fs::write(path, wanted).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<BTreeSet<String>>();
    let (wanted_lines, found_lines) = (lines(&wanted), lines(&found));
    let shown = |lines: Vec<&String>| lines.into_iter().fold(String::new(), |text, line| text + "\n  " + line);
    assert!(
        found == wanted,
        "\ntests/STANDARDS.md is out of date; UPDATE_STANDARDS=1 cargo test --test standards writes it anew.\nmissing:{}\n\
         no longer true:{}\n",
        shown(wanted_lines.difference(&found_lines).collect()),
        shown(found_lines.difference(&wanted_lines).collect())
    );
}

#[test]
fn ids_are_read_from_names_as_people_write_them() {
    for (name, expected) in [
        ("gen_04_a_name_comes_back", &["GEN-04"][..]),
        ("edn_01_and_edn_02_opt_for_opt", &["EDN-01", "EDN-02"]),
        ("neg_11_to_neg_14_a_failure", &["NEG-11", "NEG-12", "NEG-13", "NEG-14"]),
        ("dh3_02_and_d64_10_digits_in_groups", &["DH3-02", "D64-10"]),
        ("dot_07_clients_resume_and_dot_08_never_early", &["DOT-07", "DOT-08"]),
        ("ecs_07_ecs_13_scope_zero", &["ECS-07", "ECS-13"]),
        ("gen_05_07_19_ecs_01_records", &["GEN-05", "GEN-07", "GEN-19", "ECS-01"]),
        ("gen_05_07_19_records_pass", &["GEN-05", "GEN-07", "GEN-19"]),
        ("every_door_answers", &[]),
        ("a_tcp_01_in_the_middle", &[]),
        ("tcp_1_and_tcp_100_are_no_ids", &[]),
        ("abc_01_is_no_group", &[]),
    ] {
        assert_eq!(ids(name), expected, "{name}");
    }
}
