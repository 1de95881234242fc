//! Shell completion of names: sandboxes, services, snapshots and tasks, queried while the user types.

use std::time::Duration;

use clap_complete::engine::CompletionCandidate;

use super::{Context, Globals, SpecOptions};
use crate::cli::keeper;
use crate::session::inspect;
use crate::spec::Refusals;
use crate::storage::Namespace;

/// Timeout of a completion.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// The names of all sandboxes.
pub fn sandboxes() -> Vec<CompletionCandidate> {
    ask(&async |context| {
        let engine = context.engine().await.ok()?;
        let all = inspect::sandboxes(engine.as_ref(), &context.scope().ok()?).await.ok()?;
        Some(all.into_iter().map(|observed| observed.name).collect())
    })
}

/// The names of the services of the selected sandbox, or of the spec if there is no sandbox.
pub fn services() -> Vec<CompletionCandidate> {
    ask(&async |context| {
        if let Ok(observed) = context.chosen().await {
            return Some(observed.service_names());
        }
        let loaded = context.load(&SpecOptions::default(), &[], Refusals::Warn).ok()?;
        Some(loaded.spec.services.keys().map(ToString::to_string).collect())
    })
}

/// The names of snapshots.
pub fn snapshots() -> Vec<CompletionCandidate> {
    ask(&async |context| {
        let engine = context.engine().await.ok()?;
        // A completion does not start the keeper.
        let keeper = keeper::running(&engine).await.ok()??;
        let sets = keeper.storage().ok()?.list(Namespace::Snapshot).await.ok()?;
        Some(sets.into_iter().map(|set| set.path.name.to_string()).collect())
    })
}

/// The names of the spec's tasks.
pub fn tasks() -> Vec<CompletionCandidate> {
    ask(&async |context| {
        let spec = context.spec_here(&SpecOptions::default()).await.ok()?;
        Some(spec.tasks.keys().map(ToString::to_string).collect())
    })
}

fn ask(what: &impl AsyncFn(&Context) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let names = || {
        let context = Context::new(Globals::default(), SpecOptions::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let names =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, what(&context)).await.ok().flatten() });
        runtime.shutdown_background();
        names
    };
    names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}
