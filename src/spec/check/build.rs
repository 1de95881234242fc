//! Rejects options of `build` that are not supported, while the spec is read.

use std::collections::BTreeSet;

use super::Checker;
use crate::spec::model::{Build, Service, Spec};
use crate::spec::problem::{ProblemKind, Warning, WarningKind};

/// Build networks that grant no additional access: the engine's default, or none.
const NETWORKS: [&str; 4] = ["", "default", "bridge", "none"];

pub(super) fn check(checker: &Checker<'_>, spec: &Spec) {
    for service in spec.services.values() {
        let Some(build) = service.build() else { continue };
        network(checker, service, build);
        contexts(checker, spec, service, build);
        cache(checker, service, build);
        if is_its_own_context(spec, service) {
            let message = format!("the build of service `{}` needs its own image", service.name);
            checker.problem(
                ProblemKind::Cycle,
                &build.at,
                message,
                "take one of the `service:` contexts out",
            );
        }
    }
}

/// Checks `network`; `host` is host access, which the guard checks.
fn network(checker: &Checker<'_>, service: &Service, build: &Build) {
    let Some(network) = build.network.as_deref() else { return };
    if network != "host" && !NETWORKS.contains(&network) {
        let message = format!(
            "the build of service `{}` asks for the network `{network}`: a build cannot join a container or a network",
            service.name
        );
        let hint = "leave `network` out for the engine's default network, or write `none`";
        checker.problem(ProblemKind::Unsupported, &build.at, message, hint);
    }
}

fn contexts(checker: &Checker<'_>, spec: &Spec, service: &Service, build: &Build) {
    for (name, from) in &build.additional_contexts {
        let what = format!("the additional context `{name}` of service `{}`", service.name);
        if !is_stage_name(name) {
            let message = format!("{what} cannot have that name");
            let hint = "a stage of the Dockerfile gets it: lower-case letters, digits, `-`, `_` and `.`, a letter first";
            checker.problem(ProblemKind::Name, &build.at, message, hint);
        } else if let Some(other) = from.strip_prefix("service:") {
            if checker.inactive.contains(other) {
                let message = format!("{what} is the image of service `{other}`, which is not active");
                checker.problem(
                    ProblemKind::Reference,
                    &build.at,
                    message,
                    "add its profile with `--profile NAME`",
                );
            } else if !spec.services.contains_key(other) && !spec.build_only.contains_key(other) {
                let message = format!("{what} is the image of `{other}`, which is not a service");
                let hint = crate::spec::nearest::hint(other, spec.services.keys().map(AsRef::as_ref));
                checker.problem(ProblemKind::Reference, &build.at, message, hint);
            }
        } else if from.contains("://") && !from.starts_with("docker-image://") || from.starts_with("git@") {
            let message = format!("{what} is `{from}`, which the engine's build call cannot fetch");
            let hint = "name a folder, an image (`docker-image://NAME`) or a service (`service:NAME`)";
            checker.problem(ProblemKind::Unsupported, &build.at, message, hint);
        }
    }
}

/// Checks cache exports; a cache for other builds is not part of the image.
fn cache(checker: &Checker<'_>, service: &Service, build: &Build) {
    if let Some(to) = build.cache_to.iter().find(|to| *to != "type=inline") {
        checker.log.push_warning(Warning {
            kind: WarningKind::NotApplied,
            message: format!(
                "`cache_to: {to}` of service `{}` is not applied: the engine's own builder keeps its cache, and exports only `type=inline`",
                service.name
            ),
            hint: None,
            place: checker.log.place_of(&build.at),
        });
    }
}

/// Whether the text is a valid stage name of a Dockerfile.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        && name != "scratch"
}

fn is_its_own_context(spec: &Spec, service: &Service) -> bool {
    let (mut open, mut seen) = (vec![service], BTreeSet::new());
    while let Some(next) = open.pop() {
        for name in next.build().into_iter().flat_map(Build::service_contexts) {
            if name == service.name.as_str() {
                return true;
            }
            if seen.insert(name) {
                open.extend(spec.services.get(name).or_else(|| spec.build_only.get(name)));
            }
        }
    }
    false
}
