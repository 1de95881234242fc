//! Checks the spec as a whole: references, cycles, port conflicts, missing files.

mod build;
mod files;
mod onboarding;
mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::diagnostics::Log;
use super::model::{At, NetworkMode, Service, ServiceName, Spec};
use super::node::Node;
use super::problem::{Problem, ProblemKind, SourceLocation, Warning, WarningKind};
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
        self.onboarding(spec);
        self.cycles(spec);
        self.bounds(spec);
        self.reserved(spec);
        self.within_reach(spec);
        build::check(self, spec);
        self.resolvers(spec);
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

    /// Warns about resolvers (`dns`) that the egress policy does not let through.
    fn resolvers(&self, spec: &Spec) {
        for service in spec.services.values().filter(|service| service.network_mode.is_none()) {
            let reachable: Vec<&str> = service.reachable_resolvers(&spec.egress).collect();
            let unreachable: Vec<String> = service
                .dns
                .iter()
                .filter(|it| !reachable.contains(&it.as_str()))
                .map(|it| format!("`{it}`"))
                .collect();
            if unreachable.is_empty() {
                continue;
            }
            let message = format!(
                "`dns` {} of service `{}` is not applied: `egress` does not let it through, so the gateway resolves names",
                unreachable.join(", "),
                service.name
            );
            let hint = "add its address to `egress` (`10.1.2.3:53`), or take `dns` out";
            self.log.warn_at(
                WarningKind::NotApplied,
                &self.spot(service, &["dns"]),
                message,
                hint.to_owned(),
            );
        }
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
