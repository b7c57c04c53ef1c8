//! `[privacy]` and `[cookies]`: what servers learn of clients, and how clients show who they are.

use std::path::Path;
use std::time::Duration;

use super::Reader;
use super::capacity;
use super::dns64;
use super::kinds::{self, What};
use super::node::{Node, Value};
use crate::guard::Network;
use crate::pipeline::{CookieRule, Settings, SubnetRule};

/// RFC 9715 R3.
const DATAGRAM_LIMIT: usize = 1232;
/// More cookie secrets than any rollover has stages.
const MOST_SECRETS: usize = 16;

/// Reads both; `timeout` is the upstream's, `keepalive` what TCP and DoT clients are told.
pub fn read(reader: &mut Reader<'_>, timeout: Duration, keepalive: Duration) -> Settings {
    let rules = [("never", CookieRule::Never), ("when-busy", CookieRule::WhenBusy), ("always", CookieRule::Always)];
    let settings = Settings {
        timeout,
        cookies: reader.read("cookies.server", kinds::flag),
        require_cookie: reader.read("cookies.require", kinds::choice(&rules)),
        padding: reader.read("privacy.padding", kinds::flag),
        datagram_limit: DATAGRAM_LIMIT,
        keepalive,
        subnets: reader.read("privacy.ecs", ecs),
        outstanding_per_domain: capacity::read_outstanding(reader),
        secrets: read_secrets(reader),
        dns64: dns64::read(reader),
    };
    if let Some(node) = reader.values.get("cookies.require")
        && settings.require_cookie == CookieRule::Always
        && !settings.cookies
    {
        let what = "\"always\" shuts every UDP client out while cookies.server is false: none could get a cookie";
        reader.findings.error("cookies.require", node.origin, what);
    }
    settings
}

/// The secrets that cookies are signed with: the first signs, all verify (RFC 9018 5). None: one is made and rotated.
fn read_secrets(reader: &mut Reader<'_>) -> Vec<[u8; 16]> {
    let Some(node) = reader.values.get("cookies.secrets_file") else { return Vec::new() };
    let secrets = reader.file(node).and_then(|path| secrets(&path));
    reader.check("cookies.secrets_file", node, |_| secrets).unwrap_or_default()
}

/// The message says the line, never what stands there.
fn secrets(path: &Path) -> Result<Vec<[u8; 16]>, What> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(index, line): (usize, &str)| {
        let digits = line.len() == 32 && line.bytes().all(|octet| octet.is_ascii_hexdigit());
        let number = u128::from_str_radix(line, 16).ok().filter(|_| digits);
        number.map(u128::to_be_bytes).ok_or_else(|| format!("{name} line {} must be 32 hex digits", index + 1))
    };
    let secrets: Vec<[u8; 16]> = lines.map(parse).collect::<Result<_, _>>()?;
    match secrets.len() {
        0 => Err(format!("{name} holds no secret: it must have a line of 32 hex digits")),
        count if count > MOST_SECRETS => Err(format!("{name} holds {count} secrets: at most {MOST_SECRETS}")),
        _ => Ok(secrets),
    }
}

/// What servers are told of the client's network (RFC 7871). What this version does not do is refused elsewhere.
pub fn ecs(node: &Node) -> Result<SubnetRule, What> {
    const ALLOWED: &str = "must be \"strip\", \"opt-out\", \"forward\", { add = { v4 = 24, v6 = 56 } } or \
                           { fixed = \"192.0.2.0/24\" }";
    let known = match &node.value {
        Value::Text(text) => matches!(text.as_str(), "strip" | "opt-out" | "forward"),
        Value::Table(entries) => match entries.as_slice() {
            [entry] if entry.key == "fixed" => entry.node.text().is_some_and(|text| text.parse::<Network>().is_ok()),
            [entry] if entry.key == "add" => lengths(&entry.node),
            _ => false,
        },
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) | Value::List(_) => false,
    };
    let rule = if node.text() == Some("forward") { SubnetRule::Forward } else { SubnetRule::Strip };
    if known { Ok(rule) } else { Err(format!("{} {ALLOWED}", node.shown())) }
}

fn lengths(node: &Node) -> bool {
    let Value::Table(entries) = &node.value else { return false };
    let fits = |most: u32, node: &Node| kinds::whole(0..=most)(node).is_ok();
    entries.iter().all(|entry| match entry.key.as_str() {
        "v4" => fits(32, &entry.node),
        "v6" => fits(128, &entry.node),
        _ => false,
    })
}
