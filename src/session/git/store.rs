//! Where temporary clones and worktrees lie, and when they go.
//!
//! Each is a folder of the user's state folder with a lock, a record and the files. The process that makes it holds the
//! lock until its sandbox is gone or detached. Without a lock, the files are in use as long as the engine has a sandbox
//! whose folder (a label) is inside. Whatever is not in use is removed: by the process itself, by `down`, and by any
//! later call of the program, also after a kill.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::GitError;
use crate::engine::identity::Scope;
use crate::engine::{Engine, EngineError};
use crate::session::inspect;

const LOCK: &str = "lock";
const RECORD: &str = "checkout.json";

/// A folder for a checkout. Its lock ends with this value.
#[derive(Debug)]
pub struct CheckoutFolder {
    path: PathBuf,
    _lock: File,
}

/// Which sandboxes a checkout can belong to, and what else has to be removed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The engine's address.
    engine: String,
    /// The scope on it.
    scope: String,
    /// What git keeps about a worktree, inside its repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    administration: Option<PathBuf>,
}

impl CheckoutFolder {
    /// Makes an empty folder for a sandbox on this engine.
    ///
    /// # Errors
    /// Fails if the user's state folder cannot be written.
    pub async fn make(engine: &dyn Engine, scope: &Scope) -> Result<Self, CheckoutError> {
        let record =
            Record { engine: location(engine).await?, scope: scope.to_string(), administration: None };
        let all = all_checkouts();
        let made = tokio::task::spawn_blocking(move || make(&all, &record)).await;
        Ok(made.map_err(io::Error::other).map_err(failed("make", &all_checkouts()))??)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records what git keeps about a worktree in its repository, before there is one.
    pub(super) fn record_worktree(&self, administration: &Path) -> Result<(), GitError> {
        let path = self.path.join(RECORD);
        let mut record = read_record(&path).map_err(failed("read", &path))?;
        record.administration = Some(administration.to_owned());
        write_record(&path, &record).map_err(failed("write", &path))
    }
}

/// Why checkouts could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The engine returned an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Git or the file system returned one.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Removes the checkouts of this engine and scope that no process and no sandbox uses.
///
/// # Errors
/// Fails if the engine does not answer, or with the first folder that cannot be removed.
pub async fn sweep(engine: &dyn Engine, scope: &Scope) -> Result<(), CheckoutError> {
    let all = all_checkouts();
    if !fs::read_dir(&all).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir())) {
        return Ok(());
    }
    let location = location(engine).await?;
    // Sandboxes that are made from now on hold the lock of their folder.
    let (place, of_scope) = (all.clone(), scope.to_string());
    let idle = blocking(move || idle(&place, &location, &of_scope)).await.map_err(failed("look at", &all))?;
    if idle.is_empty() {
        return Ok(());
    }
    let used: Vec<PathBuf> =
        inspect::sandboxes(engine, scope).await?.into_iter().map(|sandbox| sandbox.folder).collect();
    let unused = idle.into_iter().filter(|(path, _)| !used.iter().any(|folder| folder.starts_with(path)));
    let mut outcome = Ok(());
    for (path, _lock) in unused {
        let removed = path.clone();
        if let Err(error) = blocking(move || remove(&removed)).await {
            outcome = outcome.and(Err(failed("remove", &path)(error).into()));
        }
    }
    outcome
}

async fn location(engine: &dyn Engine) -> Result<String, EngineError> {
    Ok(engine.info().await?.location.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::File { what, path, source }
}

/// The folder of all checkouts.
fn all_checkouts() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".local/state");
    state.unwrap_or_else(home).join("sandbox").join("checkouts")
}

/// Holds off other processes that make or look at checkouts, until it is dropped.
fn exclusively(all: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(all.join(LOCK))?;
    lock.lock()?;
    Ok(lock)
}

fn make(all: &Path, record: &Record) -> Result<CheckoutFolder, GitError> {
    let made = || -> io::Result<CheckoutFolder> {
        DirBuilder::new().recursive(true).mode(0o700).create(all)?;
        let _others = exclusively(all)?;
        // The labels of a sandbox have paths without links.
        let all = all.canonicalize()?;
        let path = all.join(format!("{:012x}", rand::random::<u64>() >> 16));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::create_new(path.join(LOCK))?;
        lock.lock()?;
        write_record(&path.join(RECORD), record)?;
        Ok(CheckoutFolder { path, _lock: lock })
    };
    made().map_err(failed("make", all))
}

/// The checkouts of an engine and scope that no process holds, each with its lock.
fn idle(all: &Path, engine: &str, scope: &str) -> io::Result<Vec<(PathBuf, Option<File>)>> {
    let _others = exclusively(all)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(all.canonicalize()?)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        // A process that was killed while it made a folder may have left it without lock or record.
        let lock = File::open(path.join(LOCK)).ok();
        if lock.as_ref().is_some_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock))) {
            continue;
        }
        match read_record(&path.join(RECORD)) {
            Ok(record) if record.engine != engine || record.scope != scope => {}
            _ => found.push((path, lock)),
        }
    }
    Ok(found)
}

fn read_record(path: &Path) -> io::Result<Record> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

fn write_record(path: &Path, record: &Record) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(record).map_err(io::Error::other)?)
}

/// Removes a checkout, its record last: what was removed in part is found again.
fn remove(path: &Path) -> io::Result<()> {
    let record = read_record(&path.join(RECORD)).ok();
    if let Some(administration) = record.and_then(|record| record.administration) {
        forget_worktree(&administration, path)?;
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    fs::remove_dir_all(path)
}

/// Removes what a repository knows about a worktree inside `checkout`, and nothing else.
fn forget_worktree(administration: &Path, checkout: &Path) -> io::Result<()> {
    let points_here = fs::read_to_string(administration.join("gitdir"))
        .is_ok_and(|text| Path::new(text.trim()).starts_with(checkout));
    let is_one = administration.parent().is_some_and(|parent| parent.ends_with("worktrees"));
    if !(points_here && is_one) {
        return Ok(());
    }
    match fs::remove_dir_all(administration) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(engine: &str) -> Record {
        Record { engine: engine.to_owned(), scope: String::new(), administration: None }
    }

    #[test]
    fn a_folder_is_idle_once_its_process_let_go_of_it() {
        let all = tempfile::tempdir().unwrap();
        let folder = make(all.path(), &record("unix:///a")).unwrap();
        assert!(idle(all.path(), "unix:///a", "").unwrap().is_empty());
        drop(folder);
        assert_eq!(idle(all.path(), "unix:///a", "").unwrap().len(), 1);
        assert!(idle(all.path(), "unix:///b", "").unwrap().is_empty(), "another engine");
        assert!(idle(all.path(), "unix:///a", "other").unwrap().is_empty(), "another scope");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_whole() {
        let all = tempfile::tempdir().unwrap();
        fs::create_dir_all(all.path().join("0123/shop/web")).unwrap();
        for (path, _lock) in idle(all.path(), "unix:///a", "").unwrap() {
            remove(&path).unwrap();
        }
        assert!(!all.path().join("0123").exists());
    }

    #[test]
    fn only_the_worktree_of_the_checkout_is_forgotten() {
        let all = tempfile::tempdir().unwrap();
        let folder = make(all.path(), &record("unix:///a")).unwrap();
        let worktrees = all.path().join("repo/.git/worktrees");
        for (name, gitdir) in [("mine", folder.path().join("shop/.git")), ("other", "/src/shop/.git".into())]
        {
            fs::create_dir_all(worktrees.join(name)).unwrap();
            fs::write(worktrees.join(name).join("gitdir"), format!("{}\n", gitdir.display())).unwrap();
            forget_worktree(&worktrees.join(name), folder.path()).unwrap();
        }
        assert!(!worktrees.join("mine").exists() && worktrees.join("other").exists());
    }
}
