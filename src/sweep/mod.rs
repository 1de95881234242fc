//! Destroys sandboxes by label, for the session and the keeper.
//!
//! A sweep lists the sandbox's objects and removes them, and repeats until nothing is listed, because a create may
//! have been in flight. It uses no memory and no file; "not found" is success, "in use" is retried, and every step is
//! tried even if an earlier one failed. Leftovers are reported with their causes. Objects without our labels or of
//! another scope are never touched.

mod find;
mod round;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use find::{ObservedObjects, SweepScope, Target, find, sandboxes};

use crate::engine::{Engine, ObjectKind, Volume};

/// How containers are stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopMode {
    /// Killed immediately.
    #[default]
    Kill,
    /// By their stop signal, each with its own grace period, all concurrently.
    Stop,
}

/// Limits of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Maximum number of rounds.
    pub rounds: u32,
    /// Pause after the first incomplete round; it doubles up to [`Patience::longest_pause`].
    pub pause: Duration,
    /// Maximum pause.
    pub longest_pause: Duration,
    /// Timeout of one engine call, after which the step counts as failed.
    pub call: Duration,
}

impl Default for Patience {
    /// About 15 seconds of pauses in total.
    fn default() -> Self {
        Self {
            rounds: 14,
            pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            call: Duration::from_mins(1),
        }
    }
}

impl Patience {
    fn pause_after(&self, round: u32) -> Duration {
        let factor = 2_u32.saturating_pow(round.min(16));
        self.pause.saturating_mul(factor).min(self.longest_pause)
    }
}

/// Callbacks after objects have been removed; by default they do nothing.
#[async_trait]
pub trait Aftermath: Send + Sync {
    /// An object has been removed. For progress display.
    fn gone(&self, _kind: ObjectKind, _name: &str) {}

    /// The engine no longer has this volume. Only now may the storage behind it be deleted.
    async fn volume_gone(&self, _volume: &Volume) -> Result<(), String> {
        Ok(())
    }

    /// The engine has no objects of this instance left (`id` is its [`crate::engine::identity::ID`]).
    async fn sandbox_gone(&self, _id: &str) -> Result<(), String> {
        Ok(())
    }
}

/// Callbacks that do nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Aftermath for NoHooks {}

/// Result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Removed objects, as kind and name, in the order of removal.
    pub removed: Vec<(ObjectKind, String)>,
    /// Objects that could not be removed.
    pub left: Vec<Leftover>,
}

impl Swept {
    /// Whether everything was removed.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty()
    }
}

/// An object that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The kind of object; [`ObjectKind::Engine`] if the engine did not reply, [`ObjectKind::Path`] for the storage
    /// behind a volume.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Why it could not be removed.
    pub cause: String,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "{}: {}", self.kind, self.cause)
        } else {
            write!(f, "{} `{}`: {}", self.kind, self.name, self.cause)
        }
    }
}

/// Destroys all objects of the target, until the engine lists none or the limits of `patience` are reached.
///
/// Dropping the future stops it between two calls at the latest; another call continues where it stopped.
pub async fn destroy(
    engine: &dyn Engine,
    target: &Target,
    manner: StopMode,
    patience: &Patience,
    aftermath: &dyn Aftermath,
) -> Swept {
    let mut sweep = Sweep { engine, patience, aftermath, progress: Progress::default() };
    if let SweepScope::Id(id) = &target.what {
        sweep.progress.ids.insert(id.to_string());
    }
    for round in 0..patience.rounds {
        if round > 0 {
            tokio::time::sleep(patience.pause_after(round - 1)).await;
        }
        match sweep.look(target).await {
            Ok(found) if found.is_empty() => {
                sweep.progress.failed.clear();
                sweep.after().await;
                return sweep.progress.finish(&ObservedObjects::default());
            }
            Ok(found) => sweep.round(found, if round == 0 { manner } else { StopMode::Kill }).await,
            Err(cause) => sweep.progress.fail(ObjectKind::Engine, "", cause),
        }
    }
    match sweep.look(target).await {
        Ok(found) => {
            sweep.progress.failed.remove(&(ObjectKind::Engine, String::new()));
            if found.is_empty() {
                sweep.progress.failed.clear();
                sweep.after().await;
            }
            sweep.progress.finish(&found)
        }
        Err(cause) => {
            sweep.progress.fail(ObjectKind::Engine, "", cause);
            sweep.progress.finish(&ObservedObjects::default())
        }
    }
}

/// A sweep in progress.
struct Sweep<'a> {
    engine: &'a dyn Engine,
    patience: &'a Patience,
    aftermath: &'a dyn Aftermath,
    progress: Progress,
}

/// State of a sweep.
#[derive(Default)]
struct Progress {
    removed: Vec<(ObjectKind, String)>,
    /// Objects that were seen and whose removal is not confirmed; volumes with their details.
    unconfirmed: BTreeMap<(ObjectKind, String), Option<Volume>>,
    /// The last failure of each object that may still exist.
    failed: BTreeMap<(ObjectKind, String), String>,
    /// Failures of callbacks; listing the engine's objects again does not retry these.
    storage: Vec<Leftover>,
    /// Instance ids that were seen.
    ids: BTreeSet<String>,
}

impl Progress {
    fn fail(&mut self, kind: ObjectKind, name: &str, cause: String) {
        self.failed.insert((kind, name.to_owned()), cause);
    }

    fn finish(self, still_there: &ObservedObjects) -> Swept {
        let mut failed = self.failed;
        let mut left: Vec<Leftover> = still_there
            .objects()
            .map(|(kind, name)| {
                let cause =
                    failed.remove(&(kind, name.to_owned())).unwrap_or_else(|| "it is still there".into());
                Leftover { kind, name: name.to_owned(), cause }
            })
            .collect();
        let engine =
            failed.into_iter().filter(|((kind, _), _)| *kind == ObjectKind::Engine || still_there.is_empty());
        left.extend(engine.map(|((kind, name), cause)| Leftover { kind, name, cause }));
        left.extend(self.storage);
        Swept { removed: self.removed, left }
    }
}
