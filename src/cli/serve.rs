//! `hushgate serve`: load, bind, serve, and stop on a signal without losing a question.
#![allow(clippy::print_stderr, reason = "this is a command")]

use std::io::IsTerminal as _;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::ConfigArgs;
use crate::config::{self, Config, Loaded, Severity, Source};
use crate::gateway::reload::Way;
use crate::gateway::{Bound, Gateway, GatewayError, Running};
use crate::listen::DoorKind;
use crate::service::{self, Notice};
use crate::telemetry::log;

/// What it is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take the doors over from the process that runs with the same `state_dir`; that one ends once its connections have.
    #[arg(long)]
    replace: bool,
}

/// Runs the command; answers its exit status.
#[must_use]
pub fn run(Args { config: args, replace }: &Args) -> u8 {
    let Some((config, loaded)) = load_whole(args) else { return 2 };
    if let Err(error) = log::start(config.log.events) {
        eprintln!("hushgate: {error}");
        return 1;
    }
    raise_open_files();
    let outcome = Signals::hear().map_err(|error| format!("signals cannot be heard: {error}")).and_then(|signals| {
        start(config, args.source(), loaded, *replace)
            .map(|running| (signals, running))
            .map_err(|error| error.to_string())
    });
    match outcome {
        Ok((signals, running)) => {
            signals.attend(running);
            0
        }
        Err(message) => {
            eprintln!("hushgate: {message}");
            1
        }
    }
}

/// Raises the limit on open files to what the system allows at most: every connection is one.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
}

/// The configuration, or all its problems on standard error.
pub fn load(args: &ConfigArgs) -> Option<Config> {
    load_whole(args).map(|(config, _)| config)
}

/// The same, and what else came of reading it.
fn load_whole(args: &ConfigArgs) -> Option<(Config, Loaded)> {
    let mut loaded = config::load(&args.source());
    // Advice is for who asks for it: `hushgate check` says it.
    for problem in loaded.problems.iter().filter(|problem| problem.severity != Severity::Notice) {
        eprintln!("{problem}");
    }
    if loaded.config.is_none() {
        eprintln!(
            "hushgate: nothing was started. Mend what is named above; `hushgate check` tries it without starting anything"
        );
    }
    loaded.config.take().map(|config| (config, loaded))
}

fn start(config: Config, source: Source, loaded: Loaded, replace: bool) -> Result<Running, GatewayError> {
    let gateway = Gateway::build(config)?.read_from(source, loaded.text, &loaded.effective);
    let estate = replace.then(|| gateway.claim()).transpose()?;
    let bound = gateway.bind_after(estate)?;
    announce(&bound);
    bound.confine()?;
    let mut running = bound.serve()?;
    if let Err(error) = running.succeed() {
        tracing::error!(%error, "the hand-over is not complete");
    }
    service::tell(Notice::Ready);
    Ok(running)
}

/// One line a door, so that a person sees where to point a client.
fn announce(bound: &Bound) {
    for (kind, address) in bound.doors() {
        tracing::info!(door = name(kind), %address, "listening");
    }
    for address in bound.admin_addresses() {
        tracing::info!(%address, "admin: /healthz /readyz /metrics, and what `hushgate explain` asks");
    }
    let is_encrypted = |kind| matches!(kind, DoorKind::Dot | DoorKind::Doh | DoorKind::DohTcp | DoorKind::Doq);
    let encrypted = bound.doors().into_iter().any(|(kind, _)| is_encrypted(kind));
    if let Some(path) = bound.authority().filter(|_| encrypted) {
        tracing::info!(authority = %path.display(), "clients must trust this authority; certs/README.md says how");
    }
    if std::io::stderr().is_terminal() {
        eprintln!("Ctrl-C stops it; questions in flight are answered first.");
    }
}

/// What a door speaks, for people.
#[must_use]
pub const fn name(kind: DoorKind) -> &'static str {
    match kind {
        DoorKind::Dns => "dns (udp, tcp)",
        DoorKind::Dot => "dot",
        DoorKind::Doh => "doh (http/1.1, h2, h3)",
        DoorKind::DohTcp => "doh (http/1.1, h2)",
        DoorKind::DohClear => "doh in clear text",
        DoorKind::Doq => "doq",
    }
}

/// SIGTERM, SIGINT and SIGHUP, heard from when this is made: before anything is served, so that none of them ever cuts a question off.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the system lets no signal be heard.
    pub fn hear() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (terminate, interrupt, hangup) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
        };
        Ok(Self { runtime, terminate, interrupt, hangup })
    }

    /// Reloads at each SIGHUP; waits for one of the others, then stops; a second ends the process at once.
    pub fn attend(self, running: Running) {
        let Self { runtime, mut terminate, mut interrupt, mut hangup } = self;
        let mut successor = running.successor();
        runtime.block_on(async {
            loop {
                tokio::select! {
                    () = either(&mut terminate, &mut interrupt) => break,
                    Ok(process) = wait_for_one(&mut successor) => {
                        service::tell(Notice::Replaced(process));
                        tracing::info!(process, "another process serves; this one ends with its connections");
                        let leaving = tokio::task::spawn_blocking(move || running.hand_over());
                        tokio::select! {
                            _ = leaving => tracing::info!("replaced"),
                            () = either(&mut terminate, &mut interrupt) => {
                                tracing::warn!("a signal: ending at once");
                                std::process::exit(1);
                            }
                        }
                        return;
                    }
                    Some(()) = hangup.recv() => {
                        let reloader = Arc::clone(running.reloader());
                        // Signals that come meanwhile are one reload more.
                        let _ = tokio::task::spawn_blocking(move || reloader.reload(Way::Apply)).await;
                    }
                }
            }
            service::tell(Notice::Stopping);
            tracing::info!("stopping: questions in flight are answered first; a second signal ends at once");
            let stopping = tokio::task::spawn_blocking(move || running.stop());
            tokio::select! {
                _ = stopping => tracing::info!("stopped"),
                () = either(&mut terminate, &mut interrupt) => {
                    tracing::warn!("a second signal: ending at once");
                    std::process::exit(1);
                }
            }
        });
    }
}

/// The process that has taken over.
async fn wait_for_one(successor: &mut watch::Receiver<u32>) -> Result<u32, watch::error::RecvError> {
    successor.wait_for(|&process| process != 0).await.map(|process| *process)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
