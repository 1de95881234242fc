//! A sandbox's addresses as environment variables.

use std::collections::BTreeMap;

use crate::session::event::{Endpoint, Protocol, ServiceStatus};

/// Environment variables with the addresses of all services.
///
/// For a service `my-db`, `MY_DB_HOST`, `MY_DB_PORT` and, if the protocol is known, `MY_DB_URL` describe its first
/// published port; `MY_DB_PORT_5432` is the host port of port 5432. `SANDBOX_NAME` is the sandbox. `DATABASE_URL` and
/// `REDIS_URL` are set if exactly one service matches.
pub fn environment(name: &str, services: &[ServiceStatus]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([("SANDBOX_NAME".to_owned(), name.to_owned())]);
    for service in services.iter().filter(|service| service.replica == 1) {
        let prefix = variable(&service.service);
        let first =
            service.endpoints.iter().find(|e| e.protocol == Protocol::Tcp).or(service.endpoints.first());
        if let Some(endpoint) = first {
            variables.insert(format!("{prefix}_HOST"), endpoint.host.to_string());
            variables.insert(format!("{prefix}_PORT"), endpoint.port.to_string());
            variables.insert(format!("{prefix}_PORT_{}", endpoint.target), endpoint.port.to_string());
        }
        if let Some(url) = service.endpoints.iter().find_map(|endpoint| endpoint.url.clone()) {
            variables.insert(format!("{prefix}_URL"), url);
        }
        for endpoint in &service.endpoints {
            // If a port is published twice, the first one is used.
            let variable = variables.entry(format!("{prefix}_PORT_{}", endpoint.target));
            variable.or_insert_with(|| endpoint.port.to_string());
        }
    }
    let endpoints = || services.iter().filter(|s| s.replica == 1).flat_map(|service| &service.endpoints);
    for (key, schemes) in
        [("DATABASE_URL", &["postgres://", "mysql://"][..]), ("REDIS_URL", &["redis://"][..])]
    {
        if let Some(url) = only(endpoints(), schemes) {
            variables.entry(key.to_owned()).or_insert(url);
        }
    }
    variables
}

fn only<'a>(endpoints: impl Iterator<Item = &'a Endpoint>, schemes: &[&str]) -> Option<String> {
    let mut urls = endpoints
        .filter_map(|endpoint| endpoint.url.as_ref())
        .filter(|url| schemes.iter().any(|scheme| url.starts_with(scheme)));
    let first = urls.next()?;
    urls.next().is_none().then(|| first.clone())
}

/// A service's name as the prefix of a variable: upper case, with underscores for everything but letters and digits.
fn variable(service: &str) -> String {
    let text: String = service
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) { format!("_{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::session::event::ServiceState;

    fn service(name: &str, ports: &[(u16, u16, Option<&str>)]) -> ServiceStatus {
        ServiceStatus {
            service: name.into(),
            replica: 1,
            container: String::new(),
            image: String::new(),
            state: ServiceState::Running,
            endpoints: ports
                .iter()
                .map(|(port, target, url)| Endpoint {
                    host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                    port: *port,
                    target: *target,
                    protocol: Protocol::Tcp,
                    url: url.map(Into::into),
                })
                .collect(),
        }
    }

    #[test]
    fn every_port_has_a_variable_and_the_first_has_short_names() {
        let db = service("my-db", &[(32768, 5432, Some("postgres://127.0.0.1:32768/shop"))]);
        let web = service("web", &[(49152, 8080, Some("http://127.0.0.1:49152")), (49153, 9090, None)]);
        let variables = environment("shop", &[db, web]);
        let lines: Vec<_> = variables.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            lines,
            [
                "DATABASE_URL=postgres://127.0.0.1:32768/shop",
                "MY_DB_HOST=127.0.0.1",
                "MY_DB_PORT=32768",
                "MY_DB_PORT_5432=32768",
                "MY_DB_URL=postgres://127.0.0.1:32768/shop",
                "SANDBOX_NAME=shop",
                "WEB_HOST=127.0.0.1",
                "WEB_PORT=49152",
                "WEB_PORT_8080=49152",
                "WEB_PORT_9090=49153",
                "WEB_URL=http://127.0.0.1:49152",
            ]
        );
    }

    #[test]
    fn two_databases_leave_database_url_open() {
        let one = service("a", &[(1, 5432, Some("postgres://127.0.0.1:1/a"))]);
        let two = service("b", &[(2, 3306, Some("mysql://127.0.0.1:2/b"))]);
        assert!(!environment("x", &[one, two]).contains_key("DATABASE_URL"));
    }
}
