//! The egress policy: which outbound connections of a sandbox are allowed, and its text form.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The egress policy of a sandbox. In JSON: `"deny"`, `"allow"` or a list of rules in the form of the spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EgressPolicy {
    /// Block all outbound connections.
    #[default]
    Deny,
    /// Allow everything except the host and other sandboxes.
    Allow,
    /// Allow only what these rules match.
    List(Vec<EgressRule>),
}

/// The port of DNS servers.
const DNS_PORT: u16 = 53;

/// How the gateway enforces a policy, which determines how the networks are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayMode {
    /// The networks are internal. Allowed names resolve to the gateway, which proxies the connections.
    Proxy,
    /// The gateway routes the networks: it adopts their gateway address, does NAT and filters.
    Router,
}

/// A rule of an egress list: a name or an address, with an optional port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EgressRule {
    /// `api.stripe.com`, `*.npmjs.org`, `example.com:8443`. Without a port: ports 80 and 443.
    Name {
        /// The names to match.
        pattern: NamePattern,
        /// The port to match.
        port: Option<u16>,
    },
    /// `10.1.2.3`, `10.1.0.0/16`, `10.1.2.3:5432`, `10.1.0.0/16:5432`. Without a port: any port and ICMP.
    Net {
        /// The addresses to match.
        net: Ipv4Net,
        /// The port to match, for TCP and UDP.
        port: Option<u16>,
    },
}

/// A name, or all names below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// Only this name (lower case, no final dot).
    Exact(String),
    /// Any subdomain of this name at any depth, but not the name itself.
    Below(String),
}

/// Why a rule is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It contains a scheme.
    #[error("it is a URL; a name alone is meant")]
    Url,
    /// It is an IPv6 address; egress is IPv4 only.
    #[error("it is an IPv6 address, and what leaves a sandbox leaves by IPv4")]
    Ipv6,
    /// The port is not in 1–65535.
    #[error("`{0}` is not a port")]
    Port(String),
    /// The part before `/` is not an address.
    #[error("`{0}` is not an address")]
    Address(String),
    /// The part after `/` is not a prefix length.
    #[error("`{0}` is not the length of a prefix")]
    Prefix(String),
    /// It is neither a name nor an address.
    #[error("it is neither a name nor an address")]
    Unreadable,
    /// It is an incomplete address.
    #[error("it is neither a name nor a whole address")]
    PartOfAddress,
    /// The name has no dot.
    #[error("a name without a dot is looked for inside the sandbox alone")]
    Inside,
    /// It names the DNS port, which the gateway's own resolver handles.
    #[error("the gateway itself answers at port 53; to reach a resolver outside, write its address")]
    Resolver,
}

impl EgressPolicy {
    /// How this policy is enforced: an address rule requires router mode, name rules do not.
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

    /// Whether a DNS server at this address can be reached through the gateway.
    pub fn opens_resolver(&self, address: Ipv4Addr) -> bool {
        matches!(self, Self::Allow)
            || self.rules().iter().any(|rule| match rule {
                EgressRule::Net { net, port } => {
                    net.contains(&address) && port.is_none_or(|port| port == DNS_PORT)
                }
                EgressRule::Name { .. } => false,
            })
    }

    /// The rules of a list; empty for `deny` and `allow`.
    pub fn rules(&self) -> &[EgressRule] {
        match self {
            Self::Deny | Self::Allow => &[],
            Self::List(rules) => rules,
        }
    }
}

impl NamePattern {
    /// Whether the pattern matches `name` (lower case, no final dot).
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

/// Whether a label of a name has only letters, digits, `-` and `_`. A name with escapes (`x\.example`) could be parsed
/// as one label and resolved as another name.
pub fn is_label(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl FromStr for NamePattern {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (wild, name) = match name.strip_prefix("*.") {
            Some(parent) => (true, parent.to_owned()),
            None => (false, name),
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(RuleError::Unreadable);
        }
        if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(RuleError::PartOfAddress);
        }
        if !wild && !name.contains('.') {
            return Err(RuleError::Inside);
        }
        Ok(if wild { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl FromStr for EgressRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let text = text.trim();
        if text.contains("://") {
            return Err(RuleError::Url);
        }
        let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
        if text.starts_with('[') || text.split('/').next().is_some_and(is_ipv6) {
            return Err(RuleError::Ipv6);
        }
        let (subject, port) = match text.rsplit_once(':') {
            Some((subject, port)) => {
                let number = port.parse::<u16>().ok().filter(|number| *number != 0);
                (subject, Some(number.ok_or_else(|| RuleError::Port(port.to_owned()))?))
            }
            None => (text, None),
        };
        if let Ok(address) = subject.parse::<Ipv4Addr>() {
            return Ok(Self::Net { net: address.into(), port });
        }
        if let Some((address, prefix)) = subject.split_once('/') {
            let address: Ipv4Addr = address.parse().map_err(|_| RuleError::Address(address.to_owned()))?;
            let length = prefix.parse().ok().and_then(|length| Ipv4Net::new(address, length).ok());
            let net = length.ok_or_else(|| RuleError::Prefix(prefix.to_owned()))?;
            return Ok(Self::Net { net: net.trunc(), port });
        }
        let pattern = subject.parse()?;
        if port == Some(53) {
            return Err(RuleError::Resolver);
        }
        Ok(Self::Name { pattern, port })
    }
}

/// An invalid rule of a list, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` cannot be let out: {reason}")]
pub struct PolicyError {
    /// The rule as it was written.
    pub rule: String,
    /// The reason.
    pub reason: RuleError,
}

impl FromStr for EgressPolicy {
    type Err = PolicyError;

    /// Parses `deny`, `allow`, or rules separated by commas.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text.trim() {
            "deny" => return Ok(Self::Deny),
            "allow" => return Ok(Self::Allow),
            _ => {}
        }
        let rules = text
            .split(',')
            .map(|rule| rule.parse().map_err(|reason| PolicyError { rule: rule.trim().to_owned(), reason }));
        rules.collect::<Result<_, _>>().map(Self::List)
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

impl fmt::Display for EgressPolicy {
    /// Formats the policy as [`EgressPolicy::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny => f.write_str("deny"),
            Self::Allow => f.write_str("allow"),
            Self::List(rules) => {
                let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
                f.write_str(&rules.join(","))
            }
        }
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
    fn names_wildcards_addresses_and_networks_may_be_let_out() {
        for (text, written) in [
            ("api.Stripe.com", "api.stripe.com"),
            ("*.npmjs.org:443", "*.npmjs.org:443"),
            ("*.test", "*.test"),
            ("a_b.example.:25", "a_b.example:25"),
            (" 10.1.2.3:5432 ", "10.1.2.3:5432"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0:80", "0.0.0.0/0:80"),
            ("10.1.2.3:53", "10.1.2.3:53"),
        ] {
            assert_eq!(rule(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_no_gateway_would_let_out_is_refused_with_its_reason() {
        for (text, error) in [
            ("", RuleError::Unreadable),
            ("a..b", RuleError::Unreadable),
            ("a b.c", RuleError::Unreadable),
            ("*", RuleError::Unreadable),
            ("a.*.b", RuleError::Unreadable),
            ("https://x.org", RuleError::Url),
            ("10.1.2", RuleError::PartOfAddress),
            ("10.1.2.3.4:80", RuleError::PartOfAddress),
            ("10.0.0.0/33", RuleError::Prefix("33".into())),
            ("10.0.0/8", RuleError::Address("10.0.0".into())),
            ("x.org:0", RuleError::Port("0".into())),
            ("x.org:http", RuleError::Port("http".into())),
            ("::1", RuleError::Ipv6),
            ("fd00::/8", RuleError::Ipv6),
            ("[::1]:80", RuleError::Ipv6),
            ("registry", RuleError::Inside),
            ("registry:5000", RuleError::Inside),
            ("api.example.org:53", RuleError::Resolver),
            ("*.example.org:53", RuleError::Resolver),
        ] {
            assert_eq!(text.parse::<EgressRule>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_command_line_s_list_is_read_by_the_same_rules() {
        let list = "api.example.org, 10.1.2.3:5432".parse::<EgressPolicy>().unwrap();
        assert_eq!(list.rules().len(), 2);
        assert_eq!("deny".parse(), Ok(EgressPolicy::Deny));
        for wrong in ["registry:5000", "a.example,registry", "api.example.org:53", "allow,deny", "denied", ""]
        {
            assert!(wrong.parse::<EgressPolicy>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_loses_its_host_bits() {
        assert_eq!(rule("10.1.2.3/16:80").to_string(), "10.1.0.0/16:80");
    }
}
