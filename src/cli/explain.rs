//! `hushgate explain NAME [TYPE]`: asks a running gateway for the road of one question and prints it, a stage a line.

mod road;

use std::net::IpAddr;

use http::Method;

use super::desk::{self, Desk, DeskError};
use crate::admin::request::{BadRequest, door, qname, rtype};
use crate::admin::{ExplainRequest, Explained};
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
    /// Which gateway
    #[command(flatten)]
    pub desk: Desk,
}

/// Why there is no explanation, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The question makes no sense.
    #[error(transparent)]
    Question(#[from] BadRequest),
    /// The gateway does not answer, or answers no.
    #[error(transparent)]
    Desk(#[from] DeskError),
}

/// Asks and prints.
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
    let text = options.desk.ask_now(Method::GET, &format!("/api/explain?{}", request.to_query()))?;
    let shown = if options.desk.json { text } else { road::render(&options.desk.read::<Explained>(&text)?) };
    Ok(desk::print(&shown)?)
}

fn parse_door(text: &str) -> Result<Transport, BadRequest> {
    door(text).ok_or(BadRequest::Door)
}
