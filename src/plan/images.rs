//! Plans which images are pulled or built before anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{Observed, Op, Plan, Step, StepId};
use crate::engine::identity::{self, Scope};
use crate::engine::{
    BuildContext, BuildImage, BuildSecret, Dockerfile, Image, NamedContext, PullImage, SecretSource, Ulimit,
};
use crate::spec::reserved;
use crate::spec::{self, Build, ImageSource, PullPolicy, Service, ServiceName, Spec};

/// Plans the images of a spec: pulls what is missing (or must be fresh), builds what is missing (or in `rebuild`). An
/// image that one service builds and another only references is built. Builds run after those that their Dockerfile
/// and contexts need.
pub fn plan_images(spec: &Spec, scope: &Scope, observed: &Observed, rebuild: &BTreeSet<ServiceName>) -> Plan {
    let mut plan = Plan::default();
    for (reference, service) in sources(spec) {
        if let Some((op, cause)) =
            step_for(spec, scope, service, &reference, observed, rebuild.contains(&service.name))
        {
            plan.push(Step {
                id: StepId::new("image", &reference),
                op,
                cause,
                service: Some(service.name.clone()),
                needs: BTreeSet::new(),
                gives_way_to: BTreeSet::new(),
            });
        }
    }
    for service in spec.services.values() {
        for (index, image) in init_images(service) {
            let missing =
                !observed.images.contains_key(image) && service.pull_policy != Some(PullPolicy::Never);
            let id = StepId::new("image", image);
            if missing && plan.steps().iter().all(|step| step.id != id) {
                let pull = PullImage { reference: image.to_owned(), platform: service.platform.clone() };
                plan.push(Step {
                    id,
                    op: Op::PullImage(pull),
                    cause: format!("services.{}.pre_start[{index}].image, missing", service.name),
                    service: Some(service.name.clone()),
                    needs: BTreeSet::new(),
                    gives_way_to: BTreeSet::new(),
                });
            }
        }
    }
    order_builds(&mut plan, spec, observed);
    plan
}

/// The images of a service's `pre_start` commands, other than the service's own.
fn init_images(service: &Service) -> impl Iterator<Item = (usize, &str)> {
    service.pre_start.iter().enumerate().filter_map(|(index, hook)| Some((index, hook.image.as_deref()?)))
}

/// The references of all images that a spec's containers use.
pub fn image_references(spec: &Spec) -> BTreeSet<String> {
    let services = spec.services.values().chain(spec.build_only.values());
    let all = services.flat_map(|service| {
        let init = init_images(service).map(|(_, image)| image.to_owned());
        init.chain([reference(spec, service)])
    });
    all.collect()
}

/// The images of a spec, each with the service that defines its source: one that builds it, if any.
fn sources(spec: &Spec) -> Vec<(String, &Service)> {
    let services = || spec.services.values().chain(spec.build_only.values());
    let builders = services().filter(|service| service.build().is_some());
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut by_reference: BTreeMap<String, &Service> = BTreeMap::new();
    for service in builders.chain(services()) {
        by_reference.entry(full_reference(&reference(spec, service))).or_insert(service);
    }
    let in_order = services().filter_map(|service| {
        let key = full_reference(&reference(spec, service));
        let source = *by_reference.get(&key)?;
        seen.insert(key).then(|| (reference(spec, source), source))
    });
    in_order.collect()
}

/// Makes each build wait for the builds that produce its inputs, unless that would be a cycle.
fn order_builds(plan: &mut Plan, spec: &Spec, observed: &Observed) {
    let mut builds: BTreeMap<String, StepId> = BTreeMap::new();
    let mut needed: Vec<(StepId, Vec<String>)> = Vec::new();
    for step in plan.steps() {
        let Op::BuildImage(build) = &step.op else { continue };
        builds.extend(build.tags.iter().map(|tag| (full_reference(tag), step.id.clone())));
        let bases = step.service.as_ref().and_then(|service| observed.base_images.get(service));
        let contexts = build.contexts.values().filter_map(|context| match context {
            NamedContext::Image(reference) => Some(reference),
            NamedContext::Folder(_) => None,
        });
        needed.push((step.id.clone(), contexts.chain(bases.into_iter().flatten()).cloned().collect()));
    }
    // A build may start from an image that a service pulls or refreshes.
    let pulled = sources(spec).into_iter().map(|(reference, _)| reference);
    for reference in pulled {
        let id = StepId::new("image", &reference);
        if plan.steps().iter().any(|step| step.id == id) {
            builds.entry(full_reference(&reference)).or_insert(id);
        }
    }
    for (id, references) in needed {
        for reference in references {
            let Some(other) = builds.get(&full_reference(&reference)).filter(|other| **other != id) else {
                continue;
            };
            plan.add_need(&id, other);
        }
    }
    plan.sort();
}

/// Normalizes a reference: removes Docker's own registry, adds the tag `latest`.
fn full_reference(reference: &str) -> String {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The image reference of a service's containers. A built image is named after the spec and tagged with a hash of its
/// sources, so that sandboxes of one folder share it and those of two folders with the same name do not.
pub fn reference(spec: &Spec, service: &Service) -> String {
    match &service.source {
        ImageSource::Image(reference) => reference.clone(),
        ImageSource::Build(build) => {
            // Options that do not change the result of the build are not hashed.
            let what =
                Build { no_cache: false, no_cache_filter: Vec::new(), pull: false, ..(**build).clone() };
            let from = || hex::encode(&Sha256::digest(serde_json::json!(what).to_string().as_bytes())[..6]);
            let named = || {
                let name = format!("{}-{}:{}", spec.name, service.name, from());
                // The project may be called `sandbox-…`, a name that an image archive must not contain.
                if reserved::is_image(&name) { format!("local/{name}") } else { name }
            };
            build.tag.clone().unwrap_or_else(named)
        }
    }
}

fn step_for(
    spec: &Spec,
    scope: &Scope,
    service: &Service,
    reference: &str,
    observed: &Observed,
    rebuild: bool,
) -> Option<(Op, String)> {
    let present = observed.images.get(reference);
    let owner = format!("services.{}", service.name);
    match &service.source {
        ImageSource::Build(build) if rebuild || service.pull_policy == Some(PullPolicy::Build) => {
            Some((build_op(spec, scope, service, build, reference), format!("{owner}.build, asked for")))
        }
        ImageSource::Build(build) if present.is_none() => {
            Some((build_op(spec, scope, service, build, reference), format!("{owner}.build, missing")))
        }
        ImageSource::Build(_) => None,
        ImageSource::Image(_) => {
            let pull = Op::PullImage(PullImage {
                reference: reference.to_owned(),
                platform: service.platform.clone(),
            });
            match (service.pull_policy, present) {
                (Some(PullPolicy::Never), _) => None,
                (Some(PullPolicy::Always), _) => Some((pull, format!("{owner}.pull_policy: always"))),
                (_, None) => Some((pull, format!("{owner}.image, missing"))),
                (policy, Some(image)) => is_too_old(image, policy?, observed.now)
                    .then(|| (pull, format!("{owner}.pull_policy, too old"))),
            }
        }
    }
}

/// Whether an image was last pulled (or tagged) longer ago than the policy allows. Of an image that never got a tag here,
/// this is unknown: it is too old.
fn is_too_old(image: &Image, policy: PullPolicy, now: Timestamp) -> bool {
    let longest = policy.longest_age().and_then(|age| SignedDuration::try_from(age).ok());
    longest.is_some_and(|longest| image.tagged.is_none_or(|tagged| now.duration_since(tagged) > longest))
}

fn build_op(spec: &Spec, scope: &Scope, service: &Service, build: &Build, reference: &str) -> Op {
    let mut tags = vec![reference.to_owned()];
    tags.extend(build.tags.iter().cloned());
    Op::BuildImage(Box::new(BuildImage {
        context: if build.context.contains("://") || build.context.starts_with("git@") {
            BuildContext::Remote(build.context.clone())
        } else {
            BuildContext::Folder(PathBuf::from(&build.context))
        },
        writable: spec.writable_folders(),
        dockerfile: match &build.dockerfile {
            spec::Dockerfile::File(file) if file == "Dockerfile" => Dockerfile::Default,
            spec::Dockerfile::File(file) => Dockerfile::Path(PathBuf::from(file)),
            spec::Dockerfile::Inline(text) => Dockerfile::Inline(text.clone()),
        },
        tags,
        args: build.args.clone(),
        target: build.target.clone(),
        // Of several platforms a sandbox needs only the engine's own.
        platform: service.platform.clone().or_else(|| match build.platforms.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }),
        labels: labels(spec, scope, build, reference),
        no_cache: build.no_cache,
        pull: build.pull,
        network: build.network.clone().filter(|network| network != "default" && network != "bridge"),
        extra_hosts: hosts(&build.extra_hosts),
        shm_size: build.shm_size,
        ulimits: ulimits(&build.ulimits),
        cache_from: build.cache_from.clone(),
        inline_cache: build.cache_to.iter().any(|to| to == "type=inline"),
        fresh_stages: build.no_cache_filter.clone(),
        contexts: contexts(spec, build),
        secrets: build.secrets.iter().filter_map(|secret| build_secret(spec, secret)).collect(),
        ssh: build
            .ssh
            .iter()
            .map(|(id, path)| path.as_ref().map_or_else(|| id.clone(), |path| format!("{id}={path}")))
            .collect(),
    }))
}

/// Ulimits in the engine's type.
pub(super) fn ulimits(limits: &BTreeMap<String, spec::Ulimit>) -> Vec<Ulimit> {
    let limit = |(name, limit): (&String, &spec::Ulimit)| Ulimit {
        name: name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    };
    limits.iter().map(limit).collect()
}

/// The additional contexts; a context `service:NAME` is that service's image.
fn contexts(spec: &Spec, build: &Build) -> BTreeMap<String, NamedContext> {
    let of_service = |name: &str| {
        let service = spec.services.get(name).or_else(|| spec.build_only.get(name))?;
        Some(NamedContext::Image(reference(spec, service)))
    };
    let contexts = build.additional_contexts.iter().filter_map(|(name, from)| {
        let context = if let Some(service) = from.strip_prefix("service:") {
            of_service(service)?
        } else if let Some(image) = from.strip_prefix("docker-image://") {
            NamedContext::Image(image.to_owned())
        } else {
            NamedContext::Folder(PathBuf::from(from))
        };
        Some((name.clone(), context))
    });
    contexts.collect()
}

/// The spec's labels and the folder the image is built for. A label marks an image with a generated name as ours to
/// remove.
fn labels(spec: &Spec, scope: &Scope, build: &Build, reference: &str) -> BTreeMap<String, String> {
    let mut labels = build.labels.clone();
    labels.insert(identity::FOLDER.to_owned(), spec.folder.display().to_string());
    scope.mark(&mut labels);
    if build.tag.is_none() {
        labels.insert(identity::BUILT.to_owned(), reference.to_owned());
    }
    // Overrides labels in our namespace that the Dockerfile or its base image sets.
    identity::complete(&labels)
}

fn build_secret(spec: &Spec, secret: &spec::BuildSecret) -> Option<BuildSecret> {
    let source = match &spec.secrets.get(secret.source.as_str())?.source {
        spec::SecretSource::File(path) => SecretSource::File(path.clone()),
        spec::SecretSource::Environment(name) => SecretSource::Environment(name.clone()),
        spec::SecretSource::Generate(_) | spec::SecretSource::External => return None,
    };
    Some(BuildSecret { id: secret.target.clone().unwrap_or_else(|| secret.source.clone()), source })
}

/// Formats `NAME:ADDRESS` lines, one per address.
pub(super) fn hosts(hosts: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    hosts
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(move |address| format!("{name}:{address}")))
        .collect()
}
