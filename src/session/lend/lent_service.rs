//! Chooses the service whose databases are lent, and adapts the spec to it.

use crate::session::error::SessionError;
use crate::spec::{Port, Protocol, Service, ServiceName, Spec};

/// Databases by words of their images' names, the preferred ones first, with their ports.
const DATABASES: [(&[&str], u16); 4] = [
    (&["postgres", "postgis", "pgvector", "timescale"], 5432),
    (&["mysql", "mariadb", "percona"], 3306),
    (&["mongo"], 27017),
    (&["redis", "valkey", "keydb", "dragonfly"], 6379),
];

/// Chooses the service, and reduces the spec's published ports to its own, on any free port: many sandboxes of the spec
/// must fit beside each other. The sandbox lives as long as it lends, used or not, and leaves no artifacts.
///
/// # Errors
/// Fails if no service or more than one is a database, or if the port of the service is not known.
pub fn prepare(spec: &mut Spec, asked: Option<&ServiceName>) -> Result<ServiceName, SessionError> {
    let name = choose(spec, asked)?;
    spec.lifetime.idle = None;
    spec.artifacts.clear();
    for (other, service) in &mut spec.services {
        if *other != name {
            service.ports.clear();
            continue;
        }
        service.scale = Some(1);
        if service.ports.is_empty() {
            let number = database_port(service).or_else(|| exposed(service).next());
            service.ports.push(published(number.ok_or_else(|| no_port(&name))?));
        }
        service.ports.iter_mut().for_each(|port| port.host = None);
    }
    Ok(name)
}

fn choose(spec: &Spec, asked: Option<&ServiceName>) -> Result<ServiceName, SessionError> {
    if let Some(asked) = asked {
        let is_there = spec.services.contains_key(asked);
        let missing = || unclear(spec, &format!("the spec has no service `{asked}`"));
        return if is_there { Ok(asked.clone()) } else { Err(missing()) };
    }
    for (_, number) in DATABASES {
        let databases = spec.services.values().filter(|service| database_port(service) == Some(number));
        let names: Vec<&ServiceName> = databases.map(|service| &service.name).collect();
        match names[..] {
            [] => {}
            [name] => return Ok(name.clone()),
            _ => return Err(unclear(spec, "the spec has more than one such database")),
        }
    }
    let mut services = spec.services.keys();
    match (services.next(), services.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(unclear(spec, "no service of the spec is known to be a database")),
    }
}

/// The database's port, by the ports of the service and by its image's name.
fn database_port(service: &Service) -> Option<u16> {
    let is_known = |number: &u16| DATABASES.iter().any(|(_, known)| known == number);
    let own = service.ports.iter().map(|port| port.container).chain(exposed(service)).find(is_known);
    own.or_else(|| {
        let image = service.image()?;
        let name = image.rsplit('/').next()?.split(['@', ':']).next()?.to_lowercase();
        let (_, number) = DATABASES.iter().find(|(words, _)| words.iter().any(|word| name.contains(word)))?;
        Some(*number)
    })
}

fn exposed(service: &Service) -> impl Iterator<Item = u16> {
    service.expose.iter().filter_map(|entry| entry.trim_end_matches("/tcp").parse().ok())
}

fn published(container: u16) -> Port {
    Port {
        host_ip: None,
        host: None,
        container,
        protocol: Protocol::Tcp,
        name: None,
        app_protocol: None,
        mode: None,
        extensions: std::collections::BTreeMap::new(),
        at: crate::spec::At::default(),
    }
}

fn unclear(spec: &Spec, what: &str) -> SessionError {
    let names: Vec<&str> = spec.services.keys().map(ServiceName::as_str).collect();
    let hint = Some(format!("name one with `--service`: {}", names.join(", ")));
    SessionError::Invalid { what: what.to_owned(), hint }
}

fn no_port(name: &ServiceName) -> SessionError {
    SessionError::Invalid {
        what: format!("the port of service `{name}` is not known"),
        hint: Some("`ports: [\"NUMBER\"]` of the service names it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, LoadRequest};

    fn prepared(services: &str, asked: Option<&str>) -> Result<(String, Spec), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sandbox.yaml"), format!("services: {services}")).unwrap();
        let request = LoadRequest { folder: folder.path().to_owned(), ..LoadRequest::default() };
        let mut spec = spec::load(&request).unwrap().spec;
        let asked = asked.map(|name| name.parse().unwrap());
        let name = prepare(&mut spec, asked.as_ref()).map_err(|error| error.to_string())?;
        Ok((name.to_string(), spec))
    }

    #[test]
    fn the_database_is_found_and_published_on_a_free_port() {
        let services = "{ web: { image: x, ports: ['8080:80'] }, cache: { image: 'redis:7' }, db: { image: 'postgres:16' } }";
        let (name, spec) = prepared(services, None).unwrap();
        assert_eq!(name, "db");
        assert_eq!(spec.services["db"].ports[0].container, 5432);
        assert!(spec.services["web"].ports.is_empty());
        let (_, spec) = prepared("{ db: { image: mariadb, ports: ['3306:3306'] } }", None).unwrap();
        assert_eq!((spec.services["db"].ports.len(), spec.services["db"].ports[0].host), (1, None));
    }

    #[test]
    fn a_service_can_be_named_and_must_be_clear() {
        let two = "{ a: { image: 'postgres:16' }, b: { image: postgis/postgis } }";
        assert!(prepared(two, None).unwrap_err().contains("more than one"));
        assert_eq!(prepared(two, Some("b")).unwrap().0, "b");
        assert!(prepared(two, Some("c")).unwrap_err().contains("no service `c`"));
        assert!(prepared("{ a: { image: x }, b: { image: y } }", None).is_err());
        assert!(prepared("{ a: { image: x } }", None).unwrap_err().contains("port"));
        let (_, spec) = prepared("{ a: { image: x, expose: ['9042'] } }", None).unwrap();
        assert_eq!(spec.services["a"].ports[0].container, 9042);
    }
}
