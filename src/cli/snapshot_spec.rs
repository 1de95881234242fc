//! `--from`: selects the data that a sandbox starts with, and the spec to use with it.
//!
//! A snapshot of this machine is used with the spec that it was taken with. An imported snapshot is used with the spec
//! and sources of the folder if that is a checkout of the same project. Otherwise its own spec is used as untrusted:
//! its paths are relative to the folder, and images of services with a `build` come from the file instead of being
//! built.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Context, Failure, SpecOptions, consent};
use crate::data::manifest::Manifest;
use crate::data::registry::Reference;
use crate::report::Output;
use crate::session::data::registry::pulled;
use crate::session::data::snapshot_transfer::RemoteEnd;
use crate::spec::{
    self, HostAccess, ImageSource, Loaded, MountKind, ProblemKind, PullPolicy, Refusals, SandboxName, Spec,
    SpecOrigin, Variables,
};
use crate::storage::SetPath;

/// Maximum number of characters of a snapshot's name in a sandbox's name.
const FEW: usize = 24;

/// The snapshot that `--from` names.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The stored set.
    pub set: SetPath,
    /// The snapshot's name.
    label: String,
}

/// Resolves `--from` to a stored set: a snapshot, or a file or `oci://` reference, which is imported unless it was already.
pub(super) async fn source(context: &Context, from: Option<&str>) -> Result<Option<Source>, Failure> {
    let Some(from) = from else { return Ok(None) };
    let keeper = super::snapshot::keeper(context).await?;
    let storage = keeper.storage()?;
    if let Ok(set) = super::snapshot::named(from)
        && storage.inspect(&set).await?.is_some()
    {
        return Ok(Some(Source { label: set.name.to_string(), set }));
    }
    let file = Path::new(from);
    let reference = Reference::after_scheme(from).map(str::parse::<Reference>).transpose();
    let reference = reference.map_err(|error| Failure::usage(error, None))?;
    if reference.is_none() && !file.is_file() {
        let hint = "`sandbox snapshot ls` shows the snapshots that there are".to_owned();
        return Err(Failure::failed(format!("there is neither a snapshot nor a file `{from}`"), Some(hint)));
    }
    let reporting = context.reporter();
    let container = keeper.storage_container();
    let far = RemoteEnd { engine: context.engine().await?, container, events: reporting.events.clone() };
    let (kept, label) = match reference {
        Some(reference) => (pulled(&far, &*storage, &reference).await, reference.label().to_owned()),
        None => (far.kept(&*storage, file).await, super::snapshot::label(file)),
    };
    drop(far);
    reporting.finish().await;
    Ok(Some(Source { set: kept?, label }))
}

/// Loads the spec to build: from files if any are named or there is no snapshot, else the one that belongs to the
/// data.
pub(super) async fn loaded(
    context: &Context,
    options: &SpecOptions,
    from: Option<&Source>,
    services: &[String],
) -> Result<Loaded, Failure> {
    let merged = context.spec_options(options);
    let Some(source) = from.filter(|_| merged.files.is_empty()) else {
        return context.load(options, services, Refusals::Fail);
    };
    let info = super::snapshot::storage(context).await?.inspect(&source.set).await?;
    let manifest = info.as_ref().and_then(Manifest::of);
    let kept = manifest.as_ref().and_then(|manifest| manifest.spec.clone());
    let kept = kept.map(stored_spec).transpose()?;
    let (Some(manifest), Some(kept)) = (manifest, kept) else {
        return context.load(options, services, Refusals::Fail);
    };
    let foreign = kept.origin == SpecOrigin::SnapshotFile;
    if foreign && let Some(mut loaded) = of_checkout(context, options, services, &kept)? {
        loaded.sandbox = sandbox_name(&loaded.spec, source);
        return Ok(loaded);
    }
    let mut kept = without_seeds(kept);
    if foreign {
        kept.files.clear();
        spec::relocate(&mut kept, &Context::folder()?);
        missing_files(&kept)?;
        tell_of_the_folder(&kept);
        use_images(context, &mut kept, &manifest).await?;
    }
    let access = merged.host_access();
    let (kept, access) = admitted(&kept, access).await?;
    // An untrusted spec must not read environment variables of this host.
    let variables = if kept.origin == SpecOrigin::Local || access == HostAccess::Allowed {
        spec::variables_in(&kept.folder, super::context::environment())
    } else {
        Variables::default()
    };
    let sandbox = sandbox_name(&kept, source);
    Ok(Loaded { spec: kept, warnings: Vec::new(), variables, sandbox, read: BTreeSet::new() })
}

/// Parses the spec of a snapshot. Another spec is no replacement: it need not fit the data.
fn stored_spec(json: serde_json::Value) -> Result<Spec, Failure> {
    serde_json::from_value(json).map_err(|error| {
        let hint = "name a spec with `-f FILE` to use it with the data of the snapshot".to_owned();
        Failure::failed(format!("the spec in the snapshot is invalid: {error}"), Some(hint))
    })
}

/// Asks the user to allow the host access that a stored spec needs, and returns the spec with the granted access.
async fn admitted(kept: &Spec, access: HostAccess) -> Result<(Spec, HostAccess), Failure> {
    let problems = match spec::readmitted(kept, access) {
        Ok(spec) => return Ok((spec, access)),
        Err(problems) => problems,
    };
    let asks_only = problems.iter().all(|problem| problem.kind == ProblemKind::HostAccess);
    let asked = problems.iter().map(|problem| problem.message.clone()).collect();
    if access == HostAccess::Allowed || !asks_only || !consent::ask(asked).await? {
        return Err(Failure::Spec(problems));
    }
    Ok((spec::readmitted(kept, HostAccess::Allowed).map_err(Failure::Spec)?, HostAccess::Allowed))
}

/// A sandbox with a snapshot's data has its own name, distinct from the project's usual one.
fn sandbox_name(spec: &Spec, source: &Source) -> SandboxName {
    let name: String = source.label.chars().take(FEW).collect();
    SandboxName::derive(spec.name.as_str(), Some(&name))
}

/// The spec of the working directory, if it belongs to the same project.
fn of_checkout(
    context: &Context,
    options: &SpecOptions,
    services: &[String],
    kept: &Spec,
) -> Result<Option<Loaded>, Failure> {
    let Some(files) = spec::files_for(&Context::folder()?) else { return Ok(None) };
    let shown = files.first().map(|file| file.display().to_string()).unwrap_or_default();
    // The project can be identified even if the spec has errors.
    let Ok(looked_at) = context.load(options, &[], Refusals::Warn) else { return Ok(None) };
    if !is_same_project(&looked_at.spec, kept) {
        return Ok(None);
    }
    let loaded = context.load(options, services, Refusals::Fail)?;
    Output::stderr()
        .line(&format!("using `{shown}` and the sources beside it, not the spec in the snapshot"));
    Ok(Some(loaded))
}

fn is_same_project(here: &Spec, kept: &Spec) -> bool {
    here.name == kept.name || here.services.keys().eq(kept.services.keys())
}

/// Fails if a bind mount of an untrusted spec does not exist, instead of creating the folder.
fn missing_files(kept: &Spec) -> Result<(), Failure> {
    for service in kept.services.values() {
        for mount in &service.mounts {
            if let MountKind::Bind { source, .. } = &mount.kind
                && source.starts_with(&kept.folder)
                && !source.exists()
            {
                let what =
                    format!("service `{}` mounts `{}`, which is not there", service.name, source.display());
                let hint = "use the snapshot in a checkout of its project".to_owned();
                return Err(Failure::failed(what, Some(hint)));
            }
        }
    }
    Ok(())
}

/// Reports that services which mount the whole project see a folder that is not the project.
fn tell_of_the_folder(kept: &Spec) {
    let mounts = kept.services.values().flat_map(|service| &service.mounts);
    let mut binds = mounts.filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(source),
        _ => None,
    });
    if binds.any(|source| *source == kept.folder) {
        let text = format!(
            "this folder is no checkout of `{}`: services that mount the project see what is here",
            kept.name
        );
        Output::stderr().line(&text);
    }
}

/// Replaces `build` by the built image from the snapshot, because the build sources are not available here.
async fn use_images(context: &Context, kept: &mut Spec, manifest: &Manifest) -> Result<(), Failure> {
    let engine = context.engine().await?;
    for service in kept.services.values_mut().filter(|service| service.build().is_some()) {
        let Some(image) = manifest.images.get(service.name.as_str()) else { continue };
        if engine.image(&image.reference).await?.is_none() {
            let what = format!(
                "image `{}` of service `{}`, which was built, is not on this engine and not in the snapshot",
                image.reference, service.name
            );
            let hint = "`sandbox snapshot export --with-images` puts it in the file; or use the snapshot in a checkout \
                        of its project"
                .to_owned();
            return Err(Failure::failed(what, Some(hint)));
        }
        service.source = ImageSource::Image(image.reference.clone());
        service.pull_policy = Some(PullPolicy::Never);
    }
    Ok(())
}

/// Removes seeds from a spec, because the snapshot already contains the data and the seeds' files may be missing.
fn without_seeds(mut spec: Spec) -> Spec {
    for service in spec.services.values_mut() {
        service.seed.clear();
        service.mounts.retain(|mount| !mount.is_initdb());
    }
    spec.volumes.values_mut().for_each(|volume| volume.seed.clear());
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_spec_of_a_snapshot_is_an_error() {
        let error =
            stored_spec(serde_json::json!({ "name": "shop", "folder": "/", "services": [] })).unwrap_err();
        assert!(error.to_string().starts_with("the spec in the snapshot is invalid: "), "{error}");
    }
}
