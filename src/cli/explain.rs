//! `hushgate explain NAME [TYPE]`: asks a running gateway for the road of one question and prints it, a stage a line.

mod ask;
mod road;

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use ask::ExplainError;

use crate::admin::request::{BadRequest, door, qname, rtype};
use crate::admin::{ExplainRequest, Place};
use crate::peer::Transport;

const EXAMPLES: &str = "\
Examples:
  hushgate explain example.com --door dot
  hushgate explain example.com AAAA --from 192.0.2.7       may this client ask?
  hushgate explain example.com --admin unix:/run/hushgate/admin.sock --json

Exit status: 0 the road was told, wherever it leads; 1 it could not be; 2 the arguments are wrong.";

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The domain name to ask for
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The record type: a mnemonic or a number
    #[arg(value_name = "TYPE", default_value = "A")]
    pub rtype: String,
    /// Ask on behalf of the client at this address
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// Ask at the door that speaks this: udp, tcp, dot, doh1, doh2, doh3 or doq
    #[arg(long, value_name = "TRANSPORT", value_parser = parse_door)]
    pub door: Option<Transport>,
    /// The gateway's admin listener: ADDRESS:PORT or unix:PATH
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:8054", value_parser = parse_place)]
    pub admin: Place,
    /// The file with the admin token, where the gateway wants one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the gateway's JSON instead
    #[arg(long)]
    pub json: bool,
}

/// Asks and prints. Makes its own runtime.
///
/// # Errors
/// What to do when no gateway answers, or it answers no.
pub fn run(options: &Options) -> Result<(), ExplainError> {
    let request = ExplainRequest {
        name: qname(&options.name)?,
        rtype: rtype(&options.rtype).ok_or(BadRequest::Type)?,
        from: options.from,
        door: options.door,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExplainError::Print)?;
    let text = runtime.block_on(ask::ask(&options.admin, options.token_file.as_deref(), &request))?;
    let shown = if options.json { text } else { road::render(&ask::read(&options.admin, &text)?) };
    match io::stdout().lock().write_all(shown.as_bytes()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(ExplainError::Print),
    }
}

fn parse_door(text: &str) -> Result<Transport, BadRequest> {
    door(text).ok_or(BadRequest::Door)
}

/// Why text is no place to ask at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be ADDRESS:PORT, such as 127.0.0.1:8054 or [::1]:8054, or unix:PATH")]
pub struct BadPlace;

/// Reads `127.0.0.1:8054`, `localhost:8054` or `unix:admin.sock`.
///
/// # Errors
/// It is none of them.
pub fn parse_place(text: &str) -> Result<Place, BadPlace> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Place::Unix(path.into()));
    }
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = local.as_deref().unwrap_or(text).parse().map_err(|_| BadPlace)?;
    Ok(Place::Address(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_and_sockets() {
        assert_eq!(parse_place("localhost:8054"), parse_place("127.0.0.1:8054"));
        assert_eq!(parse_place("unix:a/b.sock"), Ok(Place::Unix("a/b.sock".into())));
        for text in ["", "unix:", "127.0.0.1", "gateway.example:8054", "http://127.0.0.1:8054"] {
            assert_eq!(parse_place(text), Err(BadPlace), "{text}");
        }
    }
}
