//! The configuration as an operator meets it: files with their mistakes, layers, the example, and what `check` prints.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail where it stands"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hushgate::cli::check;
use hushgate::config::effect::EFFECT;
use hushgate::config::keys::KEYS;
use hushgate::config::{Config, Loaded, Origin, Severity, Source, Surroundings, effective, load, load_in};
use hushgate::discovery::{Advertise, Port};
use hushgate::guard::Network;
use hushgate::listen::DoorKind;
use hushgate::pipeline::{AnyRule, Prefix};
use hushgate::upstream::SubnetRule;
use hushgate::upstream::address::Host;
use hushgate::upstream::settings::{ProxyKind, Strategy};
use hushgate::wire::Subnet;

/// A machine that is the same everywhere.
fn machine() -> Surroundings {
    Surroundings {
        open_files: 65_536,
        memory: 16 << 30,
        cores: 4,
        link: vec!["192.0.2.0/24".parse().unwrap()],
        name_servers: vec!["192.0.2.53".parse().unwrap()],
        state_dir: Some("/var/lib/hushgate".into()),
    }
}

fn load_file(path: &Path) -> Loaded {
    load_in(&Source { file: Some(path.to_owned()), ..Source::default() }, &machine())
}

fn load_sets(sets: &[&str]) -> Loaded {
    load_in(&Source { sets: sets.iter().map(ToString::to_string).collect(), ..Source::default() }, &machine())
}

fn config(loaded: &Loaded) -> &Config {
    loaded.config.as_ref().unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

/// All that it means, whatever files said it.
fn meant(loaded: &Loaded) -> String {
    format!("{:#?}", Config { named: Vec::new(), ..config(loaded).clone() })
}

/// The cases of a folder: each file, what its `# expect:` lines say, and what is found, without the file's name.
fn cases(folder: &str) -> Vec<(PathBuf, Vec<String>, Loaded)> {
    let folder = Path::new("tests/config").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let case = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = text.lines().filter_map(|line| line.strip_prefix("# expect: ")).map(str::to_owned).collect();
        let loaded = load_file(&path);
        (path, expected, loaded)
    };
    files.into_iter().map(case).collect()
}

fn found(path: &Path, loaded: &Loaded) -> Vec<String> {
    let prefix = format!("{}:", path.display());
    let line = |problem: &hushgate::config::Problem| {
        let whole = problem.to_string();
        whole.strip_prefix(&prefix).map_or(whole.clone(), |rest| rest.trim_start().to_owned())
    };
    loaded.problems.iter().map(line).collect()
}

#[test]
fn every_mistake_is_named_with_its_place_key_value_and_what_is_allowed() {
    let cases = cases("invalid");
    assert!(cases.len() >= 25, "{}", cases.len());
    for (path, expected, loaded) in cases {
        assert_eq!(found(&path, &loaded), expected, "{}", path.display());
        assert!(loaded.problems.iter().any(|problem| problem.severity == Severity::Error), "{}", path.display());
        assert!(loaded.config.is_none(), "{}", path.display());
        assert!(expected.len() == 1 || path.ends_with("several.toml"), "{}: one mistake each", path.display());
    }
}

#[test]
fn what_is_right_is_taken_with_no_more_than_its_warnings() {
    let cases = cases("valid");
    assert!(cases.len() >= 10, "{}", cases.len());
    for (path, expected, loaded) in cases {
        assert_eq!(found(&path, &loaded), expected, "{}", path.display());
        assert!(loaded.config.is_some(), "{}", path.display());
    }
}

#[test]
fn a_later_layer_wins_and_each_value_knows_where_it_came_from() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("layers.toml");
    std::fs::write(&path, "[upstream]\ntimeout = \"1s\"\nattempt_timeout = \"500ms\"\n[cache]\nsize = \"1 MiB\"\n")
        .unwrap();
    let source = Source {
        file: Some(path.clone()),
        environment: Some(
            "upstream.timeout=2s, cache.size=1 GiB, upstream.servers=[\"udp://192.0.2.1\", \"udp://192.0.2.2\"]".into(),
        ),
        sets: vec!["upstream.timeout=3s".into(), "workers=3".into(), "workers=2".into(), "tls.min_version=1.3".into()],
    };
    let loaded = load_in(&source, &machine());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let config = config(&loaded);
    assert_eq!(config.upstream.default.timeout, Duration::from_secs(3));
    assert_eq!(config.upstream.default.attempt_timeout, Duration::from_millis(500));
    assert_eq!(config.upstream.default.servers.len(), 2);
    assert_eq!((config.cache.size, config.workers), (1 << 30, 2));
    assert_eq!(config.tls.min_version, hushgate::identity::MinVersion::Tls13);

    let from = |key: &str| loaded.effective.iter().find(|row| row.key == key).unwrap().from.clone();
    assert_eq!(from("upstream.timeout"), "--set");
    assert_eq!(from("cache.size"), "HUSHGATE_SET");
    assert_eq!(from("upstream.attempt_timeout"), format!("{}:3", path.display()));
    assert_eq!(from("cache.max_ttl"), "default");
}

#[test]
fn mistakes_outside_the_file_name_their_layer_and_come_all_at_once() {
    let source = Source {
        file: Some("tests/config/valid/empty.toml".into()),
        environment: Some("cache.size=lots, nothing".into()),
        sets: vec!["cahce.size=1 GiB".into(), "listen.dns=127.0.0.1:53".into(), "pool.a b.timeout=1s".into()],
    };
    let loaded = load_in(&source, &machine());
    let lines: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "HUSHGATE_SET: error: \"nothing\" must be written key=value",
            "HUSHGATE_SET: error: cache.size: \"lots\" must be a size like \"512 KiB\", \"64 MiB\", \"1 GiB\" or \"0\"",
            "--set: error: cahce.size: unknown key; did you mean cache.size?",
            "--set: error: pool.a b.timeout: a pool's name is made of letters, digits, - and _",
            "--set: error: listen.dns: \"127.0.0.1:53\" must be a list, in [ ]",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_said_with_its_cause() {
    let line = |path: &str| load_file(Path::new(path)).problems.first().map(ToString::to_string);
    assert_eq!(
        line("tests/config/nowhere.toml").as_deref(),
        Some("tests/config/nowhere.toml: error: cannot be read: No such file or directory (os error 2)")
    );
    let latin = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("latin.toml");
    std::fs::write(&latin, [b'#', 0xfc, b'\n']).unwrap();
    assert!(load_file(&latin).problems[0].to_string().ends_with("error: is not UTF-8 text"));
}

#[test]
fn every_key_of_the_example_stands_at_the_default_that_the_code_uses() {
    let example = load_file(Path::new("deploy/hushgate.toml"));
    assert_eq!(example.problems, [], "the example is right and sets nothing that has no effect");
    let without = load_in(&Source::default(), &machine());
    assert_eq!(meant(&example), meant(&without));

    let mut said = BTreeSet::new();
    for (row, default) in example.effective.iter().zip(&without.effective) {
        assert_eq!((&row.key, row.value.to_toml()), (&default.key, default.value.to_toml()));
        if matches!(row.origin(), Origin::File { .. }) {
            said.insert(row.key.as_str());
        }
    }
    let known: BTreeSet<&str> = KEYS.iter().filter(|key| key.default.is_some()).map(|key| key.path).collect();
    assert_eq!(said, known);
    let text = std::fs::read_to_string("deploy/hushgate.toml").unwrap();
    for key in KEYS.iter().filter(|key| key.default.is_none() && !key.path.contains('*')) {
        let leaf = key.path.rsplit('.').next().unwrap();
        let written = [format!("# {leaf} = "), format!("# [[{}]]", key.path)];
        assert!(written.iter().any(|form| text.contains(form.as_str())), "{} is not in the example", key.path);
    }
}

#[test]
fn the_example_marks_the_keys_without_effect_and_no_others() {
    let text = std::fs::read_to_string("deploy/hushgate.toml").unwrap();
    let marked: Vec<&str> =
        text.lines().filter(|line| line.contains("(later)") && !line.contains("Keys marked")).collect();
    for row in EFFECT {
        let leaf = row.key.rsplit('.').next().unwrap();
        assert!(marked.iter().any(|line| line.contains(leaf)), "{} is not marked", row.key);
    }
    assert_eq!(marked.len(), EFFECT.len(), "{marked:#?}");
}

#[test]
fn defaults_are_those_that_the_components_document() {
    let loaded = load_in(&Source::default(), &machine());
    let config = config(&loaded);
    assert_eq!(config.cache, hushgate::cache::Settings::default());
    assert_eq!(config.listen.limits, hushgate::listen::Limits::default());
    let doors: Vec<(DoorKind, String)> =
        config.listen.doors.iter().map(|door| (door.kind, door.address.to_string())).collect();
    let at = |kind, port| ["127.0.0.1", "[::1]"].map(|host| (kind, format!("{host}:{port}")));
    let both = [(DoorKind::Dns, 8053), (DoorKind::Dot, 8853), (DoorKind::Doh, 8443), (DoorKind::Doq, 8853)];
    assert_eq!(doors, both.map(|(kind, port)| at(kind, port)).concat());
    assert_eq!((config.guard.connections, config.workers), (20_000, 4));
    assert_eq!(config.state_dir, Path::new("/var/lib/hushgate"));
    assert_eq!(config.pipeline.timeout, config.upstream.default.timeout);
    assert_eq!(config.pipeline.keepalive, config.listen.limits.tcp_idle_timeout);
}

#[test]
fn this_machine_can_run_on_the_defaults() {
    let loaded = load(&Source { sets: vec!["state_dir=state".into()], ..Source::default() });
    assert_eq!(loaded.problems, []);
    let config = config(&loaded);
    assert!(config.workers > 0 && config.guard.connections > 0);
    let loopback = "127.0.0.1".parse().unwrap();
    assert!(config.guard.allow.iter().all(|list| list.iter().any(|network| network.contains(loopback))));
}

#[test]
fn few_open_files_lower_what_auto_comes_to_and_only_warn_about_a_number() {
    let poor = Surroundings { open_files: 1024, ..machine() };
    assert_eq!(config(&load_in(&Source::default(), &poor)).guard.connections, 512);
    let sets = vec!["limits.connections=1000".to_owned()];
    let asked = load_in(&Source { sets, ..Source::default() }, &poor);
    assert_eq!(config(&asked).guard.connections, 1000);
    assert_eq!(asked.problems.len(), 1);
    assert_eq!(asked.problems[0].severity, Severity::Warning);
}

#[test]
fn every_worker_has_a_number_of_its_own_however_many_cores_there_are() {
    let large = Surroundings { cores: 384, ..machine() };
    assert_eq!(config(&load_in(&Source::default(), &large)).workers, 256);
}

#[test]
fn nowhere_to_keep_state_is_an_error_that_naming_a_place_mends() {
    let homeless = Surroundings { state_dir: None, ..machine() };
    let loaded = load_in(&Source::default(), &homeless);
    assert!(loaded.config.is_none());
    assert_eq!(loaded.problems[0].key_path, "state_dir");
    let sets = vec!["state_dir=/srv/state".to_owned()];
    let loaded = load_in(&Source { sets, ..Source::default() }, &homeless);
    assert_eq!(config(&loaded).tls.state_dir, Path::new("/srv/state"));
}

#[test]
fn a_listen_table_opens_exactly_what_it_names_in_the_order_of_door_ids() {
    let loaded = load_sets(&[
        "listen.doh=[{ address = \"0.0.0.0:443\", allow = [\"any\"] }, { address = \"127.0.0.1:80\", tls = false }]",
        "listen.dns=[\"127.0.0.1:53\"]",
        "access.allow=[\"link\", \"10.0.0.0/8\"]",
    ]);
    let config = config(&loaded);
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let doors: Vec<_> = config.listen.doors.iter().map(|door| (door.kind, door.address)).collect();
    assert_eq!(
        doors,
        [
            (DoorKind::Dns, address("127.0.0.1:53")),
            (DoorKind::Doh, address("0.0.0.0:443")),
            (DoorKind::DohClear, address("127.0.0.1:80")),
        ]
    );
    let network = |text: &str| text.parse::<Network>().unwrap();
    let everywhere = vec![network("192.0.2.0/24"), network("10.0.0.0/8")];
    let everybody = vec![network("0.0.0.0/0"), network("::/0")];
    assert_eq!(config.guard.allow, [everywhere.clone(), everybody, everywhere]);
    let closed = loaded.effective.iter().find(|row| row.key == "listen.doq").unwrap();
    assert_eq!((closed.value.to_toml().as_str(), closed.from.as_str()), ("[]", "--set"));
}

#[test]
fn ppx_12_no_quic_door_takes_a_header_and_a_doh_door_behind_a_proxy_opens_none() {
    let doq = load_sets(&["listen.doq=[{ address = \"127.0.0.1:853\", proxy = [\"10.0.0.1\"] }]"]);
    assert!(doq.config.is_none());
    assert_eq!(doq.problems[0].key_path, "listen.doq[0].proxy");
    let doh = load_sets(&["listen.doh=[{ address = \"127.0.0.1:443\", proxy = [\"10.0.0.1\"] }, \"127.0.0.2:443\"]"]);
    let config = config(&doh);
    let kinds: Vec<DoorKind> = config.listen.doors.iter().map(|door| door.kind).collect();
    assert_eq!(kinds, [DoorKind::DohTcp, DoorKind::Doh]);
    let trust: Vec<_> = config.guard.trust.iter().map(|trust| trust.proxy.len()).collect();
    assert_eq!(trust, [1, 0]);
}

#[test]
fn private_networks_are_those_of_the_example() {
    let config = load_sets(&["access.allow=[\"private\"]"]).config.unwrap();
    let allowed = |text: &str| config.guard.allow[0].iter().any(|network| network.contains(text.parse().unwrap()));
    for inside in [
        "10.1.2.3",
        "172.31.0.1",
        "192.168.9.9",
        "127.0.0.2",
        "169.254.1.1",
        "100.127.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
    ] {
        assert!(allowed(inside), "{inside}");
    }
    for outside in ["9.9.9.9", "172.32.0.1", "100.128.0.1", "192.0.2.1", "2001:db8::1", "fec0::1", "::2"] {
        assert!(!allowed(outside), "{outside}");
    }
}

#[test]
fn paths_are_relative_to_the_file_and_secrets_are_read_in_order() {
    let loaded = load_file(Path::new("tests/config/valid/files-beside-the-file.toml"));
    let config = config(&loaded);
    assert_eq!(config.tls.certificates[0].chain, Path::new("tests/config/valid/empty.toml"));
    assert_eq!(config.admin.token_file.as_deref(), Some(Path::new("tests/config/valid/empty.toml")));
    assert_eq!(config.pipeline.secrets.len(), 2);
    assert_eq!(config.pipeline.secrets[0][..4], [0xe5, 0xe9, 0x73, 0xe5]);
    assert_eq!(config.pipeline.secrets[1][15], 0x62);
}

#[test]
fn all_that_a_server_table_says_arrives() {
    let loaded = load_file(Path::new("tests/config/valid/servers-with-more-to-say.toml"));
    let servers = &config(&loaded).upstream.default.servers;
    assert_eq!(servers[0].url.to_string(), "udp://192.0.2.53");
    assert_eq!((servers[1].tls_name.as_deref(), servers[1].pins.as_slice()), (Some("dns.example"), &[[0; 32]][..]));
    assert_eq!(servers[2].method, hushgate::upstream::settings::Method::Get);
    assert_eq!(servers[2].addresses.len(), 2);
    assert!(servers[2].ca.as_deref().is_some_and(|path| path.starts_with("tests/config/valid")));
    assert_eq!(servers[3].url.port, 8853);
}

#[test]
fn what_servers_are_told_of_networks_is_said_for_all_and_for_each() {
    let of = |file: &str| {
        let loaded = load_file(&Path::new("tests/config/valid").join(file));
        config(&loaded).upstream.default.servers.iter().map(|server| server.ecs).collect::<Vec<_>>()
    };
    let network = |text: &str, length| Subnet::of(text.parse().unwrap()).within(length);
    assert_eq!(
        of("ecs-of-each-server.toml"),
        [
            SubnetRule::Forward,
            SubnetRule::Add { v4: 24, v6: 56 },
            SubnetRule::Fixed(network("198.51.100.0", 24)),
            SubnetRule::Strip,
            SubnetRule::OptOut
        ]
    );
    for (file, rule) in [
        ("empty.toml", SubnetRule::Strip),
        ("ecs-forward.toml", SubnetRule::Forward),
        ("ecs-add.toml", SubnetRule::Add { v4: 20, v6: 48 }),
        ("ecs-fixed.toml", SubnetRule::Fixed(network("2001:db8::", 56))),
    ] {
        assert!(of(file).iter().all(|ecs| *ecs == rule), "{file}");
    }
}

#[test]
fn advice_changes_neither_the_verdict_nor_the_exit_code_and_is_in_json_too() {
    let path = Path::new("tests/config/valid/notice-senders-of-subnets.toml");
    let loaded = load_file(path);
    let args = |json| check::Args { config: Some(path.to_owned()), json, ..check::Args::default() };
    let text = check::report(&args(false), &loaded);
    assert_eq!((text.code, text.output.ends_with(" is fine.\n")), (0, true), "{}", text.output);
    assert_eq!(text.complaints.matches(": notice: upstream.servers[").count(), 3);
    let json: serde_json::Value = serde_json::from_str(&check::report(&args(true), &loaded).output).unwrap();
    assert_eq!((json["ok"].as_bool(), json["problems"][0]["severity"].as_str()), (Some(true), Some("notice")));
}

/// Domains for people.
fn domains(wire: &[Box<[u8]>]) -> Vec<String> {
    wire.iter().map(|domain| hushgate::wire::name::Shown(domain).to_string()).collect()
}

#[test]
fn pools_and_forwards_arrive_as_they_are_written() {
    let loaded = load_file(Path::new("tests/config/valid/pools-and-forwards.toml"));
    let config = config(&loaded);
    let upstream = &config.upstream;
    let names: Vec<&str> = upstream.pools.iter().map(|named| &*named.name).collect();
    assert_eq!(names, ["corp", "far", "forward[1]"]);
    let [corp, far, lan] = [0, 1, 2].map(|index| &upstream.pools[index].pool);
    let urls: Vec<String> = corp.servers.iter().map(|server| server.url.to_string()).collect();
    assert_eq!(urls, ["udp://10.0.0.53", "tcp://10.0.1.53"]);
    assert_eq!(
        (corp.strategy, far.strategy, lan.strategy),
        (Strategy::Ordered, Strategy::Weighted, Strategy::Adaptive)
    );
    assert_eq!((far.servers[0].weight, far.servers[1].weight), (3, 1));
    assert_eq!((far.hedge, lan.hedge, upstream.default.hedge), (Some(125), Some(50), Some(50)));

    // What a pool leaves unsaid is the default, not what [upstream] says; and its names go to no public resolver.
    assert_eq!((upstream.default.timeout, corp.timeout), (Duration::from_secs(2), Duration::from_secs(10)));
    for pool in [far, lan] {
        assert_eq!((pool.timeout, pool.attempt_timeout), (Duration::from_secs(4), Duration::from_millis(1500)));
        assert!(pool.fallback.is_empty());
    }
    assert_eq!(config.pipeline.timeout, Duration::from_secs(10), "a client waits for the most patient pool");

    let forwards: Vec<_> = upstream
        .forwards
        .iter()
        .map(|forward| (domains(&forward.domains), forward.pool, forward.fallthrough))
        .collect();
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        forwards,
        [
            (list(&["corp.example.", "10.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."]), 0, false),
            (list(&["lan.", "_tcp.home.arpa."]), 2, true),
            (list(&["."]), 1, false),
        ]
    );
    assert_eq!(domains(&upstream.time_servers_plain), ["time.example.", "pool.ntp.org."]);
    let default = load_in(&Source::default(), &machine());
    let default = &crate::config(&default).upstream;
    assert_eq!(domains(&default.time_servers_plain), ["pool.ntp.org.", "time.cloudflare.com."]);
    assert_eq!(default.own, ["127.0.0.1:8053", "[::1]:8053"].map(|own| own.parse::<SocketAddr>().unwrap()));
    assert_eq!(default.state_dir.as_deref(), Some(Path::new("/var/lib/hushgate")));
}

#[test]
fn pools_and_forwards_can_be_said_on_the_command_line_and_are_shown_with_all_they_leave_unsaid() {
    let first = load_sets(&[
        "pool.corp.servers=[\"udp://10.0.0.53\"]",
        "forward=[{ domains = [\"corp.example\"], pool = \"corp\", fallthrough = true }]",
        "upstream.timeout=1s",
        "upstream.attempt_timeout=1s",
    ]);
    let text = effective::to_toml(&first.effective);
    assert!(
        text.contains("[pool.corp]\nservers = [\"udp://10.0.0.53\"]  # --set\nfallback = []  # default\n"),
        "{text}"
    );
    assert!(text.contains("timeout = \"4s\"  # default\n"), "{text}");
    assert!(
        text.contains("forward = [{ domains = [\"corp.example\"], pool = \"corp\", fallthrough = true }]  # --set\n")
    );
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("effective-pools.toml");
    std::fs::write(&path, text).unwrap();
    let second = load_file(&path);
    assert_eq!(second.problems, []);
    assert_eq!(meant(&second), meant(&first));
}

#[test]
fn sud_09_what_is_asked_upstream_and_what_is_denied_arrive() {
    let special = |file: &str| {
        let loaded = load_file(&Path::new("tests/config/valid").join(file));
        let pipeline = &config(&loaded).pipeline;
        (domains(&pipeline.special.asked), domains(&pipeline.special.denied), pipeline.any)
    };
    let (asked, denied, any) = special("special-names.toml");
    let expected = ["test.", "home.arpa.", "168.192.in-addr.arpa.", "172.in-addr.arpa.", "7.10.in-addr.arpa."];
    assert_eq!(asked[..5], expected);
    assert_eq!(
        asked[5..],
        ["lab.internal.", "local.", "in-addr.arpa.", "corp.internal."],
        "forwards, but not the root"
    );
    assert_eq!(
        (denied.as_slice(), any),
        (["alt.", "internal.", "ads.example."].map(String::from).as_slice(), AnyRule::Full)
    );
    let (asked, denied, any) = special("special-names-off.toml");
    assert_eq!((asked.len(), denied, any), (2 + 18 + 16 + 64, vec!["home.arpa.".to_owned()], AnyRule::Minimal));
    assert_eq!(special("empty.toml"), (Vec::new(), Vec::new(), AnyRule::Minimal));
}

#[test]
fn how_servers_are_found_and_reached_arrives() {
    let loaded = load_file(Path::new("tests/config/valid/found-and-reached.toml"));
    let pool = &config(&loaded).upstream.default;
    let bootstrap: Vec<String> = pool.bootstrap.iter().map(|server| server.url.to_string()).collect();
    let expected = ["udp://9.9.9.9", "udp://149.112.112.112:9953", "udp://[2620:fe::fe]", "tcp://192.0.2.53"];
    assert_eq!(bootstrap, expected);
    assert_eq!(pool.servers[0].source, Some("192.0.2.7".parse().unwrap()));
    let proxies: Vec<_> = pool.servers.iter().filter_map(|server| server.proxy.as_ref()).collect();
    assert_eq!((proxies[0].kind, proxies[0].port), (ProxyKind::Socks5, 1080));
    assert_eq!(proxies[1].kind, ProxyKind::Connect);
    assert_eq!(proxies[1].host, Host::Name("proxy.example".into()));
}

#[test]
fn credentials_for_a_proxy_must_be_readable_by_nobody_else() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("login");
    std::fs::write(&path, "joe:secret\n").unwrap();
    let server = format!(
        "upstream.servers=[{{ url = \"tls://dns.example\", proxy = \"http://[::1]:3128\", proxy_credentials = {path:?} }}]"
    );
    for (mode, fine) in [(0o600, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load_sets(&[&server]);
        assert_eq!(loaded.config.is_some(), fine, "{mode:o}: {:?}", loaded.problems);
        for problem in loaded.problems {
            assert_eq!(problem.key_path, "upstream.servers[0].proxy_credentials");
            assert!(problem.what.contains("chmod 600") && !problem.what.contains("secret"), "{problem}");
        }
    }
}

#[test]
fn a_token_is_warned_of_where_everybody_may_read_it_refused_where_two_have_it_and_never_told() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (path, file) = (folder.join("token"), folder.join("tokens.toml"));
    std::fs::write(&path, "0123456789abcdef\n\nanother-token_of-24-char\n").unwrap();
    let client = |name: &str| format!("[[client]]\nname = \"{name}\"\ntoken_file = \"token\"\n");
    std::fs::write(&file, client("one")).unwrap();
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o604, 1)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load_file(&file);
        let guard = &config(&loaded).guard;
        let [one] = &guard.clients.as_ref().unwrap().list[..] else { panic!("one client") };
        assert_eq!((loaded.problems.len(), one.credentials.len()), (warnings, 2), "{:?}", loaded.problems);
        assert!(!format!("{loaded:?}").contains("0123456789abcdef"));
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, client("one") + &client("two")).unwrap();
    let problems = load_file(&file).problems;
    let whole = format!(
        "{}:6:14: error: client[1].token_file: \"token\" holds a token that is already \"one\"'s",
        file.display()
    );
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [whole]);
}

#[test]
fn doh_25_a_server_that_only_we_could_find_on_this_machine_is_warned_about() {
    let ourselves = Surroundings { name_servers: vec!["127.0.0.1".parse().unwrap()], ..machine() };
    let warned = |sets: &[&str]| {
        let sets = ["listen.dns=[\"0.0.0.0:53\"]"].iter().chain(sets).map(ToString::to_string).collect();
        let loaded = load_in(&Source { sets, ..Source::default() }, &ourselves);
        assert!(loaded.config.is_some(), "{:?}", loaded.problems);
        loaded.problems.into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>()
    };
    let named = "upstream.servers=[\"tls://dns.example\"]";
    let expected = "--set: warning: upstream.servers[0]: only this gateway could find dns.example, as it is the machine's \
                    resolver: set `bootstrap` or `addresses`";
    assert_eq!(warned(&[named]), [expected]);
    assert!(warned(&[named, "upstream.bootstrap=[\"192.0.2.53\"]"]).is_empty());
    assert!(warned(&["upstream.servers=[{ url = \"tls://dns.example\", addresses = [\"192.0.2.1\"] }]"]).is_empty());
    assert!(
        warned(&["upstream.servers=[{ url = \"tls://dns.example\", proxy = \"socks5://192.0.2.1:1080\" }]"]).is_empty()
    );
}

#[test]
fn the_effective_values_are_a_file_that_means_the_same() {
    let first = load_sets(&["listen.dot=[\"127.0.0.1:853\"]", "cache.size=1 GiB", "log.level=debug"]);
    let text = effective::to_toml(&first.effective);
    assert!(text.contains("size = \"1 GiB\"  # --set\n"), "{text}");
    assert!(text.contains("connections = \"auto\"  # default; 20000 here\n"), "{text}");
    assert!(text.contains("snapshot = false  # default\n"), "{text}");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("effective.toml");
    std::fs::write(&path, text).unwrap();
    let second = load_file(&path);
    assert_eq!(second.problems, []);
    assert_eq!(meant(&second), meant(&first));
    assert!(second.effective.iter().all(|row| matches!(row.origin(), Origin::File { .. })));
}

#[test]
fn a_damaged_file_never_brings_the_reader_down_and_every_problem_points_into_it() {
    let example = std::fs::read_to_string("deploy/hushgate.toml").unwrap();
    let bare: Vec<&str> = example.lines().filter(|line| !line.starts_with('#')).collect();
    let bare = bare.join("\n");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("damaged.toml");
    let mut taken = 0;
    for (at, _) in bare.char_indices().step_by(211) {
        for damage in ["", "\"", "[", "]]", "= 1 =", "\u{0}", "\u{fc}{"] {
            let end = bare.ceil_char_boundary(at + 3);
            let text = format!("{}{damage}{}", &bare[..at], &bare[end..]);
            std::fs::write(&path, &text).unwrap();
            let loaded = load_file(&path);
            taken += usize::from(loaded.config.is_some());
            for problem in loaded.problems.iter().filter(|problem| problem.origin.is_explicit()) {
                let line = problem.line.checked_sub(1).and_then(|line| text.split('\n').nth(line));
                let width = line.map(|line| line.chars().count());
                assert!(width.is_some_and(|width| problem.column <= width + 1), "{problem} {damage:?} at {at}");
            }
        }
    }
    assert!(taken > 0, "damage to a comment is none");
}

#[test]
fn check_exits_with_0_for_warnings_and_2_for_errors_and_says_so_last() {
    let say = |file: &str, effective: bool, json: bool| {
        let args = check::Args { config: Some(file.into()), effective, json, ..check::Args::default() };
        check::report(&args, &load_file(Path::new(file)))
    };
    let fine = say("tests/config/valid/empty.toml", false, false);
    assert_eq!((fine.code, fine.output.as_str()), (0, "tests/config/valid/empty.toml is fine.\n"));
    let warned = say("tests/config/valid/warn-open-files.toml", false, false);
    assert_eq!(warned.code, 0);
    assert!(warned.output.ends_with("is fine, with 1 warning.\n"), "{}", warned.output);
    assert_eq!(warned.complaints.lines().count(), 1);
    let broken = say("tests/config/invalid/several.toml", false, false);
    assert_eq!((broken.code, broken.output.as_str()), (2, ""));
    assert!(broken.complaints.ends_with("cannot be used: 14 errors.\n"), "{}", broken.complaints);

    let json = say("tests/config/invalid/unknown-key.toml", false, true);
    let json: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["nearest"], "upstream.timeout");
    assert_eq!(json["problems"][0]["line"], 3);
    let size = json["effective"].as_array().unwrap().iter().find(|row| row["key"] == "cache.size").unwrap();
    assert_eq!((&size["value"], &size["from"]), (&"64 MiB".into(), &"default".into()));

    let toml = say("tests/config/valid/warn-open-files.toml", true, false);
    assert!(toml.output.parse::<toml::Table>().is_ok());
    assert_eq!(toml.complaints.lines().count(), 1);
}

#[test]
fn ddr_07_check_says_what_keeps_clients_from_finding_the_doors() {
    let doors = ["listen.dns=[\"192.0.2.1:53\"]", "listen.dot=[\"192.0.2.1:853\"]"];
    let said = |more: &[&str]| {
        let report = check::report(&check::Args::default(), &load_sets(&[&doors, more].concat()));
        assert_eq!(report.code, 0, "{report:?}");
        report.complaints
    };
    let address = said(&["tls.names=[\"dns.example\"]"]);
    assert!(address.starts_with("warning: tls: the certificate is not for 192.0.2.1: "), "{address}");
    assert!(
        said(&[]).starts_with(
            "warning: tls: the certificate is for no name that other machines could know the gateway by: "
        )
    );
    let name = said(&["tls.names=[\"dns.example\", \"192.0.2.1\"]", "advertise.name=other.example"]);
    assert!(name.starts_with("warning: advertise.name: \"other.example\" is not a name that"), "{name}");
    let long = format!("doh.paths=[\"/{}\"]", "x".repeat(128));
    let path = said(&["tls.names=[\"dns.example\", \"192.0.2.1\"]", "listen.doh=[\"192.0.2.1:443\"]", &long]);
    assert!(
        path.starts_with("warning: doh.paths: the first path has 129 octets, and clients are told of 128"),
        "{path}"
    );
    assert_eq!(path.lines().count(), 1, "{path}");
    for fine in [&["tls.names=[\"dns.example\", \"192.0.2.1\"]"][..], &["advertise.discovery=false"]] {
        assert_eq!(said(fine), "");
    }
}

#[test]
fn a_label_that_no_certificate_is_for_is_advised_of() {
    const LINE: &str = "warning: client: \"tablet\": no certificate is for kitchen.dns.example: \
                        its label needs one for all names there (*)\n";
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (chain, key) = (folder.join("label.pem"), folder.join("label-key.pem"));
    let certificates = format!("tls.certificates=[{{ chain = {chain:?}, key = {key:?} }}]");
    let client = r#"client=[{ name = "tablet", label = "kitchen" }]"#;
    for (name, advised) in [("*.dns.example", false), ("kitchen.dns.example", false), ("*.example", true)] {
        let pair = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["dns.example".into(), name.into()]).unwrap();
        std::fs::write(&chain, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let loaded = load_sets(&[&certificates, "tls.names=[\"dns.example\"]", "advertise.discovery=false", client]);
        let said = check::report(&check::Args::default(), &loaded).complaints;
        assert_eq!(said, if advised { LINE } else { "" }, "{name}");
    }
    let ordered = [r#"acme={ domains = ["dns.example"], accept_terms = true }"#, "listen.dot=[\"192.0.2.1:443\"]"];
    let more = ["tls.names=[\"dns.example\"]", "advertise.discovery=false", client];
    let said = check::report(&check::Args::default(), &load_sets(&[&ordered[..], &more].concat())).complaints;
    assert_eq!(said, LINE, "a certificate by ACME has the names that are ordered");
}

#[test]
fn what_is_advertised_arrives() {
    let loaded = load_file(Path::new("tests/config/valid/advertised-elsewhere.toml"));
    let advertise = &config(&loaded).advertise;
    let addresses: Vec<String> = advertise.addresses.iter().map(ToString::to_string).collect();
    assert_eq!((advertise.name.as_deref(), addresses.join(" ")), (Some("dns.example"), "192.0.2.1 2001:db8::1".into()));
    assert_eq!([advertise.dot, advertise.doh, advertise.doq], [Port::At(853), Port::At(443), Port::Hidden]);
    assert_eq!((advertise.discovery, advertise.resinfo), (false, false));
    assert_eq!(advertise.info_url.as_deref(), Some("https://dns.example/about"));
    assert_eq!(config(&load_sets(&[])).advertise, Advertise::default());
}

#[test]
fn the_unit_gives_the_gateway_time_to_drain_and_files_to_serve() {
    let unit = std::fs::read_to_string("deploy/hushgate.service").unwrap();
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap().to_owned();
    let loaded = load_in(&Source::default(), &machine());
    let config = config(&loaded);
    let stop = hushgate::config::unit::duration(&value("TimeoutStopSec")).unwrap();
    assert!(stop > config.shutdown.delay + config.shutdown.grace);
    let around = Surroundings { open_files: value("LimitNOFILE").parse().unwrap(), ..machine() };
    assert_eq!(crate::config(&load_in(&Source::default(), &around)).guard.connections, 20_000);
    assert_eq!(value("StateDirectoryMode"), "0700");
}

#[test]
fn files_that_are_no_plain_files_are_refused_and_nobody_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    for key in ["cookies.secrets_file", "fleet.secret_file", "admin.token_file"] {
        for (path, what) in [
            (pipe.as_path(), "it is a named pipe, and must be a plain file"),
            (&link, "it is a named pipe, and must be a plain file"),
            (Path::new("/dev/zero"), "it is a device, and must be a plain file"),
            (folder.path(), "Is a directory (os error 21)"),
        ] {
            let set = format!("{key}={}", path.display());
            let (told, hears) = std::sync::mpsc::channel();
            std::thread::spawn(move || told.send(load_sets(&[&set]).problems));
            let problems = hears.recv_timeout(Duration::from_secs(10)).expect("it waits for a writer");
            let problem = format!("--set: error: {key}: {} cannot be read: {what}", path.display());
            assert!(
                problems.len() == 1 && problems[0].to_string().starts_with(&problem),
                "{problems:?}, not {problem}"
            );
        }
    }
}

#[test]
fn d64_01_dns64_is_off_until_a_prefix_is_named() {
    assert_eq!(config(&load_sets(&[])).pipeline.dns64, None);
    let loaded = load_sets(&["dns64.prefix=64:ff9b::/96"]);
    let dns64 = config(&loaded).pipeline.dns64.clone().unwrap();
    assert_eq!((dns64.prefix, dns64.exclude), (Prefix::WELL_KNOWN, vec!["::ffff:0:0/96".parse().unwrap()]));
}
