//! What the gateway is told: its configuration, which its environment carries, and the egress policy's vocabulary.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The variables of the gateway's environment that carry the configuration: this and a number from 0 on.
const VARIABLE: &str = "SANDBOX_GATEWAY_";

/// The most that one variable carries, in bytes: the kernel takes none of 128 KiB or more (`MAX_ARG_STRLEN`).
const PIECE: usize = 100_000;

/// Everything the gateway knows when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The sandbox's name; only for the log.
    pub sandbox: String,
    /// The sandbox's own networks.
    pub networks: Vec<GatewayNetwork>,
    /// The shared bridge through which the host reaches us and we reach the outside; `None` if nothing is published
    /// and nothing let out.
    #[serde(default)]
    pub edge: Option<EdgeNetwork>,
    /// Published ports.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// What may leave.
    pub egress: EgressPolicy,
    /// The services, their names and their addresses.
    #[serde(default)]
    pub services: Vec<ServiceAddress>,
    /// Never let out, whatever the policy says: the engine host's own addresses, the pool that sandboxes' subnets
    /// come from, the engine's other networks. It wins over every rule, so what a spec names on purpose must not be
    /// put here.
    #[serde(default)]
    pub forbidden: Vec<Ipv4Net>,
    /// Who resolves outside names; the engine's own resolver if absent.
    #[serde(default)]
    pub resolver: Option<SocketAddr>,
}

/// One network of the sandbox, as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayNetwork {
    /// The key in the spec, such as `default`.
    pub name: String,
    /// The network's subnet.
    pub subnet: Ipv4Net,
    /// The gateway container's own fixed address.
    pub address: Ipv4Addr,
    /// The address that IPAM keeps for "the gateway" and that services have as their default route; adopted in router
    /// mode.
    #[serde(default)]
    pub adopt: Option<Ipv4Addr>,
    /// Whether the engine isolates the network (then nothing is ever routed from it).
    pub internal: bool,
}

/// The shared edge bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeNetwork {
    /// Its subnet; nothing in it is ever a destination.
    pub subnet: Ipv4Net,
    /// The bridge's own address: the host's side, and our default route.
    pub bridge: Ipv4Addr,
}

/// A published port: from the edge to a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The port we listen on at the edge; the engine publishes it on the host's loopback.
    pub edge_port: u16,
    /// Of which protocol.
    pub protocol: Protocol,
    /// The service; one of [`GatewayConfig::services`].
    pub service: String,
    /// The port inside the service's container.
    pub container_port: u16,
    /// The network to reach it by; any the service is on if absent.
    #[serde(default)]
    pub network: Option<String>,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A service's container: what it is called and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAddress {
    /// The service's name in the spec; replicas share it.
    pub service: String,
    /// The container's name on the engine, asked of the engine's resolver when no address is known.
    pub container: String,
    /// Further names inside the sandbox (aliases, the hostname): these are never outside names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its fixed address on each network, by the network's name.
    #[serde(default)]
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

/// What may leave a sandbox. In JSON: `"deny"`, `"allow"` or a list of rules as a spec writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressPolicy {
    /// Nothing.
    Deny,
    /// Everything but the host and other sandboxes.
    Allow,
    /// Exactly these.
    List(Vec<EgressRule>),
}

/// How the gateway enforces a policy, and so how the networks must be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayMode {
    /// The networks are internal; an allowed name resolves to the gateway, which passes connections on.
    Proxy,
    /// The networks are routed by the gateway, which adopts their gateway address and translates and filters.
    Router,
}

/// One line of a list: a name or an address, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EgressRule {
    /// `api.stripe.com`, `*.npmjs.org`, `example.com:8443`. Without a port: 80 and 443.
    Name {
        /// Which names.
        pattern: NamePattern,
        /// On which port.
        port: Option<u16>,
    },
    /// `10.1.2.3`, `10.1.0.0/16`, `10.1.2.3:5432`, `10.1.0.0/16:5432`. Without a port: any port and ICMP.
    Net {
        /// Which addresses.
        net: Ipv4Net,
        /// On which port, TCP and UDP alike.
        port: Option<u16>,
    },
}

/// A name, or every name below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This name alone (lower case, no final dot).
    Exact(String),
    /// Any name that ends in a dot and this one, at any depth; not this one itself.
    Below(String),
}

/// A rule that is neither a name nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nothing between the quotes, or characters that no name has.
    #[error("`{0}` is neither a name, a wildcard such as `*.example.com`, nor an IPv4 address or network")]
    Unreadable(String),
    /// A port that is not 1–65535.
    #[error("`{0}` has no valid port after the colon")]
    Port(String),
    /// An IPv6 address: egress is by IPv4 only.
    #[error("`{0}` is an IPv6 address, and what leaves a sandbox leaves by IPv4")]
    Ipv6(String),
}

impl GatewayConfig {
    /// The variables that carry it, as JSON: what is known before the container is made needs no file in it.
    pub fn to_environment(&self) -> BTreeMap<String, String> {
        // Keys are text and numbers are finite: JSON has a form for all of it.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut rest = json.as_str();
        let pieces = std::iter::from_fn(|| {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
            rest = more;
            (!piece.is_empty()).then(|| piece.to_owned())
        });
        pieces.enumerate().map(|(number, piece)| (format!("{VARIABLE}{number}"), piece)).collect()
    }

    /// Reads it from the variables that carry it.
    ///
    /// # Errors
    /// When they are missing, or do not carry a configuration.
    pub fn from_environment(value: impl Fn(&str) -> Option<String>) -> Result<Self, serde_json::Error> {
        let pieces = (0..).map_while(|number| value(&format!("{VARIABLE}{number}")));
        serde_json::from_str(&pieces.collect::<String>())
    }

    /// How this policy is enforced.
    pub fn mode(&self) -> GatewayMode {
        self.egress.mode()
    }
}

impl EgressPolicy {
    /// How this policy is enforced: an address needs a router, a name does not.
    pub fn mode(&self) -> GatewayMode {
        match self {
            Self::Deny => GatewayMode::Proxy,
            Self::Allow => GatewayMode::Router,
            Self::List(rules) if rules.iter().any(|rule| matches!(rule, EgressRule::Net { .. })) => {
                GatewayMode::Router
            }
            Self::List(_) => GatewayMode::Proxy,
        }
    }

    /// The rules of a list; none for the other two.
    pub fn rules(&self) -> &[EgressRule] {
        match self {
            Self::Deny | Self::Allow => &[],
            Self::List(rules) => rules,
        }
    }
}

impl NamePattern {
    /// Whether `name` (lower case, no final dot) is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(parent) => name
                .strip_suffix(parent.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| rest.split('.').all(is_label)),
        }
    }
}

/// Whether a part of a name is of letters, digits, `-` and `_` alone. What is written with an escape (`x\.example`) may
/// read as a part of one name and be looked up as another.
pub fn is_label(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl FromStr for NamePattern {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        let (wild, name) = match name.strip_prefix("*.") {
            Some(parent) => (true, parent.to_owned()),
            None => (false, name),
        };
        let all_digits =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || all_digits || !name.split('.').all(is_label) {
            return Err(RuleError::Unreadable(text.to_owned()));
        }
        Ok(if wild { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl FromStr for EgressRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let trimmed = text.trim();
        if trimmed.starts_with('[') || trimmed.matches(':').count() > 1 {
            return Err(RuleError::Ipv6(text.to_owned()));
        }
        let (subject, port) = match trimmed.rsplit_once(':') {
            Some((subject, port)) => {
                let port = port.parse::<u16>().ok().filter(|port| *port != 0);
                (subject, Some(port.ok_or_else(|| RuleError::Port(text.to_owned()))?))
            }
            None => (trimmed, None),
        };
        if let Ok(address) = subject.parse::<Ipv4Addr>() {
            return Ok(Self::Net { net: address.into(), port });
        }
        if let Ok(net) = subject.parse::<Ipv4Net>() {
            return Ok(Self::Net { net: net.trunc(), port });
        }
        match subject.parse() {
            Ok(pattern) => Ok(Self::Name { pattern, port }),
            Err(_) => Err(RuleError::Unreadable(text.to_owned())),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self {
            Self::Name { pattern, port } => {
                write!(f, "{pattern}")?;
                port
            }
            Self::Net { net, port } => {
                if net.prefix_len() == 32 {
                    write!(f, "{}", net.addr())?;
                } else {
                    write!(f, "{net}")?;
                }
                port
            }
        };
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for EgressPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Deny => serializer.serialize_str("deny"),
            Self::Allow => serializer.serialize_str("allow"),
            Self::List(rules) => serializer.collect_seq(rules.iter().map(ToString::to_string)),
        }
    }
}

impl<'de> Deserialize<'de> for EgressPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PolicyVisitor;
        impl<'de> de::Visitor<'de> for PolicyVisitor {
            type Value = EgressPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`deny`, `allow` or a list of names and addresses")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EgressPolicy, E> {
                match text {
                    "deny" => Ok(EgressPolicy::Deny),
                    "allow" => Ok(EgressPolicy::Allow),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<EgressPolicy, A::Error> {
                let mut rules = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    rules.push(text.parse().map_err(de::Error::custom)?);
                }
                Ok(EgressPolicy::List(rules))
            }
        }
        deserializer.deserialize_any(PolicyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> EgressRule {
        text.parse().unwrap()
    }

    fn config(services: usize) -> GatewayConfig {
        let service = |number| ServiceAddress {
            service: format!("worker-{number}"),
            container: format!("sbx-shop.worker-{number}"),
            aliases: vec!["büro".repeat(5)],
            addresses: BTreeMap::new(),
        };
        GatewayConfig {
            sandbox: "shop".to_owned(),
            networks: Vec::new(),
            edge: None,
            forwards: Vec::new(),
            egress: EgressPolicy::Deny,
            services: (0..services).map(service).collect(),
            forbidden: Vec::new(),
            resolver: None,
        }
    }

    #[test]
    fn the_environment_carries_a_configuration_of_any_length() {
        for (services, variables) in [(1, 1), (3000, 4)] {
            let config = config(services);
            let environment = config.to_environment();
            assert_eq!(environment.len(), variables, "{services} services");
            assert!(environment.values().all(|value| value.len() < 128 << 10));
            let read = GatewayConfig::from_environment(|name| environment.get(name).cloned());
            assert_eq!(read.unwrap(), config);
        }
        assert!(GatewayConfig::from_environment(|_| None).is_err());
    }

    #[test]
    fn a_policy_reads_back_as_it_was_written() {
        for json in [
            r#""deny""#,
            r#""allow""#,
            r#"["api.stripe.com","*.npmjs.org:8443","10.1.2.3:5432","10.1.0.0/16"]"#,
        ] {
            let policy: EgressPolicy = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&policy).unwrap(), json);
        }
    }

    #[test]
    fn a_wildcard_means_any_name_below_and_not_the_name_itself() {
        let EgressRule::Name { pattern, port: None } = rule("*.NPMjs.org.") else { panic!("not a name") };
        assert!(pattern.matches("registry.npmjs.org"));
        assert!(pattern.matches("a.b.npmjs.org"));
        assert!(!pattern.matches("npmjs.org"));
        assert!(!pattern.matches("evilnpmjs.org"));
        assert!(!pattern.matches(".npmjs.org"));
        for escaped in [r"x\.npmjs.org", r"a\046b.npmjs.org", "a..npmjs.org", "a b.npmjs.org", "é.npmjs.org"]
        {
            assert!(!pattern.matches(escaped), "{escaped}");
        }
    }

    #[test]
    fn an_address_in_a_list_needs_a_router_and_a_name_does_not() {
        assert_eq!(EgressPolicy::List(vec![rule("a.example")]).mode(), GatewayMode::Proxy);
        assert_eq!(EgressPolicy::List(vec![rule("a.example"), rule("10.0.0.1")]).mode(), GatewayMode::Router);
        assert_eq!(EgressPolicy::Deny.mode(), GatewayMode::Proxy);
        assert_eq!(EgressPolicy::Allow.mode(), GatewayMode::Router);
    }

    #[test]
    fn what_is_neither_a_name_nor_an_address_is_refused() {
        for (text, error) in [
            ("", RuleError::Unreadable(String::new())),
            ("a..b", RuleError::Unreadable("a..b".into())),
            ("*", RuleError::Unreadable("*".into())),
            ("a.*.b", RuleError::Unreadable("a.*.b".into())),
            ("https://x.org", RuleError::Port("https://x.org".into())),
            ("10.1.2", RuleError::Unreadable("10.1.2".into())),
            ("10.0.0.0/33", RuleError::Unreadable("10.0.0.0/33".into())),
            ("x.org:0", RuleError::Port("x.org:0".into())),
            ("::1", RuleError::Ipv6("::1".into())),
            ("[::1]:80", RuleError::Ipv6("[::1]:80".into())),
        ] {
            assert_eq!(text.parse::<EgressRule>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_network_loses_its_host_bits() {
        assert_eq!(rule("10.1.2.3/16:80").to_string(), "10.1.0.0/16:80");
    }
}
