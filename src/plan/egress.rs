//! The egress policy's vocabulary: what may leave a sandbox, and how its text is read and written.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
