//! System calls that a gateway has no use for and an intruder has: refused with EPERM (seccomp).
//!
//! A list of what is forbidden, not of what is allowed: the C library, the allocator and TLS call what the next version of each likes,
//! and a gateway that dies of a missing entry is a worse guard than one with a shorter list.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{Programs, Standing};
use crate::telemetry::confinement::Part;

/// Other programs in the place of this one.
const PROGRAMS: [c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// Into other processes, into the kernel, out of the file system, around the other parts.
const NEVER: [c_long; 46] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_personality,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Flags of `clone` that make namespaces, in which a user is root: cgroup, uts, ipc, user, pid, net, mount.
const NAMESPACES: [u64; 7] =
    [0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0002_0000];

/// The families of sockets in use: Unix, IPv4, IPv6, netlink (to learn our own interfaces).
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Marks the same call of x86-64's other numbering, which would be a way round the list.
const X32: i64 = 0x4000_0000;

/// What has a number of its own there: execve, execveat, ptrace, reading and writing other processes, kexec.
const X32_OWN: [i64; 6] = [520, 545, 521, 539, 540, 528];

/// Restricts this thread and all that it will start; only what is forbidden to gain privileges may.
pub fn restrict(programs: Programs, standing: &mut Standing) {
    let applied = compile(programs)
        .map_err(seccompiler::Error::from)
        .and_then(|filters| filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter)));
    match applied {
        Ok(()) => {
            standing.has(Part::Seccomp);
            standing.told.push(match programs {
                Programs::None => "seccomp".to_owned(),
                Programs::Hook => "seccomp (but for the hook)".to_owned(),
            });
        }
        Err(error) => standing.lacks(Part::Seccomp, error),
    }
}

fn compile(programs: Programs) -> Result<[BpfProgram; 2], BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let refuse = |rules, number: i32| {
        let error = SeccompAction::Errno(number.cast_unsigned());
        SeccompFilter::new(rules, SeccompAction::Allow, error, arch)?.try_into()
    };
    let started: &[c_long] = match programs {
        Programs::None => &PROGRAMS,
        Programs::Hook => &[],
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        NEVER.iter().chain(started).flat_map(|&call| both(call)).map(|call| (call, Vec::new())).collect();
    if cfg!(target_arch = "x86_64") {
        let own = X32_OWN.into_iter().skip(if started.is_empty() { PROGRAMS.len() } else { 0 });
        rules.extend(own.map(|call| (call | X32, Vec::new())));
    }
    let namespaces =
        NAMESPACES.into_iter().map(|flag| SeccompRule::new(vec![argument(SeccompCmpOp::MaskedEq(flag), flag)?]));
    let namespaces = namespaces.collect::<Result<Vec<_>, _>>()?;
    let families = FAMILIES.into_iter().map(|family| argument(SeccompCmpOp::Ne, family)).collect::<Result<_, _>>()?;
    let families = SeccompRule::new(families)?;
    for call in both(libc::SYS_clone) {
        rules.insert(call, namespaces.clone());
    }
    for call in both(libc::SYS_socket) {
        rules.insert(call, vec![families.clone()]);
    }
    // Its flags are out of a filter's sight. Said not to exist, it has the C library fall back on clone.
    let unseen = both(libc::SYS_clone3).into_iter().map(|call| (call, Vec::new())).collect();
    Ok([refuse(rules, libc::EPERM)?, refuse(unseen, libc::ENOSYS)?])
}

/// The first argument of a call, in its lower 32 bits.
fn argument(operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)
}

/// The numbers of a call: one, and on x86-64 a second.
fn both(call: c_long) -> Vec<i64> {
    if cfg!(target_arch = "x86_64") { vec![call, call | X32] } else { vec![call] }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// What `attempt` comes to on a thread that is restricted.
    fn restricted<T: Send + 'static>(programs: Programs, attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            let mut standing = Standing::default();
            restrict(programs, &mut standing);
            assert_eq!(standing.absent, [""; 0]);
            attempt()
        });
        thread.join().unwrap()
    }

    #[test]
    fn programs_namespaces_and_foreign_sockets_are_refused_and_threads_and_doors_are_not() {
        restricted(Programs::None, || {
            let started = Command::new("/bin/true").status().map_err(|error| error.raw_os_error());
            assert_eq!(started.err(), Some(Some(libc::EPERM)));
            assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
            let packets = Socket::new(Domain::PACKET, Type::RAW, None).map_err(|error| error.raw_os_error());
            assert_eq!(packets.err(), Some(Some(libc::EPERM)));
            for domain in [Domain::IPV4, Domain::UNIX] {
                Socket::new(domain, Type::STREAM, None).unwrap();
            }
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            assert_eq!(std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWUSER)).join().unwrap(), Err(Errno::EPERM));
        });
    }

    #[test]
    fn a_hook_is_started_and_holds_to_the_rest() {
        restricted(Programs::Hook, || {
            assert!(Command::new("/bin/true").status().unwrap().success());
            assert!(
                !Command::new("unshare").args(["--user", "true"]).output().is_ok_and(|output| output.status.success())
            );
        });
    }
}
