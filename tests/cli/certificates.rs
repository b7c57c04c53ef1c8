//! Certificates and keys that cannot be used: the file, and what to do, before anything is served.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::program::Home;

/// A chain and its key as PEM, valid from 2020 to `year`.
pub fn made(year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["dns.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// What `serve` and `check` say of `chain` and `key`: their statuses and messages.
fn tried(home: &Home, chain: &str, key: &str) -> [(i32, String); 2] {
    let (chain, key) = (home.path(chain), home.path(key));
    let set = format!("tls.certificates=[{{ chain = \"{}\", key = \"{}\" }}]", chain.display(), key.display());
    ["serve", "check"].map(|command| {
        let mut arguments = vec![command, "--set", &set];
        for any in &crate::program::ANY_PORTS {
            arguments.extend(["--set", any]);
        }
        let ended = home.run(&arguments);
        assert_eq!(ended.output, "", "{command}");
        assert!(!ended.errors.contains("listening"), "{}", ended.errors);
        (ended.code, ended.errors)
    })
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do_and_nothing_is_served() {
    let home = Home::new();
    let (chain, key) = made(2120);
    let (old, old_key) = made(2021);
    for (name, text) in [("chain.pem", &chain), ("key.pem", &key), ("old.pem", &old), ("old-key.pem", &old_key)] {
        home.write(name, text);
    }
    home.write("junk.pem", "no PEM\n");
    std::fs::create_dir(home.path("folder.pem")).unwrap();
    for (chain, key, culprit, advice, status) in [
        ("chain.pem", "nowhere.pem", "nowhere.pem", "check the path", 2),
        ("nowhere.pem", "key.pem", "nowhere.pem", "check the path", 2),
        ("chain.pem", "folder.pem", "folder.pem", "may read it", 2),
        ("chain.pem", "junk.pem", "junk.pem", "must be PEM", 1),
        ("junk.pem", "key.pem", "junk.pem", "the server's own first", 1),
        ("chain.pem", "old-key.pem", "old-key.pem", "Give the key the certificate was requested with", 1),
        ("old.pem", "old-key.pem", "old.pem", "expired on 2021-01-01. Renew it", 1),
    ] {
        let [(served, message), (checked, said)] = tried(&home, chain, key);
        assert_eq!((served, checked), (status, 2), "{culprit}: {message}");
        for text in [&message, &said] {
            assert!(text.contains(culprit) && text.contains(advice), "{culprit}: {text}");
        }
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_advised_of_and_authorities_that_are_none_are_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let secret = home.write("fleet.secret", &"5a".repeat(32));
    let set = format!("fleet.secret_file={}", secret.display());
    for (mode, told) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let ended = home.run(&["check", "--set", &set]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.errors.contains("warning: fleet.secret_file: "), told, "{mode:o} {}", ended.errors);
    }
    let ended = home.run(&["check", "--set", &format!("tls.client_ca={}", secret.display())]);
    assert!(ended.code == 2 && ended.errors.contains("no authority's certificate"), "{ended:?}");
}

#[test]
fn acme_and_confinement_are_in_json_too() {
    let home = Home::new();
    let sets = ["acme.domains=[\"dns.example\"]", "acme.accept_terms=true", "listen.doh=[\"127.0.0.1:443\"]"];
    let arguments = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["check", "--json"].into_iter().chain(arguments).collect();
    let ended = home.run(&arguments);
    let told: serde_json::Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!((&told["acme"]["challenge"], &told["acme"]["domains"][0]), (&"tls-alpn".into(), &"dns.example".into()));
    assert!(told["confined"].as_str().unwrap().contains("no new privileges"), "{told}");
}

#[test]
fn a_key_that_may_not_be_read_is_named_unless_we_are_root() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::new();
    let (chain, key) = made(2120);
    home.write("chain.pem", &chain);
    let file = home.write("key.pem", &key);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&file).is_ok() {
        return;
    }
    let [(served, message), (checked, _)] = tried(&home, "chain.pem", "key.pem");
    assert_eq!((served, checked), (2, 2));
    assert!(message.contains("key.pem") && message.contains("Permission denied"), "{message}");
}

#[test]
fn check_tells_whom_a_good_certificate_is_for_and_how_long_it_lasts() {
    let home = Home::new();
    let (chain, key) = made(2120);
    let (chain, key) = (home.write("chain.pem", &chain), home.write("key.pem", &key));
    let set = format!("tls.certificates=[{{ chain = \"{}\", key = \"{}\" }}]", chain.display(), key.display());
    let ended = home.run(&["check", "--set", &set]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.output.starts_with(&format!("{}: dns.example; ", chain.display())), "{}", ended.output);
    assert!(ended.output.contains(" days left\n"), "{}", ended.output);
}

#[test]
fn check_warns_of_names_without_a_certificate_and_of_keys_for_everybody() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::new();
    let (chain, key) = made(2120);
    let (chain, key) = (home.write("chain.pem", &chain), home.write("key.pem", &key));
    let set = format!("tls.certificates=[{{ chain = \"{}\", key = \"{}\" }}]", chain.display(), key.display());
    for (mode, names, warnings) in [
        (0o600, "tls.names=[\"dns.example\"]", &[][..]),
        (0o644, "tls.names=[\"DNS.example\"]", &["key.pem may be read or written by every user"]),
        (
            0o600,
            "tls.names=[\"dns.example\", \"b.example\"]",
            &["tls.names: no certificate in tls.certificates is for b.example"],
        ),
    ] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let ended = home.run(&["check", "--set", &set, "--set", names]);
        assert_eq!(ended.code, 0, "{ended:?}");
        for warning in ["every user", "no certificate in"] {
            let is_expected = warnings.iter().any(|expected| expected.contains(warning));
            assert_eq!(ended.errors.contains(warning), is_expected, "{names}: {}", ended.errors);
        }
        for warning in warnings {
            assert!(ended.errors.contains(warning), "{}", ended.errors);
        }
    }
}
