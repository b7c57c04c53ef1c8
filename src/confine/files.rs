//! The files that the process may touch, by landlock: what the configuration names, what names and certificates are found by, and the
//! state directory. The network stays free: upstreams and doors may change while it runs.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};

use super::{Places, Programs, Standing, folders};
use crate::telemetry::confinement::Part;

/// What is handled where the kernel knows it: later versions are about sockets and signals, which are left free.
const VERSION: ABI = ABI::V5;

/// Read on every system: name servers, hosts, zones of time, public authorities, the process's own counts and limits.
const SYSTEM: [&str; 18] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/lib/ssl",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/var/lib/ca-certificates",
    "/usr/share/zoneinfo",
    "/run/systemd/resolve",
    "/proc",
    "/sys/fs/cgroup",
    "/dev/urandom",
    "/dev/null",
];

/// Where programs that a hook starts may write, beside the state directory.
const SCRATCH: [&str; 2] = ["/tmp", "/dev/null"];

/// Does this kernel have it, and is it on?
#[must_use]
pub fn has_landlock() -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

/// Restricts this thread and all that it will start.
pub fn restrict(places: &Places, standing: &mut Standing) {
    let rules = Rules::of(places);
    match rules.apply() {
        Ok(status) => judge(&status, &rules, standing),
        Err(error) => standing.lacks(Part::Landlock, error),
    }
}

fn judge(status: &RestrictionStatus, rules: &Rules, standing: &mut Standing) {
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        LandlockStatus::NotEnabled => {
            return standing.lacks(Part::Landlock, "this kernel has it, and it is not switched on");
        }
        LandlockStatus::NotImplemented => return standing.lacks(Part::Landlock, "this kernel has none"),
    };
    if status.ruleset == RulesetStatus::NotEnforced {
        return standing.lacks(Part::Landlock, "the kernel did not enforce it");
    }
    standing.has(Part::Landlock);
    let [read, write] = [&rules.read, &rules.write].map(|paths| {
        let mut shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        shown.dedup();
        shown.join(" ")
    });
    standing.told.push(format!("landlock ABI {version} (read {read}; write {write})"));
}

/// Who may do what where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    programs: Programs,
}

impl Rules {
    fn of(places: &Places) -> Self {
        let mut read: Vec<PathBuf> = match places.programs {
            Programs::None => places.named.iter().flat_map(|path| folders(path)).collect(),
            Programs::Hook => vec!["/".into()],
        };
        read.sort();
        read.dedup();
        let sockets = places.sockets.iter().filter_map(|socket| socket.parent());
        let sockets = sockets.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let write = std::iter::once(places.state_dir.as_path()).chain(sockets).map(PathBuf::from).collect();
        Self { read, write, programs: places.programs }
    }

    fn apply(&self) -> Result<RestrictionStatus, RulesetError> {
        let reading: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let everything = AccessFs::from_all(VERSION);
        let running = match self.programs {
            Programs::None => reading,
            Programs::Hook => reading | AccessFs::Execute,
        };
        let writing = everything & !AccessFs::Execute;
        let scratch: &[&str] = match self.programs {
            Programs::None => &[],
            Programs::Hook => &SCRATCH,
        };
        // Also where authorities are said to be by these two variables, which OpenSSL reads and our verifier honours.
        let said = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let said = said.flat_map(|path| folders(&path));
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(everything)?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, reading))?
            .add_rules(path_beneath_rules(said, reading))?
            .add_rules(path_beneath_rules(&self.read, running))?
            .add_rules(path_beneath_rules(&self.write, writing))?
            .add_rules(path_beneath_rules(scratch, writing))?
            .restrict_self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_can_be_read_and_only_the_state_written_where_the_kernel_has_landlock() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let [inside, outside, state] = ["inside", "outside", "state"].map(|name| home.join(name));
        for folder in [&inside, &outside, &state] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("file"), "text").unwrap();
        }
        let places = Places { named: vec![inside.join("file")], state_dir: state.clone(), ..Places::default() };
        // A thread of its own: what it gives up, it alone gives up.
        let tried = std::thread::spawn(move || {
            let mut standing = Standing::default();
            restrict(&places, &mut standing);
            // Replaced by a rename, as certificates are.
            std::fs::write(state.join("new"), "text").unwrap();
            std::fs::rename(state.join("new"), state.join("file")).unwrap();
            assert_eq!(std::fs::read_to_string(inside.join("file")).unwrap(), "text");
            let forbidden = [
                std::fs::read(outside.join("file")).is_err(),
                std::fs::write(inside.join("file"), "").is_err(),
                std::fs::read_dir(&outside).is_err(),
            ];
            (standing, forbidden)
        });
        let (standing, forbidden) = tried.join().unwrap();
        let is_in_force = standing.parts.contains(&true);
        assert_eq!(is_in_force, has_landlock(), "{standing:?}");
        assert_eq!(is_in_force, standing.absent.is_empty(), "{standing:?}");
        assert_eq!(forbidden, [is_in_force; 3]);
    }

    #[test]
    fn a_hook_may_read_everything_and_a_gateway_without_one_what_it_named() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::write(home.join("key.pem"), "").unwrap();
        let mut places = Places {
            named: vec![home.join("key.pem"), home.join("key.pem")],
            state_dir: "/var/lib/hushgate".into(),
            sockets: vec!["/run/hushgate/admin.sock".into(), "admin.sock".into()],
            ..Places::default()
        };
        let write: Vec<PathBuf> = ["/var/lib/hushgate", "/run/hushgate", "."].map(PathBuf::from).into();
        let rules = Rules::of(&places);
        assert_eq!((rules.read, rules.write.clone()), (vec![home], write.clone()));
        places.programs = Programs::Hook;
        let rules = Rules::of(&places);
        assert_eq!((rules.read, rules.write), (vec![PathBuf::from("/")], write));
    }
}
