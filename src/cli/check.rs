//! `hushgate check`: reads a configuration as `serve` would, and says everything that is wrong with it.
//!
//! What was asked for goes to standard output, so that `--effective` is TOML and `--json` is JSON; the rest to standard error.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value as Json, json};

use crate::config::{EffectiveRow, Loaded, Problem, Severity, Source, effective, load};
use crate::identity::credential::Credential;
use crate::identity::profile::provider;
use crate::identity::{CertificateFacts, Chain, IdentityError};

const EXAMPLES: &str = "\
Examples:
  hushgate check --config hushgate.toml
  hushgate check --config hushgate.toml --effective        every value, and where it came from
  hushgate check --set upstream.timeout=2s --json

Exit status: 0 it can be used, perhaps with warnings; 2 it cannot.";

/// What to check, and how to say it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file; without one the defaults hold
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Override one key, as in --set upstream.timeout=2s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print every key, its value and where it came from, as TOML
    #[arg(long)]
    pub effective: bool,
    /// Print problems and values as JSON
    #[arg(long)]
    pub json: bool,
}

/// What the command says, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub complaints: String,
    /// 0: the configuration stands. 2: it does not.
    pub code: u8,
}

/// Where certificates are configured.
const KEY: &str = "tls.certificates";

const FINE: u8 = 0;
const BROKEN: u8 = 2;

/// Checks and prints; returns the exit code.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let report = report(args, &load(&Source::with_environment(args.config.clone(), args.set.clone())));
    // Whoever reads may have heard enough and gone: the exit code still tells.
    let _ = std::io::stderr().write_all(report.complaints.as_bytes());
    let _ = std::io::stdout().write_all(report.output.as_bytes());
    report.code
}

/// What [`run`] says about `loaded`.
#[must_use]
pub fn report(args: &Args, loaded: &Loaded) -> Report {
    let credentials = credentials(loaded);
    let faults: Vec<&IdentityError> = credentials.iter().filter_map(|read| read.as_ref().err()).collect();
    let problems = loaded.problems.iter().map(|problem| format!("{problem}\n"));
    let lines: String = problems.chain(faults.iter().map(|fault| format!("error: {KEY}: {fault}\n"))).collect();
    let code = if loaded.config.is_some() && faults.is_empty() { FINE } else { BROKEN };
    let verdict = verdict(args, &loaded.problems, faults.len());
    let (output, complaints) = if args.json {
        (format!("{:#}\n", to_json(loaded, &credentials, code)), String::new())
    } else if args.effective {
        (format!("{}\n# {verdict}\n", effective::to_toml(&loaded.effective)), lines)
    } else if code == FINE {
        let certificates = credentials.iter().flatten().map(certificate);
        (certificates.chain([format!("{verdict}\n")]).collect(), lines)
    } else {
        (String::new(), format!("{lines}{verdict}\n"))
    };
    Report { output, complaints, code }
}

/// Reads the certificates as `serve` would. A private authority is left alone: to look at it could mean to make it.
fn credentials(loaded: &Loaded) -> Vec<Result<CertificateFacts, IdentityError>> {
    let Some(config) = &loaded.config else { return Vec::new() };
    let (provider, now) = (provider(), SystemTime::now());
    let read = |(index, chain): (usize, &Chain)| {
        Credential::from_files(chain, &provider, now).map(|credential| credential.facts(now, index == 0))
    };
    config.tls.certificates.iter().enumerate().map(read).collect()
}

fn certificate(facts: &CertificateFacts) -> String {
    format!("{}: {}; {} left\n", facts.source, facts.names.join(", "), counted(&facts.days_left, "day"))
}

fn verdict(args: &Args, problems: &[Problem], faults: usize) -> String {
    let (name, is) = match &args.config {
        Some(path) => (path.display().to_string().replace(char::is_control, "?"), "is"),
        None if args.set.is_empty() => ("The defaults".to_owned(), "are"),
        None => ("The defaults with what --set says".to_owned(), "are"),
    };
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error) + faults, count(Severity::Warning));
    let warned = counted(&warnings, "warning");
    match (errors, warnings) {
        (0, 0) => format!("{name} {is} fine."),
        (0, _) => format!("{name} {is} fine, with {warned}."),
        (_, 0) => format!("{name} cannot be used: {}.", counted(&errors, "error")),
        (_, _) => format!("{name} cannot be used: {}, {warned}.", counted(&errors, "error")),
    }
}

/// `count` as it is written, so that any kind of number will do.
fn counted(count: &impl ToString, thing: &str) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

fn to_json(loaded: &Loaded, credentials: &[Result<CertificateFacts, IdentityError>], code: u8) -> Json {
    let problem = |problem: &Problem| {
        json!({
            "severity": problem.severity.name(),
            "key": problem.key_path,
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "what": problem.what,
            "nearest": problem.nearest,
            "message": problem.to_string(),
        })
    };
    let row = |row: &EffectiveRow| json!({ "key": row.key, "value": row.value.to_json(), "from": row.from, "note": row.note });
    let fault = |fault: &IdentityError| json!({ "severity": "error", "key": KEY, "message": fault.to_string() });
    let facts = |facts: &CertificateFacts| {
        json!({
            "file": facts.source.to_string(),
            "names": facts.names,
            "not_after": facts.not_after,
            "days_left": facts.days_left,
        })
    };
    let faults = credentials.iter().filter_map(|read| read.as_ref().err()).map(fault);
    json!({
        "ok": code == FINE,
        "problems": loaded.problems.iter().map(problem).chain(faults).collect::<Vec<_>>(),
        "certificates": credentials.iter().flatten().map(facts).collect::<Vec<_>>(),
        "effective": loaded.effective.iter().map(row).collect::<Vec<_>>(),
    })
}
