//! What the documents show is true: configuration loads, links lead somewhere, commands and their flags exist.

use std::path::{Path, PathBuf};

use hushgate::config::{Severity, Source, Surroundings, load_in};

use crate::program::Home;

const DOCUMENTS: [&str; 2] = ["README.md", "certs/README.md"];

fn document(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// The fenced blocks of `text` in `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let parts = text.split(&opening).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// A machine with every address a document may name.
fn machine() -> Surroundings {
    Surroundings {
        open_files: 65_536,
        memory: 16 << 30,
        cores: 4,
        link: vec!["192.168.1.0/24".parse().unwrap()],
        name_servers: vec!["192.0.2.53".parse().unwrap()],
        state_dir: Some("/var/lib/hushgate".into()),
    }
}

#[test]
fn configuration_in_the_documents_loads() {
    let home = Home::new();
    let mut loaded = 0;
    for name in DOCUMENTS {
        for block in blocks(&document(name).1, "toml") {
            let file = home.write("hushgate.toml", &block);
            let found = load_in(&Source { file: Some(file), ..Source::default() }, &machine());
            // The one thing a document cannot bring: the reader's own certificates.
            let problems: Vec<String> = found
                .problems
                .iter()
                .filter(|problem| {
                    // Advice is no problem of what is written.
                    problem.severity != Severity::Notice
                        && !(problem.key_path.starts_with("tls.certificates[")
                            && problem.what.contains("cannot be read"))
                })
                .map(ToString::to_string)
                .collect();
            assert!(problems.is_empty(), "{name}:\n{block}\n{problems:#?}");
            loaded += 1;
        }
    }
    assert!(loaded >= 4, "{loaded}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut followed = 0;
    for name in DOCUMENTS {
        let (path, text) = document(name);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            assert!(path.parent().unwrap().join(target).exists(), "{name}: {target}");
            followed += 1;
        }
    }
    assert!(followed >= 2, "{followed}");
}

#[test]
fn commands_in_the_readme_exist_with_their_flags() {
    let home = Home::new();
    let text = document("README.md").1;
    let mut seen = 0;
    for line in text.lines() {
        let line = line.trim_start_matches("$ ");
        let arguments = line.strip_prefix("cargo run --release -- ").or_else(|| line.strip_prefix("hushgate "));
        let Some(arguments) = arguments.map(|rest| rest.split(" #").next().unwrap()) else { continue };
        let mut words = arguments.split_whitespace();
        let command = words.next().unwrap();
        let help = home.run(&[command, "--help"]);
        assert_eq!(help.code, 0, "{line}");
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(help.output.contains(&format!("{flag} ")) || help.output.contains(&format!("{flag}\n")), "{line}");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn files_that_the_documents_name_are_there() {
    for name in
        ["deploy/hushgate.toml", "deploy/hushgate.service", "certs/README.md", "tests/architecture.rs", ".ci/run"]
    {
        assert!(document("README.md").1.contains(name), "{name} is not named");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists(), "{name}");
    }
}
