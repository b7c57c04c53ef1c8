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

/// Looks at the file while `reload.watch` is on, and takes it over once it holds something else than what was last taken over, or
/// refused, and has stayed the same for one look: an editor may write it in pieces.
pub async fn watch(reloader: Arc<Reloader>) {
    let mut seen: Option<Seen> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let reloader = Arc::clone(&reloader);
        let looked = tokio::task::spawn_blocking(move || {
            let file = reloader.watched()?;
            let next = Seen::look(file, |text| reloader.is_news(text), seen);
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
    /// Has it been read since it got this stamp?
    is_read: bool,
    /// Is it to be taken over now?
    is_due: bool,
}

impl Seen {
    /// Looks at `file`, which `before` tells of; `is_news` says whether what it holds is anything new.
    fn look(file: PathBuf, is_news: impl FnOnce(&[u8]) -> bool, before: Option<Self>) -> Self {
        let stamp = stamp(&file);
        match before.filter(|before| before.file == file && before.stamp == stamp) {
            None => Self { file, stamp, is_read: false, is_due: false },
            Some(before) if before.is_read => Self { is_due: false, ..before },
            Some(_) => {
                // Touched is not changed; a file that is gone for the moment is about to be written anew.
                let text = std::fs::read(&file).ok();
                Self { file, stamp, is_read: text.is_some(), is_due: text.as_deref().is_some_and(is_news) }
            }
        }
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
        let (mut due, mut taken) = (Vec::new(), b"a".to_vec());
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
            let next = Seen::look(file.clone(), |text| text != taken, seen.take());
            if next.is_due {
                taken = text.into();
            }
            due.push(next.is_due);
            seen = Some(next);
        }
        let no = false;
        assert_eq!(due, [no, no, no, no, true, no, no, no, no, true]);
        std::fs::remove_file(&file).unwrap();
        let gone = Seen::look(file.clone(), |_| true, seen);
        let gone = Seen::look(file, |_| true, Some(gone));
        assert!(!gone.is_due, "a file that is gone says nothing");
    }

    #[test]
    fn what_was_written_before_the_first_look_is_news_unless_it_was_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hushgate.toml");
        std::fs::write(&file, "new").unwrap();
        for (taken, due) in [(&b"old"[..], true), (b"new", false)] {
            let first = Seen::look(file.clone(), |text| text != taken, None);
            assert!(!first.is_due, "it may not be whole");
            assert_eq!(Seen::look(file.clone(), |text| text != taken, Some(first)).is_due, due);
        }
    }
}
