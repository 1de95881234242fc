//! The egress policy: decides which names and addresses a service may reach. It does no I/O.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::config::{EgressPolicy, EgressRule, GatewayConfig, NamePattern};

/// The ports of a name rule without a port.
pub const WEB_PORTS: [u16; 2] = [80, 443];

/// Never reachable, whatever the policy: this host, loopback, link-local (with the metadata address), multicast and
/// reserved networks; and the metadata addresses of clouds that use others (Alibaba, Azure).
const NEVER: [&str; 7] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "100.100.100.200/32",
    "168.63.129.16/32",
];

/// Networks that a public name may not resolve to: private and shared address space. An address rule allows them.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16"];

/// The egress policy with the derived networks.
#[derive(Debug, Clone)]
pub struct Policy {
    egress: EgressPolicy,
    never: Vec<Ipv4Net>,
    private: Vec<Ipv4Net>,
    inside_names: Vec<String>,
}

/// The decision about a DNS query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameVerdict {
    /// Answer with the gateway's own address; the proxy handles the connection.
    Ours,
    /// Forward the query and its answer.
    Forward,
    /// A name inside the sandbox that the engine cannot resolve at the moment: answer NXDOMAIN, but do not count it.
    Inside,
    /// Answer NXDOMAIN and count a refusal.
    Refused,
}

/// Why the gateway does not connect to an address that a listed name resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// It is the host, another sandbox, loopback, link-local or not a unicast address.
    #[error("the name resolves to an address that is never let out")]
    Never,
    /// It is a private address that no rule lists.
    #[error("the name resolves to a private address that no rule lists")]
    Private,
}

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

impl Policy {
    /// Creates the policy of a configuration.
    pub fn new(config: &GatewayConfig) -> Self {
        let mut never = nets(&NEVER);
        never.extend(config.networks.iter().map(|network| network.subnet.trunc()));
        never.extend(config.edge.iter().map(|edge| edge.subnet.trunc()));
        never.extend(config.forbidden.iter().map(Ipv4Net::trunc));
        let inside_names = config
            .services
            .iter()
            .flat_map(|service| [&service.service, &service.container].into_iter().chain(&service.aliases))
            .map(|name| name.to_ascii_lowercase())
            .collect();
        Self { egress: config.egress.clone(), never, private: nets(&PRIVATE), inside_names }
    }

    /// Returns the networks that packets are never forwarded to.
    pub fn never(&self) -> &[Ipv4Net] {
        &self.never
    }

    /// Returns the policy as written in the spec.
    pub fn egress(&self) -> &EgressPolicy {
        &self.egress
    }

    /// Decides about a DNS query for `name` (lower case, no final dot).
    pub fn look_up(&self, name: &str) -> NameVerdict {
        if !name.contains('.') || self.inside_names.iter().any(|inside| inside == name) {
            return NameVerdict::Inside;
        }
        match &self.egress {
            EgressPolicy::Deny => NameVerdict::Refused,
            EgressPolicy::Allow => NameVerdict::Forward,
            EgressPolicy::List(_) if self.name_rules().any(|(pattern, _)| pattern.matches(name)) => {
                NameVerdict::Ours
            }
            EgressPolicy::List(_) => NameVerdict::Refused,
        }
    }

    /// Whether a connection to `name` on `port` is allowed.
    pub fn allows_name(&self, name: &str, port: u16) -> bool {
        self.name_rules().any(|(pattern, rule_port)| pattern.matches(name) && ports_match(rule_port, port))
    }

    /// Returns the ports on which the proxy listens.
    pub fn proxy_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .name_rules()
            .flat_map(|(_, port)| port.map_or(WEB_PORTS.to_vec(), |port| vec![port]))
            .filter(|port| *port != 53)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Returns the name for `port` if exactly one rule has that port, and the rule is not a wildcard: then a protocol
    /// that states no host is allowed on it too.
    pub fn only_name_on(&self, port: u16) -> Option<&str> {
        let mut rules = self.name_rules().filter(|(_, rule_port)| ports_match(*rule_port, port));
        match (rules.next(), rules.next()) {
            (Some((NamePattern::Exact(name), Some(_))), None) => Some(name),
            _ => None,
        }
    }

    /// Decides whether the gateway may connect to an address that a listed name resolved to.
    pub fn permits_resolved(&self, address: Ipv4Addr, port: u16) -> Result<(), AddressRefusal> {
        if self.never.iter().any(|net| net.contains(&address)) {
            return Err(AddressRefusal::Never);
        }
        if self.private.iter().any(|net| net.contains(&address)) && !self.lists_address(address, port) {
            return Err(AddressRefusal::Private);
        }
        Ok(())
    }

    /// Returns why no rule can allow an address; `None` if one can.
    pub fn never_out(&self, address: Ipv4Addr) -> Option<&'static str> {
        // Under `allow` every refusal is final, even of an address that was not known beforehand. In a list, a rule
        // that names this very address allows it even if it is a forbidden single address: those belong to the host.
        let never = self.egress == EgressPolicy::Allow
            || nets(&NEVER).iter().any(|net| net.contains(&address))
            || self.never.iter().any(|net| net.prefix_len() < 32 && net.contains(&address));
        never.then_some("this machine, other sandboxes and link-local addresses are never let out")
    }

    /// Whether a rule names exactly this address, which then may be one of the engine's machine.
    pub fn names_address(&self, address: Ipv4Addr, port: u16) -> bool {
        self.egress.rules().iter().any(|rule| match rule {
            EgressRule::Net { net, port: rule_port } => {
                *net == Ipv4Net::from(address) && rule_port.is_none_or(|rule_port| rule_port == port)
            }
            EgressRule::Name { .. } => false,
        })
    }

    fn lists_address(&self, address: Ipv4Addr, port: u16) -> bool {
        self.egress.rules().iter().any(|rule| match rule {
            EgressRule::Net { net, port: rule_port } => {
                net.contains(&address) && rule_port.is_none_or(|rule_port| rule_port == port)
            }
            EgressRule::Name { .. } => false,
        })
    }

    fn name_rules(&self) -> impl Iterator<Item = (&NamePattern, Option<u16>)> {
        self.egress.rules().iter().filter_map(|rule| match rule {
            EgressRule::Name { pattern, port } => Some((pattern, *port)),
            EgressRule::Net { .. } => None,
        })
    }
}

fn ports_match(rule_port: Option<u16>, port: u16) -> bool {
    rule_port.map_or_else(|| WEB_PORTS.contains(&port), |rule_port| rule_port == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::gateway::config::{EdgeNetwork, GatewayNetwork, ServiceAddress};

    fn policy(egress: &str) -> Policy {
        Policy::new(&GatewayConfig {
            sandbox: "t".into(),
            networks: vec![GatewayNetwork {
                name: "default".into(),
                subnet: "10.200.0.0/27".parse().unwrap(),
                address: Ipv4Addr::new(10, 200, 0, 2),
                adopt: None,
                internal: true,
            }],
            edge: Some(EdgeNetwork {
                subnet: "10.201.0.0/16".parse().unwrap(),
                bridge: Ipv4Addr::new(10, 201, 0, 1),
            }),
            forwards: vec![],
            egress: serde_json::from_str(egress).unwrap(),
            services: vec![ServiceAddress {
                service: "db".into(),
                container: "sbx-t.db".into(),
                aliases: vec!["db.internal".into()],
                addresses: std::collections::BTreeMap::new(),
            }],
            forbidden: vec!["198.51.100.7/32".parse().unwrap()],
            resolver: None,
        })
    }

    #[test]
    fn under_deny_every_outside_name_is_refused_and_the_sandboxs_own_are_not() {
        let policy = policy(r#""deny""#);
        assert_eq!(policy.look_up("example.com"), NameVerdict::Refused);
        for own in ["db", "db.internal", "sbx-t.db", "localhost"] {
            assert_eq!(policy.look_up(own), NameVerdict::Inside, "{own}");
        }
        assert!(!policy.allows_name("example.com", 443));
        assert!(policy.proxy_ports().is_empty());
    }

    #[test]
    fn a_list_lets_through_its_names_on_their_ports_and_nothing_else() {
        let policy = policy(r#"["api.example.com","*.example.org:8443","10.1.2.3:5432"]"#);
        assert_eq!(policy.look_up("api.example.com"), NameVerdict::Ours);
        assert_eq!(policy.look_up("example.com"), NameVerdict::Refused);
        assert!(policy.allows_name("api.example.com", 80) && policy.allows_name("api.example.com", 443));
        assert!(!policy.allows_name("api.example.com", 8443));
        assert!(policy.allows_name("x.example.org", 8443) && !policy.allows_name("x.example.org", 443));
        assert_eq!(policy.proxy_ports(), [80, 443, 8443]);
    }

    #[test]
    fn only_a_lone_exact_name_with_a_port_is_meant_by_the_port_itself() {
        let lone = policy(
            r#"["db.example.com:5432","a.example:6379","b.example:6379","*.example.org:25","c.example"]"#,
        );
        assert_eq!(lone.only_name_on(5432), Some("db.example.com"));
        assert_eq!(lone.only_name_on(6379), None);
        assert_eq!(lone.only_name_on(25), None);
        assert_eq!(lone.only_name_on(443), None);
    }

    #[test]
    fn a_refused_packet_that_no_rule_lets_out_has_a_reason() {
        let listed = policy(r#"["10.1.2.3:443"]"#);
        for never in [[169, 254, 169, 254], [100, 100, 100, 200], [10, 200, 0, 5], [10, 201, 9, 9]] {
            assert!(listed.never_out(never.into()).is_some(), "{never:?}");
        }
        // A rule that names the host's address exactly allows it.
        assert_eq!(listed.never_out(Ipv4Addr::new(198, 51, 100, 7)), None);
        assert!(policy(r#""allow""#).never_out(Ipv4Addr::new(198, 51, 100, 7)).is_some());
        assert_eq!(listed.never_out(Ipv4Addr::new(10, 1, 2, 4)), None);
        assert!(policy(r#""allow""#).never_out(Ipv4Addr::new(192, 168, 1, 5)).is_some());
    }

    #[test]
    fn a_listed_name_that_resolves_inwards_is_not_followed() {
        let policy = policy(r#"["api.example.com","10.1.2.3:443"]"#);
        let verdict = |address: [u8; 4]| policy.permits_resolved(address.into(), 443);
        assert_eq!(verdict([203, 0, 113, 9]), Ok(()));
        assert_eq!(verdict([10, 1, 2, 3]), Ok(()));
        assert_eq!(verdict([10, 1, 2, 4]), Err(AddressRefusal::Private));
        for never in [
            [127, 0, 0, 1],
            [169, 254, 169, 254],
            [10, 200, 0, 5],
            [10, 201, 9, 9],
            [198, 51, 100, 7],
            [0, 0, 0, 0],
        ] {
            assert_eq!(verdict(never), Err(AddressRefusal::Never), "{never:?}");
        }
    }
}
