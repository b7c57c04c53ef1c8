//! `hushgate reload`: another configuration for the running gateway, or only the try of it.

use std::fmt::Write as _;

use http::Method;

use super::desk::{self, Desk, DeskError};
use super::diff;
use super::paint::Paint;
use crate::admin::Reloaded;

const EXAMPLES: &str = "\
Examples:
  hushgate reload --dry-run      what would change, and whether it could: new addresses are tried
  hushgate reload                the same as SIGHUP, with an answer
  hushgate reload --admin unix:/run/hushgate/admin.sock --json

The gateway reads the file that it was started with. Connections, sessions and the cache stay.
Exit status: 0 it is in force, or could be; 1 it is refused and all is as it was, or nobody answers.";

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Change nothing; say what would change and whether it could
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    desk: Desk,
}

/// Asks and prints; the exit status.
#[must_use]
#[allow(clippy::print_stderr, reason = "this is a command")]
pub fn run(options: &Options) -> u8 {
    ask(options).unwrap_or_else(|error| {
        eprintln!("hushgate reload: {error}");
        1
    })
}

fn ask(Options { dry_run, desk }: &Options) -> Result<u8, DeskError> {
    let target = if *dry_run { "/api/reload?dry_run=1" } else { "/api/reload" };
    let json = desk.ask_now(Method::POST, target)?;
    let reloaded: Reloaded = desk.read(&json)?;
    desk::print(&if desk.json { json } else { told(&reloaded, Paint::for_output()) })?;
    Ok(u8::from(!reloaded.is_good()))
}

/// For people: the changes, then what became of them.
fn told(reloaded: &Reloaded, paint: Paint) -> String {
    let Reloaded { applied, generation, changes, problems, .. } = reloaded;
    // Of a file that cannot be read nobody knows what is different.
    let is_unread = changes.is_empty() && !problems.is_empty();
    let mut out = if is_unread { String::new() } else { diff::table(changes, paint) };
    for problem in problems {
        let _ = writeln!(out, "{} {problem}", paint.bad("cannot be:"));
    }
    let verdict = match (problems.is_empty(), applied) {
        (false, _) => paint.bad("Refused: the running configuration is as it was."),
        (true, true) => paint.good(&format!("In force (configuration {generation} of this process).")),
        (true, false) => paint.good("It could be put in force. Nothing has been changed."),
    };
    out + &verdict + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Change, Takes};

    #[test]
    fn the_outcome_comes_after_what_is_different() {
        let change = Change {
            key: "access.refuse".into(),
            old: Some("\"answer\"".into()),
            new: Some("\"drop\"".into()),
            takes: Takes::Reload,
        };
        let reloaded = Reloaded { applied: true, generation: 2, changes: vec![change], ..Reloaded::default() };
        let text = told(&reloaded, Paint::Plain);
        assert!(text.ends_with("In force (configuration 2 of this process).\n"), "{text}");
        assert!(text.contains("access.refuse"), "{text}");
        let refused = Reloaded { applied: false, problems: vec!["no such file".into()], ..reloaded };
        let text = told(&refused, Paint::Plain);
        assert!(text.contains("cannot be: no such file\nRefused"), "{text}");
        let unread = Reloaded { changes: Vec::new(), ..refused };
        assert!(!told(&unread, Paint::Plain).contains("Nothing is different"));
    }
}
