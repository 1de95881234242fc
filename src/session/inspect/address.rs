//! Addresses of published ports on the host, and their connection strings.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures_util::StreamExt;

use super::ObservedSandbox;
use crate::engine::{self, Container, ContainerSummary, Engine, EngineError, ErrorKind, ObjectKind};
use crate::plan::{self, PortBinding};
use crate::session::event::{Endpoint, Protocol};

/// Whether a connection string contains a password that the service got as a secret. A password in the service's
/// environment is not a secret and is always shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passwords {
    /// It does: for programs (`env`, `run`).
    Included,
    /// It does not: for terminals and logs.
    LeftOut,
}

/// The published ports of a service: those that the gateway forwards, according to its label, and those of its own
/// container.
pub(super) async fn endpoints(
    engine: &dyn Engine,
    observed: &ObservedSandbox,
    container: &Container,
    summary: &ContainerSummary,
    passwords: Passwords,
) -> Result<Vec<Endpoint>, EngineError> {
    let mut bindings =
        observed.gateway.as_ref().map(|it| plan::bindings(&it.labels, &it.ports)).unwrap_or_default();
    bindings.retain(|it| it.port.is_of(super::service_of(summary), super::replica_of(summary)));
    let mut found = direct(summary);
    found.extend(bindings.iter().filter_map(forwarded));
    found.sort_by_key(|endpoint| (endpoint.target, endpoint.port));
    found.dedup();
    if found.is_empty() {
        return Ok(found);
    }
    let environment = environment(engine, container, passwords).await?;
    let application = |target: u16| {
        let of_target = bindings.iter().map(|it| &it.port).find(|port| port.target == target);
        of_target.and_then(|port| port.app_protocol.clone())
    };
    for endpoint in &mut found {
        if endpoint.protocol == Protocol::Tcp {
            let at = SocketAddr::new(endpoint.host, endpoint.port);
            let application = application(endpoint.target);
            endpoint.url =
                connection(&container.image, &environment, endpoint.target, application.as_deref(), at);
        }
    }
    Ok(found)
}

fn direct(summary: &ContainerSummary) -> Vec<Endpoint> {
    let endpoint = |port: &engine::PublishedPort| {
        let host = match port.host_ip {
            Some(ip) if !ip.is_unspecified() => ip,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let (protocol, target) = (protocol(port.container.protocol), port.container.number);
        Some(Endpoint { host, port: port.host_port?, target, protocol, url: None })
    };
    summary.ports.iter().filter_map(endpoint).collect()
}

fn forwarded(binding: &PortBinding) -> Option<Endpoint> {
    let PortBinding { port, host_port } = binding;
    let (host, protocol) = (port.loopback.address(), protocol(port.transport()));
    Some(Endpoint { host, port: (*host_port)?, target: port.target, protocol, url: None })
}

fn protocol(transport: engine::Protocol) -> Protocol {
    match transport {
        engine::Protocol::Udp => Protocol::Udp,
        engine::Protocol::Tcp | engine::Protocol::Sctp => Protocol::Tcp,
    }
}

/// The environment of a container. If passwords are included, a variable such as `POSTGRES_PASSWORD_FILE` adds
/// `POSTGRES_PASSWORD` with the file's content, unless that is set.
async fn environment(
    engine: &dyn Engine,
    container: &Container,
    passwords: Passwords,
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut variables: BTreeMap<String, String> = container
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if passwords == Passwords::LeftOut {
        return Ok(variables);
    }
    let files: Vec<(String, String)> = variables
        .iter()
        .filter_map(|(key, path)| Some((key.strip_suffix("_FILE")?.to_owned(), path.clone())))
        .filter(|(key, _)| {
            ["USER", "PASSWORD", "DB", "DATABASE", "USERNAME"].iter().any(|end| key.ends_with(end))
        })
        .collect();
    for (key, path) in files {
        if let Some(text) = read_small(engine, &container.name, &path).await? {
            variables.entry(key).or_insert_with(|| text.trim_end_matches(['\n', '\r']).to_owned());
        }
    }
    Ok(variables)
}

/// A small file of a container; `None` if it does not exist or is too large.
async fn read_small(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<String>, EngineError> {
    const MOST: usize = 1 << 20;
    let Some(archive) = packed(engine, container, path, MOST).await? else { return Ok(None) };
    Ok(archive.ok().and_then(|archive| unpacked(&archive).ok()).and_then(|file| String::from_utf8(file).ok()))
}

/// A complete file of a container; `None` if it does not exist.
pub(in crate::session) async fn read_whole(
    engine: &dyn Engine,
    container: &str,
    path: &str,
) -> Result<Option<Vec<u8>>, EngineError> {
    let Some(archive) = packed(engine, container, path, usize::MAX).await? else { return Ok(None) };
    let broken = |error: io::Error| {
        let words = error.to_string();
        EngineError::new("download", ObjectKind::Path, path, ErrorKind::Other, words)
    };
    archive.and_then(|archive| unpacked(&archive)).map(Some).map_err(broken)
}

/// The engine's archive of a file, if the file exists.
async fn packed(
    engine: &dyn Engine,
    container: &str,
    path: &str,
    most: usize,
) -> Result<Option<io::Result<Vec<u8>>>, EngineError> {
    let mut stream = match engine.download(container, path).await {
        Ok(stream) => stream,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut archive = Vec::new();
    while let Some(bytes) = stream.next().await {
        match bytes {
            Ok(bytes) => archive.extend_from_slice(&bytes),
            Err(error) => return Ok(Some(Err(error))),
        }
        if archive.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(Ok(archive)))
}

/// The first file in an archive.
fn unpacked(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut file = archive.entries()?.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The connection string of a port, from the image's name, the port's number and the service's environment; `None` if
/// the protocol is not known.
pub fn connection(
    image: &str,
    environment: &BTreeMap<String, String>,
    target: u16,
    application: Option<&str>,
    at: SocketAddr,
) -> Option<String> {
    let family = Family::of(image, target, application)?;
    let get = |keys: &[&str]| {
        keys.iter().find_map(|key| environment.get(*key)).filter(|value| !value.is_empty()).cloned()
    };
    let login = |user: Option<String>, password: Option<String>| match (user, password) {
        (None, None) => String::new(),
        (Some(user), None) => format!("{}@", encoded(&user)),
        (user, Some(password)) => format!("{}:{}@", encoded(&user.unwrap_or_default()), encoded(&password)),
    };
    let path = |name: Option<String>| name.map(|name| format!("/{}", encoded(&name))).unwrap_or_default();
    Some(match family {
        Family::Postgres => {
            let user = get(&["POSTGRES_USER", "POSTGRESQL_USERNAME"]).unwrap_or_else(|| "postgres".into());
            let database = get(&["POSTGRES_DB", "POSTGRESQL_DATABASE"]).unwrap_or_else(|| user.clone());
            let password = get(&["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"]);
            format!("postgres://{}{at}{}", login(Some(user), password), path(Some(database)))
        }
        Family::Mysql => {
            let user = get(&["MYSQL_USER", "MARIADB_USER"]);
            let password = match user {
                Some(_) => get(&["MYSQL_PASSWORD", "MARIADB_PASSWORD"]),
                None => get(&["MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"]),
            };
            let user = user.unwrap_or_else(|| "root".into());
            format!(
                "mysql://{}{at}{}",
                login(Some(user), password),
                path(get(&["MYSQL_DATABASE", "MARIADB_DATABASE"]))
            )
        }
        Family::Redis => format!("redis://{}{at}", login(None, get(&["REDIS_PASSWORD", "VALKEY_PASSWORD"]))),
        Family::Mongo => {
            let user = get(&["MONGO_INITDB_ROOT_USERNAME"]);
            let password = user.as_ref().and_then(|_| get(&["MONGO_INITDB_ROOT_PASSWORD"]));
            format!("mongodb://{}{at}", login(user, password))
        }
        Family::Amqp => {
            let user = get(&["RABBITMQ_DEFAULT_USER"]).unwrap_or_else(|| "guest".into());
            let password = get(&["RABBITMQ_DEFAULT_PASS"]).unwrap_or_else(|| "guest".into());
            format!(
                "amqp://{}{at}{}",
                login(Some(user), Some(password)),
                path(get(&["RABBITMQ_DEFAULT_VHOST"]))
            )
        }
        Family::Plain(scheme) => format!("{scheme}://{at}"),
    })
}

#[derive(Clone, Copy)]
enum Family {
    Postgres,
    Mysql,
    Redis,
    Mongo,
    Amqp,
    Plain(&'static str),
}

impl Family {
    fn of(image: &str, target: u16, application: Option<&str>) -> Option<Self> {
        match application {
            Some("http" | "http2" | "grpc-web" | "ws") => return Some(Self::Plain("http")),
            Some("https" | "wss") => return Some(Self::Plain("https")),
            Some("postgres" | "postgresql") => return Some(Self::Postgres),
            Some("mysql") => return Some(Self::Mysql),
            Some("redis") => return Some(Self::Redis),
            Some("mongo" | "mongodb") => return Some(Self::Mongo),
            Some("amqp") => return Some(Self::Amqp),
            _ => {}
        }
        let image = image.rsplit('/').next().unwrap_or(image).to_ascii_lowercase();
        let named = |names: &[&str]| names.iter().any(|name| image.contains(name));
        Some(match target {
            5432 => Self::Postgres,
            3306 => Self::Mysql,
            6379 => Self::Redis,
            27017 => Self::Mongo,
            5672 => Self::Amqp,
            4222 if named(&["nats"]) => Self::Plain("nats"),
            11211 => Self::Plain("memcached"),
            1433 => Self::Plain("sqlserver"),
            25 | 587 | 1025 | 2525 => Self::Plain("smtp"),
            443 | 8443 | 9443 => Self::Plain("https"),
            9000 if named(&["clickhouse"]) => Self::Plain("clickhouse"),
            80
            | 81
            | 3000..=3010
            | 4000
            | 4200
            | 4321
            | 5000
            | 5001
            | 5173
            | 5601
            | 7700
            | 8000..=8099
            | 8123
            | 8888
            | 9000
            | 9001
            | 9090
            | 9200
            | 15672
            | 16686 => Self::Plain("http"),
            _ => return None,
        })
    }
}

/// Percent-encodes characters that a URL cannot contain.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(byte.into());
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(image: &str, target: u16, environment: &[(&str, &str)]) -> Option<String> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        connection(image, &environment, target, None, "127.0.0.1:32768".parse().unwrap())
    }

    #[test]
    fn databases_are_told_with_user_password_and_name() {
        assert_eq!(url("postgres:16", 5432, &[]).unwrap(), "postgres://postgres@127.0.0.1:32768/postgres");
        let shop = [("POSTGRES_USER", "shop"), ("POSTGRES_PASSWORD", "p@ss/1")];
        assert_eq!(
            url("postgres:16", 5432, &shop).unwrap(),
            "postgres://shop:p%40ss%2F1@127.0.0.1:32768/shop"
        );
        let root = [("MYSQL_ROOT_PASSWORD", "r"), ("MYSQL_DATABASE", "shop")];
        assert_eq!(url("mysql:8", 3306, &root).unwrap(), "mysql://root:r@127.0.0.1:32768/shop");
        assert_eq!(url("redis:7", 6379, &[]).unwrap(), "redis://127.0.0.1:32768");
        assert_eq!(url("redis:7", 6379, &[("REDIS_PASSWORD", "x")]).unwrap(), "redis://:x@127.0.0.1:32768");
    }

    #[test]
    fn web_ports_are_http_and_unknown_ports_have_no_url() {
        assert_eq!(url("shop/web", 8080, &[]).unwrap(), "http://127.0.0.1:32768");
        assert_eq!(url("nginx", 443, &[]).unwrap(), "https://127.0.0.1:32768");
        assert_eq!(url("shop/web", 7777, &[]), None);
    }

    #[test]
    fn what_the_spec_says_of_a_port_wins_over_its_number() {
        let at = "127.0.0.1:1".parse().unwrap();
        let url = connection("x", &BTreeMap::new(), 7777, Some("http"), at);
        assert_eq!(url.unwrap(), "http://127.0.0.1:1");
    }
}
