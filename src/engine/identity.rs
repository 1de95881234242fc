//! Defines the labels and names of the objects that this program creates.
//!
//! The engine is the database: the labels alone are enough to find and destroy an object, and names are derived from
//! the spec, so that partially created objects are found again. Pure, except that it reads `SANDBOX_SCOPE`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::info::EngineKind;
pub use crate::spec::SandboxName;

/// The sandbox's name.
pub const NAME: &str = "dev.sandbox.name";
/// The sandbox's instance id, a [`SandboxId`].
pub const ID: &str = "dev.sandbox.id";
/// The object's purpose, a [`Role`].
pub const ROLE: &str = "dev.sandbox.role";
/// The folder of the sandbox's spec.
pub const FOLDER: &str = "dev.sandbox.folder";
/// The hash of the resolved spec.
pub const SPEC_HASH: &str = "dev.sandbox.spec";
/// The first deadline, RFC 3339.
pub const EXPIRES: &str = "dev.sandbox.expires";
/// The service of a container.
pub const SERVICE: &str = "dev.sandbox.service";
/// A replica's number, from 1 on.
pub const REPLICA: &str = "dev.sandbox.replica";
/// The [`Scope`]; absent in the default scope.
pub const SCOPE: &str = "dev.sandbox.scope";
/// The table of published ports as JSON; only on gateways.
pub const PORTS: &str = "dev.sandbox.ports";
/// The key of a network or volume in the spec.
pub const KEY: &str = "dev.sandbox.key";
/// The name that an image was built under, if the name was generated.
pub const BUILT: &str = "dev.sandbox.built";
/// The digest of what an image was built from: its context's files, Dockerfile, arguments and target.
pub const INPUTS: &str = "dev.sandbox.inputs";
/// The stored set that a volume was cloned from.
pub const FROM: &str = "dev.sandbox.from";
/// The source volume in that set, if its name differs.
pub const FROM_VOLUME: &str = "dev.sandbox.from.volume";
/// The hash of a service's configuration; a second `up` recreates the container if it changed.
pub const CONFIG_HASH: &str = "dev.sandbox.config";
/// A service's `restart` policy in Compose's form (`always`, `on-failure:3`), read by the keeper; absent for `no`.
pub const RESTART: &str = "dev.sandbox.restart";
/// The configuration of a fault as JSON; only on the fault's container.
pub const FAULT: &str = "dev.sandbox.fault";
/// The service's container that a fault affects.
pub const FAULT_OF: &str = "dev.sandbox.fault-of";
/// The repository of the agent image.
pub const AGENT_IMAGE: &str = "sandbox-agent";
/// All label keys.
const KEYS: [&str; 19] = [
    NAME,
    ID,
    ROLE,
    FOLDER,
    SPEC_HASH,
    EXPIRES,
    SERVICE,
    REPLICA,
    SCOPE,
    PORTS,
    KEY,
    BUILT,
    INPUTS,
    FROM,
    FROM_VOLUME,
    CONFIG_HASH,
    RESTART,
    FAULT,
    FAULT_OF,
];

/// Completes the labels of a container or image. A container inherits the labels of its image, and an image those of
/// its base and Dockerfile, so each absent key of ours is set to the empty string. [`read_back`] treats an empty value
/// as absent. Containers of the agent image do not need this.
pub fn complete(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    if labels.get(ROLE).and_then(|role| role.parse().ok()).is_some_and(Role::runs_our_image) {
        return labels.clone();
    }
    let mut all: BTreeMap<String, String> =
        KEYS.into_iter().map(|key| (key.to_owned(), String::new())).collect();
    all.extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}

/// The labels that an engine reports, without the empty ones that [`complete`] added.
pub fn read_back(labels: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let is_absent = |key: &str, value: &str| value.is_empty() && KEYS.contains(&key);
    labels.into_iter().filter(|(key, value)| !is_absent(key, value)).collect()
}

/// The purpose of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A sandbox's gateway, which is also the lock on its name.
    Gateway,
    /// A service's container.
    Service,
    /// A network of the spec.
    Network,
    /// A volume of the spec, or an anonymous one.
    Volume,
    /// A service's secrets.
    Secret,
    /// A short-lived container that inspects or copies data.
    Probe,
    /// A fault of a service.
    Fault,
    /// The keeper's container.
    Keeper,
    /// The container that blocks packets from services to the engine's host.
    HostFirewall,
    /// The shared network that gateways publish on.
    Edge,
    /// The keeper's volume.
    Pool,
    /// The agent image.
    Image,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 12] = [
        Self::Gateway,
        Self::Service,
        Self::Network,
        Self::Volume,
        Self::Secret,
        Self::Probe,
        Self::Fault,
        Self::Keeper,
        Self::HostFirewall,
        Self::Edge,
        Self::Pool,
        Self::Image,
    ];

    /// The role as a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Service => "service",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Secret => "secret",
            Self::Probe => "probe",
            Self::Fault => "fault",
            Self::Keeper => "keeper",
            Self::HostFirewall => "host-firewall",
            Self::Edge => "edge",
            Self::Pool => "pool",
            Self::Image => "image",
        }
    }

    /// Whether containers of this role run the agent image.
    fn runs_our_image(self) -> bool {
        matches!(self, Self::Gateway | Self::Fault | Self::Keeper | Self::HostFirewall | Self::Pool)
    }

    /// Whether objects of this role belong to one sandbox and are destroyed with it.
    pub fn is_of_a_sandbox(self) -> bool {
        !matches!(self, Self::Keeper | Self::HostFirewall | Self::Edge | Self::Pool | Self::Image)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error for a label value that is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role")]
pub struct NotARole(String);

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| NotARole(text.to_owned()))
    }
}

/// A namespace for sandboxes on one engine, with its own keeper, pool and edge network. The default scope has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope(String);

/// The error for a scope name that is not letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the scope `{0}` may have only letters and digits, at most 32")]
pub struct NotAScope(String);

impl Scope {
    /// The environment variable with the scope's name.
    pub const VARIABLE: &str = "SANDBOX_SCOPE";

    /// The scope of this process.
    pub fn from_env() -> Result<Self, NotAScope> {
        std::env::var(Self::VARIABLE).unwrap_or_default().parse()
    }

    /// The scope's name, empty for the default one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Restricts a filter to this scope. The engine cannot filter for an absent label: in the default scope, check
    /// [`Scope::owns`] as well.
    #[must_use]
    pub fn narrow(&self, filter: Filter) -> Filter {
        if self.0.is_empty() { filter } else { filter.label(SCOPE, &self.0) }
    }

    /// Whether an object with these labels belongs to this scope.
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(SCOPE).map_or("", String::as_str) == self.0
    }

    /// Adds the scope to an object's labels.
    pub fn mark(&self, labels: &mut BTreeMap<String, String>) {
        if !self.0.is_empty() {
            labels.insert(SCOPE.to_owned(), self.0.clone());
        }
    }

    fn suffixed(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{name}-{}", self.0) }
    }

    /// The name of the keeper's container.
    pub fn keeper(&self) -> String {
        self.suffixed("sandbox-keeper")
    }

    /// The name of the keeper's volume, which is also the pool.
    pub fn pool(&self) -> String {
        self.suffixed("sandbox-pool")
    }

    /// The name of the container that serves the pool to a keeper that runs as a process.
    pub fn storage_server(&self) -> String {
        self.suffixed("sandbox-storage-server")
    }

    /// The name of the host firewall's container.
    pub fn host_firewall(&self) -> String {
        self.suffixed("sandbox-host-firewall")
    }

    /// The name of the network that gateways publish on.
    pub fn edge(&self) -> String {
        self.suffixed("sandbox-edge")
    }

    /// The edge network's bridge on the engine's host; an interface name has at most 15 characters. Docker and Podman may
    /// be on one machine, and each takes over and deletes a bridge with the name of its own.
    pub fn edge_bridge(&self, kind: EngineKind) -> String {
        use sha2::{Digest, Sha256};
        let prefix = match kind {
            EngineKind::Docker => "sbx",
            EngineKind::Podman => "sbp",
        };
        format!("{prefix}-{}", &hex::encode(Sha256::digest(self.edge().as_bytes()))[..11])
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        if text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAScope(text.to_owned()))
        }
    }
}

impl TryFrom<String> for SandboxId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<SandboxId> for String {
    fn from(id: SandboxId) -> Self {
        id.0
    }
}

/// The id of one instance of a sandbox: 12 random hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId(String);

/// The error for text that is not an instance id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not 12 hex digits")]
pub struct NotAnId(String);

impl SandboxId {
    /// Generates a new id.
    pub fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 6]>()))
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SandboxId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 12 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnId(text.to_owned()))
        }
    }
}

/// The name of a sandbox's gateway container, which is also the lock on the sandbox's name.
pub fn gateway(sandbox: &str) -> String {
    format!("sbx-{sandbox}")
}

/// The gateway's name, from the name of a service's container.
pub fn gateway_of(service: &str) -> Option<&str> {
    service.split_once('.').map(|(gateway, _)| gateway).filter(|gateway| gateway.starts_with("sbx-"))
}

/// The name of a service's container; `replica` counts from 1.
pub fn service(sandbox: &str, service: &str, replica: u32) -> String {
    format!("sbx-{sandbox}.{}", replica_name(service, replica))
}

/// The name of a replica within its sandbox. The first replica has no number, unless the service's name ends in one,
/// so that a service `web.2` does not conflict with the second replica of `web`.
pub fn replica_name(service: &str, replica: u32) -> String {
    let is_number = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    let ambiguous = service.rsplit_once('.').is_some_and(|(_, end)| is_number(end));
    if replica <= 1 && !ambiguous { service.to_owned() } else { format!("{service}.{}", replica.max(1)) }
}

/// The name of a network of the spec.
pub fn network(sandbox: &str, key: &str) -> String {
    format!("sbx-{sandbox}.{key}")
}

/// The name of a volume of the spec.
pub fn volume(sandbox: &str, key: &str) -> String {
    format!("sbx-{sandbox}.{key}")
}

/// The name of a service's anonymous volume: it ends in a hash of the mount point.
pub fn anonymous_volume(sandbox: &str, service: &str, target: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = hex::encode(Sha256::digest(target.as_bytes()));
    format!("sbx-{sandbox}..{service}.{}", &hash[..12])
}

/// The name of the volume that holds a service's secrets.
pub fn secrets_volume(sandbox: &str, service: &str) -> String {
    format!("sbx-{sandbox}..{service}.secrets")
}

/// The name of a short-lived container that inspects or copies data.
pub fn probe(sandbox: &str, what: &str) -> String {
    format!("sbx-{sandbox}..probe.{what}")
}

/// The placeholder for a sandbox's data in a set of quiesced containers; no object has this name.
pub fn data(sandbox: &str) -> String {
    format!("sbx-{sandbox}..data")
}

/// Whether the name is the placeholder for a sandbox's data.
pub fn is_data(name: &str) -> bool {
    name.strip_prefix("sbx-")
        .and_then(|name| name.strip_suffix("..data"))
        .is_some_and(|name| !name.contains('.'))
}

/// The name of the container that implements a fault.
pub fn fault(container: &str) -> String {
    container.replacen('.', "..", 1) + ".fault"
}

/// The reference of the agent image with this digest of the binary.
pub fn agent_image(digest: &str) -> String {
    format!("{AGENT_IMAGE}:{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_architecture() {
        assert_eq!(gateway("shop"), "sbx-shop");
        assert_eq!(service("shop", "db", 1), "sbx-shop.db");
        assert_eq!(service("shop", "db", 2), "sbx-shop.db.2");
        assert_eq!(service("shop", "db.2", 1), "sbx-shop.db.2.1");
        assert_eq!(service("shop", "db.main", 1), "sbx-shop.db.main");
        assert_eq!(volume("shop", "pgdata"), "sbx-shop.pgdata");
        assert_eq!(secrets_volume("shop", "db"), "sbx-shop..db.secrets");
        assert_eq!(fault(&service("shop", "db", 2)), "sbx-shop..db.2.fault");
        assert!(anonymous_volume("shop", "db", "/data").starts_with("sbx-shop..db."));
        assert_ne!(anonymous_volume("shop", "db", "/a"), anonymous_volume("shop", "db", "/b"));
    }

    #[test]
    fn the_edges_bridge_differs_by_engine_and_fits_an_interface() {
        let names = [EngineKind::Docker, EngineKind::Podman].map(|kind| Scope::default().edge_bridge(kind));
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.len() <= 15));
    }

    #[test]
    fn a_scope_separates_worlds() {
        let scope: Scope = "ci7".parse().unwrap();
        assert_eq!(scope.keeper(), "sandbox-keeper-ci7");
        assert_eq!(Scope::default().keeper(), "sandbox-keeper");
        let labels = [(SCOPE.to_owned(), "ci7".to_owned())].into();
        assert!(scope.owns(&labels) && !Scope::default().owns(&labels));
        assert!("a-b".parse::<Scope>().is_err());
    }

    #[test]
    fn an_image_s_labels_cannot_show_through_ours() {
        let ours = BTreeMap::from([(ROLE.to_owned(), "service".to_owned()), ("x".to_owned(), String::new())]);
        let image = [SCOPE, FROM, FAULT_OF, RESTART].map(|key| (key.to_owned(), "forged".to_owned()));
        // Merged as the engine does it.
        let merged = BTreeMap::from(image).into_iter().chain(complete(&ours)).collect::<BTreeMap<_, _>>();
        assert_eq!(read_back(merged), ours);
    }

    #[test]
    fn ids_are_random_and_read_back() {
        let id = SandboxId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_ne!(id, SandboxId::random());
        assert!("ABCDEF012345".parse::<SandboxId>().is_err());
    }

    #[test]
    fn roles_read_back() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("".parse::<Role>().is_err());
    }
}
