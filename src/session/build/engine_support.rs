//! Warns about keys of a spec that an engine with an older API accepts and ignores.

use crate::engine::{ApiVersion, EngineInfo};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::spec::{MountKind, Service, Spec};

/// A key, the first version of the API whose engines apply it, and whether a service uses it.
type Key = (&'static str, ApiVersion, fn(&Service) -> bool);

/// Keys without which a service still runs.
const IGNORED: [Key; 3] = [
    ("healthcheck.start_interval", ApiVersion { major: 1, minor: 44 }, |service| {
        service.healthcheck.as_ref().is_some_and(|check| check.start_interval.is_some())
    }),
    ("annotations", ApiVersion { major: 1, minor: 43 }, |service| !service.settings.annotations.is_empty()),
    // An impossible version: we never pass this key on.
    ("volumes.bind.recursive", ApiVersion { major: u32::MAX, minor: 0 }, |service| {
        service.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Bind { options: Some(options), .. } => {
                options.recursive.as_deref().is_some_and(|word| word != "enabled")
            }
            _ => false,
        })
    }),
];

/// The first API version whose engines mount a subpath of a volume.
const SUBPATH: ApiVersion = ApiVersion { major: 1, minor: 45 };

/// Warns about each key that the engine ignores.
///
/// # Errors
/// Fails for a key that changes the service's file system if the engine ignores it.
pub(crate) fn check(events: &Events, info: &EngineInfo, spec: &Spec) -> Result<(), SessionError> {
    for service in spec.services.values() {
        if info.api < SUBPATH && service.mounts.iter().any(|mount| has_subpath(&mount.kind)) {
            return Err(SessionError::EngineLacks {
                what: format!(
                    "this engine ({}) ignores `volume.subpath` of service `{}` and would mount the whole volume",
                    info.version, service.name
                ),
                hint: "Docker Engine 26 and later apply it",
            });
        }
        for (key, _, _) in IGNORED.iter().filter(|(_, since, used)| info.api < *since && used(service)) {
            let text =
                format!("this engine ({}) ignores `{key}` of service `{}`", info.version, service.name);
            events.emit(Event::Warning { text, hint: None });
        }
    }
    Ok(())
}

fn has_subpath(kind: &MountKind) -> bool {
    match kind {
        MountKind::Named { options, .. } | MountKind::Anonymous { options } => {
            options.as_ref().is_some_and(|options| options.subpath.is_some())
        }
        _ => false,
    }
}
