//! What a sandbox's services send to the engine's machine itself, past their gateway, is not taken in.

use std::sync::atomic::{AtomicBool, Ordering};

use super::event::{Event, Events};
use crate::agent::client::{Keeper, KeeperError};
use crate::engine::identity::SandboxId;

static TOLD: AtomicBool = AtomicBool::new(false);

/// Has the keeper see to it for the networks that a sandbox has now, and tells where that cannot be had.
///
/// # Errors
/// When there is no keeper.
pub(super) async fn filter(keeper: &Keeper, sandbox: &SandboxId, events: &Events) -> Result<(), KeeperError> {
    match keeper.filter_ingress(sandbox).await {
        Err(error) if error.is_of_ingress() => {
            // Once is enough, however many sandboxes and tries it takes.
            if TOLD.swap(true, Ordering::Relaxed) {
                return Ok(());
            }
            let text = format!("services can reach the engine's machine: {error}");
            events.emit(Event::Warning { text, hint: error.hint() });
            Ok(())
        }
        filtered => filtered,
    }
}
