//! The commands: arguments to command, one file a command. The only place that prints.

pub mod cache;
pub mod check;
pub mod demo;
pub mod desk;
pub mod diff;
pub mod explain;
pub mod handshake;
pub mod paint;
pub mod profile;
pub mod query;
pub mod reload;
pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  hushgate demo                                     see every door answer, on sample data
  hushgate serve                                    run with the defaults, on loopback
  hushgate serve --config /etc/hushgate.toml
  hushgate check --config hushgate.toml --effective
  hushgate query tls://dns.quad9.net example.com AAAA
  hushgate explain example.com --door dot           the road a question takes in the running gateway
  hushgate cache show example.com                   what it holds for a name, and how old it is
  hushgate diff --config hushgate.toml              where a file and the running gateway differ
  hushgate reload                                   put in force what its file says now
  hushgate profile android --qr                     how a phone is set up to ask it

Exit status: 0 done, 1 failed, 2 a mistake in the configuration or the arguments.";

/// An encrypted DNS gateway: DoT, DoH and DoQ in, one cached and explainable pipeline, any transport out.
#[derive(Debug, Parser)]
#[command(name = "hushgate", version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Serve(serve::Args),
    /// Name every problem of a configuration; start nothing.
    Check(check::Args),
    /// Run the gateway on an embedded sample zone and ask it over every transport.
    Demo(demo::Args),
    /// Ask any server over any transport.
    Query(query::Args),
    /// Show the road that a question takes in the running gateway.
    Explain(explain::Options),
    /// Look into the running gateway's cache, or drop what is in it.
    Cache(cache::Options),
    /// Have the running gateway put in force what its configuration says now; all of it or nothing.
    Reload(reload::Options),
    /// Show what a configuration says otherwise than the running gateway.
    Diff(diff::Options),
    /// Print what a person installs or types so that a device asks this gateway.
    Profile(profile::Args),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const SERVE_EXAMPLES: &str = "\
Examples:
  hushgate serve                                    the defaults: all doors on loopback
  hushgate serve --config /etc/hushgate/hushgate.toml
  hushgate serve --set log.level=debug --set 'upstream.servers=[\"tls://dns.quad9.net\"]'

The environment can say the same: HUSHGATE_SET=\"upstream.timeout=2s, cache.size=1 GiB\".
Exit status: 0 it was stopped; 1 it could not start; 2 a mistake in the configuration.";

/// Where a configuration comes from.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ConfigArgs {
    /// The configuration file; without one the defaults hold.
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Override one key, as in --set upstream.timeout=2s; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// The source that `config::load` reads: file, environment, `--set`.
    #[must_use]
    pub fn source(&self) -> crate::config::Source {
        crate::config::Source {
            file: self.config.clone(),
            environment: std::env::var("HUSHGATE_SET").ok(),
            sets: self.set.clone(),
        }
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let status = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Explain(options) => explain_status(explain::run(&options)),
        Command::Cache(options) => cache::run(&options),
        Command::Reload(options) => reload::run(&options),
        Command::Diff(options) => diff::run(&options),
        Command::Profile(args) => profile::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hushgate", &mut std::io::stdout());
            0
        }
    };
    ExitCode::from(status)
}

/// Prints what went wrong, if anything did.
#[allow(clippy::print_stderr, reason = "this is a command")]
fn explain_status(outcome: Result<(), explain::ExplainError>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hushgate explain: {error}");
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_example_is_wider_than_help_is_printed() {
        let wide: Vec<String> = std::iter::once(&Cli::command())
            .chain(Cli::command().get_subcommands())
            .filter_map(|command| command.get_after_help().map(ToString::to_string))
            .flat_map(|text| {
                text.lines().filter(|line| line.chars().count() > 100).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
