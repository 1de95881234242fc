//! Reads a service: every key of the Compose Specification is applied, rejected or warned about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::assemble::{Known, read_env_files};
use super::super::container_settings::ContainerSettings;
use super::super::model::{ImageSource, Logging, Service, ServiceName};
use super::super::nearest::nearest;
use super::super::node::{Node, Span};
use super::super::problem::{ProblemKind, WarningKind, shown};
use super::{Fields, Reader};
use crate::spec::diagnostics::Log;

/// The variables of a file without the user's own. Errors are reported elsewhere.
fn read_alone(path: &Path) -> BTreeMap<String, String> {
    let nothing = BTreeMap::new();
    read_env_files(&Log::default(), &[path.to_owned()], &Known::outer(&nothing), Path::new("/"), None)
}

/// Keys of older files or of other sections, and what to use instead.
const ELSEWHERE: [(&str, &str); 9] = [
    ("net", "it is `network_mode` today"),
    ("log_driver", "it is `logging: { driver: … }` today"),
    ("log_opt", "it is `logging: { options: … }` today"),
    ("dockerfile", "it belongs below `build:`"),
    ("volume_driver", "it is `driver` of a volume today"),
    ("egress", "it belongs to the top level"),
    ("lifetime", "it belongs to the top level"),
    ("replicas", "it is `scale`, or `deploy: { replicas: … }`"),
    ("memory", "it is `mem_limit`"),
];

impl Reader<'_> {
    pub(super) fn service(&self, name: &ServiceName, span: Span, node: &Node) -> Service {
        let at = self.log.at(span);
        let mut service = Service { at: at.clone(), ..Service::new(name.clone(), "") };
        let Some(fields) = Fields::of(self.log, node, format!("service `{name}`")) else { return service };
        service.settings = ContainerSettings::read(&fields);
        self.image(&fields, &mut service);
        self.process(&fields, &mut service);
        self.rights(&fields, &mut service);
        self.surroundings(&fields, &mut service);
        self.life(&fields, &mut service);
        self.not_for_us(&fields, &mut service);
        service.resources = self.resources(&fields);
        service.deploy = self.deploy(&fields);
        service.scale = fields.int_in("scale", "from 0 on");
        service.ready = self.ready(&fields);
        service.seed = self.service_seeds(&fields);
        service.durable = self.durability(&fields);
        service.extensions = fields.extensions();
        self.distinct(&fields, &service);
        self.implied_dependencies(&mut service);
        fields.finish_with(&ELSEWHERE);
        service
    }

    fn image(&self, fields: &Fields<'_>, service: &mut Service) {
        let image = fields.filled("image");
        let build = fields.inner("build").map(|inner| {
            let at = self.log.at(inner.span);
            self.build(inner, at)
        });
        let written = |key| fields.map.get(key).is_some_and(|node| !node.is_null());
        // A failed `extends` has been reported already.
        let misspelt = |key: &str| nearest(key, ["image", "build"]).is_some();
        let lacks_both = !written("image")
            && !written("build")
            && fields.node("extends").is_none()
            && !fields.map.entries.iter().any(|entry| misspelt(&entry.key));
        service.source = match (build, image) {
            (Some(build), tag) => ImageSource::Build(Box::new(super::super::model::Build { tag, ..build })),
            (None, Some(image)) => ImageSource::Image(image),
            (None, None) => ImageSource::Image(String::new()),
        };
        if lacks_both && fields.node("provider").is_none() {
            let message = format!("{} has neither an image nor a build", fields.what);
            self.log.hinted(ProblemKind::Type, fields.span, message, "add `image: NAME` or `build: FOLDER`");
        }
        if let Some(image) = service.image()
            && image.contains(char::is_whitespace)
            && !image.contains('$')
        {
            let message = format!("`{image}` is not the name of an image");
            self.log.problem(ProblemKind::Value, fields.key_span("image"), message);
        }
        service.platform = fields.filled("platform");
        service.pull_policy = self.pull_policy(fields);
    }

    /// Reads the keys about the process.
    fn process(&self, fields: &Fields<'_>, service: &mut Service) {
        service.command = fields.texts("command");
        service.entrypoint = fields.texts("entrypoint");
        (service.environment, service.user_environment) = self.environment(fields);
        service.labels = self.labels_with_files(fields);
        service.profiles = fields.texts("profiles").unwrap_or_default();
        service.attach = fields.flag("attach");
        service.logging = fields.inner("logging").map(|inner| {
            let read = Logging { driver: inner.filled("driver"), options: inner.pairs("options") };
            inner.finish();
            read
        });
    }

    /// Reads the keys about privileges.
    fn rights(&self, fields: &Fields<'_>, service: &mut Service) {
        service.devices = self.devices(fields);
        service.cgroup =
            fields.word("cgroup", &[("host", "host"), ("private", "private")]).map(str::to_owned);
        service.pid = fields.filled("pid");
        service.ipc = fields.filled("ipc");
        service.storage_opt = fields.texts_by_name("storage_opt");
        let modes = [
            ("pid", &service.pid, ["host", "private", ""].as_slice()),
            ("ipc", &service.ipc, &["host", "private", "shareable", "none", ""]),
            ("uts", &service.settings.uts, &["host", "private", ""]),
        ];
        for (key, mode, own) in modes {
            if mode.as_deref().is_some_and(|mode| !own.contains(&mode) && !is_of_a_service(mode)) {
                self.foreign(fields, key, "use `service:NAME`");
            }
        }
        // Engines have modes of their own for the user namespace; none of them names another container.
        if service
            .settings
            .userns_mode
            .as_deref()
            .is_some_and(|mode| FOREIGN.iter().any(|word| mode.starts_with(word)))
        {
            self.foreign(fields, "userns_mode", "take it out");
        }
    }

    /// Rejects joining a foreign container.
    fn foreign(&self, fields: &Fields<'_>, key: &str, hint: &str) {
        let message = format!(
            "`{key}` of {} is refused: a sandbox does not join containers that are not its own",
            fields.what
        );
        self.refuse(fields.key_span(key), message, hint);
    }

    /// Reads networks, names and files.
    fn surroundings(&self, fields: &Fields<'_>, service: &mut Service) {
        service.mac_address = fields.filled("mac_address");
        service.network_mode = self.network_mode(fields);
        service.networks = self.attachments(fields);
        if service.network_mode.is_some() && !service.networks.is_empty() {
            let message = format!("{} has both `network_mode` and `networks`", fields.what);
            let span = fields.key_span("network_mode");
            self.log.hinted(ProblemKind::Conflict, span, message, "keep one of the two");
        }
        service.ports = self.ports(fields);
        service.expose = fields.texts("expose").unwrap_or_default();
        let mut exposed = 0;
        for port in &service.expose {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let range = super::super::ports::range(number);
            exposed += range.as_ref().map_or(0, |range| u32::from(range.end.saturating_sub(range.start)) + 1);
            if exposed > PORTS {
                let message = format!("{} exposes more ports than there are", fields.what);
                self.log.problem(ProblemKind::Value, fields.key_span("expose"), message);
                break;
            }
            if range.is_err() || !matches!(protocol, "tcp" | "udp" | "sctp") {
                let message = format!("`{port}`, exposed by {}, is not a port", fields.what);
                self.log.problem(ProblemKind::Value, fields.key_span("expose"), message);
            }
        }
        service.links = fields.texts("links").unwrap_or_default();
        service.extra_hosts = self.hosts(fields);
        service.dns = fields.texts("dns").unwrap_or_default();
        service.dns_search = fields.texts("dns_search").unwrap_or_default();
        service.dns_opt = fields.texts("dns_opt").unwrap_or_default();
        service.mounts = self.mounts(fields);
        service.volumes_from = fields.texts("volumes_from").unwrap_or_default();
        service.tmpfs = fields.texts("tmpfs").unwrap_or_default();
        service.secrets = self.grants(fields, "secrets");
        service.configs = self.grants(fields, "configs");
        for from in &service.volumes_from {
            let name = from.split(':').next().unwrap_or(from);
            if from.starts_with("container:") || ServiceName::new(name).is_err() {
                let message =
                    format!("`volumes_from: {from}` of {} is refused: it is not the sandbox's", fields.what);
                self.refuse(fields.key_span("volumes_from"), message, "name a service of the spec");
            }
        }
    }

    /// Reads the keys about start, health and stop.
    fn life(&self, fields: &Fields<'_>, service: &mut Service) {
        service.depends_on = self.depends_on(fields);
        service.healthcheck = self.healthcheck(fields);
        service.restart = self.restart(fields);
        service.pre_start = self.hooks(fields, "pre_start");
        service.post_start = self.hooks(fields, "post_start");
        service.pre_stop = self.hooks(fields, "pre_stop");
        if let Some(develop) = fields.inner("develop") {
            service.watch =
                develop.list("watch").iter().filter_map(|node| self.watch(node, fields)).collect();
            develop.finish();
        }
    }

    /// Reads keys that are warned about or rejected.
    fn not_for_us(&self, fields: &Fields<'_>, service: &mut Service) {
        service.container_name = fields.filled("container_name");
        if service.container_name.is_some() {
            let message = format!(
                "`container_name` of {} is a host name inside the sandbox only: as the container's name it would keep two \
                 sandboxes from running side by side",
                fields.what
            );
            self.not_applied(fields.key_span("container_name"), message);
        }
        service.external_links = fields.texts("external_links").unwrap_or_default();
        let refused = [
            (
                "external_links",
                "a sandbox does not reach containers that are not its own",
                "copy that service into the spec",
            ),
            ("credential_spec", "it is for Windows", "use `secrets`"),
            ("provider", "it hands the service to a program outside of the sandbox", "run it as a container"),
            ("models", "sandbox runs no language models", "run one as a service"),
        ];
        for (key, reason, hint) in refused {
            if fields.node(key).is_some_and(|node| !node.is_empty()) {
                let message = format!("`{key}` of {} is refused: {reason}", fields.what);
                self.refuse(fields.key_span(key), message, hint);
            }
        }
        if fields.flag("use_api_socket") == Some(true) {
            let message = format!("`use_api_socket` of {} is refused: it gives away the engine", fields.what);
            self.refuse(fields.key_span("use_api_socket"), message, "take it out");
        }
    }

    /// Reads `environment`, which takes precedence over `env_file`s; a variable without a value gets it from the
    /// environment. Also returns the names of variables whose values contain the user's variables.
    fn environment(&self, fields: &Fields<'_>) -> (BTreeMap<String, Option<String>>, BTreeSet<String>) {
        let mut environment: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut from_user = BTreeSet::new();
        for node in fields.list("env_file") {
            let Some(inner) = Fields::of(self.log, node, format!("an `env_file` of {}", fields.what)) else {
                continue;
            };
            let required = inner.flag("required").unwrap_or(true);
            let raw = inner.word("format", &[("raw", ())]).is_some();
            let Some(path) = inner.text("path").map(PathBuf::from) else { continue };
            inner.finish();
            if !path.is_file() {
                if required {
                    let name = shown(&path, self.standing_in);
                    let message = format!("there is no `env_file` `{}`", name.display());
                    self.missing(node.span, message, "make it, or write `{ path: …, required: false }`");
                }
                continue;
            }
            // This file consists of the user's own variables.
            let is_users = path.file_name().is_some_and(|name| name == ".env");
            let found = if raw {
                self.raw_env_file(&path, node.span)
            } else {
                let earlier =
                    environment.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
                let known = Known { outer: self.variables, earlier: &earlier.collect() };
                read_env_files(
                    self.log,
                    std::slice::from_ref(&path),
                    &known,
                    self.standing_in,
                    Some(node.span),
                )
            };
            let alone = if raw { found.clone() } else { read_alone(&path) };
            for (name, value) in found {
                if is_users || alone.get(&name) != Some(&value) {
                    from_user.insert(name.clone());
                } else {
                    from_user.remove(&name);
                }
                environment.insert(name, Some(value));
            }
        }
        let entries = fields.node("environment").and_then(Node::as_map).map(|map| map.entries.as_slice());
        let filled_in = |name: &str| {
            let entry = entries.unwrap_or_default().iter().rev().find(|entry| entry.key == name);
            entry.is_some_and(|entry| self.log.is_user_value(entry.value.span))
        };
        for (name, written) in fields.pairs("environment") {
            let value = written.clone().or_else(|| self.variables.get(&name).cloned());
            if (written.is_none() && value.is_some()) || filled_in(&name) {
                from_user.insert(name.clone());
            } else {
                from_user.remove(&name);
            }
            environment.insert(name, value);
        }
        (environment, from_user)
    }

    /// Reports a missing file of variables. Only selected services count, as in Compose.
    fn missing(&self, span: Span, message: String, hint: &str) {
        match (self.used.get(), self.selected.get()) {
            (true, true) => self.log.hinted(ProblemKind::File, span, message, hint),
            (true, false) => self.log.warn(WarningKind::NotApplied, span, message, Some(hint.to_owned())),
            (false, _) => {}
        }
    }

    fn raw_env_file(&self, path: &Path, span: Span) -> BTreeMap<String, String> {
        let name = shown(path, self.standing_in);
        let Some(text) = super::super::yaml::read(self.log, path, &name) else { return BTreeMap::new() };
        self.log.note_variables(path, &text);
        let mut found = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once('=') {
                found.insert(name.to_owned(), value.to_owned());
            } else {
                let message = format!("`{line}` in `{}` is not `NAME=value`", name.display());
                self.log.problem(ProblemKind::Value, span, message);
            }
        }
        found
    }

    fn labels_with_files(&self, fields: &Fields<'_>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for node in fields.list("label_file") {
            let Some(path) = node.scalar().map(PathBuf::from) else { continue };
            if !path.is_file() {
                let name = shown(&path, self.standing_in);
                let message = format!("there is no `label_file` `{}`", name.display());
                self.missing(node.span, message, "check the path");
                continue;
            }
            let found = read_env_files(
                self.log,
                std::slice::from_ref(&path),
                &Known::outer(self.variables),
                self.standing_in,
                Some(node.span),
            );
            if read_alone(&path) != found {
                self.log.note_user_value(node.span);
            }
            labels.extend(found);
        }
        labels.extend(self.labels(fields));
        labels
    }

    /// Checks that limits that are set twice agree.
    fn distinct(&self, fields: &Fields<'_>, service: &Service) {
        let Some(deploy) = &service.deploy else { return };
        let conflict = |key: &'static str, other: &str| {
            let message = format!("`{key}` and `{other}` of {} say different things", fields.what);
            self.log.hinted(ProblemKind::Conflict, fields.key_span(key), message, "keep one of the two");
        };
        let limits = deploy.limits.clone().unwrap_or_default();
        let reservations = deploy.reservations.clone().unwrap_or_default();
        if differ(service.scale, deploy.replicas) {
            conflict("scale", "deploy.replicas");
        }
        if differ(service.resources.mem_limit, limits.memory) {
            conflict("mem_limit", "deploy.resources.limits.memory");
        }
        if differ(service.resources.mem_reservation, reservations.memory) {
            conflict("mem_reservation", "deploy.resources.reservations.memory");
        }
        if differ(service.resources.cpus, limits.cpus()) {
            conflict("cpus", "deploy.resources.limits.cpus");
        }
        if differ(service.resources.pids_limit, limits.pids) {
            conflict("pids_limit", "deploy.resources.limits.pids");
        }
    }
}

/// The number of ports of three protocols.
const PORTS: u32 = 3 << 16;

/// Prefixes that name a foreign namespace.
const FOREIGN: [&str; 2] = ["container:", "ns:"];

fn is_of_a_service(mode: &str) -> bool {
    mode.strip_prefix("service:").is_some_and(|name| ServiceName::new(name).is_ok())
}

/// Whether both are set and differ.
fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}
