//! What `deploy/` has for service and container managers.

use std::fs;

use crate::program::Home;

fn unit() -> Vec<(String, String)> {
    let text = fs::read_to_string("deploy/hushgate.service").unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_unit_is_told_how_the_gateway_does_and_takes_what_it_does_not_need() {
    let unit = unit();
    for (key, value) in [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "on-failure"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "hushgate"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX AF_NETLINK"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallFilter", "@system-service"),
    ] {
        assert!(unit.contains(&(key.to_owned(), value.to_owned())), "{key}={value}");
    }
    assert!(unit.iter().any(|(key, _)| key == "WatchdogSec") && unit.iter().any(|(key, _)| key == "OOMScoreAdjust"));
}

#[test]
fn the_container_runs_without_root_and_what_it_runs_exists() {
    let text = fs::read_to_string("deploy/Containerfile").unwrap();
    let words = |instruction: &str| text.lines().rev().find_map(|line| line.strip_prefix(instruction)).unwrap();
    assert_eq!(words("USER "), "65532:65532");
    assert_eq!(words("VOLUME "), words("ENV STATE_DIRECTORY="));
    let (_, check) = words("HEALTHCHECK ").split_once("CMD ").unwrap();
    let check: Vec<String> = serde_json::from_str(check).unwrap();
    let command: Vec<String> = serde_json::from_str(words("CMD ")).unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(words("ENTRYPOINT ")).unwrap(), check[..1]);
    let home = Home::new();
    // Nobody listens there, or somebody who answers: either way the arguments are understood.
    let arguments: Vec<&str> = check[1..].iter().map(String::as_str).chain(["--timeout", "1s"]).collect();
    assert_ne!(home.run(&arguments).code, 2, "{check:?}");
    assert_eq!(command[..2], ["serve", "--config"]);
}

#[test]
fn the_gateway_in_kubernetes_has_a_configuration_that_loads_and_probes_that_it_answers() {
    let text = fs::read_to_string("deploy/kubernetes.yaml").unwrap();
    let (_, below) = text.split_once("hushgate.toml: |\n").unwrap();
    let inside = below.lines().map_while(|line| line.strip_prefix("    "));
    // The certificate is made in the cluster.
    let configuration: Vec<&str> = inside.filter(|line| !line.starts_with("certificates")).collect();
    let home = Home::new();
    let file = home.write("hushgate.toml", &configuration.join("\n"));
    let ended = home.run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for part in ["path: /healthz, port: probes", "path: /readyz, port: probes", "containerPort: 8055"] {
        assert!(text.contains(part), "{part}");
    }
    for part in ["runAsNonRoot: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "drop: [ALL]"]
    {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains('\t') && text.split("---\n").all(|part| part.contains("apiVersion: ")));
}
