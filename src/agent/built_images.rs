//! Images that were built for specs, under names that we generate. They outlive their sandboxes as a build cache, until
//! `gc` removes them.

use std::collections::BTreeSet;

use crate::engine::identity::{self, Scope};
use crate::engine::{Engine, EngineError, Filter};

/// An image that was built for a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The generated name.
    pub reference: String,
    /// Its id.
    pub id: String,
    /// Bytes, shared layers included.
    pub size: u64,
    /// Whether the image still has that name. A later build may have taken the name.
    pub current: bool,
}

/// Lists the built images of this scope that no container uses.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn unused(engine: &dyn Engine, scope: &Scope) -> Result<Vec<Built>, EngineError> {
    let containers = engine.containers(&Filter::all()).await?;
    let used: BTreeSet<String> = containers.into_iter().map(|container| container.image_id).collect();
    let found = engine.images(&scope.narrow(Filter::all().has_label(identity::BUILT))).await?;
    let built =
        found.into_iter().filter(|image| scope.owns(&image.config.labels) && !used.contains(&image.id));
    let built = built.filter_map(|image| {
        let reference = image.config.labels.get(identity::BUILT)?.clone();
        let current = image.tags.contains(&reference);
        // An image that was derived from ours, or that the user tagged, is not ours to remove.
        let ours = current || image.tags.is_empty();
        ours.then_some(Built { reference, id: image.id, size: image.size, current })
    });
    Ok(built.collect())
}

/// Removes a built image: its name, and the image too if it has no other name.
///
/// # Errors
/// Fails if the engine refuses, for example because a container uses the image by now.
pub async fn remove(engine: &dyn Engine, built: &Built) -> Result<(), EngineError> {
    match engine.remove_image(if built.current { &built.reference } else { &built.id }).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
