//! `egress`: what may leave.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::model::{EgressPolicy, EgressRule};
use super::super::node::{Node, Value};
use super::super::problem::ProblemKind;
use super::Reader;

impl Reader<'_> {
    pub(super) fn egress(&self, node: &Node) -> EgressPolicy {
        const HINT: &str = "`deny`, `allow`, or a list of names and addresses";
        match &node.value {
            Value::Str(word) if word == "deny" => EgressPolicy::Deny,
            Value::Str(word) if word == "allow" => EgressPolicy::Allow,
            Value::Seq(items) => EgressPolicy::List(
                items
                    .iter()
                    .filter_map(|item| {
                        let text = item.scalar().unwrap_or_default();
                        rule(&text)
                            .map_err(|reason| {
                                let message = format!("`{text}` cannot be let out: {reason}");
                                let hint = "write `api.example.org`, `*.example.org`, `10.1.2.3:5432` or `10.0.0.0/8`";
                                self.log.hinted(ProblemKind::Value, item.span, message, hint);
                            })
                            .ok()
                    })
                    .collect(),
            ),
            Value::Str(word) => {
                let message = format!("`{word}` is not an egress policy");
                self.log.hinted(ProblemKind::Value, node.span, message, HINT);
                EgressPolicy::Deny
            }
            _ => {
                let message = format!("`egress` cannot be {}", node.kind());
                self.log.hinted(ProblemKind::Type, node.span, message, HINT);
                EgressPolicy::Deny
            }
        }
    }
}

/// Reads one entry of an egress list: only what a gateway can let out.
fn rule(text: &str) -> Result<EgressRule, String> {
    let text = text.trim();
    if text.contains("://") {
        return Err("it is a URL; a name alone is meant".to_owned());
    }
    if text.starts_with('[')
        || text.split('/').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
    {
        return Err("it is an IPv6 address, and what leaves a sandbox leaves by IPv4".to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, number)) => (host, Some(port(number)?)),
        None => (text, None),
    };
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(EgressRule::Address { address: address.into(), prefix: 32, port });
    }
    if let Some((address, prefix)) = host.split_once('/') {
        let address: Ipv4Addr = address.parse().map_err(|_| format!("`{address}` is not an address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| format!("`{prefix}` is not the length of a prefix"))?;
        if prefix > 32 {
            return Err(format!("a prefix of {prefix} bits is too long"));
        }
        return Ok(EgressRule::Address { address: address.into(), prefix, port });
    }
    name(host.trim_end_matches('.'), port)
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{text}` is not a port"))
}

/// A name that the gateway passes connections on to.
fn name(host: &str, port: Option<u16>) -> Result<EgressRule, String> {
    let name = host.to_ascii_lowercase();
    let below = name.strip_prefix("*.");
    let labels: Vec<&str> = below.unwrap_or(&name).split('.').collect();
    let sound = |label: &&str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !labels.iter().all(sound) {
        return Err("it is neither a name nor an address".to_owned());
    }
    if labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("it is neither a name nor a whole address".to_owned());
    }
    if labels.len() == 1 && below.is_none() {
        return Err("a name without a dot is looked for inside the sandbox alone".to_owned());
    }
    if port == Some(53) {
        return Err("the gateway itself answers at port 53; to reach a resolver outside, write its address"
            .to_owned());
    }
    Ok(EgressRule::Name { name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wildcards_addresses_and_networks_may_be_let_out() {
        let name = |name: &str, port| Ok(EgressRule::Name { name: name.to_owned(), port });
        let address = |text: &str, prefix, port| {
            Ok(EgressRule::Address { address: text.parse().unwrap(), prefix, port })
        };
        assert_eq!(rule("api.Stripe.com"), name("api.stripe.com", None));
        assert_eq!(rule("*.npmjs.org:443"), name("*.npmjs.org", Some(443)));
        assert_eq!(rule("10.1.2.3:5432"), address("10.1.2.3", 32, Some(5432)));
        assert_eq!(rule("10.0.0.0/8"), address("10.0.0.0", 8, None));
        assert_eq!(rule("10.0.0.0/8:80"), address("10.0.0.0", 8, Some(80)));
        assert_eq!(rule("10.1.2.3:53"), address("10.1.2.3", 32, Some(53)));
        for wrong in ["", "https://a.b", "a b", "*", "10.0.0.0/40", "a.b:0", "a..b", "a.b:http"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_no_gateway_would_let_out_is_refused_with_its_reason() {
        for (wrong, reason) in [
            ("::1", "IPv6"),
            ("fd00::/8", "IPv6"),
            ("[fd00::1]:80", "IPv6"),
            ("10.1.2", "whole address"),
            ("10.1.2.3.4:80", "whole address"),
            ("api.example.org:53", "port 53"),
            ("*.example.org:53", "port 53"),
            ("registry", "inside"),
            ("registry:5000", "inside"),
        ] {
            let refused = rule(wrong).expect_err(wrong);
            assert!(refused.contains(reason), "{wrong}: {refused}");
        }
    }
}
