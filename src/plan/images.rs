//! Which images are fetched or built before anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{Observed, Op, Plan, Step, StepId};
use crate::engine::identity::{self, Scope};
use crate::engine::{BuildContext, BuildImage, BuildSecret, Dockerfile, PullImage, SecretSource};
use crate::spec::{self, Build, ImageSource, PullPolicy, Service, ServiceName, Spec};

/// Plans the images of a spec: pulls what is missing (or must be fresh), builds what is missing (or in `rebuild`).
/// `None` in `rebuild`'s place of a service means that it is built only if it is missing.
pub fn plan_images(spec: &Spec, scope: &Scope, observed: &Observed, rebuild: &BTreeSet<ServiceName>) -> Plan {
    let mut plan = Plan::default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for service in spec.services.values() {
        let reference = reference(spec, service);
        if !seen.insert(reference.clone()) {
            continue;
        }
        let present = observed.images.contains_key(&reference);
        if let Some((op, cause)) =
            step_for(spec, scope, service, &reference, present, rebuild.contains(&service.name))
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
            if missing && seen.insert(image.to_owned()) {
                let pull = PullImage { reference: image.to_owned(), platform: service.platform.clone() };
                plan.push(Step {
                    id: StepId::new("image", image),
                    op: Op::PullImage(pull),
                    cause: format!("services.{}.pre_start[{index}].image, missing", service.name),
                    service: Some(service.name.clone()),
                    needs: BTreeSet::new(),
                    gives_way_to: BTreeSet::new(),
                });
            }
        }
    }
    plan
}

/// The images of a service's `pre_start` commands that are not its own.
fn init_images(service: &Service) -> impl Iterator<Item = (usize, &str)> {
    service.pre_start.iter().enumerate().filter_map(|(index, hook)| Some((index, hook.image.as_deref()?)))
}

/// Every image that a spec's containers are made from.
pub fn image_references(spec: &Spec) -> BTreeSet<String> {
    let all = spec.services.values().flat_map(|service| {
        let init = init_images(service).map(|(_, image)| image.to_owned());
        init.chain([reference(spec, service)])
    });
    all.collect()
}

/// The reference that a service's containers are made from. What is built is named after the spec and tagged with what
/// it is built from, so that sandboxes of one folder share it and those of two folders of one name do not.
pub fn reference(spec: &Spec, service: &Service) -> String {
    match &service.source {
        ImageSource::Image(reference) => reference.clone(),
        ImageSource::Build(build) => {
            // How it is built is not what it is built from.
            let what = Build { no_cache: false, pull: false, ..(**build).clone() };
            let from = || hex::encode(&Sha256::digest(serde_json::json!(what).to_string().as_bytes())[..6]);
            build.tag.clone().unwrap_or_else(|| format!("{}-{}:{}", spec.name, service.name, from()))
        }
    }
}

fn step_for(
    spec: &Spec,
    scope: &Scope,
    service: &Service,
    reference: &str,
    present: bool,
    rebuild: bool,
) -> Option<(Op, String)> {
    let owner = format!("services.{}", service.name);
    match &service.source {
        ImageSource::Build(build) if rebuild || service.pull_policy == Some(PullPolicy::Build) => {
            Some((build_op(spec, scope, service, build, reference), format!("{owner}.build, asked for")))
        }
        ImageSource::Build(build) if !present => {
            Some((build_op(spec, scope, service, build, reference), format!("{owner}.build, missing")))
        }
        ImageSource::Build(_) => None,
        ImageSource::Image(_) => {
            let pull = Op::PullImage(PullImage {
                reference: reference.to_owned(),
                platform: service.platform.clone(),
            });
            match service.pull_policy {
                Some(PullPolicy::Never) => None,
                Some(PullPolicy::Always) => Some((pull, format!("{owner}.pull_policy: always"))),
                _ if present => None,
                _ => Some((pull, format!("{owner}.image, missing"))),
            }
        }
    }
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
        dockerfile: match &build.dockerfile {
            spec::Dockerfile::File(file) if file == "Dockerfile" => Dockerfile::Default,
            spec::Dockerfile::File(file) => Dockerfile::Path(PathBuf::from(file)),
            spec::Dockerfile::Inline(text) => Dockerfile::Inline(text.clone()),
        },
        tags,
        args: build.args.clone(),
        target: build.target.clone(),
        platform: build.platforms.first().or(service.platform.as_ref()).cloned(),
        labels: labels(spec, scope, build, reference),
        no_cache: build.no_cache,
        pull: build.pull,
        network: build.network.clone(),
        extra_hosts: hosts(&build.extra_hosts),
        shm_size: build.shm_size,
        cache_from: build.cache_from.clone(),
        secrets: build.secrets.iter().filter_map(|secret| build_secret(spec, secret)).collect(),
        ssh: build
            .ssh
            .iter()
            .map(|(id, path)| path.as_ref().map_or_else(|| id.clone(), |path| format!("{id}={path}")))
            .collect(),
    }))
}

/// The spec's labels, and the folder that the image is built for. One whose name is of our making says so: it is ours to
/// remove.
fn labels(spec: &Spec, scope: &Scope, build: &Build, reference: &str) -> BTreeMap<String, String> {
    let mut labels = build.labels.clone();
    labels.insert(identity::FOLDER.to_owned(), spec.folder.display().to_string());
    scope.mark(&mut labels);
    if build.tag.is_none() {
        labels.insert(identity::BUILT.to_owned(), reference.to_owned());
    }
    // What the Dockerfile or its base says in our name does not count.
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

/// `NAME:ADDRESS` lines, one for each address.
pub(super) fn hosts(hosts: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    hosts
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(move |address| format!("{name}:{address}")))
        .collect()
}
