//! `hushgate check`: reads a configuration as `serve` would, and says everything that is wrong with it.
//!
//! What was asked for goes to standard output, so that `--effective` is TOML and `--json` is JSON; the rest to standard error.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::config::{EffectiveRow, Loaded, Problem, Severity, Source, effective, load};

/// What to check, and how to say it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration file; without one the defaults hold
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a key, as in --set upstream.timeout=2s
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
    let lines = loaded.problems.iter().fold(String::new(), |lines, problem| lines + &format!("{problem}\n"));
    let verdict = verdict(args, &loaded.problems);
    let code = if loaded.config.is_some() { FINE } else { BROKEN };
    let (output, complaints) = if args.json {
        (format!("{:#}\n", to_json(loaded)), String::new())
    } else if args.effective {
        (format!("{}\n# {verdict}\n", effective::to_toml(&loaded.effective)), lines)
    } else if code == FINE {
        (format!("{verdict}\n"), lines)
    } else {
        (String::new(), format!("{lines}{verdict}\n"))
    };
    Report { output, complaints, code }
}

fn verdict(args: &Args, problems: &[Problem]) -> String {
    let name = args.config.as_ref().map_or_else(|| "The defaults".to_owned(), |path| path.display().to_string());
    let name = name.replace(char::is_control, "?");
    let is = if args.config.is_some() { "is" } else { "are" };
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let warned = counted(warnings, "warning");
    match (errors, warnings) {
        (0, 0) => format!("{name} {is} fine."),
        (0, _) => format!("{name} {is} fine, with {warned}."),
        (_, 0) => format!("{name} cannot be used: {}.", counted(errors, "error")),
        (_, _) => format!("{name} cannot be used: {}, {warned}.", counted(errors, "error")),
    }
}

fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

fn to_json(loaded: &Loaded) -> Json {
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
    json!({
        "ok": loaded.config.is_some(),
        "problems": loaded.problems.iter().map(problem).collect::<Vec<_>>(),
        "effective": loaded.effective.iter().map(row).collect::<Vec<_>>(),
    })
}
