//! Reloads that the control thread begins: by the admin API, and by a file that has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::{Reloading, Trial};
use crate::gateway::reload::{Reloader, Way};

/// Time between two looks at the file.
const INTERVAL: Duration = Duration::from_secs(2);

/// What `/api/reload` does, on a thread that may wait for the disk.
pub fn handle(reloader: &Arc<Reloader>) -> Arc<dyn Fn(Trial) -> Reloading + Send + Sync> {
    let reloader = Arc::clone(reloader);
    Arc::new(move |trial| {
        let reloader = Arc::clone(&reloader);
        let way = match trial {
            Trial::No => Way::Apply,
            Trial::Yes => Way::Try,
        };
        // Whoever asked may leave: what has begun is brought to its end.
        Box::pin(async move { tokio::task::spawn_blocking(move || reloader.reload(way)).await.ok() })
    })
}

/// What tells one version of the file from another.
type Stamp = Option<(SystemTime, u64)>;

/// Looks at the file while `reload.watch` is on, and takes it over once it has changed and then stayed the same for one look: an
/// editor may write it in pieces.
pub async fn watch(reloader: Arc<Reloader>) {
    let mut seen: Option<Seen> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let reloader = Arc::clone(&reloader);
        let looked = tokio::task::spawn_blocking(move || {
            let file = reloader.watched()?;
            let next = Seen::look(file, seen);
            if next.is_due {
                reloader.reload(Way::Apply);
            }
            Some(next)
        });
        match looked.await {
            Ok(looked) => seen = looked,
            Err(error) => {
                tracing::error!(%error, "watching the configuration panicked and begins anew");
                seen = None;
            }
        }
    }
}

/// The file as it was at the last look.
#[derive(Debug)]
struct Seen {
    file: PathBuf,
    stamp: Stamp,
    /// Did it hold something else than what was last taken over, or refused?
    has_changed: bool,
    text: Option<Vec<u8>>,
    /// Is it to be taken over now?
    is_due: bool,
}

impl Seen {
    /// Looks at `file`, which `before` tells of.
    fn look(file: PathBuf, before: Option<Self>) -> Self {
        let stamp = stamp(&file);
        let Some(before) = before.filter(|before| before.file == file) else {
            let text = std::fs::read(&file).ok();
            return Self { file, stamp, has_changed: false, text, is_due: false };
        };
        let is_settled = before.stamp == stamp;
        if !is_settled {
            return Self { file, stamp, has_changed: true, text: before.text, is_due: false };
        }
        if !before.has_changed {
            return Self { is_due: false, ..before };
        }
        // Touched is not changed; a file that is gone for the moment is about to be written anew.
        let text = std::fs::read(&file).ok();
        let is_due = text.is_some() && text != before.text;
        Self { file, stamp, has_changed: text.is_none(), text: text.or(before.text), is_due }
    }
}

fn stamp(file: &std::path::Path) -> Stamp {
    let data = std::fs::metadata(file).ok()?;
    Some((data.modified().ok()?, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_due_once_it_has_changed_and_settled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hushgate.toml");
        let mut due = Vec::new();
        let mut seen = None;
        for (text, at) in [
            ("a", 1),
            ("a", 1),
            ("bb", 2),
            ("ccc", 3),
            ("ccc", 3),
            ("ccc", 3),
            ("ccc", 4),
            ("ccc", 4),
            ("d", 5),
            ("d", 5),
        ] {
            std::fs::write(&file, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
            let next = Seen::look(file.clone(), seen.take());
            due.push(next.is_due);
            seen = Some(next);
        }
        let no = false;
        assert_eq!(due, [no, no, no, no, true, no, no, no, no, true]);
        std::fs::remove_file(&file).unwrap();
        let gone = Seen::look(file.clone(), seen);
        let gone = Seen::look(file, Some(gone));
        assert!(!gone.is_due, "a file that is gone says nothing");
    }
}
