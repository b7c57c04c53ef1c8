//! The command line of `query`.
#![allow(clippy::print_stderr, reason = "this is a command")]

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::{Question, ask};
use crate::config::unit;
use crate::upstream::settings::Method;

const EXAMPLES: &str = "\
Examples:
  hushgate query tls://dns.quad9.net example.com AAAA
  hushgate query https://localhost:8443 example.com --ca ~/.local/state/hushgate/authority.pem
  hushgate query udp://127.0.0.1:8053 example.com TXT --json

Schemes: udp tcp tls https h3 quic; https+h1 for HTTP/1.1; http and http+h2 in clear text.
https:// without a path means /dns-query.
Exit status: 0 an answer came, whatever its RCODE; 1 none did; 2 the arguments are wrong.";

/// Arguments of `query`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The server, as in `upstream.servers`.
    url: String,
    /// The domain name to ask for.
    name: String,
    /// The record type: a mnemonic or TYPE and a number.
    #[arg(value_name = "TYPE", default_value = "A")]
    rtype: String,
    /// Trust the authorities in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// Verify this name instead of the URL's host.
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
    /// Ask a DoH server by GET instead of POST.
    #[arg(long)]
    get: bool,
    /// Ask for DNSSEC records.
    #[arg(long)]
    dnssec: bool,
    /// How long to wait in all.
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = patience)]
    timeout: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn patience(text: &str) -> Result<Duration, String> {
    unit::duration(text).ok_or_else(|| "use a number and a unit: 1500ms, 4s, 1m".to_owned())
}

/// Runs the command; answers its exit status.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let question = Question {
        ca: args.ca.clone(),
        tls_name: args.tls_name.clone(),
        method: if args.get { Method::Get } else { Method::Post },
        timeout: args.timeout,
        dnssec: args.dnssec,
        ..Question::new(&args.url, &args.name, &args.rtype)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(ask(&question)).map_err(|error| error.to_string()),
        Err(error) => Err(format!("no event queue from the system: {error}")),
    };
    match outcome {
        Ok(outcome) => {
            let shown = if args.json { format!("{}\n", outcome.json()) } else { outcome.text() };
            // `| head` has seen enough.
            let _ = std::io::stdout().write_all(shown.as_bytes());
        }
        Err(message) => {
            eprintln!("hushgate query: {message}");
            return 1;
        }
    }
    0
}
