//! `[privacy]` and `[cookies]`: what servers learn of clients, and how clients show who they are.

use std::time::Duration;

use super::Reader;
use super::capacity;
use super::edns;
use super::kinds::{self, What};
use super::node::{Node, Value};
use super::secrets::Secrets;
use crate::guard::Network;
use crate::pipeline::{CookieRule, Settings, SubnetRule};

/// RFC 9715 R3.
const DATAGRAM_LIMIT: usize = 1232;

/// Reads both; `timeout` is the upstream's, `keepalive` what TCP and DoT clients are told, `secrets` what cookies are signed with.
pub fn read(reader: &mut Reader<'_>, timeout: Duration, keepalive: Duration, secrets: Secrets) -> Settings {
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
        secrets,
        nsid: edns::read_nsid(reader),
        pass: edns::read_pass(reader),
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
