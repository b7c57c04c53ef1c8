//! `hushgate cache`: figures of a running gateway's cache, what it holds for a name, and how to be rid of it.

mod table;

use clap::{ArgGroup, Subcommand};
use http::Method;

use super::desk::{self, Desk, DeskError};
use super::paint::Paint;
use crate::admin::CacheRequest;
use crate::admin::held::{Flushed, Held, Stats};
use crate::admin::request::{BadRequest, qname, rtype};
use crate::cache::Selection;

const EXAMPLES: &str = "\
Examples:
  hushgate cache stats
  hushgate cache show example.com                  every type, with its age and where it came from
  hushgate cache show example.com AAAA --json
  hushgate cache flush example.com AAAA            the next question asks upstream
  hushgate cache flush --suffix example.com        the name and all below it
  hushgate cache flush --all --admin unix:/run/hushgate/admin.sock

Exit status: 0 done, 1 nothing is held for the name or no gateway answers, 2 wrong arguments.";

const STATS: &str = "\
Examples:
  hushgate cache stats
  hushgate cache stats --json                      the same to a program

fresh: served. stale: expired, may stand in while no fresh answer is to be had. expired: goes when room is wanted.
too large, over share: answers that were not kept, or not for long, for their size and for cache.domain_share.";

const SHOW: &str = "\
Examples:
  hushgate cache show example.com                  every type, with its age and where it came from
  hushgate cache show example.com AAAA --json
  hushgate cache show 7.2.0.192.in-addr.arpa       a reverse name
  hushgate cache show 'odd\\.label.example'         a dot within a label is written \\.

The type `any` is what holds for all types: that the name does not exist. Looking does not count as a hit.
Exit status: 0 something is held, 1 nothing is or no gateway answers, 2 wrong arguments.";

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Clone, Debug, Subcommand)]
enum Task {
    /// How much it holds, of what, and how often it has answered.
    #[command(after_help = STATS)]
    Stats(Desk),
    /// All that it holds for a name: answers with their records, and failures.
    Show(Show),
    /// Drop what it holds: for a name, for a domain and all below it, or everything. Failures are forgotten too.
    Flush(Flush),
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = SHOW)]
struct Show {
    /// The domain name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Name,
    /// One record type: a mnemonic or a number
    #[arg(value_name = "TYPE", value_parser = parse_type)]
    rtype: Option<u16>,
    #[command(flatten)]
    desk: Desk,
}

#[derive(Clone, Debug, clap::Args)]
#[command(arg_required_else_help = true, after_help = EXAMPLES, group = ArgGroup::new("what").required(true).args(["name", "suffix", "all"]))]
struct Flush {
    /// The domain name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Option<Name>,
    /// One record type of it: a mnemonic or a number
    #[arg(value_name = "TYPE", requires = "name", value_parser = parse_type)]
    rtype: Option<u16>,
    /// This domain and all below it
    #[arg(long, value_name = "DOMAIN", value_parser = parse_name)]
    suffix: Option<Name>,
    /// Everything
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    desk: Desk,
}

/// A name in wire form.
#[derive(Clone, Debug)]
struct Name(Box<[u8]>);

/// Asks and prints; the exit status.
#[must_use]
#[allow(clippy::print_stderr, reason = "this is a command")]
pub fn run(options: &Options) -> u8 {
    let done = match &options.task {
        Task::Stats(desk) => stats(desk),
        Task::Show(show) => self::show(show),
        Task::Flush(flush) => self::flush(flush),
    };
    done.unwrap_or_else(|error| {
        eprintln!("hushgate cache: {error}");
        1
    })
}

fn stats(desk: &Desk) -> Result<u8, DeskError> {
    let json = desk.ask_now(Method::GET, &CacheRequest::Stats.target())?;
    let stats: Stats = desk.read(&json)?;
    desk::print(&if desk.json { json } else { table::stats(&stats, Paint::for_output()) })?;
    Ok(0)
}

fn show(Show { name, rtype, desk }: &Show) -> Result<u8, DeskError> {
    let request = CacheRequest::Show { name: name.0.clone(), rtype: *rtype };
    let json = desk.ask_now(Method::GET, &request.target())?;
    let held: Held = desk.read(&json)?;
    desk::print(&if desk.json { json } else { table::held(&held, Paint::for_output()) })?;
    Ok(u8::from(held.entries.is_empty() && held.failures.is_empty()))
}

fn flush(Flush { name, rtype, suffix, all: _, desk }: &Flush) -> Result<u8, DeskError> {
    let selection = match (name, suffix) {
        (Some(name), _) => Selection::Name { name: name.0.clone(), rtype: *rtype },
        (None, Some(domain)) => Selection::Suffix(domain.0.clone()),
        (None, None) => Selection::All,
    };
    let json = desk.ask_now(Method::POST, &CacheRequest::Flush(selection).target())?;
    let flushed: Flushed = desk.read(&json)?;
    desk::print(&if desk.json { json } else { table::flushed(flushed) })?;
    Ok(0)
}

fn parse_name(text: &str) -> Result<Name, BadRequest> {
    qname(text).map(Name)
}

fn parse_type(text: &str) -> Result<u16, BadRequest> {
    rtype(text).ok_or(BadRequest::Type)
}
