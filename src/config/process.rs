//! `[process]`: who the process is once its doors are open, and what it gives up then.
//!
//! Whether the user exists is seen at start: a configuration may be checked on another machine.

use super::node::{Node, Value};
use super::{Origin, Reader, kinds};
use crate::confine::{Sandbox, Settings};

/// Reads it.
pub fn read(reader: &mut Reader<'_>) -> Settings {
    let [user, group] = ["process.user", "process.group"].map(|key| {
        let node = reader.values.get(key)?;
        reader.check(key, node, account)
    });
    if let Some(node) = reader.values.get("process.group").filter(|_| reader.values.get("process.user").is_none()) {
        reader.findings.error("process.group", node.origin, "needs process.user: a group alone gives up nothing");
    }
    if matches!(user.as_deref(), Some("root" | "0")) {
        let origin = reader.values.get("process.user").map_or(Origin::Default, |node| node.origin);
        reader.findings.error("process.user", origin, "is root: name an ordinary user, or leave it out");
    }
    let sandboxes = [("auto", Sandbox::Auto), ("off", Sandbox::Off), ("require", Sandbox::Require)];
    Settings { user, group, sandbox: reader.read("process.sandbox", kinds::choice(&sandboxes)) }
}

/// A name or a number.
fn account(node: &Node) -> Result<String, kinds::What> {
    let what = || format!("{} must be the name or the number of an account", node.shown());
    if let Value::Integer(number) = node.value {
        return u32::try_from(number).map(|number| number.to_string()).map_err(|_| what());
    }
    let is_good = |text: &&str| {
        let is_plain = !text.contains([':', '/', ',', ' ']) && !text.contains(char::is_control);
        !text.is_empty() && !text.starts_with('-') && is_plain
    };
    node.text().filter(is_good).map(str::to_owned).ok_or_else(what)
}
