//! How much memory this process may have: the machine's, or less where a control group (cgroup v1 or v2) bounds it.

use std::fs;
use std::path::Path;

/// In octets; 0 where the system does not tell.
#[must_use]
pub fn memory() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let bounds = groups.lines().flat_map(|line| bounds(line, &read));
    bounds.chain(machine).min().unwrap_or_default()
}

/// `MemTotal:       16384000 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// The bounds of the group that `line` of `/proc/self/cgroup` names, and of those above it: `4:memory:/a/b`, or `0::/a/b`.
fn bounds(line: &str, read: &impl Fn(&Path) -> Option<String>) -> Vec<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        other if other.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let root = Path::new(root);
    // Inside a container the name may be of the machine outside; the root is then the container's own.
    let places = Path::new(group.trim_start_matches('/')).ancestors().map(|above| root.join(above).join(file));
    places.filter_map(|place| read(&place)?.trim().parse().ok()).filter(|&bound| bound > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_bound_of_a_group_and_those_above_it_holds_in_both_versions() {
        let read = |path: &Path| {
            let known = [
                ("/sys/fs/cgroup/memory.max", "max"),
                ("/sys/fs/cgroup/a/memory.max", "67108864\n"),
                ("/sys/fs/cgroup/a/b/memory.max", "134217728\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "1048576\n"),
            ];
            known.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(bounds("0::/a/b", &read), [134_217_728, 67_108_864]);
        assert_eq!(bounds("0::/", &read), Vec::<u64>::new());
        assert_eq!(bounds("4:memory:/c/unknown", &read), [1_048_576, 9_223_372_036_854_771_712]);
        assert_eq!(bounds("8:pids:/c", &read), Vec::<u64>::new());
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert!(memory() > 0, "this machine tells");
    }
}
