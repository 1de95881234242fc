//! Decides which services are active and which are selected.

use std::collections::BTreeSet;

use super::super::node::{Node, Span};

/// A service in the tree: its name, location and value.
type Written<'n> = (&'n str, Span, &'n Node);

/// The profiles and services that determine which services are active.
#[derive(Debug, Default)]
pub(in crate::spec) struct Profiles {
    /// The active profiles.
    pub profiles: BTreeSet<String>,
    /// Services that are selected by name.
    pub services: BTreeSet<String>,
}

impl Profiles {
    /// Adds the profiles of the selected services: as in Compose, these are active too.
    pub(super) fn with_those_of_services(&self, services: &[Written<'_>]) -> Self {
        let asked = services.iter().filter(|(name, _, _)| self.services.contains(*name));
        let implied =
            asked.map(|(_, _, node)| profiles_of(node)).filter(|profiles| !self.has_one_of(profiles));
        Self {
            profiles: implied.flatten().chain(self.profiles.iter().cloned()).collect(),
            services: self.services.clone(),
        }
    }

    /// Whether a service with these profiles is active.
    pub(super) fn include(&self, service: &str, profiles: &[String]) -> bool {
        profiles.is_empty() || self.services.contains(service) || self.has_one_of(profiles)
    }

    fn has_one_of(&self, profiles: &[String]) -> bool {
        self.profiles.contains("*") || profiles.iter().any(|profile| self.profiles.contains(profile))
    }
}

/// The profiles of a service.
pub(super) fn profiles_of(service: &Node) -> Vec<String> {
    let profiles = service.as_map().and_then(|map| map.get("profiles")).and_then(Node::as_seq);
    profiles.unwrap_or_default().iter().filter_map(Node::scalar).collect()
}

/// The selected services and those they require; `None` if all are selected.
pub(super) fn closure(services: &[Written<'_>], asked: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    if asked.is_empty() {
        return None;
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = asked.iter().cloned().collect();
    while let Some(name) = open.pop() {
        if let Some((_, _, node)) = services.iter().find(|(other, _, _)| *other == name)
            && found.insert(name)
        {
            open.extend(needs(node));
        }
    }
    Some(found)
}

/// Names of the services that a service requires, by any key.
fn needs(service: &Node) -> Vec<String> {
    let Some(map) = service.as_map() else { return Vec::new() };
    let mut names = Vec::new();
    if let Some(depends_on) = map.get("depends_on").and_then(Node::as_map) {
        names.extend(depends_on.entries.iter().map(|entry| entry.key.clone()));
    }
    for key in ["links", "volumes_from"] {
        let items = map.get(key).and_then(Node::as_seq).unwrap_or_default().iter().filter_map(Node::scalar);
        names.extend(items.map(|item| item.split(':').next().unwrap_or_default().to_owned()));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let mode = map.get(key).and_then(Node::scalar);
        names.extend(mode.and_then(|mode| mode.strip_prefix("service:").map(str::to_owned)));
    }
    names
}
