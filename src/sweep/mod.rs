//! Destruction by label, for the session and the keeper alike.
//!
//! Asks the engine what there is of a sandbox and removes it, and asks again until there is nothing: a create may have
//! been in flight. It trusts no memory and no file; "not found" is success, "in use" is tried again, every step is
//! tried whatever became of the one before, and what is left in the end is named with its cause. It never touches an
//! object that has not our labels and is not of our scope.

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

/// How containers end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopMode {
    /// At once.
    #[default]
    Kill,
    /// By their stop signal, each with its own grace period, all side by side.
    Stop,
}

/// How long a sweep goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Looks at the engine, at most.
    pub rounds: u32,
    /// The pause after the first look that was not enough; it doubles up to [`Patience::longest_pause`].
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long one call may take before the step counts as failed.
    pub call: Duration,
}

impl Default for Patience {
    /// About a quarter of a minute of pauses.
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

/// What is to happen once something is gone; by default nothing.
#[async_trait]
pub trait Aftermath: Send + Sync {
    /// An object is gone. For showing it.
    fn gone(&self, _kind: ObjectKind, _name: &str) {}

    /// The engine no longer has this volume: the storage behind it may be deleted now, and not before.
    async fn volume_gone(&self, _volume: &Volume) -> Result<(), String> {
        Ok(())
    }

    /// The engine has nothing left of this incarnation (its [`crate::engine::identity::ID`]).
    async fn sandbox_gone(&self, _id: &str) -> Result<(), String> {
        Ok(())
    }
}

/// Nothing happens afterwards.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Aftermath for NoHooks {}

/// What came of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// What was removed: kind and name, in the order in which it went.
    pub removed: Vec<(ObjectKind, String)>,
    /// What could not be removed.
    pub left: Vec<Leftover>,
}

impl Swept {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty()
    }
}

/// Something that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What kind of thing; [`ObjectKind::Engine`] if the engine could not even be asked, [`ObjectKind::Path`] for the
    /// storage behind a volume.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Why.
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

/// Destroys what the target means, until the engine has nothing of it or patience ends.
///
/// Dropping the future stops between two calls at the latest; calling again goes on where it ended.
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

/// One sweep under way.
struct Sweep<'a> {
    engine: &'a dyn Engine,
    patience: &'a Patience,
    aftermath: &'a dyn Aftermath,
    progress: Progress,
}

/// What has become of things so far.
#[derive(Default)]
struct Progress {
    removed: Vec<(ObjectKind, String)>,
    /// What was seen and is not known to be gone; volumes with all about them.
    unconfirmed: BTreeMap<(ObjectKind, String), Option<Volume>>,
    /// The last failure of each thing that may still be there.
    failed: BTreeMap<(ObjectKind, String), String>,
    /// Failures of what happens afterwards; these are not tried again by looking at the engine.
    storage: Vec<Leftover>,
    /// Incarnations that were seen.
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
