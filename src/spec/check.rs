//! Checks the spec as a whole: references, cycles, port conflicts, missing files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::canonical;
use super::diagnostics::Log;
use super::model::{
    At, ConfigSource, Dockerfile, MountKind, NetworkMode, Probe, SecretSource, Service, ServiceName, Spec,
};
use super::nearest;
use super::node::Node;
use super::problem::{Problem, ProblemKind, SourceLocation, Warning, WarningKind, shown};
use super::request::Refusals;
use super::scope::ScopedValues;
use super::{bounds, reserved};

/// Maximum recursion depth when dependencies are followed.
const LONGEST_CHAIN: usize = 512;

/// Checks a spec as a whole.
pub(super) struct Checker<'a> {
    pub log: &'a Log,
    pub refusals: Refusals,
    pub standing_in: &'a Path,
    /// Services that exist but are not active.
    pub inactive: &'a BTreeSet<String>,
    /// Active services that are not selected: the host files that they need are not checked.
    pub unselected: &'a BTreeSet<String>,
    pub variables: &'a BTreeMap<String, String>,
    /// Values of secrets and configs from variables of included files.
    pub scoped: &'a ScopedValues,
    /// The tree that the spec was read from.
    pub root: &'a Node,
}

impl Checker<'_> {
    /// Runs all checks.
    pub fn check(&self, spec: &mut Spec) {
        self.check_what_it_says(spec);
        if !matches!(self.refusals, Refusals::Warn) {
            self.files(spec);
        }
    }

    /// Runs the checks that need only the spec, not the files that it names.
    pub fn check_what_it_says(&self, spec: &mut Spec) {
        Self::join_default(spec);
        self.references(spec);
        self.cycles(spec);
        self.bounds(spec);
        self.reserved(spec);
        self.within_reach(spec);
        super::build_check::check(self, spec);
        if !matches!(self.refusals, Refusals::Warn) {
            self.ports(spec);
        }
        if spec.services.is_empty() && self.log.problem_count() == 0 {
            let problem = if self.inactive.is_empty() {
                Problem::new(ProblemKind::Type, "the spec has no services").hint("add one below `services:`")
            } else {
                Problem::new(ProblemKind::Type, "no service is active: all of them have profiles")
                    .hint("choose one with `--profile NAME`")
            };
            if matches!(self.refusals, Refusals::Fail) {
                self.log.push(problem);
            }
        }
    }

    pub(super) fn problem(
        &self,
        kind: ProblemKind,
        at: &At,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.log.push(Problem::new(kind, message).hint(hint).at(self.log.place_of(at)));
    }

    /// The location of a key in a service, otherwise of the service.
    fn spot(&self, service: &Service, path: &[&str]) -> At {
        let path: Vec<&str> =
            ["services", service.name.as_str()].into_iter().chain(path.iter().copied()).collect();
        self.root.key_span(&path).map_or_else(|| service.at.clone(), |span| self.log.at(span))
    }

    /// Connects services without networks to the default network.
    fn join_default(spec: &mut Spec) {
        let Ok(default) = super::model::NetworkName::new("default") else { return };
        for service in spec.services.values_mut() {
            if service.networks.is_empty() && service.network_mode.is_none() {
                service.networks.insert(default.clone(), super::model::Attachment::default());
            }
        }
        if spec.services.values().any(|service| service.networks.contains_key(&default)) {
            spec.networks.entry(default).or_default();
        }
    }

    fn references(&self, spec: &mut Spec) {
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
    fn dependencies(&self, spec: &Spec, service: &Service, names: &[String]) {
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
    fn used_things(&self, spec: &Spec, service: &Service) {
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
    fn within_reach(&self, spec: &Spec) {
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

    /// Rejects a spec that is too large for an engine, before anything is created.
    fn bounds(&self, spec: &Spec) {
        for excess in bounds::exceeded(spec) {
            let at = match (&excess.service, excess.key) {
                (Some(service), Some(key)) => self.spot(service, &[key]),
                (Some(service), None) => service.at.clone(),
                (None, _) => At::default(),
            };
            self.problem(ProblemKind::Value, &at, excess.message, excess.hint);
        }
    }

    /// Rejects names that belong to sandbox itself.
    fn reserved(&self, spec: &Spec) {
        for reach in reserved::uses(spec) {
            let at = match &reach.key {
                Some((service, key)) => spec.services.get(service.as_str()).map(|it| self.spot(it, &[key])),
                None => None,
            };
            let (at, hint) = (at.unwrap_or(reach.at), "take another name");
            if matches!(self.refusals, Refusals::Warn) {
                self.log.warn_at(WarningKind::Refused, &at, reach.message, hint.to_owned());
            } else {
                self.problem(ProblemKind::Name, &at, reach.message, hint);
            }
        }
    }

    /// Finds cycles of dependencies and reports each once, in full.
    fn cycles(&self, spec: &Spec) {
        let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
        for start in spec.services.keys() {
            let mut trail: Vec<&ServiceName> = Vec::new();
            self.follow(spec, start, &mut trail, &mut done);
        }
    }

    fn follow<'s>(
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

    /// Reports a host port that is requested twice.
    fn ports(&self, spec: &Spec) {
        let mut taken: BTreeMap<(u16, super::model::Protocol), (&ServiceName, u16, At)> = BTreeMap::new();
        for service in spec.services.values() {
            for port in &service.ports {
                let Some(host) = port.host.filter(|host| host.start == host.end && host.start != 0) else {
                    continue;
                };
                let key = (host.start, port.protocol);
                if let Some((other, container, at)) = taken.get(&key) {
                    let line = if at.line > 0 { format!(" (line {})", at.line) } else { String::new() };
                    let message = format!(
                        "the host port {}/{} of service `{}` is also that of service `{other}`, for its port {container}{line}",
                        host.start,
                        port.protocol.word(),
                        service.name,
                    );
                    self.problem(
                        ProblemKind::Conflict,
                        &port.at,
                        message,
                        "give one of them another, or none",
                    );
                } else {
                    taken.insert(key, (&service.name, port.container, port.at.clone()));
                }
            }
            if let Some(NetworkMode::Service(_) | NetworkMode::None) = service.network_mode
                && let Some(port) = service.ports.first()
            {
                let message = format!("service `{}` has ports, but no network of its own", service.name);
                let hint = "publish them on the service whose network it is on";
                self.problem(ProblemKind::Conflict, &port.at, message, hint);
            }
        }
    }

    /// Reports missing files.
    fn files(&self, spec: &Spec) {
        let selected =
            spec.services.values().filter(|service| !self.unselected.contains(service.name.as_str()));
        for service in selected {
            self.build_files(service);
            for mount in &service.mounts {
                if let MountKind::Bind { source, options } = &mount.kind
                    && !options.as_ref().is_some_and(|options| options.create_host_path)
                    && !source.exists()
                {
                    let name = shown(source, self.standing_in);
                    let message =
                        format!("there is no `{}` for service `{}` to mount", name.display(), service.name);
                    let hint = "make it, or write the mount as `./folder:/path`, which makes it";
                    self.problem(ProblemKind::File, &mount.at, message, hint);
                }
            }
            for grant in &service.secrets {
                let Some(secret) = spec.secrets.get(grant.source.as_str()) else { continue };
                match &secret.source {
                    SecretSource::File(file) => {
                        self.must_exist(file, &secret.at, &format!("secret `{}`", grant.source));
                    }
                    SecretSource::Environment(name) if !self.is_scoped("secrets", &grant.source) => {
                        self.must_be_set(name, &secret.at, &format!("secret `{}`", grant.source));
                    }
                    SecretSource::Environment(_) | SecretSource::Generate(_) | SecretSource::External => {}
                }
            }
            for grant in &service.configs {
                let Some(config) = spec.configs.get(grant.source.as_str()) else { continue };
                match &config.source {
                    ConfigSource::File(file) => {
                        self.must_exist(file, &config.at, &format!("config `{}`", grant.source));
                    }
                    ConfigSource::Environment(name) if !self.is_scoped("configs", &grant.source) => {
                        self.must_be_set(name, &config.at, &format!("config `{}`", grant.source));
                    }
                    ConfigSource::Environment(_) | ConfigSource::Content(_) | ConfigSource::External => {}
                }
            }
        }
    }

    fn build_files(&self, service: &Service) {
        let Some(build) = service.build().filter(|build| !canonical::is_remote(&build.context)) else {
            return;
        };
        let context = Path::new(&build.context);
        let name = shown(context, self.standing_in);
        if !context.is_dir() {
            let message =
                format!("there is no folder `{}` to build service `{}` from", name.display(), service.name);
            self.problem(ProblemKind::File, &build.at, message, "the path begins at the folder of the spec");
            return;
        }
        if let Dockerfile::File(file) = &build.dockerfile {
            let path = context.join(file);
            if !path.is_file() {
                let shown = shown(&path, self.standing_in);
                let message =
                    format!("there is no `{}` to build service `{}` with", shown.display(), service.name);
                self.problem(ProblemKind::File, &build.at, message, "`dockerfile` begins at the context");
            }
        }
    }

    fn must_exist(&self, file: &Path, at: &At, what: &str) {
        if !file.is_file() {
            let name = shown(file, self.standing_in);
            let message = format!("there is no file `{}` for {what}", name.display());
            self.problem(ProblemKind::File, at, message, "the path begins at the folder of the spec");
        }
    }

    fn is_scoped(&self, section: &str, name: &str) -> bool {
        self.scoped.contains_key(&(section.to_owned(), name.to_owned()))
    }

    fn must_be_set(&self, variable: &str, at: &At, what: &str) {
        if !self.variables.contains_key(variable) {
            let message = format!("the variable `{variable}`, for {what}, is not set");
            let hint = format!("`export {variable}=…`, or write it in `.env`");
            self.problem(ProblemKind::Variable, at, message, hint);
        }
    }
}

fn declare(name: &str, known: &[&str], section: &str) -> String {
    match nearest::nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it: `{section}: {{ {name}: {{}} }}`"),
    }
}

impl Log {
    /// Converts a location in the model to one that can be displayed.
    pub(super) fn place_of(&self, at: &At) -> Option<SourceLocation> {
        let file = at.file.as_deref()?;
        let source = self.find(file)?;
        let start: usize =
            source.text.split_inclusive('\n').take(at.line.saturating_sub(1) as usize).map(str::len).sum();
        let snippet = source.text.get(start..)?.lines().next().unwrap_or_default();
        let rest: String = snippet.chars().skip(at.column.saturating_sub(1) as usize).collect();
        let before: usize =
            snippet.chars().take(at.column.saturating_sub(1) as usize).map(char::len_utf8).sum();
        let word = rest.chars().take_while(|c| !c.is_whitespace() && *c != ',').count();
        Some(SourceLocation {
            file: source.shown.clone(),
            line: at.line,
            column: at.column,
            length: u32::try_from(word.max(1)).unwrap_or(1),
            snippet: snippet.to_owned(),
            offset: start + before,
            source: source.text.clone(),
        })
    }

    /// Adds a warning at a location in the model.
    pub(super) fn warn_at(&self, kind: WarningKind, at: &At, message: String, hint: String) {
        let place = self.place_of(at);
        self.push_warning(Warning { kind, message, hint: Some(hint), place });
    }
}
