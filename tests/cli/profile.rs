//! `profile`: what it prints for each device, where it writes, and when it refuses.

use std::path::PathBuf;

use serde_json::Value;

use crate::program::{Ended, Home};

/// The configuration of a gateway at an address of the network, with a certificate for `dns.example` from elsewhere.
fn public(home: &Home) -> PathBuf {
    let names = ["dns.example".to_owned(), "192.0.2.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    home.write("chain.pem", &made.cert.pem());
    home.write("key.pem", &made.signing_key.serialize_pem());
    home.write(
        "hushgate.toml",
        "[listen]\ndot = [\"192.0.2.1:853\"]\ndoh = [\"192.0.2.1:8443\"]\ndoq = [\"192.0.2.1:853\"]\n\
         [doh]\npaths = [\"/own/path\"]\n\
         [tls]\ncertificates = [{ chain = \"chain.pem\", key = \"key.pem\" }]\n",
    )
}

fn profile(home: &Home, more: &[&str]) -> Ended {
    let config = public(home);
    home.run(&[&["profile"], more, &["--config", config.to_str().unwrap()]].concat())
}

#[test]
fn every_device_is_told_its_values_and_what_cannot_work() {
    let home = Home::new();
    for (device, value) in [
        ("android", "dns.example"),
        ("windows", "-DohTemplate 'https://dns.example:8443/own/path'"),
        ("firefox", "\"ProviderURL\": \"https://dns.example:8443/own/path\""),
        ("chrome", "https://dns.example:8443/own/path{?dns}"),
        ("systemd", "DNS=192.0.2.1:853#dns.example\n"),
        ("dnr", "dhcp-option=162,00:"),
    ] {
        let ended = profile(&home, &[device]);
        assert_eq!((ended.code, ended.errors.as_str()), (0, ""), "{device}");
        assert!(ended.output.contains(value), "{device}: {}", ended.output);
        assert!(ended.output.contains("\n 1. ") && ended.output.contains("What cannot work"), "{device}");
        let json: Value = serde_json::from_str(&profile(&home, &[device, "--json"]).output).unwrap();
        assert_eq!(json["device"], device);
        assert!(!json["values"].as_object().unwrap().is_empty() && json["limits"].is_array(), "{json:#}");
    }
}

#[test]
fn profile_for_apple_is_all_of_standard_output_and_the_same_in_a_file() {
    let home = Home::new();
    let ended = profile(&home, &["apple"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let read = plist::Value::from_reader_xml(ended.output.as_bytes()).unwrap();
    let content = read.as_dictionary().unwrap()["PayloadContent"].as_array().unwrap();
    let dns = content[0].as_dictionary().unwrap()["DNSSettings"].as_dictionary().unwrap();
    assert_eq!(dns["ServerURL"].as_string(), Some("https://dns.example:8443/own/path"));
    assert!(ended.errors.contains("What to do"), "{}", ended.errors);

    let file = home.path("hushgate.mobileconfig");
    let written = profile(&home, &["apple", "--output", file.to_str().unwrap()]);
    assert_eq!(written.code, 0, "{written:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), ended.output);
    assert!(written.output.contains("Written to ") && !written.output.contains("<plist"));

    let tls = profile(&home, &["apple", "--door", "dot"]);
    assert!(tls.output.contains("<string>TLS</string>"), "{}", tls.output);
}

#[test]
fn phones_have_codes_and_others_have_none() {
    let home = Home::new();
    let apple = profile(&home, &["apple", "--qr"]);
    assert!(apple.output.ends_with("\nhttps://dns.example:8443/hushgate.mobileconfig\n"), "{}", apple.output);
    assert!(apple.output.contains('▀'));
    assert!(profile(&home, &["android", "--qr"]).output.ends_with("\ndns.example\n"));
    let without = profile(&home, &["apple", "--qr", "--set", "doh.setup_page=false"]);
    assert_eq!(without.code, 1);
    assert!(without.errors.contains("`doh.setup_page` is false"), "{}", without.errors);
    assert!(without.errors.contains("(--output hushgate.mobileconfig) and send it"), "{}", without.errors);
    let without = profile(&home, &["apple", "--set", "doh.setup_page=false"]);
    assert!(without.code == 0 && !without.errors.contains("set-up page"), "{}", without.errors);
    let firefox = profile(&home, &["firefox", "--qr"]);
    assert_eq!((firefox.code, firefox.output.as_str()), (1, ""));
    assert!(firefox.errors.contains("takes no QR code"), "{}", firefox.errors);
}

#[test]
fn what_would_not_work_is_refused_with_what_to_set() {
    let home = Home::new();
    // Nothing configured, never started: there is no authority that a device could trust.
    let fresh = home.run(&["profile", "apple"]);
    assert_eq!(fresh.code, 1);
    assert!(fresh.errors.contains("`hushgate serve`"), "{}", fresh.errors);
    let wrong_port = profile(&home, &["android", "--set", "listen.dot=[\"192.0.2.1:8853\"]"]);
    assert_eq!(wrong_port.code, 1);
    assert!(wrong_port.errors.contains("port 853 alone"), "{}", wrong_port.errors);
    let quic = profile(&home, &["systemd", "--door", "doq"]);
    assert_eq!(quic.code, 1);
    assert!(quic.errors.contains("does not speak DNS over QUIC"), "{}", quic.errors);
    // Where the doors are is what is wrong, and said beside.
    let inside = ["--set", "listen.dns=[\"192.0.2.1:53\"]", "--set", "listen.dot=[\"127.0.0.1:853\"]"];
    let inside =
        profile(&home, &[&["systemd", "--set", "listen.doh=[]", "--set", "listen.doq=[]"][..], &inside].concat());
    assert_eq!(inside.code, 1);
    assert!(inside.errors.contains("no such door that others are told of"), "{}", inside.errors);
    assert!(inside.errors.contains("warning: plain DNS is open to other machines"), "{}", inside.errors);
    let nothing = profile(&home, &["android", "--output", "x"]);
    assert!(nothing.code == 1 && nothing.errors.contains("no file to install"), "{}", nothing.errors);
    let mistake = profile(&home, &["apple", "--set", "listen.dott=[]"]);
    assert_eq!(mistake.code, 2);
}

#[test]
fn on_loopback_with_the_private_authority_this_machine_is_set_up_and_told_that_others_are_not() {
    let home = Home::new();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::create_dir(home.path("hushgate")).unwrap();
    home.write("hushgate/authority.pem", &made.pem());
    let apple = home.run(&["profile", "apple"]);
    assert_eq!(apple.code, 0, "{apple:?}");
    assert!(apple.output.contains("com.apple.security.root"), "{}", apple.output);
    assert!(apple.output.contains("https://localhost:8443/dns-query"), "{}", apple.output);
    assert!(apple.errors.contains("Only this machine reaches"), "{}", apple.errors);
    for device in ["android", "dnr"] {
        let refused = home.run(&["profile", device]);
        assert_eq!(refused.code, 1, "{device}");
        assert!(refused.errors.contains("`[advertise]`"), "{}", refused.errors);
    }
}
