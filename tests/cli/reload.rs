//! Reload by signal and by command: what is in force afterwards, what is said, and that nothing is left behind.

use serde_json::Value;

use crate::dns::{Upstream, receive_udp, send_udp, told};
use crate::program::{Home, Serving};

const REFUSED: u8 = 5;

/// A gateway that serves a file, on addresses that the system chooses.
fn serving(home: &Home, upstream: &Upstream, text: &str) -> Serving {
    let file = home.write("hushgate.toml", text);
    home.serve(upstream.address, &["--config", file.to_str().unwrap()])
}

#[test]
fn sighup_takes_the_file_over_and_a_broken_one_changes_nothing() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let serving = serving(&home, &upstream, "");
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))).0, 0);
    home.write("hushgate.toml", "[access]\nallow = [\"192.0.2.0/24\"]\n");
    serving.running.signal("HUP");
    let line = serving.running.until("the configuration has changed");
    assert!(line.contains("access.allow") && line.contains("192.0.2.0/24"), "{line}");
    serving.running.until("a configuration is in force");
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))).0, REFUSED);
    home.write("hushgate.toml", "[access]\nalow = []\n");
    serving.running.signal("HUP");
    let line = serving.running.until("not taken over");
    assert!(line.contains("access.alow") && line.contains("did you mean"), "{line}");
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))).0, REFUSED);
}

#[test]
fn diff_and_reload_say_what_is_different_and_a_watched_file_is_taken_over() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let serving = serving(&home, &upstream, "");
    let admin = serving.admin.to_string();
    let asked = |arguments: &[&str]| home.run(&[arguments, &["--admin", &admin]].concat());
    let file = home.write("hushgate.toml", "workers = 3\n[cache]\nmax_ttl = \"1h\"\n[reload]\nwatch = true\n");
    let diff = asked(&["diff", "--config", file.to_str().unwrap()]);
    assert_eq!(diff.code, 1, "{diff:?}");
    assert!(
        diff.output.contains("cache.max_ttl  (takes effect at once)\n  - \"24h\"\n  + \"1h\"\n"),
        "{}",
        diff.output
    );
    assert!(diff.output.contains("(needs a restart"), "{}", diff.output);
    let json = asked(&["diff", "--config", file.to_str().unwrap(), "--json"]);
    assert!(serde_json::from_str::<Value>(&json.output).unwrap().as_array().unwrap().len() > 2);
    let tried = asked(&["reload", "--dry-run"]);
    assert!(tried.code == 0 && tried.output.contains("Nothing has been changed"), "{tried:?}");
    let done = asked(&["reload"]);
    assert!(done.code == 0 && done.output.contains("In force (configuration 2"), "{done:?}");
    home.write("hushgate.toml", "]\n");
    let refused = asked(&["reload", "--json"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let refused: Value = serde_json::from_str(&refused.output).unwrap();
    assert!(!refused["problems"].as_array().unwrap().is_empty() && refused["applied"] == false, "{refused}");
    // Watched by now.
    serving.running.until("not taken over");
    home.write("hushgate.toml", "[access]\nallow = [\"192.0.2.0/24\"]\n");
    serving.running.until("access.allow");
    serving.running.until("a configuration is in force");
    assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))).0, REFUSED);
}

#[cfg(target_os = "linux")]
#[test]
fn many_reloads_leave_no_file_descriptor_and_no_thread_behind() {
    let (home, upstream) = (Home::new(), Upstream::start());
    let serving = serving(&home, &upstream, "");
    let process = format!("/proc/{}", serving.running.id());
    let count = |what: &str| std::fs::read_dir(format!("{process}/{what}")).unwrap().count();
    let resident = || {
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let look = || (count("fd"), count("task"), resident());
    let mut before = None;
    for round in 0..100 {
        let text = if round % 2 == 0 {
            "[limits]\nqueries_per_second = 100\n[[forward]]\ndomains = [\"corp.example\"]\nservers = [\"udp://192.0.2.1\"]\n"
        } else {
            ""
        };
        home.write("hushgate.toml", text);
        serving.running.signal("HUP");
        serving.running.until("a configuration is in force");
        assert_eq!(told(&receive_udp(&send_udp(serving.dns, "localhost"))).0, 0);
        // Pages of code and of the allocator are in by then.
        if round == 19 {
            before = Some(look());
        }
    }
    let (before, now) = (before.unwrap(), look());
    assert!(now.0 <= before.0 + 3, "file descriptors: {before:?} then {now:?}");
    // Threads that wait for the disk come and go.
    assert!(now.1 <= before.1 + 4, "threads: {before:?} then {now:?}");
    assert!(now.2 <= before.2 + 8 * 1024, "KiB: {before:?} then {now:?}");
}
