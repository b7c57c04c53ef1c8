//! The secrets of server cookies over time: the file read again while the gateway runs, a secret made here turned every day.
//!
//! A rollover of several gateways has three stages (RFC 9018 5): the new secret comes last in every file, then first, then the old
//! one goes. Each takes effect here within [`INTERVAL`], and no client notices.

use std::sync::Arc;
use std::time::Duration;

use crate::config::secrets::{Secrets, read_file};
use crate::control::Force;
use crate::pipeline::Cookies;
use crate::telemetry::Counters;

/// Time between two looks. The file is so small that reading it costs no more than finding out whether it has changed, which its
/// time of modification does not tell of two changes within a moment.
const INTERVAL: Duration = Duration::from_secs(2);

/// Looks after the secrets in force for as long as the gateway lives.
pub async fn keep(force: Force, counters: Arc<Counters>) {
    let mut trouble = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = force.load_full();
        let Some(cookies) = now.shared.cookies() else { continue };
        match now.secrets_file.clone() {
            None => cookies.turn(now.shared.clock().now()),
            // A disk that is slow would hold up the admin server.
            Some(file) => match tokio::task::spawn_blocking(move || read_file(&file)).await {
                Ok(read) => take(cookies, read, &mut trouble, &counters),
                Err(_) => return,
            },
        }
    }
}

/// Puts what was read in force. What cannot be used changes nothing, and is said once.
fn take(cookies: &Cookies, read: Result<Secrets, String>, trouble: &mut Option<String>, counters: &Counters) {
    match read {
        Ok(secrets) => {
            *trouble = None;
            if cookies.replace(&secrets) {
                counters.secrets_taken.add_one();
                tracing::info!(secrets = secrets.len(), "new cookie secrets are in force");
            }
        }
        Err(what) => {
            if trouble.as_ref() != Some(&what) {
                counters.secrets_refused.add_one();
                tracing::error!(%what, "cookie secrets were not read again; those read before stay in force");
            }
            *trouble = Some(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
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
        let (mut trouble, counters) = (None, Counters::default());
        let mut write = |lines: &[String]| {
            std::fs::write(&file, lines.join("\n")).unwrap();
            take(&cookies, read_file(&file), &mut trouble, &counters);
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
        take(&cookies, read_file(&file), &mut trouble, &counters);
        assert_eq!(counters.secrets_taken.value(), 3, "one for each stage");
        assert_eq!((states(), counters.secrets_refused.value()), ([Invalid, Valid], 7));
        assert!(!trouble.unwrap().contains(&hex(new)));
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
        std::thread::spawn(move || told.send(read_file(&file)));
        let refused = hears.recv_timeout(Duration::from_secs(10)).expect("it waits for a writer").unwrap_err();
        assert!(refused.ends_with("it is a named pipe, and must be a plain file"), "{refused}");
    }
}
