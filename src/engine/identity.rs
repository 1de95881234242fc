//! How our objects are labelled and named.
//!
//! The engine is the database: labels are all that is needed to find and to destroy what is ours, and names are
//! derived, so that what is half-made is found again. Pure but for the look at `SANDBOX_SCOPE`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
pub use crate::spec::SandboxName;

/// The sandbox's name.
pub const NAME: &str = "dev.sandbox.name";
/// The sandbox's incarnation, a [`SandboxId`].
pub const ID: &str = "dev.sandbox.id";
/// What the object is for, a [`Role`].
pub const ROLE: &str = "dev.sandbox.role";
/// The folder that the sandbox was made from.
pub const FOLDER: &str = "dev.sandbox.folder";
/// The hash of the resolved spec.
pub const SPEC_HASH: &str = "dev.sandbox.spec";
/// The first deadline, RFC 3339.
pub const EXPIRES: &str = "dev.sandbox.expires";
/// A container's service.
pub const SERVICE: &str = "dev.sandbox.service";
/// A replica's number, from 1 on.
pub const REPLICA: &str = "dev.sandbox.replica";
/// The [`Scope`], absent in the default one.
pub const SCOPE: &str = "dev.sandbox.scope";
/// The table of published ports as JSON; on a sandbox's gateway.
pub const PORTS: &str = "dev.sandbox.ports";
/// The key of a network or volume in the spec.
pub const KEY: &str = "dev.sandbox.key";
/// The name that an image was built under, if it is one of our making.
pub const BUILT: &str = "dev.sandbox.built";
/// The digest of what an image was built from: its context's files, Dockerfile, arguments and target.
pub const INPUTS: &str = "dev.sandbox.inputs";
/// The stored set that a volume's data was cloned from.
pub const FROM: &str = "dev.sandbox.from";
/// Label: that set's volume that a volume was cloned from, where it has another name there.
pub const FROM_VOLUME: &str = "dev.sandbox.from.volume";
/// The hash of one service's configuration, to tell what a second `up` changes.
pub const CONFIG_HASH: &str = "dev.sandbox.config";
/// A service's `restart` in Compose's words (`always`, `on-failure:3`), for whoever honours it; absent for `no`.
pub const RESTART: &str = "dev.sandbox.restart";
/// What a fault does, as JSON; on the fault's container.
pub const FAULT: &str = "dev.sandbox.fault";
/// The service's container that a fault is one of.
pub const FAULT_OF: &str = "dev.sandbox.fault-of";
/// The repository of our own image.
pub const AGENT_IMAGE: &str = "sandbox-agent";
/// All of the above.
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

/// The labels of a container or image of our making, complete: a container has its image's labels as well, and an image
/// those of its base and its Dockerfile, so each of our keys that is absent is set to nothing. Our side of the engine
/// takes an empty one for absent ([`read_back`]). What runs our own image needs none of that.
pub fn complete(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    if labels.get(ROLE).and_then(|role| role.parse().ok()).is_some_and(Role::runs_our_image) {
        return labels.clone();
    }
    let mut all: BTreeMap<String, String> =
        KEYS.into_iter().map(|key| (key.to_owned(), String::new())).collect();
    all.extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}

/// The labels that an engine reports, without those that [`complete`] has set to nothing.
pub fn read_back(labels: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let is_absent = |key: &str, value: &str| value.is_empty() && KEYS.contains(&key);
    labels.into_iter().filter(|(key, value)| !is_absent(key, value)).collect()
}

/// What an object is for.
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
    /// A short-lived container that looks or carries.
    Probe,
    /// A fault of a service.
    Fault,
    /// The keeper's container.
    Keeper,
    /// What keeps services' packets off the engine's machine.
    HostFirewall,
    /// The network that gateways publish on.
    Edge,
    /// The keeper's volume.
    Pool,
    /// Our own image.
    Image,
}

impl Role {
    /// All of them.
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

    /// The label's value.
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

    /// Whether containers of this role are made from our own image.
    fn runs_our_image(self) -> bool {
        matches!(self, Self::Gateway | Self::Fault | Self::Keeper | Self::HostFirewall | Self::Pool)
    }

    /// Whether objects of this role belong to one sandbox (and go with it).
    pub fn is_of_a_sandbox(self) -> bool {
        !matches!(self, Self::Keeper | Self::HostFirewall | Self::Edge | Self::Pool | Self::Image)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A label's value that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role")]
pub struct NotARole(String);

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| NotARole(text.to_owned()))
    }
}

/// A whole world of sandboxes on one engine: its own keeper, pool and edge network. The default one has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope(String);

/// A scope's name that is not letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the scope `{0}` may have only letters and digits, at most 32")]
pub struct NotAScope(String);

impl Scope {
    /// The variable of the environment that names it.
    pub const VARIABLE: &str = "SANDBOX_SCOPE";

    /// The scope of this process.
    pub fn from_env() -> Result<Self, NotAScope> {
        std::env::var(Self::VARIABLE).unwrap_or_default().parse()
    }

    /// Its name, empty for the default one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Demands of a filter that objects are of this scope. The engine cannot be asked for "no such label": in the
    /// default scope check [`Scope::owns`] as well.
    #[must_use]
    pub fn narrow(&self, filter: Filter) -> Filter {
        if self.0.is_empty() { filter } else { filter.label(SCOPE, &self.0) }
    }

    /// Whether an object with these labels is of this scope.
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(SCOPE).map_or("", String::as_str) == self.0
    }

    /// Says in an object's labels that it is of this scope.
    pub fn mark(&self, labels: &mut BTreeMap<String, String>) {
        if !self.0.is_empty() {
            labels.insert(SCOPE.to_owned(), self.0.clone());
        }
    }

    fn suffixed(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{name}-{}", self.0) }
    }

    /// The keeper's container.
    pub fn keeper(&self) -> String {
        self.suffixed("sandbox-keeper")
    }

    /// The keeper's volume, which is also the pool.
    pub fn pool(&self) -> String {
        self.suffixed("sandbox-pool")
    }

    /// The container that serves the pool for a keeper which is a process.
    pub fn storage_server(&self) -> String {
        self.suffixed("sandbox-storage-server")
    }

    /// The container that keeps services' packets off the engine's machine.
    pub fn host_firewall(&self) -> String {
        self.suffixed("sandbox-host-firewall")
    }

    /// The network that gateways publish on.
    pub fn edge(&self) -> String {
        self.suffixed("sandbox-edge")
    }

    /// The edge network's bridge, as the engine's machine names it: an interface's name has 15 letters at most.
    pub fn edge_bridge(&self) -> String {
        use sha2::{Digest, Sha256};
        format!("sbx-{}", &hex::encode(Sha256::digest(self.edge().as_bytes()))[..11])
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

/// One incarnation of a sandbox: 12 hex digits, at random.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId(String);

/// Text that is not an incarnation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not 12 hex digits")]
pub struct NotAnId(String);

impl SandboxId {
    /// A new one.
    pub fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 6]>()))
    }

    /// Its digits.
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

/// The container that is a sandbox's gateway and the lock on its name.
pub fn gateway(sandbox: &str) -> String {
    format!("sbx-{sandbox}")
}

/// The gateway of the sandbox that a service's container belongs to, by their names.
pub fn gateway_of(service: &str) -> Option<&str> {
    service.split_once('.').map(|(gateway, _)| gateway).filter(|gateway| gateway.starts_with("sbx-"))
}

/// A service's container; `replica` counts from 1.
pub fn service(sandbox: &str, service: &str, replica: u32) -> String {
    format!("sbx-{sandbox}.{}", replica_name(service, replica))
}

/// What a replica of a service is called within its sandbox. The first has no number, unless the service's own name ends in
/// one: a service `web.2` beside two replicas of `web` has another name than the second of these.
pub fn replica_name(service: &str, replica: u32) -> String {
    let is_number = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    let ambiguous = service.rsplit_once('.').is_some_and(|(_, end)| is_number(end));
    if replica <= 1 && !ambiguous { service.to_owned() } else { format!("{service}.{}", replica.max(1)) }
}

/// A network of the spec.
pub fn network(sandbox: &str, key: &str) -> String {
    format!("sbx-{sandbox}.{key}")
}

/// A volume of the spec.
pub fn volume(sandbox: &str, key: &str) -> String {
    format!("sbx-{sandbox}.{key}")
}

/// The volume at a path of a service that names none: `HASH` is of the path.
pub fn anonymous_volume(sandbox: &str, service: &str, target: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = hex::encode(Sha256::digest(target.as_bytes()));
    format!("sbx-{sandbox}..{service}.{}", &hash[..12])
}

/// The volume that holds a service's secrets.
pub fn secrets_volume(sandbox: &str, service: &str) -> String {
    format!("sbx-{sandbox}..{service}.secrets")
}

/// A short-lived container of a sandbox that looks or carries.
pub fn probe(sandbox: &str, what: &str) -> String {
    format!("sbx-{sandbox}..probe.{what}")
}

/// What stands for a sandbox's data among the names of what is kept still; nothing has that name.
pub fn data(sandbox: &str) -> String {
    format!("sbx-{sandbox}..data")
}

/// Whether this stands for a sandbox's data.
pub fn is_data(name: &str) -> bool {
    name.strip_prefix("sbx-")
        .and_then(|name| name.strip_suffix("..data"))
        .is_some_and(|name| !name.contains('.'))
}

/// The container that a fault of a service's container is.
pub fn fault(container: &str) -> String {
    container.replacen('.', "..", 1) + ".fault"
}

/// Our own image, by the digest of the binary.
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
        // As an engine merges them.
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
