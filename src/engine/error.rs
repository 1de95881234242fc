//! Errors of engine calls, classified by how a caller can react to them.

use std::fmt;

/// The result of a call to the engine.
pub type Result<T> = std::result::Result<T, EngineError>;

/// A failed call to the engine: the operation, its object, and the cause.
///
/// Displays as ``cannot remove network `sbx-shop` ``; the engine's message is the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// The operation, as a verb that follows "cannot": `create`, `pull`, `connect to`.
    pub operation: &'static str,
    /// The kind of the object.
    pub object: ObjectKind,
    /// The object's name; may be empty.
    pub name: String,
    /// The class of the failure.
    pub kind: ErrorKind,
    /// The engine's message.
    pub cause: Cause,
}

/// The message of the engine or registry that rejected a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause(pub String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// The kind of object that a call concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The engine itself.
    Engine,
    /// An image.
    Image,
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A command in a container.
    Exec,
    /// A path in a container.
    Path,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "engine",
            Self::Image => "image",
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Exec => "command",
            Self::Path => "path",
        })
    }
}

/// The classes of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object does not exist.
    NotFound,
    /// The name is taken, or the object's state forbids the operation.
    Conflict,
    /// Another object still uses it (a container its volume, an endpoint its network).
    InUse,
    /// A disk is full.
    NoSpace,
    /// The registry or the engine denied access.
    Unauthorized,
    /// A registry or another host is unreachable.
    NoNetwork,
    /// Several objects have the name.
    Ambiguous,
    /// The engine's default address pools are exhausted.
    AddressPool,
    /// The subnet overlaps an existing one.
    SubnetOverlap,
    /// A host port is in use.
    PortTaken,
    /// The engine does not answer.
    Unreachable,
    /// The call timed out.
    Timeout,
    /// The engine does not support the operation.
    Unsupported,
    /// The engine rejected the parameters.
    Invalid,
    /// Anything else.
    Other,
}

impl EngineError {
    /// An error of a known class.
    pub fn new(
        operation: &'static str,
        object: ObjectKind,
        name: impl Into<String>,
        kind: ErrorKind,
        cause: impl Into<String>,
    ) -> Self {
        Self { operation, object, name: name.into(), kind, cause: Cause(cause.into()) }
    }

    /// An error whose class is derived from the HTTP status (if there was a response) and the engine's message.
    pub fn classified(
        operation: &'static str,
        object: ObjectKind,
        name: impl Into<String>,
        status: Option<u16>,
        cause: impl Into<String>,
    ) -> Self {
        let cause = cause.into();
        let kind = classify(status, &cause);
        Self::new(operation, object, name, kind, cause)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// Whether a retry of the same call may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::InUse | ErrorKind::NoNetwork | ErrorKind::Unreachable | ErrorKind::Timeout
        )
    }

    /// How the user can resolve the error, if known.
    pub fn hint(&self) -> Option<String> {
        self.forwarding_hint().or_else(|| hint(self.kind, self.object, &self.name))
    }

    /// An engine that uses nftables does not turn forwarding on itself, and refuses networks while it is off.
    fn forwarding_hint(&self) -> Option<String> {
        let words = self.cause.0.to_lowercase();
        let about = ["ip_forward", "ip forwarding", "ipv4 forwarding", "ipv6 forwarding"]
            .iter()
            .any(|word| words.contains(word));
        let setting =
            if words.contains("ipv6") { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
        (about && matches!(self.object, ObjectKind::Network | ObjectKind::Container)).then(|| {
            format!(
                "the engine does not forward packets between networks: `sysctl -w {setting}=1` on its machine"
            )
        })
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.operation, self.object)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " `{}`", self.name) }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Phrases of engines 20.10 to 28 (and of the registries they quote), each with its class. The first match decides, so
/// specific phrases precede general ones.
const PHRASES: &[(&str, ErrorKind)] = &[
    ("no space left on device", ErrorKind::NoSpace),
    ("disk quota exceeded", ErrorKind::NoSpace),
    ("matches found on name", ErrorKind::Ambiguous),
    ("port is already allocated", ErrorKind::PortTaken),
    ("address already in use", ErrorKind::PortTaken),
    ("ports are not available", ErrorKind::PortTaken),
    ("pool overlaps with other one", ErrorKind::SubnetOverlap),
    ("conflicts with network", ErrorKind::SubnetOverlap),
    ("is already used on the host or by another config", ErrorKind::SubnetOverlap),
    ("non-overlapping ipv4 address pool", ErrorKind::AddressPool),
    ("all predefined address pools have been fully subnetted", ErrorKind::AddressPool),
    ("no available ipv4 addresses", ErrorKind::AddressPool),
    ("no available address", ErrorKind::AddressPool),
    ("pull access denied", ErrorKind::Unauthorized),
    ("requested access to the resource is denied", ErrorKind::Unauthorized),
    ("unauthorized", ErrorKind::Unauthorized),
    ("authentication required", ErrorKind::Unauthorized),
    ("no basic auth credentials", ErrorKind::Unauthorized),
    ("toomanyrequests", ErrorKind::Unauthorized),
    ("permission denied while trying to connect", ErrorKind::Unauthorized),
    ("manifest unknown", ErrorKind::NotFound),
    ("no matching manifest", ErrorKind::Unsupported),
    ("does not match the specified platform", ErrorKind::Unsupported),
    ("no such host", ErrorKind::NoNetwork),
    ("temporary failure in name resolution", ErrorKind::NoNetwork),
    ("network is unreachable", ErrorKind::NoNetwork),
    ("no route to host", ErrorKind::NoNetwork),
    ("server misbehaving", ErrorKind::NoNetwork),
    ("i/o timeout", ErrorKind::NoNetwork),
    ("tls handshake timeout", ErrorKind::NoNetwork),
    ("client.timeout exceeded", ErrorKind::NoNetwork),
    ("connection reset by peer", ErrorKind::NoNetwork),
    ("connect: connection refused", ErrorKind::NoNetwork),
    ("request canceled while waiting for connection", ErrorKind::NoNetwork),
    ("unexpected eof", ErrorKind::NoNetwork),
    ("has active endpoints", ErrorKind::InUse),
    ("volume is in use", ErrorKind::InUse),
    ("device or resource busy", ErrorKind::InUse),
    ("removal of container", ErrorKind::InUse),
    ("is being used by", ErrorKind::InUse),
    ("must be forced", ErrorKind::InUse),
    ("active mounts", ErrorKind::InUse),
    ("is already in use by container", ErrorKind::Conflict),
    ("is already in use", ErrorKind::Conflict),
    ("already exists", ErrorKind::Conflict),
    ("no such container", ErrorKind::NotFound),
    ("no such image", ErrorKind::NotFound),
    ("no such network", ErrorKind::NotFound),
    ("no such volume", ErrorKind::NotFound),
    ("no such exec", ErrorKind::NotFound),
    ("is not connected to", ErrorKind::NotFound),
    ("marked for removal", ErrorKind::InUse),
    ("not implemented", ErrorKind::Unsupported),
    ("not supported", ErrorKind::Unsupported),
    ("does not support reading", ErrorKind::Unsupported),
    ("unknown runtime", ErrorKind::Unsupported),
    ("deadline exceeded", ErrorKind::Timeout),
];

fn classify(status: Option<u16>, words: &str) -> ErrorKind {
    let words = words.to_lowercase();
    if let Some((_, kind)) = PHRASES.iter().find(|(phrase, _)| words.contains(phrase)) {
        return *kind;
    }
    match status {
        Some(400) => ErrorKind::Invalid,
        Some(401 | 403) => ErrorKind::Unauthorized,
        Some(404) => ErrorKind::NotFound,
        Some(409) => ErrorKind::Conflict,
        Some(408) => ErrorKind::Timeout,
        Some(501) => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

fn hint(kind: ErrorKind, object: ObjectKind, name: &str) -> Option<String> {
    let text = match (kind, object) {
        (ErrorKind::NotFound, ObjectKind::Image) => format!(
            "check the spelling of `{name}`; an image that is not in a registry must be built (`build:`) or loaded"
        ),
        (ErrorKind::NoSpace, _) => {
            "free space where the engine keeps its data (`sandbox gc`, `docker system df`), then try again".into()
        }
        (ErrorKind::Unauthorized, ObjectKind::Image) => {
            "the image is private or does not exist: check its name, or `docker login` to its registry".into()
        }
        (ErrorKind::Unauthorized, ObjectKind::Engine) => {
            "you may not use the engine's socket: join the `docker` group, or set DOCKER_HOST to an engine of yours"
                .into()
        }
        (ErrorKind::NoNetwork, ObjectKind::Image) => {
            "the registry cannot be reached: check the network and its proxy, or load the image from a file".into()
        }
        (ErrorKind::NoNetwork, _) => "check the network".into(),
        (ErrorKind::AddressPool, _) => "remove networks that are not used (`docker network ls`)".into(),
        (ErrorKind::SubnetOverlap, _) => "choose another subnet, or none and let one be chosen".into(),
        (ErrorKind::PortTaken, _) => "leave the host port out and let a free one be chosen".into(),
        (ErrorKind::Unreachable, _) => {
            "start the engine (`systemctl start docker`, Docker Desktop), or point DOCKER_HOST at one".into()
        }
        (ErrorKind::Unsupported, ObjectKind::Engine) => {
            "if there is another engine, point DOCKER_HOST at it".into()
        }
        (ErrorKind::Unsupported, ObjectKind::Image) => {
            "the image has no variant for this engine's architecture: set `platform:` or choose another tag".into()
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_class_from_the_words_of_old_and_new_engines() {
        let cases = [
            (
                Some(500),
                "error while removing network: network sbx-a id 1f has active endpoints",
                ErrorKind::InUse,
            ),
            (
                Some(403),
                "error while removing network: network x has active endpoints (name:\"c\" id:\"1\")",
                ErrorKind::InUse,
            ),
            (Some(409), "remove v: volume is in use - [abc]", ErrorKind::InUse),
            (
                Some(409),
                "Conflict. The container name \"/a\" is already in use by container \"b\".",
                ErrorKind::Conflict,
            ),
            (Some(409), "removal of container x is already in progress", ErrorKind::InUse),
            (Some(403), "Pool overlaps with other one on this address space", ErrorKind::SubnetOverlap),
            (
                Some(400),
                "invalid pool request: Pool overlaps with other one on this address space",
                ErrorKind::SubnetOverlap,
            ),
            (
                Some(500),
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
                ErrorKind::AddressPool,
            ),
            (Some(400), "all predefined address pools have been fully subnetted", ErrorKind::AddressPool),
            (
                Some(500),
                "driver failed programming external connectivity on endpoint a: Bind for 127.0.0.1:80 failed: port is already allocated",
                ErrorKind::PortTaken,
            ),
            (Some(500), "listen tcp4 127.0.0.1:80: bind: address already in use", ErrorKind::PortTaken),
            (
                Some(404),
                "manifest for localhost/x:1 not found: manifest unknown: manifest unknown",
                ErrorKind::NotFound,
            ),
            (
                Some(404),
                "pull access denied for x, repository does not exist or may require 'docker login'",
                ErrorKind::Unauthorized,
            ),
            (
                Some(500),
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                ErrorKind::NoNetwork,
            ),
            (Some(500), "write /x: no space left on device", ErrorKind::NoSpace),
            (Some(404), "page not found", ErrorKind::NotFound),
            (Some(500), "boom", ErrorKind::Other),
        ];
        for (status, words, kind) in cases {
            assert_eq!(classify(status, words), kind, "{words}");
        }
    }

    #[test]
    fn a_network_that_needs_forwarding_is_refused_with_the_setting() {
        let hint = |words: &str| {
            EngineError::classified("create", ObjectKind::Network, "n", Some(500), words).hint().unwrap()
        };
        assert!(
            hint("IPv4 forwarding is disabled, check net.ipv4.ip_forward").contains("net.ipv4.ip_forward=1")
        );
        assert!(
            hint("cannot create: IPv6 forwarding is disabled").contains("net.ipv6.conf.all.forwarding=1")
        );
    }

    #[test]
    fn displays_what_was_tried_and_keeps_the_cause_as_its_source() {
        let error = EngineError::new(
            "remove",
            ObjectKind::Network,
            "sbx-shop",
            ErrorKind::InUse,
            "has active endpoints",
        );
        assert_eq!(error.to_string(), "cannot remove network `sbx-shop`");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("has active endpoints"));
    }
}
