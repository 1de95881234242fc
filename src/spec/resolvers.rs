//! The DNS servers of a service (`dns`) that the egress policy lets through. With a policy that does not, names would not
//! resolve at all, so the gateway's resolver is used instead.

use std::net::IpAddr;

use super::model::{EgressPolicy, Service};

impl Service {
    /// The entries of `dns` that the service can reach: those that the policy opens, and its own loopback.
    pub fn reachable_resolvers(&self, egress: &EgressPolicy) -> impl Iterator<Item = &str> {
        let is_reachable = |text: &&str| match text.parse() {
            Ok(IpAddr::V4(address)) => address.is_loopback() || egress.opens_resolver(address),
            Ok(IpAddr::V6(address)) => address.is_loopback() || *egress == EgressPolicy::Allow,
            // The engine reports what is no address.
            Err(_) => true,
        };
        self.dns.iter().map(String::as_str).filter(is_reachable)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LoadRequest, Loaded, load};

    fn loaded(egress: &str) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "egress: {egress}\nservices: {{ a: {{ image: x, dns: [10.1.2.3, 9.9.9.9, 127.0.0.1] }} }}\n"
        );
        std::fs::write(dir.path().join("sandbox.yaml"), text).unwrap();
        load(&LoadRequest { folder: dir.path().to_owned(), ..LoadRequest::default() }).unwrap()
    }

    #[test]
    fn only_resolvers_that_the_policy_opens_are_used_and_the_others_are_named() {
        for (egress, used) in [
            ("deny", vec!["127.0.0.1"]),
            ("[example.com]", vec!["127.0.0.1"]),
            ("['10.1.0.0/16:53']", vec!["10.1.2.3", "127.0.0.1"]),
            ("['10.1.2.3:443', 9.9.9.9]", vec!["9.9.9.9", "127.0.0.1"]),
            ("allow", vec!["10.1.2.3", "9.9.9.9", "127.0.0.1"]),
        ] {
            let loaded = loaded(egress);
            let service = &loaded.spec.services["a"];
            let reachable: Vec<&str> = service.reachable_resolvers(&loaded.spec.egress).collect();
            assert_eq!(reachable, used, "{egress}");
            let warned: Vec<&String> =
                loaded.warnings.iter().map(|it| &it.message).filter(|it| it.starts_with("`dns`")).collect();
            assert_eq!(warned.len(), usize::from(used.len() < 3), "{egress}: {warned:?}");
            for text in &service.dns {
                let is_named = warned.iter().any(|it| it.contains(&format!("`{text}`")));
                assert_eq!(is_named, !used.contains(&text.as_str()), "{egress}: {warned:?}");
            }
        }
    }
}
