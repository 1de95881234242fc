//! Reads a canonical tree into the model. Hand-written, so that all problems are found in one pass, each with its
//! location.

mod build;
mod egress;
mod fields;
mod lifecycle;
mod networking;
mod onboarding;
mod resources;
mod sandbox_keys;
mod seed;
mod selection;
mod service;
mod storage;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(super) use fields::{Fields, flag};
pub(super) use selection::Profiles;

use super::diagnostics::Log;
use super::model::{
    ConfigName, InvalidName, MountKind, NetworkName, ProjectName, SecretName, ServiceName, Spec, VolumeName,
};
use super::node::{Map, Node, Span};
use super::problem::{ProblemKind, WarningKind};
use super::request::Refusals;

/// Reads a tree with the given variables and settings.
pub(super) struct Reader<'a> {
    pub log: &'a Log,
    /// The variables for keys without a value.
    pub variables: &'a BTreeMap<String, String>,
    /// Messages show paths relative to this folder.
    pub standing_in: &'a Path,
    /// How rejections are reported.
    pub refusals: Refusals,
    /// Whether an active service uses the current item; otherwise it is neither rejected nor warned about.
    pub used: Cell<bool>,
    /// Whether the current service is selected, or required by a selected one.
    pub selected: Cell<bool>,
}

/// The model, and the services without an active profile.
pub(super) struct Read {
    pub spec: Spec,
    pub inactive: BTreeSet<String>,
    /// Active services that are neither selected nor required by a selected one.
    pub unselected: BTreeSet<String>,
}

const SECTIONS: [&str; 7] = ["services", "volumes", "networks", "secrets", "configs", "models", "tasks"];

impl Reader<'_> {
    /// Reads a whole tree.
    pub fn spec(&self, root: &Node, name: ProjectName, folder: &Path, active: &Profiles) -> Read {
        let empty = Map::default();
        let map = root.as_map().unwrap_or(&empty);
        let (mut inactive, mut unselected) = (BTreeSet::new(), BTreeSet::new());
        let services = self.section(map, "services");
        let active = &active.with_those_of_services(&services);
        let selection = selection::closure(&services, &active.services);
        let mut spec =
            Spec { profiles: active.profiles.iter().cloned().collect(), ..Spec::new(name, folder) };
        let Some(fields) = Fields::of(self.log, root, "the spec") else {
            return Read { spec, inactive, unselected };
        };
        let _ = fields.text("name");
        self.top_words(&fields, &mut spec);
        spec.extensions = fields.extensions();
        for key in SECTIONS {
            let _ = fields.node(key);
        }
        for (name, span, node) in services {
            let Some(name) = self.name(ServiceName::new(name), span) else { continue };
            let is_active = active.include(name.as_str(), &selection::profiles_of(node));
            self.used.set(is_active);
            self.selected.set(selection.as_ref().is_none_or(|names| names.contains(name.as_str())));
            let service = self.service(&name, span, node);
            if is_active {
                if !self.selected.replace(true) {
                    unselected.insert(name.to_string());
                }
                spec.services.insert(name, service);
            } else {
                inactive.insert(name.to_string());
            }
        }
        let used = Used::of(&spec);
        for (name, span, node) in self.section(map, "networks") {
            let Some(name) = self.name(NetworkName::new(name), span) else { continue };
            self.used.set(used.networks.contains(name.as_str()));
            spec.networks.insert(name.clone(), self.network(&name, span, node));
        }
        for (name, span, node) in self.section(map, "volumes") {
            let Some(name) = self.name(VolumeName::new(name), span) else { continue };
            self.used.set(used.volumes.contains(name.as_str()));
            spec.volumes.insert(name.clone(), self.volume(&name, span, node));
        }
        for (name, span, node) in self.section(map, "secrets") {
            let Some(name) = self.name(SecretName::new(name), span) else { continue };
            self.used.set(used.secrets.contains(name.as_str()));
            if let Some(secret) = self.secret(&name, span, node) {
                spec.secrets.insert(name, secret);
            }
        }
        for (name, span, node) in self.section(map, "configs") {
            let Some(name) = self.name(ConfigName::new(name), span) else { continue };
            self.used.set(used.configs.contains(name.as_str()));
            if let Some(config) = self.config(&name, span, node) {
                spec.configs.insert(name, config);
            }
        }
        self.used.set(true);
        self.selected.set(true);
        if let Some(entry) = map.entry("models")
            && !entry.value.is_empty()
        {
            self.refuse(
                entry.span,
                "`models` is refused: sandbox runs no language models",
                "run one as a service",
            );
        }
        fields.finish_with(&[
            ("ready", "it belongs into a service"),
            ("seed", "it belongs into a service or a volume"),
            ("image", "it belongs into a service, below `services:`"),
        ]);
        Read { spec, inactive, unselected }
    }

    fn section<'n>(&self, root: &'n Map, key: &str) -> Vec<(&'n str, Span, &'n Node)> {
        let Some(node) = root.get(key).filter(|node| !node.is_null()) else { return Vec::new() };
        let Some(map) = node.as_map() else {
            let message = format!("`{key}` must be a mapping of names, this is {}", node.kind());
            self.log.problem(ProblemKind::Type, node.span, message);
            return Vec::new();
        };
        map.entries.iter().map(|entry| (entry.key.as_str(), entry.span, &entry.value)).collect()
    }

    pub(in crate::spec) fn name<T>(&self, name: Result<T, InvalidName>, span: Span) -> Option<T> {
        name.map_err(|error| {
            let message = format!("`{}` cannot be {}", error.name, error.kind);
            self.log.hinted(ProblemKind::Name, span, message, error.rule);
        })
        .ok()
    }

    /// A mapping of texts in which a key without a value gets it from the environment.
    fn inheriting(&self, fields: &Fields<'_>, key: &'static str) -> BTreeMap<String, Option<String>> {
        let map = fields.node(key).and_then(Node::as_map);
        let fill = |(name, value): (String, Option<String>)| {
            let inherited = if value.is_none() { self.variables.get(&name).cloned() } else { None };
            if inherited.is_some()
                && let Some(node) = map.and_then(|map| map.get(&name))
            {
                self.log.note_user_value(node.span);
            }
            (name, value.or(inherited))
        };
        fields.pairs(key).into_iter().map(fill).collect()
    }

    /// Reports that something is not supported, with the reason.
    pub(super) fn refuse(&self, span: Span, message: impl Into<String>, hint: &str) {
        if !self.used.get() {
            return;
        }
        match self.refusals {
            Refusals::Fail => self.log.hinted(ProblemKind::Unsupported, span, message, hint),
            Refusals::Warn => self.log.warn(WarningKind::Refused, span, message, Some(hint.to_owned())),
        }
    }

    /// Warns that a key is not applied, with the reason.
    fn not_applied(&self, span: Span, message: impl Into<String>) {
        if self.used.get() {
            self.log.warn(WarningKind::NotApplied, span, message, None);
        }
    }
}

/// The names that active services use.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub networks: BTreeSet<String>,
    pub volumes: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    pub configs: BTreeSet<String>,
}

impl Used {
    /// Collects the names that a spec's services use.
    pub fn of(spec: &Spec) -> Self {
        let mut used = Self::default();
        for service in spec.services.values() {
            used.networks.extend(service.networks.keys().map(ToString::to_string));
            if service.networks.is_empty() && service.network_mode.is_none() {
                used.networks.insert("default".to_owned());
            }
            for mount in &service.mounts {
                if let MountKind::Named { volume, .. } = &mount.kind {
                    used.volumes.insert(volume.to_string());
                }
            }
            used.secrets.extend(service.secrets.iter().map(|grant| grant.source.clone()));
            let build = service.build().map(|build| build.secrets.as_slice()).unwrap_or_default();
            used.secrets.extend(build.iter().map(|secret| secret.source.clone()));
            used.configs.extend(service.configs.iter().map(|grant| grant.source.clone()));
        }
        used
    }

    /// Removes what no service uses from a spec.
    pub fn keep(spec: &mut Spec) {
        let used = Self::of(spec);
        spec.networks.retain(|name, _| used.networks.contains(name.as_str()));
        spec.volumes.retain(|name, _| used.volumes.contains(name.as_str()));
        spec.secrets.retain(|name, _| used.secrets.contains(name.as_str()));
        spec.configs.retain(|name, _| used.configs.contains(name.as_str()));
    }
}
