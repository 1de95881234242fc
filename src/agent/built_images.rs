//! Images that were built for specs, under names of our making: they outlast their sandboxes, so that the next one need not
//! be built, until `gc` removes them.

use std::collections::BTreeSet;

use crate::engine::identity::{self, Scope};
use crate::engine::{Engine, EngineError, Filter};

/// An image that was built for a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The name that it was given.
    pub reference: String,
    /// Its id.
    pub id: String,
    /// Bytes, shared layers included.
    pub size: u64,
    /// Whether it still has that name: a later build may have taken it.
    pub current: bool,
}

/// Those of this scope that no container uses.
///
/// # Errors
/// When the engine does not answer.
pub async fn unused(engine: &dyn Engine, scope: &Scope) -> Result<Vec<Built>, EngineError> {
    let containers = engine.containers(&Filter::all()).await?;
    let used: BTreeSet<String> = containers.into_iter().map(|container| container.image_id).collect();
    let found = engine.images(&scope.narrow(Filter::all().has_label(identity::BUILT))).await?;
    let built =
        found.into_iter().filter(|image| scope.owns(&image.config.labels) && !used.contains(&image.id));
    let built = built.filter_map(|image| {
        let reference = image.config.labels.get(identity::BUILT)?.clone();
        let current = image.tags.contains(&reference);
        // What somebody has made from it, or named it, is not ours.
        let ours = current || image.tags.is_empty();
        ours.then_some(Built { reference, id: image.id, size: image.size, current })
    });
    Ok(built.collect())
}

/// Removes one: its name, and the image with it if it has no other.
///
/// # Errors
/// When the engine refuses; somebody may have begun to use it.
pub async fn remove(engine: &dyn Engine, built: &Built) -> Result<(), EngineError> {
    match engine.remove_image(if built.current { &built.reference } else { &built.id }).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
