//! `demo`, `query`, `explain`, `check` and `completions`.

use serde_json::Value;

use crate::program::{Demo, Home, addresses, nobody};

#[test]
fn demo_answers_at_all_seven_doors_first_from_upstream_then_from_the_cache() {
    let ended = Home::new().run(&["demo", "--exit", "--json"]);
    assert_eq!((ended.code, ended.output.lines().count()), (0, 1), "{ended:?}");
    let facts: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!((&facts["answered"], &facts["of"]), (&7.into(), &7.into()), "{facts:#}");
    let doors = facts["doors"].as_array().unwrap();
    let names: Vec<&str> = doors.iter().map(|row| row["door"].as_str().unwrap()).collect();
    assert_eq!(names, ["udp", "tcp", "dot", "doh1", "doh2", "doh3", "doq"]);
    for row in doors {
        assert_eq!(row["origin"], serde_json::json!(["upstream", "cache"]), "{row}");
        assert_eq!(row["tls"].is_string(), !["udp", "tcp"].contains(&row["door"].as_str().unwrap()), "{row}");
        assert!(row["first_ms"].is_f64() && row["second_ms"].is_f64() && row["error"].is_null(), "{row}");
    }
    assert!(!std::path::Path::new(facts["authority"].as_str().unwrap()).exists(), "the state was this test's own");
}

#[test]
fn demo_moves_where_its_ports_are_taken_and_says_so_and_ends_well_on_sigterm() {
    let home = Home::new();
    let mut first = Demo::start(&home);
    let second = home.run(&["demo", "--exit", "--json"]);
    let facts: Value = serde_json::from_str(&second.output).unwrap();
    assert_eq!((second.code, &facts["answered"]), (0, &7.into()), "{facts:#}");
    assert!(addresses(&facts).iter().all(|address| !first.addresses().contains(address)), "{facts:#}");
    assert!(!facts["moved_from"].as_array().unwrap().is_empty());
    assert_eq!(facts["authority"], first.facts["authority"], "trust given once lasts");

    let text = home.run(&["demo", "--exit"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.output.starts_with("Taken on this machine, so other ports stand in for them: "), "{}", text.output);
    assert!(text.output.contains("\n7 of 7 doors answered."), "{}", text.output);
    assert!(!text.output.contains('\u{1b}'), "no colour where nobody looks");

    first.running.signal("TERM");
    assert_eq!(first.running.end().code(), Some(0));
}

#[test]
fn query_verifies_the_demo_against_its_authority_and_against_no_other() {
    let home = Home::new();
    let demo = Demo::start(&home);
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let stranger = home.write("stranger.pem", &stranger);
    let (trusted, stranger) = (demo.authority().to_str().unwrap(), stranger.to_str().unwrap());
    for (scheme, door) in [("tls", "dot"), ("https+h1", "doh1"), ("https", "doh2"), ("h3", "doh3"), ("quic", "doq")] {
        let url = format!("{scheme}://localhost:{}", demo.port(door));
        let right = home.run(&["query", &url, "any.demo.example", "--ca", trusted]);
        assert_eq!(right.code, 0, "{right:?}");
        assert!(right.output.contains(" IN A      192.0.2.7\n") && right.output.contains(door), "{}", right.output);
        let json = home.run(&["query", &url, "any.demo.example", "aaaa", "--ca", trusted, "--json"]);
        let json: Value = serde_json::from_str(&json.output).unwrap();
        assert_eq!((&json["transport"], &json["answer"][0]["data"]), (&door.into(), &"2001:db8::7".into()));

        let wrong = home.run(&["query", &url, "any.demo.example", "--ca", stranger]);
        assert_eq!((wrong.code, wrong.output.as_str()), (1, ""), "{url}");
        assert!(wrong.errors.contains(&url) && wrong.errors.contains("--ca"), "{}", wrong.errors);
    }
    for scheme in ["udp", "tcp"] {
        let url = format!("{scheme}://127.0.0.1:{}", demo.port(scheme));
        assert_eq!(home.run(&["query", &url, "any.demo.example", "TXT"]).code, 0, "{url}");
    }
}

#[test]
fn explain_tells_the_road_first_of_a_miss_then_of_a_hit() {
    let home = Home::new();
    let demo = Demo::start(&home);
    let explain =
        |more: &[&str]| home.run(&[&["explain", "road.demo.example", "--admin", demo.admin()], more].concat());
    let miss = explain(&["--door", "dot"]);
    assert_eq!(miss.code, 0, "{miss:?}");
    let stages: Vec<&str> =
        miss.output.lines().filter_map(|line| line.split(' ').next()).filter(|s| !s.is_empty()).collect();
    assert_eq!(
        stages,
        [
            "question", "door", "access", "cookie", "limit", "decision", "cache", "join", "upstream", "added", "cut",
            "reply"
        ]
    );
    let line = |text: &str, stage: &str| text.lines().find(|line| line.starts_with(stage)).unwrap().to_owned();
    assert_eq!(line(&miss.output, "cache"), "cache       miss");
    assert!(line(&miss.output, "upstream").contains(": answered after "), "{}", miss.output);
    let door = format!("door        dot at 127.0.0.1:{}, on behalf of 127.0.0.1", demo.port("dot"));
    assert_eq!(line(&miss.output, "door"), door);

    let hit = explain(&["--door", "dot"]);
    let cache = line(&hit.output, "cache");
    assert!(cache.starts_with("cache       hit, ") && cache.contains(" s old, "), "{cache}");
    assert!(cache.contains(", supplied by udp://127.0.0.1:"), "{cache}");
    assert!(line(&hit.output, "reply").contains(", from cache, "), "{}", hit.output);

    let json: Value = serde_json::from_str(&explain(&["--json"]).output).unwrap();
    assert_eq!((&json["cache"]["outcome"], &json["attempts_made"]), (&"hit".into(), &0.into()));
    let denied = explain(&["--from", "198.51.100.1"]);
    assert!(line(&denied.output, "access").ends_with("denied"), "{}", denied.output);
    assert!(line(&denied.output, "reply").contains("REFUSED"), "{}", denied.output);
}

#[test]
fn explain_without_a_gateway_says_what_to_do() {
    let (_held, nobody) = nobody();
    let ended = Home::new().run(&["explain", "a.example", "--admin", &nobody]);
    assert_eq!((ended.code, ended.output.as_str()), (1, ""));
    for part in [nobody.as_str(), "hushgate serve", "--admin"] {
        assert!(ended.errors.contains(part), "{}", ended.errors);
    }
}

#[test]
fn check_prints_every_problem_of_a_broken_file() {
    let home = Home::new();
    let file = home.write("hushgate.toml", "wokers = 2\n[cache]\nsize = \"lots\"\n[upstream]\ntimeout = 4\n");
    let ended = home.run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!((ended.code, ended.output.as_str()), (2, ""));
    for part in [
        ":1:1: error: wokers: unknown key; did you mean workers?",
        ":3:8: error: cache.size: ",
        ":5:11: error: upstream.timeout: ",
        "3 errors",
    ] {
        assert!(ended.errors.contains(part), "{part}: {}", ended.errors);
    }
    assert!(!home.path("hushgate").exists(), "nothing was made");
}

#[test]
fn check_takes_the_environment_and_overrides_and_prints_where_values_came_from() {
    let home = Home::new();
    let mut command = home.hushgate(&["check", "--effective", "--set", "upstream.timeout=3s"]);
    let output = command.env("HUSHGATE_SET", "upstream.timeout=2s, cache.size=1 GiB").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text.contains("timeout = \"3s\"  # --set\n") && text.contains("size = \"1 GiB\"  # HUSHGATE_SET\n"),
        "{text}"
    );
    assert!(text.parse::<toml::Table>().is_ok(), "{text}");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = Home::new().run(&["completions", shell]);
        assert_eq!(ended.code, 0);
        for command in ["serve", "check", "demo", "query", "explain", "cache"] {
            assert!(ended.output.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn wrong_arguments_end_with_status_2_and_help_with_0() {
    let home = Home::new();
    for arguments in [&[][..], &["bogus"], &["serve", "--nonsense"], &["query"]] {
        assert_eq!(home.run(arguments).code, 2, "{arguments:?}");
    }
    for command in ["serve", "check", "demo", "query", "explain", "cache"] {
        let help = home.run(&[command, "--help"]);
        assert_eq!(help.code, 0);
        assert!(help.output.contains("Examples:"), "{command}");
    }
}
