//! The configuration: defaults, a file, the environment and the command line, laid over one another key by key.
//!
//! The road of a value: text → [`node`] (positions kept) → `layers` (who wins) → [`effect`] (what this version does with it) →
//! `kinds` (typed, in range) → each component's own `Settings`. Nothing stops at the first mistake: `problem` collects all of
//! them. This module alone knows the file; components know their settings.

use std::path::{Path, PathBuf};

use crate::identity::plain_file;
use crate::{cache, discovery, guard, listen, pipeline, upstream};

mod acme;
mod admin;
mod advertise;
mod budget;
mod capacity;
pub mod changes;
mod claims;
mod clients;
mod dns64;
mod domains;
mod doors;
mod edns;
pub mod effect;
pub mod effective;
mod forwards;
mod identity;
pub mod keys;
mod kinds;
mod layers;
pub mod log;
mod machine;
mod memory;
mod nearest;
mod networks;
pub mod node;
mod origin;
mod privacy;
mod problem;
mod process;
mod reader;
mod routes;
mod rules;
pub mod secrets;
mod senders;
mod servers;
mod special;
mod surroundings;
mod trust;
pub mod unit;

pub use admin::Shutdown;
pub use effective::EffectiveRow;
pub use layers::Values;
pub use origin::Origin;
use problem::Findings;
pub use problem::{Problem, Severity};
use reader::Reader;
pub use surroundings::{Surroundings, machine_addresses};

/// Everything the gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The front doors.
    pub listen: listen::Settings,
    /// What to do about an IPv6 door on a machine without IPv6.
    pub absent: listen::Absent,
    /// Who the gateway is to its clients.
    pub tls: crate::identity::Settings,
    /// The certificate by ACME; none: it is off.
    pub acme: Option<crate::identity::acme::Settings>,
    /// What the outside sees of the doors.
    pub advertise: discovery::Advertise,
    /// Who may ask, and how much.
    pub guard: guard::Settings,
    /// The admin listener.
    pub admin: crate::admin::Settings,
    /// How the gateway stops.
    pub shutdown: Shutdown,
    /// Whom it asks.
    pub upstream: upstream::Settings,
    /// What it keeps.
    pub cache: cache::Settings,
    /// What it does with a question.
    pub pipeline: pipeline::Settings,
    /// Where the secrets of server cookies are read from again while it runs; none where they are made here.
    pub secrets_file: Option<PathBuf>,
    /// Is the file looked at every two seconds, and taken over when it has changed?
    pub watch: bool,
    /// What it writes down.
    pub log: log::Settings,
    /// Octets of memory the process may take; `None` where the machine does not tell.
    pub memory: Option<usize>,
    /// How many workers there are; `"auto"` is resolved.
    pub workers: usize,
    /// Where state is kept (0700).
    pub state_dir: PathBuf,
    /// Who the process is once its doors are open, and what it gives up then.
    pub process: crate::confine::Settings,
    /// May another process take its doors over?
    pub handover: bool,
    /// Every path that it names, and its own.
    pub named: Vec<PathBuf>,
}

/// Where a configuration comes from, beside the defaults; a later one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file; None: no file.
    pub file: Option<PathBuf>,
    /// The value of `HUSHGATE_SET`: `key=value, key=value`.
    pub environment: Option<String>,
    /// `key=value`, each from one `--set`.
    pub sets: Vec<String>,
}

/// What came of a source.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, if there is no error among the problems.
    pub config: Option<Config>,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
    /// What holds for every key, and who said so.
    pub effective: Vec<EffectiveRow>,
    /// What the file held; None where there is none, or it cannot be read.
    pub text: Option<Vec<u8>>,
}

impl Source {
    /// A file and `--set`s, and what the environment says.
    #[must_use]
    pub fn with_environment(file: Option<PathBuf>, sets: Vec<String>) -> Self {
        let environment = std::env::var_os("HUSHGATE_SET").map(|text| text.to_string_lossy().into_owned());
        Self { file, environment, sets }
    }
}

/// Reads a configuration on this machine.
#[must_use]
pub fn load(source: &Source) -> Loaded {
    load_in(source, &Surroundings::look_up())
}

/// Reads a configuration as if on the machine that `around` describes.
#[must_use]
pub fn load_in(source: &Source, around: &Surroundings) -> Loaded {
    let name = source.file.as_ref().map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let mut findings = Findings::new(name.clone());
    let mut values = Values::defaults();
    let text = source.file.as_ref().and_then(|path| lay_file(&mut values, path, &mut findings));
    for assignment in layers::split_assignments(source.environment.as_deref().unwrap_or_default()) {
        values.assign(assignment, Origin::Environment, &mut findings);
    }
    for assignment in &source.sets {
        values.assign(assignment, Origin::Set, &mut findings);
    }
    values.close_unnamed_doors();
    values.complete_pools();
    effect::judge_all(&values, &mut findings);
    let base = source.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let named = source.file.clone().into_iter().collect::<Vec<_>>().into();
    let config = fill(&mut Reader { values: &values, findings: &mut findings, around, base, named });
    let config = if findings.is_fatal() { None } else { Some(config) };
    let effective = effective::rows(&values, config.as_ref(), &name);
    Loaded { config, problems: findings.into_sorted(), effective, text }
}

/// What the file held is handed back.
fn lay_file(values: &mut Values, path: &Path, findings: &mut Findings) -> Option<Vec<u8>> {
    let octets = match std::fs::read(path) {
        Ok(octets) => octets,
        Err(error) => {
            findings.error("", Origin::Default, format!("cannot be read: {error}"));
            return None;
        }
    };
    match std::str::from_utf8(&octets) {
        Err(_) => findings.error("", Origin::Default, "is not UTF-8 text"),
        Ok(text) => {
            let (entries, faults) = node::parse_file(text);
            for fault in faults {
                // Either kind of quotes will do.
                let message = fault.message.trim_end_matches(", expected literal string");
                findings.syntax(fault.origin, format!("not TOML: {message}"));
            }
            values.overlay(entries, findings);
        }
    }
    Some(octets)
}

fn fill(reader: &mut Reader<'_>) -> Config {
    let mut claims = claims::Claims::default();
    let doors = doors::read(reader, &mut claims);
    let limits = capacity::read_deadlines(reader);
    let room = budget::read(reader);
    let mut cache = memory::read(reader);
    budget::fit(reader, room, &mut cache.size);
    let guard = capacity::read_guard(reader, &doors, budget::left(room, cache.size));
    let mut upstream = routes::read(reader);
    let tls = identity::read(reader, &doors.list);
    let plain = doors.list.iter().filter(|door| door.kind == listen::DoorKind::Dns);
    upstream.own = plain.map(|door| door.address).collect();
    upstream.state_dir = Some(tls.state_dir.clone());
    let acme = acme::read(reader, &doors.list, &mut claims, &tls.state_dir);
    let (secrets_file, secrets) = secrets::read(reader);
    let mut config = Config {
        absent: doors.absent,
        acme,
        advertise: advertise::read(reader, &doors.list),
        guard,
        admin: admin::read(reader, &mut claims),
        shutdown: admin::read_shutdown(reader),
        cache,
        memory: room,
        pipeline: privacy::read(reader, &upstream, limits.tcp_idle_timeout, secrets),
        secrets_file,
        watch: reader.read("reload.watch", kinds::flag),
        log: log::read(reader),
        workers: capacity::read_workers(reader),
        state_dir: tls.state_dir.clone(),
        tls,
        upstream,
        listen: listen::Settings {
            doors: doors.list,
            doh_paths: doors.doh_paths,
            setup_page: doors.setup_page,
            limits,
        },
        process: process::read(reader),
        handover: reader.read("process.handover", kinds::flag),
        named: reader.named.take(),
    };
    clients::read(reader, &mut config);
    routes::check_loops(reader, &config.upstream, &config.listen.doors);
    config
}
