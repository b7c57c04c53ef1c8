//! The secrets of server cookies over time: the file read again while the gateway runs, a secret made here turned every day.
//!
//! A rollover of several gateways has three stages (RFC 9018 5): the new secret comes last in every file, then first, then the old
//! one goes. Each takes effect here within [`INTERVAL`], and no client notices.

use std::sync::Arc;
use std::time::Duration;

use super::Force;
use crate::config::secrets::read_file;
use crate::telemetry::Counters;

/// Time between two looks. The file is so small that reading it costs no more than finding out whether it has changed, which its
/// time of modification does not tell of two changes within a moment.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Looks after the secrets in force for as long as the gateway lives.
pub async fn keep(force: Force, counters: Arc<Counters>) {
    let mut reading = Reading::of("cookies.secrets_file");
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = force.load_full();
        let Some(cookies) = now.shared.cookies() else { continue };
        match now.secrets_file.clone() {
            None => cookies.turn(now.shared.clock().now()),
            // A disk that is slow would hold up the admin server.
            Some(file) => match tokio::task::spawn_blocking(move || read_file(&file)).await {
                Ok(read) => reading.take(read, |secrets| cookies.replace(secrets), &counters),
                Err(_) => return,
            },
        }
    }
}

/// A file of secrets that is read again and again: what cannot be used changes nothing, and is said once.
#[derive(Debug)]
pub struct Reading {
    key: &'static str,
    trouble: Option<String>,
}

impl Reading {
    /// The file that `key` names.
    pub const fn of(key: &'static str) -> Self {
        Self { key, trouble: None }
    }

    /// Has what was read put in force by `put`, which says whether it is anything new.
    pub fn take<T>(&mut self, read: Result<Vec<T>, String>, put: impl FnOnce(&[T]) -> bool, counters: &Counters) {
        match read {
            Ok(secrets) => {
                self.trouble = None;
                if put(&secrets) {
                    counters.secrets_taken.add_one();
                    tracing::info!(key = self.key, secrets = secrets.len(), "new secrets are in force");
                }
            }
            Err(what) => {
                if self.trouble.as_ref() != Some(&what) {
                    counters.secrets_refused.add_one();
                    tracing::error!(key = self.key, %what, "secrets were not read again; those read before stay in force");
                }
                self.trouble = Some(what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::pipeline::Cookies;
    use crate::trail::Cookie::{Invalid, Valid};

    const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const NOW: u32 = 1_559_731_985;

    #[test]
    fn cki_16_the_three_stages_of_a_rollover_take_effect_one_by_one_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        let (old, new) = ([1; 16], [2; 16]);
        let hex = |secret: [u8; 16]| secret.map(|octet| format!("{octet:02x}")).concat();
        let cookies = Cookies::new(&[old], Moment(0));
        let (mut reading, counters) = (Reading::of("cookies.secrets_file"), Counters::default());
        let mut write = |lines: &[String]| {
            std::fs::write(&file, lines.join("\n")).unwrap();
            reading.take(read_file(&file), |secrets| cookies.replace(secrets), &counters);
        };
        let made = |secret| Cookies::new(&[secret], Moment(0)).check(&[7; 8], CLIENT, NOW).unwrap().1;
        let states = || [old, new].map(|secret| cookies.check(&made(secret), CLIENT, NOW).unwrap().0);
        let signs = |secret| cookies.check(&[7; 8], CLIENT, NOW).unwrap().1 == made(secret);
        write(&[hex(old), hex(new)]);
        assert!(
            states() == [Valid, Valid] && signs(old),
            "stage 1: the new one is known everywhere before anybody signs with it"
        );
        write(&[hex(new), hex(old)]);
        assert!(states() == [Valid, Valid] && signs(new), "stage 2");
        for broken in
            [vec![], vec!["zz".into()], vec![hex(old), "1234".into()], vec![hex(old); 17], vec!["\n".repeat(9000)]]
        {
            write(&broken);
            assert!(states() == [Valid, Valid] && signs(new), "{broken:?}");
        }
        write(&["zz".into()]);
        assert_eq!(counters.secrets_refused.value(), 6);
        write(&["zz".into()]);
        assert_eq!(counters.secrets_refused.value(), 6, "said once");
        write(&[hex(new)]);
        assert!(states() == [Invalid, Valid] && signs(new), "stage 3");
        std::fs::remove_file(&file).unwrap();
        reading.take(read_file(&file), |secrets| cookies.replace(secrets), &counters);
        assert_eq!(counters.secrets_taken.value(), 3, "one for each stage");
        assert_eq!((states(), counters.secrets_refused.value()), ([Invalid, Valid], 7));
        assert!(!reading.trouble.unwrap().contains(&hex(new)));
    }

    #[test]
    fn cki_16_a_named_pipe_in_the_place_of_the_file_changes_nothing_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        std::fs::write(&file, "42".repeat(16)).unwrap();
        assert_eq!(read_file(&file), Ok(vec![[0x42; 16]]));
        std::fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(read_file::<16>(&file)));
        let refused = hears.recv_timeout(Duration::from_secs(10)).expect("it waits for a writer").unwrap_err();
        assert!(refused.ends_with("it is a named pipe, and must be a plain file"), "{refused}");
    }
}
