//! Rejects names that are reserved for sandbox itself in specs, builds and archives.

use super::host_access::HostAccessPath;
use super::model::{At, Build, ImageSource, MountKind, Service, Spec};

/// The prefix of sandbox's own label keys.
pub const LABEL_PREFIX: &str = "dev.sandbox.";
/// The prefixes of sandbox's own images, containers, networks and volumes.
const NAME_PREFIXES: [&str; 2] = ["sandbox-", "sbx-"];
/// Registries and folders that an engine adds to a short name.
const IMPLIED: [&str; 5] =
    ["docker.io/", "index.docker.io/", "registry-1.docker.io/", "localhost/", "library/"];
/// The repository of the agent image.
const AGENT: &str = "sandbox-agent";

/// Whether a label's key is reserved.
pub fn is_label(key: &str) -> bool {
    key.starts_with(LABEL_PREFIX) || key == LABEL_PREFIX.trim_end_matches('.')
}

/// Whether an image reference is reserved, in any form that an engine resolves to one of our images:
/// `sandbox-agent:1`, `docker.io/library/sandbox-agent@sha256:…`. Names in another registry or folder
/// (`ghcr.io/me/sandbox-web`) are not reserved.
pub fn is_image(reference: &str) -> bool {
    let mut name = reference.trim();
    while let Some(rest) = IMPLIED.iter().find_map(|implied| name.strip_prefix(implied)) {
        name = rest;
    }
    !name.contains('/') && NAME_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// All reserved names that a spec uses.
pub(super) fn uses(spec: &Spec) -> Vec<HostAccessPath> {
    let mut found = Vec::new();
    for service in spec.services.values() {
        of_service(spec, service, &mut found);
    }
    let volumes = spec.volumes.iter().map(|(name, it)| (format!("volume `{name}`"), &it.labels, &it.at));
    let networks = spec.networks.iter().map(|(name, it)| (format!("network `{name}`"), &it.labels, &it.at));
    let secrets = spec.secrets.iter().map(|(name, it)| (format!("secret `{name}`"), &it.labels, &it.at));
    let configs = spec.configs.iter().map(|(name, it)| (format!("config `{name}`"), &it.labels, &it.at));
    for (what, labels, at) in volumes.chain(networks).chain(secrets).chain(configs) {
        found.extend(reserved_keys(labels.keys()).map(|key| label(&what, key, at, None)));
    }
    found
}

fn of_service(spec: &Spec, service: &Service, found: &mut Vec<HostAccessPath>) {
    let what = format!("service `{}`", service.name);
    let key = |key: &'static str| Some((service.name.to_string(), key));
    found.extend(reserved_keys(service.labels.keys()).map(|it| label(&what, it, &service.at, key("labels"))));
    let annotations = reserved_keys(service.settings.annotations.keys());
    found.extend(annotations.map(|it| label(&what, it, &service.at, key("annotations"))));
    let deploy = service.deploy.iter().flat_map(|deploy| reserved_keys(deploy.labels.keys()));
    found.extend(deploy.map(|it| label(&what, it, &service.at, key("deploy"))));
    match &service.source {
        ImageSource::Image(reference) if is_image(reference) => {
            found.push(image(&what, reference, &service.at, key("image")));
        }
        ImageSource::Image(_) => {}
        ImageSource::Build(build) => of_build(spec, service, build, &what, found),
    }
    for reference in service.pre_start.iter().filter_map(|hook| hook.image.as_ref()) {
        if is_image(reference) {
            found.push(image(&what, reference, &service.at, key("pre_start")));
        }
    }
    for mount in &service.mounts {
        if let MountKind::Image { image: reference, .. } = &mount.kind
            && is_image(reference)
        {
            found.push(image(&what, reference, &mount.at, None));
        }
    }
}

fn of_build(spec: &Spec, service: &Service, build: &Build, what: &str, found: &mut Vec<HostAccessPath>) {
    found.extend(reserved_keys(build.labels.keys()).map(|key| label(what, key, &build.at, None)));
    for reference in build.tag.iter().chain(&build.tags).filter(|reference| is_image(reference)) {
        found.push(image(what, reference, &build.at, None));
    }
    if build.tag.is_none() && format!("{}-{}", spec.name, service.name) == AGENT {
        found.push(image(what, AGENT, &build.at, None));
    }
}

fn reserved_keys<'a>(keys: impl Iterator<Item = &'a String>) -> impl Iterator<Item = &'a String> {
    keys.filter(|key| is_label(key))
}

fn label(what: &str, name: &str, at: &At, key: Option<(String, &'static str)>) -> HostAccessPath {
    let message =
        format!("{what} has the label `{name}`: labels that begin with `{LABEL_PREFIX}` are reserved");
    HostAccessPath { at: at.clone(), message, key }
}

fn image(what: &str, reference: &str, at: &At, key: Option<(String, &'static str)>) -> HostAccessPath {
    let message = format!(
        "{what} uses the image name `{reference}`: names that begin with `sandbox-` or `sbx-` are reserved"
    );
    HostAccessPath { at: at.clone(), message, key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_reserved_in_every_form_that_an_engine_takes_it_in() {
        for name in [
            "sandbox-agent:1",
            "sandbox-keeper",
            "sbx-shop",
            "docker.io/library/sandbox-agent@sha256:00",
            "library/sandbox-agent",
            "index.docker.io/library/sbx-x:1",
            "localhost/sandbox-agent:1",
        ] {
            assert!(is_image(name), "{name}");
        }
        for name in ["sandbox", "ghcr.io/me/sandbox-web", "sbx-test/postgres", "me/sandbox-agent", "postgres"]
        {
            assert!(!is_image(name), "{name}");
        }
    }

    #[test]
    fn only_labels_below_the_prefix_are_reserved() {
        assert!(is_label("dev.sandbox.scope") && is_label("dev.sandbox"));
        assert!(!is_label("dev.sandboxes.x") && !is_label("com.example.dev.sandbox.x"));
    }
}
