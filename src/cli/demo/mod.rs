//! `hushgate demo`: a sample zone as upstream, the gateway in front, one question over every transport twice, and a table.
//!
//! It uses the ports and the private authority that `serve` uses by default, so trust given once lasts.
#![allow(clippy::print_stderr, reason = "this is a command")]

pub mod doors;
pub mod steps;
pub mod table;
pub mod tour;
pub mod zone;

use std::io::Write as _;

use self::doors::Opened;
use super::paint::Paint;
use super::serve::Signals;
use crate::peer::Transport;

const EXAMPLES: &str = "\
Needs no configuration, no internet, no root. Uses the ports of `hushgate serve`, or other ports
where those are taken, and the same private authority.

Examples:
  hushgate demo                the table, then it stays up for you to try
  hushgate demo --exit         the table alone; exit status 0: every door answered, 1: not all";

/// Arguments of `demo`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// End after the table; the exit status tells whether every door answered.
    #[arg(long)]
    pub exit: bool,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; answers its exit status.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match show(args) {
        Ok(status) => status,
        Err(message) => {
            eprintln!("hushgate demo: {message}");
            1
        }
    }
}

fn show(args: &Args) -> Result<u8, String> {
    let zone = zone::start().map_err(|error| format!("no loopback port for the sample zone: {error}"))?;
    let Opened { bound, taken } = doors::open(zone).map_err(|error| error.to_string())?;
    let plan = tour::Plan::of(&bound)?;
    let running = bound.serve().map_err(|error| error.to_string())?;
    let rows = tour::walk(&plan, &running)?;
    let good = rows.len() == Transport::ALL.len() && rows.iter().all(tour::Row::is_good);
    // Before the table, which tells that the demo stays; not before the tour, which Ctrl-C may cut short.
    let signals = if args.exit { None } else { Some(hear()?) };
    if args.json {
        say(&format!("{}\n", table::json(&plan, &rows, &taken)));
    } else {
        say(&table::text(&plan, &rows, &taken, Paint::for_output()));
    }
    match signals {
        None => running.stop(),
        Some(signals) => {
            if !args.json {
                say(&steps::text(&plan, &program()));
            }
            signals.attend(running);
        }
    }
    Ok(u8::from(!good))
}

fn hear() -> Result<Signals, String> {
    Signals::hear().map_err(|error| format!("signals cannot be heard: {error}"))
}

/// Whoever reads may have heard enough and gone: the exit status still tells.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// How this program was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "hushgate".into())
}
