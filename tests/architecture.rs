//! The house rules that a compiler does not hold: who may import whom, and how long a file and a function may be.
//!
//! Sources are read as syntax, code under `#[cfg(test)]` left out. Every breach is listed with its file and line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what is wrong by failing"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::Visit;

/// Lines a file may have, its tests left out.
const FILE_LINES: usize = 400;
/// Lines a function may have.
const FUNCTION_LINES: usize = 60;

/// What a module may import of ours. `cli config control gateway plan worker main lib` may see all, and `build` runs before there is any.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("clock", &[]),
    ("presentation", &["wire"]),
    ("shutdown", &[]),
    ("peer", &["wire"]),
    ("trail", &["wire", "peer"]),
    ("query", &["wire", "clock", "peer"]),
    ("reply", &["wire", "clock", "trail"]),
    ("answer", &["wire", "clock", "peer", "query", "reply", "trail"]),
    ("telemetry", &["wire", "peer", "query", "reply", "answer", "trail", "clock"]),
    ("guard", &["wire", "peer", "query", "reply", "answer", "trail", "clock", "telemetry"]),
    ("cache", &["wire", "query", "reply", "trail", "clock"]),
    ("identity", &["telemetry", "clock"]),
    ("confine", &["telemetry"]),
    ("service", &["telemetry"]),
    ("handover", &["listen", "admin"]),
    ("discovery", &["wire"]),
    ("upstream", &["wire", "peer", "trail", "clock", "telemetry", "identity"]),
    (
        "pipeline",
        &[
            "wire",
            "peer",
            "query",
            "reply",
            "answer",
            "trail",
            "clock",
            "telemetry",
            "guard",
            "cache",
            "upstream",
            "discovery",
        ],
    ),
    (
        "listen",
        &[
            "wire",
            "peer",
            "query",
            "reply",
            "answer",
            "trail",
            "clock",
            "shutdown",
            "telemetry",
            "guard",
            "identity",
            "presentation",
        ],
    ),
    (
        "admin",
        &[
            "wire",
            "peer",
            "reply",
            "trail",
            "clock",
            "shutdown",
            "telemetry",
            "cache",
            "identity",
            "upstream",
            "guard",
            "presentation",
        ],
    ),
];

/// Of `upstream` the pipeline sees the seam alone, never a transport or the pool.
const UPSTREAM_SEAM: &[&str] = &[
    "Again",
    "Answered",
    "Basis",
    "Route",
    "Ask",
    "Cause",
    "Ended",
    "Exchange",
    "ExchangeError",
    "Exchanging",
    "SubnetRule",
    "Telling",
    "ask",
    "error",
];

/// Crates that only some places may use: (crate, path prefixes under src).
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["main.rs"]),
    (
        "quinn",
        &[
            "listen/quic",
            "handover/ferry.rs",
            "listen/doq",
            "listen/doh3",
            "upstream/doq",
            "upstream/doh3",
            "upstream/quic",
            "control/probe",
        ],
    ),
    ("h3", &["listen/doh3", "upstream/doh3"]),
    ("h3_quinn", &["listen/doh3", "upstream/doh3"]),
    ("h2", &["listen/doh", "upstream/doh"]),
    ("hyper", &["listen/doh", "listen/http", "upstream/doh", "identity/acme", "admin", "cli"]),
    ("hyper_util", &["listen/doh", "listen/http", "upstream/doh", "identity/acme", "admin", "cli"]),
    ("tokio_socks", &["upstream/proxy"]),
    (
        "nix",
        &[
            "listen/datagram",
            "listen/bind",
            "listen/quic/steering.rs",
            "config",
            "gateway.rs",
            "worker.rs",
            "shutdown.rs",
            "main.rs",
            "cli",
            "identity",
            "confine",
            "service.rs",
            "handover",
        ],
    ),
    (
        "rustls",
        &[
            "listen",
            "identity",
            "upstream",
            "cli",
            "gateway.rs",
            "plan.rs",
            "worker.rs",
            "main.rs",
            "control/probe",
            "control/witness",
        ],
    ),
    (
        "tokio",
        &[
            "listen",
            "pipeline",
            "upstream",
            "identity",
            "admin",
            "cli",
            "shutdown.rs",
            "control.rs",
            "control",
            "gateway.rs",
            "gateway",
            "worker.rs",
            "plan.rs",
            "service.rs",
            "handover",
            "main.rs",
        ],
    ),
    ("caps", &["confine"]),
    ("landlock", &["confine"]),
    ("libc", &["confine"]),
    ("seccompiler", &["confine"]),
];

struct File {
    /// Path under `src`.
    path: String,
    /// The top-level module it belongs to.
    module: String,
    lines: usize,
    syntax: syn::File,
}

fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut test_only = BTreeSet::new();
    let mut files = Vec::new();
    for path in walk(&root) {
        let text = fs::read_to_string(&path).unwrap();
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        note_test_modules(&path, &syntax, &mut test_only);
        let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let module = relative.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        files.push((path, File { path: relative, module, lines: text.lines().count(), syntax }));
    }
    // What lies below a test module is test code too.
    let is_test_code = |path: &Path| path.ancestors().any(|above| test_only.contains(above));
    files.into_iter().filter(|(path, _)| !is_test_code(path)).map(|(_, file)| file).collect()
}

/// `#[cfg(test)] mod name;` makes `name.rs` beside (or below) the file a test file.
fn note_test_modules(path: &Path, syntax: &syn::File, test_only: &mut BTreeSet<PathBuf>) {
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    for item in &syntax.items {
        if let syn::Item::Mod(module) = item
            && module.content.is_none()
            && is_test(&module.attrs)
        {
            test_only.insert(folder.join(format!("{}.rs", module.ident)));
            test_only.insert(folder.join(module.ident.to_string()));
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test")))
    })
}

fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

/// Collects paths, long functions and lines under test, for one file.
#[derive(Default)]
struct Survey {
    paths: Vec<(Vec<String>, usize)>,
    functions: Vec<(String, usize, usize)>,
    test_lines: usize,
}

impl Survey {
    fn function(&mut self, name: &syn::Ident, whole: Span) {
        let lines = whole.end().line - name.span().start().line + 1;
        self.functions.push((name.to_string(), name.span().start().line, lines));
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.paths.push((with(&name.ident), name.ident.span().start().line)),
            syn::UseTree::Rename(name) => self.paths.push((with(&name.ident), name.ident.span().start().line)),
            syn::UseTree::Glob(glob) => self.paths.push((before.to_vec(), glob.span().start().line)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
        }
    }
}

impl<'ast> Visit<'ast> for Survey {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(item_attributes(item)) {
            self.test_lines += item.span().end().line - item.span().start().line + 1;
        } else {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.span());
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, item.span());
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.paths.push((names, path.span().start().line));
        }
        syn::visit::visit_path(self, path);
    }
}

fn survey(file: &File) -> Survey {
    let mut survey = Survey::default();
    survey.visit_file(&file.syntax);
    survey
}

fn report(breaches: &[String]) {
    let mut text = String::new();
    for breach in breaches {
        let _ = writeln!(text, "  {breach}");
    }
    assert!(breaches.is_empty(), "{} breach(es):\n{text}", breaches.len());
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut breaches = Vec::new();
    for file in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(module, _)| *module == file.module) else { continue };
        for (path, line) in survey(&file).paths {
            let ["crate", target, rest @ ..] = &path.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
                continue;
            };
            if *target != file.module && !allowed.contains(target) {
                breaches.push(format!("src/{}:{line}: {} may not import crate::{target}", file.path, file.module));
            }
            let seam = rest.first().is_none_or(|name| UPSTREAM_SEAM.contains(name));
            if file.module == "pipeline" && *target == "upstream" && !seam {
                breaches.push(format!("src/{}:{line}: pipeline sees only the seam of upstream", file.path));
            }
        }
    }
    report(&breaches);
}

#[test]
fn every_module_is_in_the_table_or_may_see_all() {
    let free = ["build", "main", "lib", "cli", "config", "control", "gateway", "plan", "worker"];
    let mut breaches = Vec::new();
    for file in sources() {
        if !free.contains(&file.module.as_str()) && !MAY_IMPORT.iter().any(|(module, _)| *module == file.module) {
            breaches.push(format!("src/{}:1: module {} is not in the import table", file.path, file.module));
        }
    }
    report(&breaches);
}

#[test]
fn crates_stay_in_their_places() {
    let mut breaches = Vec::new();
    for file in sources() {
        for (path, line) in survey(&file).paths {
            let Some(first) = path.first() else { continue };
            let Some((name, places)) = CRATES.iter().find(|(name, _)| name == first) else { continue };
            if !places.iter().any(|place| file.path.starts_with(place)) {
                breaches.push(format!("src/{}:{line}: {name} may not be used here", file.path));
            }
        }
    }
    report(&breaches);
}

#[test]
fn files_and_functions_keep_their_limits() {
    let mut breaches = Vec::new();
    for file in sources() {
        let survey = survey(&file);
        let lines = file.lines - survey.test_lines;
        if lines > FILE_LINES {
            breaches.push(format!("src/{}:1: {lines} lines, at most {FILE_LINES}", file.path));
        }
        for (name, line, lines) in survey.functions {
            if lines > FUNCTION_LINES {
                breaches
                    .push(format!("src/{}:{line}: fn {name} has {lines} lines, at most {FUNCTION_LINES}", file.path));
            }
        }
    }
    report(&breaches);
}

#[test]
fn operating_system_conditions_stay_in_their_places() {
    let places = [
        "listen/datagram",
        "listen/bind",
        "listen/quic/steering.rs",
        "shutdown.rs",
        "cli/serve.rs",
        "confine/mod.rs",
        "service.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(root.join(&file.path)).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.contains("target_os") && !places.iter().any(|place| file.path.starts_with(place)) {
                breaches.push(format!("src/{}:{}: target_os may not be asked here", file.path, number + 1));
            }
        }
    }
    report(&breaches);
}

#[test]
fn every_file_opens_with_its_job() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for file in sources() {
        if !fs::read_to_string(root.join(&file.path)).unwrap().starts_with("//!") {
            breaches.push(format!("src/{}:1: opens without //!", file.path));
        }
    }
    report(&breaches);
}
