//! DNS-01 by a program of the operator's: `hook present NAME VALUE`, and `hook cleanup NAME VALUE` when it is over.
//!
//! It knows how to change the operator's zone; we know what must stand there. No shell is between, and it sees no environment of ours.

use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::AcmeError;
use super::error::HookFault;

/// What it may take, until the record can be seen.
const PATIENCE: Duration = Duration::from_mins(2);
/// For the last words of one that has ended: something it started may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Octets of its words that are kept.
const WORDS: usize = 1024;

/// Runs `hook verb name value`.
///
/// # Errors
/// It could not be run, failed, or took too long.
pub async fn run(hook: &Path, verb: &'static str, name: &str, value: &str) -> Result<(), AcmeError> {
    let ended = timeout(PATIENCE, execute(hook, [verb, name, value])).await.unwrap_or(Err(HookFault::Timeout));
    ended.map_err(|why| AcmeError::Hook { hook: hook.into(), verb, name: name.into(), why })
}

async fn execute(hook: &Path, arguments: [&str; 3]) -> Result<(), HookFault> {
    let mut child = Command::new(hook)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Also where we are no longer waited for.
        .kill_on_drop(true)
        .spawn()?;
    let mut words = Vec::new();
    let status = match child.stderr.take() {
        Some(pipe) => {
            let mut listening = pin!(listen(pipe, &mut words));
            tokio::select! {
                status = child.wait() => { _ = timeout(LAST_WORDS, &mut listening).await; status? }
                () = &mut listening => child.wait().await?,
            }
        }
        None => child.wait().await?,
    };
    if status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&words).trim().replace(char::is_control, " ");
    Err(HookFault::Failed { status, output })
}

/// Reads to the end, so that a talkative program is not stopped by a full pipe, and keeps the beginning.
async fn listen(mut pipe: impl AsyncRead + Unpin, words: &mut Vec<u8>) {
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let room = WORDS.saturating_sub(words.len());
        words.extend(buffer.iter().take(length.min(room)));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::identity::scratch::Scratch;

    fn script(scratch: &Scratch, body: &str) -> PathBuf {
        let path = scratch.write("hook", format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_hook_is_given_verb_name_and_value_and_nothing_of_our_environment() {
        let scratch = Scratch::new();
        let told = scratch.path().join("told");
        let hook =
            script(&scratch, &format!("echo \"$# $1 $2 $3 ${{HOME-none}} ${{CARGO-none}}\" > {}", told.display()));
        run(&hook, "present", "_acme-challenge.dns.example", "$(id); value").await.unwrap();
        let told = fs::read_to_string(told).unwrap();
        assert_eq!(told, "3 present _acme-challenge.dns.example $(id); value none none\n");
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_told_of_with_the_beginning_of_its_words() {
        let scratch = Scratch::new();
        let hook = script(&scratch, "echo 'no such zone' >&2; head -c 300000 /dev/zero >&2; exit 3");
        let error = run(&hook, "present", "a", "b").await.unwrap_err().to_string();
        assert!(error.contains("present a: exit status: 3: no such zone") && error.len() < 1300, "{error}");
        let error = run(&scratch.path().join("nothing"), "cleanup", "a", "b").await.unwrap_err().to_string();
        assert!(error.contains("cannot be run"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_does_not_end_is_killed() {
        let scratch = Scratch::new();
        let hook = script(&scratch, "exec sleep 1000");
        let error = run(&hook, "present", "a", "b").await.unwrap_err().to_string();
        assert!(error.contains("killed"), "{error}");
    }
}
