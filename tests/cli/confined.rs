//! The process after its doors are open: whose it is, what the kernel holds it to, and that it goes on to do its work.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::dns::{Upstream, receive_udp, send_udp, told};
use crate::program::{Home, Serving};

/// What `/proc/PID/task/*/status` says under `key`, of every thread.
fn said(pid: u32, key: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")))?.trim().to_owned();
        Some(line)
    };
    threads.filter_map(|thread| of(thread.unwrap())).collect()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Lets others through to what is below the test's folder, which is for its owner alone.
fn open_home(home: &Home) {
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
}

fn get(serving: &Serving, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(serving.admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", serving.admin).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn serve_as_another_user_answers_and_keeps_its_state_with_no_right_left() {
    let home = Home::new();
    open_home(&home);
    let upstream = Upstream::start();
    let more = ["--set", "process.user=nobody", "--set", "cache.snapshot=true"];
    if !is_root() {
        let ended = home.run(&["serve", "--set", "process.user=nobody", "--set", "listen.dns=[\"127.0.0.1:0\"]"]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.errors.contains("only root may become another user"), "{}", ended.errors);
        return;
    }
    let mut serving = home.serve(upstream.address, &more);
    let confined = serving.running.until("confined: ");
    assert!(confined.contains("user nobody, no capabilities") && confined.contains("seccomp"), "{confined}");
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))), (0, 1));
    let nobody = fs::metadata(home.path("hushgate")).unwrap();
    let pid = serving.running.id();
    let four_times = |id: u32| std::iter::repeat_n(id.to_string(), 4).collect::<Vec<_>>().join("\t");
    assert_ne!(nobody.uid(), 0, "the state directory is the user's");
    for (key, wanted) in [
        ("Uid", four_times(nobody.uid())),
        ("Gid", four_times(nobody.gid())),
        ("Groups", nobody.gid().to_string()),
        ("CapEff", "0".repeat(16)),
        ("CapPrm", "0".repeat(16)),
        ("CapAmb", "0".repeat(16)),
        ("NoNewPrivs", "1".to_owned()),
        ("Seccomp", "2".to_owned()),
    ] {
        let all = said(pid, key);
        assert!(all.len() > 2 && all.iter().all(|line| *line == wanted), "{key}: {all:?}");
    }
    let metrics = get(&serving, "/metrics");
    for part in ["user", "no_new_privileges", "seccomp"] {
        assert!(metrics.contains(&format!("hushgate_sandbox{{part=\"{part}\"}} 1")), "{part} in {metrics}");
    }
    let has_landlock = confined.contains("landlock ABI");
    let landlock = format!("hushgate_sandbox{{part=\"landlock\"}} {}", u8::from(has_landlock));
    assert!(metrics.contains(&landlock), "{metrics}");
    serving.running.signal("TERM");
    assert_eq!(serving.running.end().code(), Some(0));
    let written: Vec<_> = fs::read_dir(home.path("hushgate")).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(written.iter().any(|entry| entry.file_name().to_str().unwrap().contains("snapshot")), "{written:?}");
    for entry in written {
        assert_eq!(entry.metadata().unwrap().uid(), nobody.uid(), "{entry:?}");
    }
}

#[test]
fn a_state_directory_that_is_not_there_is_made_before_the_files_are_out_of_reach() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let (chain, key) = crate::certificates::made(2120);
    let [chain, key] = [("chain.pem", chain), ("key.pem", key)].map(|(name, text)| home.write(name, &text));
    // With a certificate of its own nothing is kept for the identity: the directory is for QUIC's keys alone.
    let certificates = format!("tls.certificates=[{{ chain = {chain:?}, key = {key:?} }}]");
    let mut serving = home.serve(upstream.address, &["--set", &certificates]);
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))), (0, 1));
    assert!(home.path("hushgate/quic-key").is_file());
    serving.running.signal("TERM");
    assert_eq!(serving.running.end().code(), Some(0));
}

#[test]
fn a_user_who_cannot_be_had_ends_the_start_with_the_reason() {
    let home = Home::new();
    let ports = crate::program::ANY_PORTS;
    let sets = |more: &[&str]| {
        let mut arguments = vec!["serve".to_owned()];
        for set in ports.iter().chain(more) {
            arguments.extend(["--set".to_owned(), (*set).to_owned()]);
        }
        arguments
    };
    let run = |more: &[&str]| home.run(&sets(more).iter().map(String::as_str).collect::<Vec<_>>());
    let ended = run(&["process.user=nobody-by-this-name"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.errors.contains("there is no such user"), "{}", ended.errors);
    let checked = home.run(&["check", "--set", "process.user=nobody-by-this-name"]);
    assert!(checked.code == 0 && checked.errors.contains("warning: process: "), "{checked:?}");
    if is_root() {
        // The user cannot enter what is root's alone.
        fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o700)).unwrap();
        let ended = run(&["process.user=nobody"]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.errors.contains("cannot write to") && ended.errors.contains("state_dir"), "{}", ended.errors);
    }
}

#[test]
fn sandbox_off_takes_nothing() {
    let home = Home::new();
    let upstream = Upstream::start();
    let serving = home.serve(upstream.address, &["--set", "process.sandbox=off"]);
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))), (0, 1));
    let own = said(std::process::id(), "Seccomp").remove(0);
    assert!(said(serving.running.id(), "Seccomp").iter().all(|mode| *mode == own));
    assert!(get(&serving, "/metrics").contains("hushgate_sandbox{part=\"seccomp\"} 0"));
}

#[test]
fn a_service_manager_hears_ready_alive_reloading_and_stopping() {
    let home = Home::new();
    open_home(&home);
    let upstream = Upstream::start();
    let socket = UnixDatagram::bind(home.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |wanted: &str| std::iter::repeat_with(hear).find(|notice| notice.starts_with(wanted)).unwrap();
    let notify = home.path("notify");
    let environment = [("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let mut serving = home.serve_in(&environment, upstream.address, &[]);
    assert!(until("READY=1\n").contains("STATUS=serving"));
    for _ in 0..3 {
        until("WATCHDOG=1\n");
    }
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))), (0, 1));
    serving.running.signal("HUP");
    assert!(until("RELOADING=1\n").contains("MONOTONIC_USEC="));
    assert!(until("READY=1\n").contains("STATUS=serving"));
    serving.running.signal("TERM");
    until("STOPPING=1\n");
    assert_eq!(serving.running.end().code(), Some(0));
}
