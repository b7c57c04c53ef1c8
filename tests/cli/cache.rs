//! `hushgate cache` against a gateway that runs: tables, JSON, statuses, sockets and tokens.

use serde_json::Value;

use crate::dns::{receive_udp, send_udp, told};
use crate::program::{Demo, Home, nobody};

#[test]
fn cache_shows_and_drops_what_the_gateway_holds() {
    let home = Home::new();
    let demo = Demo::start(&home);
    let dns = ([127, 0, 0, 1], demo.port("udp")).into();
    let cache = |arguments: &[&str]| home.run(&[&["cache"], arguments, &["--admin", demo.admin()]].concat());
    for name in ["held.demo.example", "below.held.demo.example", "other.demo.example"] {
        assert_eq!(told(&receive_udp(&send_udp(dns, name))).0, 0, "{name}");
    }
    let shown = cache(&["show", "HELD.demo.example"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(
        shown.output.starts_with("held.demo.example.\ntype ") || shown.output.starts_with("HELD.demo.example.\ntype "),
        "{}",
        shown.output
    );
    assert!(
        shown.output.contains("    held.demo.example. ") && shown.output.contains(" IN A 192.0.2.7\n"),
        "{}",
        shown.output
    );
    let json = cache(&["show", "held.demo.example", "a", "--json"]);
    let json: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!((&json["type"], &json["entries"][0]["state"]), (&"A".into(), &"fresh".into()));

    let nothing = cache(&["show", "held.demo.example", "MX"]);
    assert_eq!((nothing.code, nothing.output.as_str()), (1, "Nothing is held for held.demo.example. MX.\n"));
    let flushed = cache(&["flush", "--suffix", "Held.demo.example"]);
    assert_eq!((flushed.code, flushed.output.as_str()), (0, "Dropped 2 answers and 0 failures.\n"));
    assert_eq!((cache(&["show", "held.demo.example"]).code, cache(&["show", "other.demo.example"]).code), (1, 0));
    let json = cache(&["flush", "other.demo.example", "A", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.output).unwrap()["entries"], 1);
    assert_eq!(cache(&["flush", "--all"]).code, 0);
    let stats = cache(&["stats"]);
    assert!(stats.code == 0 && stats.output.contains("\nheld          0\n"), "{}", stats.output);
}

#[test]
fn cache_commands_say_what_is_missing() {
    let home = Home::new();
    let wrong: [&[&str]; 8] = [
        &["cache"],
        &["cache", "show"],
        &["cache", "show", "a..b"],
        &["cache", "show", "a.example", "NOTYPE"],
        &["cache", "flush"],
        &["cache", "flush", "a.example", "--all"],
        &["cache", "flush", "--suffix", "a", "--all"],
        &["cache", "flush", "--all", "--admin", "nowhere"],
    ];
    for arguments in wrong {
        let ended = home.run(arguments);
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{arguments:?}: {ended:?}");
    }
    assert!(
        home.run(&["cache", "flush"]).errors.contains("--suffix example.com"),
        "a flush of nothing explains itself"
    );
    let (_held, nobody) = nobody();
    let ended = home.run(&["cache", "stats", "--admin", &nobody]);
    assert_eq!((ended.code, ended.output.as_str()), (1, ""));
    assert!(ended.errors.contains(&nobody) && ended.errors.contains("hushgate serve"), "{}", ended.errors);
}

#[test]
fn cache_is_reached_by_unix_socket_and_with_the_token_where_one_is_wanted() {
    let home = Home::new();
    let upstream = crate::dns::Upstream::start();
    let (token, socket) = (home.write("token", "0123456789abcdef\n"), home.path("admin.sock"));
    let listen = format!("admin.listen=[\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    let wanted = format!("admin.token_file=\"{}\"", token.display());
    let _serving = home.serve(upstream.address, &["--set", &listen, "--set", &wanted]);
    let place = format!("unix:{}", socket.display());
    let without = home.run(&["cache", "flush", "--all", "--admin", &place]);
    assert!(without.code == 1 && without.errors.contains("--token-file"), "{without:?}");
    let with = home.run(&["cache", "flush", "--all", "--admin", &place, "--token-file", token.to_str().unwrap()]);
    assert_eq!(with.code, 0, "{with:?}");
}
