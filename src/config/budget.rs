//! `limits.memory`: how much memory the process may take, and what that leaves for the cache and for connections.

use super::kinds::{self, What};
use super::node::Node;
use super::{Reader, unit};

/// Octets of a gateway that keeps nothing and serves nobody: code, tables, buffers.
const BARE: usize = 14 << 20;
/// What may be chosen.
const SIZES: std::ops::RangeInclusive<u64> = 32 << 20..=1 << 44;

/// Reads it; `None` where the machine does not tell how much it has.
pub fn read(reader: &mut Reader<'_>) -> Option<usize> {
    // The other half is for what is not ours to count: the kernel's buffers of our sockets, other processes.
    let half = usize::try_from(reader.around.memory / 2).ok().filter(|&half| half > 0);
    reader.read("limits.memory", auto_or_size).or(half)
}

/// Makes the cache fit into half of `memory`, and says so where it did not.
pub fn fit(reader: &mut Reader<'_>, memory: Option<usize>, cache: &mut usize) {
    let Some(most) = memory.map(|memory| memory / 2).filter(|&most| *cache > most) else { return };
    if let Some(node) = reader.values.get("cache.size") {
        let [size, most] = [*cache, most].map(|octets| unit::show_size(u64::try_from(octets).unwrap_or(u64::MAX)));
        let what = format!("{size} is more than half of limits.memory: the cache gets {most}");
        reader.findings.warning("cache.size", node.origin, what);
    }
    *cache = most;
}

/// What is left for connections.
#[must_use]
pub fn left(memory: Option<usize>, cache: usize) -> Option<usize> {
    memory.map(|memory| memory.saturating_sub(cache).saturating_sub(BARE))
}

/// `"auto"` is None.
fn auto_or_size(node: &Node) -> Result<Option<usize>, What> {
    if node.text() == Some("auto") {
        return Ok(None);
    }
    let [least, most] = [SIZES.start(), SIZES.end()].map(|&size| unit::show_size(size));
    match kinds::size(SIZES)(node) {
        Ok(octets) if octets > 0 => Ok(Some(octets)),
        _ => Err(format!("{} must be a size from {least} to {most}, or \"auto\"", node.shown())),
    }
}
