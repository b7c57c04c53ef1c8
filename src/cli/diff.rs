//! `hushgate diff`: the running configuration beside a file's, key by key.

use std::fmt::Write as _;

use http::Method;

use super::ConfigArgs;
use super::desk::{self, Desk, DeskError};
use super::paint::Paint;
use crate::admin::{Change, Key, Takes};
use crate::config::{self, Severity, Source, changes};

const EXAMPLES: &str = "\
Examples:
  hushgate diff --config /etc/hushgate/hushgate.toml
  hushgate diff --config new.toml --json
  hushgate diff --config new.toml --set cache.max_ttl=1h --admin unix:/run/hushgate/admin.sock

Nothing is changed; `hushgate reload --dry-run` also tries whether it could be put in force.
Exit status: 0 nothing is different, 1 something is, 2 the file has mistakes or no gateway answers.";

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The configuration file; without one the defaults
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<std::path::PathBuf>,
    /// Override one key, as in --set upstream.timeout=2s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    desk: Desk,
}

/// Compares and prints; the exit status.
#[must_use]
#[allow(clippy::print_stderr, reason = "this is a command")]
pub fn run(options: &Options) -> u8 {
    let source: Source = ConfigArgs { config: options.config.clone(), set: options.set.clone() }.source();
    let loaded = config::load(&source);
    if loaded.config.is_none() {
        for problem in loaded.problems.iter().filter(|problem| problem.severity == Severity::Error) {
            eprintln!("{problem}");
        }
        return 2;
    }
    compare(&options.desk, &changes::keys(&loaded.effective)).unwrap_or_else(|error| {
        eprintln!("hushgate diff: {error}");
        2
    })
}

fn compare(desk: &Desk, new: &[Key]) -> Result<u8, DeskError> {
    let running: Vec<Key> = desk.read(&desk.ask_now(Method::GET, "/api/config")?)?;
    let changes = changes::between(&running, new);
    let text = if desk.json {
        serde_json::to_string_pretty(&changes).unwrap_or_default() + "\n"
    } else {
        table(&changes, Paint::for_output())
    };
    desk::print(&text)?;
    Ok(u8::from(!changes.is_empty()))
}

/// Old below new, for people.
#[must_use]
pub fn table(changes: &[Change], paint: Paint) -> String {
    if changes.is_empty() {
        return "Nothing is different.\n".to_owned();
    }
    let mut out = String::new();
    for Change { key, old, new, takes } in changes {
        let when = match takes {
            Takes::Reload => "takes effect at once",
            Takes::Restart => "needs a restart: until then the old value holds",
        };
        let _ = writeln!(out, "{}  ({when})", paint.heading(key));
        for (sign, value) in [("-", old), ("+", new)] {
            let line = value.as_ref().map(|value| format!("  {sign} {value}"));
            let painted = line.map(|line| if sign == "-" { paint.bad(&line) } else { paint.good(&line) });
            out.extend(painted.map(|line| line + "\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_told_with_both_values_and_when_it_takes_effect() {
        let key = |key: &str, value: &str| Key { key: key.into(), value: value.into(), from: "defaults".into() };
        let running = [key("workers", "2"), key("cache.max_ttl", "\"24h\""), key("log.level", "\"info\"")];
        let file = [key("workers", "4"), key("cache.max_ttl", "\"24h\""), key("edns.nsid", "\"a\"")];
        let text = table(&changes::between(&running, &file), Paint::Plain);
        assert_eq!(
            text,
            "workers  (needs a restart: until then the old value holds)\n  - 2\n  + 4\n\
             edns.nsid  (takes effect at once)\n  + \"a\"\n\
             log.level  (needs a restart: until then the old value holds)\n  - \"info\"\n"
        );
        assert_eq!(table(&changes::between(&file, &file), Paint::Plain), "Nothing is different.\n");
    }
}
