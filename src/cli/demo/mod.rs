//! `hushgate demo`: a sample zone as upstream, the gateway in front, one question over every transport twice, and a table.
//!
//! It uses the ports and the private authority that `serve` uses by default, so trust given once lasts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command")]

pub mod table;
pub mod tour;
pub mod zone;

use crate::config::{self, Source};
use crate::gateway::{Bound, Gateway, GatewayError};

/// Arguments of `demo`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// End after the table; the exit status tells whether every door answered.
    #[arg(long)]
    pub exit: bool,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

/// Doors on ports of the system's choice, for where the default ones are taken.
const ANY_PORTS: [&str; 5] = [
    "listen.dns=[\"127.0.0.1:0\"]",
    "listen.dot=[\"127.0.0.1:0\"]",
    "listen.doh=[\"127.0.0.1:0\"]",
    "listen.doq=[\"127.0.0.1:0\"]",
    "admin.listen=[\"127.0.0.1:0\"]",
];

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
    let (bound, moved) = bind(zone).map_err(|error| error.to_string())?;
    let plan = tour::Plan::of(&bound)?;
    let running = bound.serve().map_err(|error| error.to_string())?;
    let rows = tour::walk(&plan, &running)?;
    let good = rows.iter().all(tour::Row::is_good);
    if args.json {
        println!("{}", table::json(&plan, &rows));
    } else {
        print!("{}", table::text(&plan, &rows, moved));
    }
    if args.exit {
        running.stop();
    } else {
        if !args.json {
            print!("{}", table::next_steps(&plan));
        }
        super::serve::attend(running).map_err(|error| format!("signals cannot be heard: {error}"))?;
    }
    Ok(u8::from(!good))
}

/// The gateway on the default ports, or on others where one of them is taken. Says whether it had to move.
fn bind(zone: std::net::SocketAddr) -> Result<(Bound, bool), GatewayError> {
    match build(zone, &[])?.bind() {
        Ok(bound) => Ok((bound, false)),
        Err(GatewayError::Bind(_) | GatewayError::Admin(_)) => Ok((build(zone, &ANY_PORTS)?.bind()?, true)),
        Err(other) => Err(other),
    }
}

fn build(zone: std::net::SocketAddr, sets: &[&str]) -> Result<Gateway, GatewayError> {
    let mut all = vec![format!("upstream.servers=[\"udp://{zone}\"]"), "upstream.fallback=[]".to_owned()];
    all.extend(sets.iter().map(ToString::to_string));
    let loaded = config::load(&Source { file: None, environment: None, sets: all });
    let config = loaded.config.ok_or_else(|| GatewayError::Config(loaded.problems))?;
    Gateway::build(config)
}
