//! `hushgate check`: reads a configuration as `serve` would, and says everything that is wrong with it.
//!
//! What was asked for goes to standard output, so that `--effective` is TOML and `--json` is JSON; the rest to standard error.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value as Json, json};

use super::paint::Paint;
use crate::config::{Config, EffectiveRow, Loaded, Problem, Severity, Source, effective, load};
use crate::confine::Settings;
use crate::identity::acme;
use crate::identity::credential::Credential;
use crate::identity::profile::provider;
use crate::identity::{CertificateFacts, Chain, IdentityError};

pub mod advice;
pub mod live;
pub mod table;

use advice::Advice;
use live::Tried;
use table::Standing;

const EXAMPLES: &str = "\
Examples:
  hushgate check --config hushgate.toml
  hushgate check --config hushgate.toml --effective        every value, and where it came from
  hushgate check --set upstream.timeout=2s --json
  hushgate check --config hushgate.toml --live             ask every server that it names

Exit status: 0 it can be used, perhaps with warnings; 2 it cannot.
With --live: 0 every server answers; 1 some do not, and every pool has one that does; 2 a pool has
nobody, or the configuration cannot be used.";

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
    /// Ask every server of every pool once, fallback and bootstrap included, and print what came of it
    #[arg(long, conflicts_with = "effective")]
    pub live: bool,
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
    /// 0: the configuration stands. 1: it does, and some of its servers do not answer. 2: it does not.
    pub code: u8,
}

/// Where certificates are configured.
const KEY: &str = "tls.certificates";

const FINE: u8 = 0;
const FAILED: u8 = 1;
const BROKEN: u8 = 2;

/// Checks and prints; returns the exit code.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let loaded = load(&Source::with_environment(args.config.clone(), args.set.clone()));
    let tried = loaded.config.as_ref().filter(|_| args.live).map(ask_servers);
    let report = report_with(args, &loaded, tried.as_ref());
    // Whoever reads may have heard enough and gone: the exit code still tells.
    let _ = std::io::stderr().write_all(report.complaints.as_bytes());
    if !args.json && loaded.config.as_ref().is_some_and(stays_root) {
        let notice = "notice: process.user: is not set and this is root: name an ordinary user to become once the doors are open\n";
        let _ = std::io::stderr().write_all(notice.as_bytes());
    }
    let _ = std::io::stdout().write_all(report.output.as_bytes());
    report.code
}

/// What came of asking the servers: each of them, or why none could be.
type Asked = Result<Vec<Tried>, String>;

/// Asks every server, telling a terminal how far that is.
fn ask_servers(config: &Config) -> Asked {
    let watched = std::io::stderr().is_terminal();
    let progress = |done: usize, total: usize| {
        let text = if done == total { "\r\u{1b}[K".to_owned() } else { format!("\r{done} of {total} servers tried") };
        if watched {
            // Nobody minds if it cannot be shown.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no event queue from the system: {error}"))?;
    runtime.block_on(live::try_all(&config.upstream, progress)).map_err(|error| error.to_string())
}

/// What [`run`] says about `loaded` when no server is to be asked.
#[must_use]
pub fn report(args: &Args, loaded: &Loaded) -> Report {
    report_with(args, loaded, None)
}

fn report_with(args: &Args, loaded: &Loaded, asked: Option<&Asked>) -> Report {
    let credentials = credentials(loaded);
    let advice = advice::of(loaded, &credentials);
    let faults: Vec<&IdentityError> = credentials.iter().filter_map(|read| read.as_ref().err()).collect();
    let unusable = asked.and_then(|asked| asked.as_ref().err()).map(|fault| format!("error: {fault}\n"));
    let problems = loaded.problems.iter().map(|problem| format!("{problem}\n"));
    let problems = problems.chain(faults.iter().map(|fault| format!("error: {KEY}: {fault}\n")));
    let problems = problems.chain(unusable.iter().cloned());
    let lines: String = problems.chain(advice.iter().map(|advice| format!("{advice}\n"))).collect();
    let errors = faults.len() + unusable.iter().len();
    let tried = asked.and_then(|asked| asked.as_ref().ok());
    let standing = tried.map_or(Standing::All, |tried| table::standing(tried));
    let code = match standing {
        _ if loaded.config.is_none() || errors > 0 => BROKEN,
        Standing::All => FINE,
        Standing::Some => FAILED,
        Standing::Nobody(_) => BROKEN,
    };
    let verdict = verdict(args, &loaded.problems, (errors, advice.len()));
    let is_usable = loaded.config.is_some() && errors == 0;
    let (output, complaints) = if args.json {
        (format!("{:#}\n", to_json(loaded, (&credentials, &advice), asked, code)), String::new())
    } else if args.effective {
        (format!("{}\n# {verdict}\n", effective::to_toml(&loaded.effective)), lines)
    } else if is_usable {
        let certificates = credentials.iter().flatten().map(certificate);
        let servers = tried.map(|tried| table::table(tried, Paint::for_output()) + &table::summary(tried));
        let ordered = loaded.config.iter().filter_map(|config| config.acme.as_ref()).map(ordered);
        (
            certificates
                .chain(ordered)
                .chain(loaded.config.iter().filter_map(confined))
                .chain([format!("{verdict}\n")])
                .chain(servers)
                .collect(),
            lines,
        )
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

/// Would `serve`, started like this, meet strangers as root?
fn stays_root(config: &Config) -> bool {
    let is_open = config.listen.doors.iter().any(|door| !door.address.ip().is_loopback());
    is_open && config.process.user.is_none() && nix::unistd::geteuid().is_root()
}

/// What the process gives up, where somebody has a say in it.
fn confined(config: &Config) -> Option<String> {
    let plan = config.process.plan().filter(|_| config.process != Settings::default())?;
    Some(format!("once its doors are open, the process goes on {plan}\n"))
}

fn certificate(facts: &CertificateFacts) -> String {
    format!("{}: {}; {} left\n", facts.source, facts.names.join(", "), counted(&facts.days_left, "day"))
}

/// What `serve` would order, or has ordered.
fn ordered(acme: &acme::Settings) -> String {
    format!("acme ({}): {}; by {}\n", acme.directory, acme.domains.join(", "), acme.method.name())
}

fn ordered_json(acme: &acme::Settings) -> Json {
    json!({ "directory": acme.directory, "domains": acme.domains, "challenge": acme.method.name() })
}

fn verdict(args: &Args, problems: &[Problem], (faults, advice): (usize, usize)) -> String {
    let (name, is) = match &args.config {
        Some(path) => (path.display().to_string().replace(char::is_control, "?"), "is"),
        None if args.set.is_empty() => ("The defaults".to_owned(), "are"),
        None => ("The defaults with what --set says".to_owned(), "are"),
    };
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error) + faults, count(Severity::Warning) + advice);
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

fn to_json(
    loaded: &Loaded,
    (credentials, advice): (&[Result<CertificateFacts, IdentityError>], &[Advice]),
    asked: Option<&Asked>,
    code: u8,
) -> Json {
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
    let unusable = asked.and_then(|asked| asked.as_ref().err());
    let unusable = unusable.map(|fault| json!({ "severity": "error", "key": "upstream", "message": fault }));
    let advice = advice.iter().map(Advice::json);
    let servers = |asked: &Asked| asked.iter().flatten().map(Tried::json).collect::<Vec<_>>();
    let mut told = json!({
        "ok": code == FINE,
        "problems": loaded.problems.iter().map(problem).chain(faults).chain(unusable).chain(advice).collect::<Vec<_>>(),
        "certificates": credentials.iter().flatten().map(facts).collect::<Vec<_>>(),
        "acme": loaded.config.as_ref().and_then(|config| config.acme.as_ref()).map(ordered_json),
        "confined": loaded.config.as_ref().and_then(|config| config.process.plan()),
        "effective": loaded.effective.iter().map(row).collect::<Vec<_>>(),
    });
    if let (Some(asked), Some(object)) = (asked, told.as_object_mut()) {
        object.insert("upstreams".to_owned(), servers(asked).into());
    }
    told
}
