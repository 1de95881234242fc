//! Watches files of this machine for changes. Folders are watched one by one, so that ignored ones (`node_modules`)
//! cost nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use tokio::sync::mpsc;

/// Debounce time: an editor that saves and a branch checkout make many changes at once.
const QUIET: Duration = Duration::from_millis(150);

/// Returns whether a folder need not be watched.
type Skips<'a> = &'a (dyn Fn(&Path) -> bool + Sync);

/// A watcher of folders and files.
pub(super) struct Files {
    debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
    watched: BTreeSet<PathBuf>,
    changes: mpsc::UnboundedReceiver<Vec<PathBuf>>,
}

impl Files {
    /// Creates a watcher without any folder.
    pub(super) fn new() -> notify::Result<Self> {
        let (sender, changes) = mpsc::unbounded_channel();
        let debouncer = new_debouncer(QUIET, None, move |result: DebounceEventResult| {
            let events = result.unwrap_or_default().into_iter();
            // Reading a file does not change it.
            let changed = events.filter(|event| !matches!(event.kind, EventKind::Access(_)));
            let paths: Vec<PathBuf> = changed.flat_map(|event| event.event.paths).collect();
            if !paths.is_empty() {
                // Ignored: the session may have ended.
                let _ = sender.send(paths);
            }
        })?;
        Ok(Self { debouncer, watched: BTreeSet::new(), changes })
    }

    /// Watches a file, or a folder and everything below it that is not skipped. Adds the files in it to `found`.
    pub(super) fn cover(
        &mut self,
        path: &Path,
        skips: Skips<'_>,
        found: &mut BTreeSet<PathBuf>,
    ) -> notify::Result<()> {
        if !path.is_dir() {
            // Editors replace a file with a new one, which only a watch on its folder sees.
            return match path.parent().filter(|folder| folder.is_dir()) {
                Some(folder) => self.watch(folder),
                None => Ok(()),
            };
        }
        self.watch(path)?;
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        for entry in entries {
            let inner = entry.path();
            // A link to a folder counts as a link: its target is not part of this tree.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(inner);
            } else if !skips(&inner) {
                self.cover(&inner, skips, found)?;
                // The folder may be empty.
                found.insert(inner);
            }
        }
        Ok(())
    }

    fn watch(&mut self, folder: &Path) -> notify::Result<()> {
        if self.watched.insert(folder.to_owned()) {
            self.debouncer.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }

    /// Waits for changes and returns the changed files, including those in new folders.
    pub(super) async fn changed(&mut self, skips: Skips<'_>) -> BTreeSet<PathBuf> {
        let Some(mut paths) = self.changes.recv().await else { return std::future::pending().await };
        while let Ok(more) = self.changes.try_recv() {
            paths.extend(more);
        }
        let mut changed = BTreeSet::new();
        for path in paths {
            if path.is_dir() {
                if !self.watched.contains(&path) && !skips(&path) {
                    // Ignored: it may have been removed again, which the next change reports.
                    let _ = self.cover(&path, skips, &mut changed);
                    changed.insert(path);
                }
            } else {
                self.watched.retain(|folder| !folder.starts_with(&path));
                changed.insert(path);
            }
        }
        changed
    }
}

/// How to solve a failure to watch files.
pub(super) fn hint(error: &notify::Error) -> Option<String> {
    matches!(error.kind, notify::ErrorKind::MaxFilesWatch).then(|| {
        "this machine watches no more folders: `sysctl fs.inotify.max_user_watches=524288`, or `ignore` some".to_owned()
    })
}
