//! Checks that what a service names exists, and that no services depend on each other in a cycle.

use std::collections::BTreeSet;

use super::{Checker, LONGEST_CHAIN};
use crate::spec::model::{MountKind, NetworkMode, Probe, Service, ServiceName, Spec};
use crate::spec::nearest;
use crate::spec::problem::ProblemKind;

impl Checker<'_> {
    pub(super) fn references(&self, spec: &mut Spec) {
        let names: Vec<String> = spec.services.keys().map(ToString::to_string).collect();
        for service in spec.services.values() {
            self.dependencies(spec, service, &names);
            self.used_things(spec, service);
        }
        for artifact in &spec.artifacts {
            if !spec.services.contains_key(&artifact.service)
                && !self.inactive.contains(artifact.service.as_str())
            {
                let message = format!("an artifact names `{}`, which is not a service", artifact.service);
                let hint = nearest::hint(artifact.service.as_str(), names.iter().map(String::as_str));
                self.problem(ProblemKind::Reference, &artifact.at, message, hint);
            }
        }
        for (name, task) in &spec.tasks {
            if let Some(service) = &task.service
                && !spec.services.contains_key(service)
                && !self.inactive.contains(service.as_str())
            {
                let message = format!("task `{name}` runs in `{service}`, which is not a service");
                let hint = nearest::hint(service.as_str(), names.iter().map(String::as_str));
                self.problem(ProblemKind::Reference, &task.at, message, hint);
            }
        }
        // A dependency that is missing and optional is dropped.
        let active: BTreeSet<ServiceName> = spec.services.keys().cloned().collect();
        for service in spec.services.values_mut() {
            service.depends_on.retain(|name, dependency| dependency.required || active.contains(name));
        }
    }

    /// Checks the dependencies of a service.
    pub(super) fn dependencies(&self, spec: &Spec, service: &Service, names: &[String]) {
        let what = format!("service `{}`", service.name);
        let others: Vec<&str> =
            names.iter().map(String::as_str).filter(|other| *other != service.name.as_str()).collect();
        for (name, dependency) in &service.depends_on {
            if spec.services.contains_key(name) {
                continue;
            }
            if self.inactive.contains(name.as_str()) {
                // A service whose namespaces it joins is required, whatever the spec says.
                if dependency.required || service.joined().any(|other| other == name.as_str()) {
                    let message =
                        format!("{what} depends on `{name}`, which has a profile that is not active");
                    let hint = "add `--profile`, or make the dependency `required: false`";
                    let at = self.spot(service, &["depends_on", name.as_str()]);
                    self.problem(ProblemKind::Reference, &at, message, hint);
                }
            } else {
                let message = format!("{what} depends on `{name}`, which is not a service");
                let hint = nearest::hint(name.as_str(), others.iter().copied());
                let at = self.spot(service, &["depends_on", name.as_str()]);
                self.problem(ProblemKind::Reference, &at, message, hint);
            }
        }
    }

    /// Checks references to networks, volumes, secrets and configs.
    pub(super) fn used_things(&self, spec: &Spec, service: &Service) {
        let what = format!("service `{}`", service.name);
        for name in service.networks.keys().filter(|name| !spec.networks.contains_key(*name)) {
            let message = format!("{what} is on the network `{name}`, which is not in the spec");
            let known: Vec<&str> = spec.networks.keys().map(AsRef::as_ref).collect();
            let at = self.spot(service, &["networks", name.as_str()]);
            self.problem(ProblemKind::Reference, &at, message, declare(name.as_str(), &known, "networks"));
        }
        for mount in &service.mounts {
            if let MountKind::Named { volume, .. } = &mount.kind
                && !spec.volumes.contains_key(volume)
            {
                let message = format!("{what} mounts the volume `{volume}`, which is not in the spec");
                let known: Vec<&str> = spec.volumes.keys().map(AsRef::as_ref).collect();
                let hint = declare(volume.as_str(), &known, "volumes");
                self.problem(ProblemKind::Reference, &mount.at, message, hint);
            }
        }
        let build_secrets = service.build().map(|build| build.secrets.as_slice()).unwrap_or_default();
        let secrets = service.secrets.iter().map(|grant| (&grant.source, &grant.at));
        for (name, at) in secrets.chain(build_secrets.iter().map(|secret| (&secret.source, &service.at))) {
            if !spec.secrets.contains_key(name.as_str()) {
                let message = format!("{what} asks for the secret `{name}`, which is not in the spec");
                let known: Vec<&str> = spec.secrets.keys().map(AsRef::as_ref).collect();
                self.problem(ProblemKind::Reference, at, message, declare(name, &known, "secrets"));
            }
        }
        for grant in service.configs.iter().filter(|grant| !spec.configs.contains_key(grant.source.as_str()))
        {
            let message = format!("{what} asks for the config `{}`, which is not in the spec", grant.source);
            let known: Vec<&str> = spec.configs.keys().map(AsRef::as_ref).collect();
            self.problem(
                ProblemKind::Reference,
                &grant.at,
                message,
                declare(&grant.source, &known, "configs"),
            );
        }
    }

    /// Checks that the gateway can reach probed services: it is only on the sandbox's own networks.
    pub(super) fn within_reach(&self, spec: &Spec) {
        for service in spec.services.values() {
            let mode = match spec.network_owner(service).network_mode {
                Some(NetworkMode::None) => "none",
                Some(NetworkMode::Host) => "host",
                _ => continue,
            };
            let way = match service.ready.as_ref().map(|ready| &ready.probe) {
                Some(Probe::Tcp { .. }) => "tcp",
                Some(Probe::Http { .. }) => "http",
                _ => continue,
            };
            let message = format!(
                "`ready: {way}` of service `{}` is never tried: by `network_mode: {mode}` it is on no network of the sandbox",
                service.name
            );
            let hint = "try a command (`exec`) or its log (`log`) instead";
            self.problem(ProblemKind::Conflict, &self.spot(service, &["ready"]), message, hint);
        }
    }

    /// Finds cycles of dependencies and reports each once, in full.
    pub(super) fn cycles(&self, spec: &Spec) {
        let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
        for start in spec.services.keys() {
            let mut trail: Vec<&ServiceName> = Vec::new();
            self.follow(spec, start, &mut trail, &mut done);
        }
    }

    pub(super) fn follow<'s>(
        &self,
        spec: &'s Spec,
        name: &'s ServiceName,
        trail: &mut Vec<&'s ServiceName>,
        done: &mut BTreeSet<&'s ServiceName>,
    ) {
        if let Some(at) = trail.iter().position(|other| *other == name) {
            let mut names: Vec<&str> = trail[at..].iter().map(|name| name.as_str()).collect();
            names.push(name.as_str());
            let message = format!("services depend on each other in a circle: {}", names.join(" → "));
            let next = names[1];
            let place = spec.services.get(name).map(|service| self.spot(service, &["depends_on", next]));
            let place = place.unwrap_or_default();
            self.problem(ProblemKind::Cycle, &place, message, "take one of these dependencies out");
            return;
        }
        // A longer chain has more containers than the limit.
        if done.contains(name) || trail.len() > LONGEST_CHAIN {
            return;
        }
        let Some(service) = spec.services.get(name) else { return };
        trail.push(name);
        for next in service.depends_on.keys() {
            self.follow(spec, next, trail, done);
        }
        trail.pop();
        done.insert(name);
    }
}

pub(super) fn declare(name: &str, known: &[&str], section: &str) -> String {
    match nearest::nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it: `{section}: {{ {name}: {{}} }}`"),
    }
}
