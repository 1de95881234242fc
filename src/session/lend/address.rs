//! How a lent database is reached: the connection string of its server with another database in it, and the variables
//! that `sandbox env` prints.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::engine::Engine;
use crate::engine::identity::Scope;
use crate::session::error::SessionError;
use crate::session::event::ServiceStatus;
use crate::session::inspect::{self, Passwords};
use crate::spec::{SandboxName, ServiceName};

/// The server of lent databases.
#[derive(Debug, Clone)]
pub(super) struct ServerAddress {
    sandbox: SandboxName,
    service: ServiceName,
    statuses: Vec<ServiceStatus>,
}

/// The login in a connection string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// The user.
    pub user: String,
    /// The password; empty if there is none.
    pub password: String,
    /// The database.
    pub database: String,
}

impl ServerAddress {
    /// Looks up the published ports of a service, with its passwords.
    ///
    /// # Errors
    /// Fails if the sandbox is gone, or if the engine fails.
    pub async fn find(
        engine: &dyn Engine,
        scope: &Scope,
        sandbox: &SandboxName,
        service: &ServiceName,
    ) -> Result<Self, SessionError> {
        let observed = inspect::sandbox(engine, scope, sandbox).await?;
        let observed = observed.ok_or_else(|| SessionError::NoSuchSandbox { name: sandbox.clone() })?;
        let statuses = inspect::statuses(engine, &observed, Passwords::Included).await?;
        Ok(Self { sandbox: sandbox.clone(), service: service.clone(), statuses })
    }

    /// The container of the service.
    pub fn container(&self) -> Option<&str> {
        let status = self.statuses.iter().find(|it| it.service == self.service.as_str())?;
        Some(&status.container)
    }

    /// The connection string, if the protocol is known.
    pub fn url(&self) -> Option<Url> {
        let status = self.statuses.iter().find(|it| it.service == self.service.as_str())?;
        status.endpoints.iter().find_map(|endpoint| endpoint.url.as_ref()?.parse().ok())
    }

    /// The environment variables of the sandbox.
    pub fn environment(&self) -> BTreeMap<String, String> {
        inspect::environment(self.sandbox.as_str(), &self.statuses)
    }

    /// The connection string and the variables of another database of this server.
    pub fn of_database(&self, name: &str) -> (String, BTreeMap<String, String>) {
        let mut other = self.clone();
        let mut found = String::new();
        let ours = other.statuses.iter_mut().filter(|it| it.service == self.service.as_str());
        for endpoint in ours.flat_map(|status| &mut status.endpoints) {
            let Some(mut url) = endpoint.url.as_ref().and_then(|url| url.parse::<Url>().ok()) else {
                continue;
            };
            url.set_path(name);
            endpoint.url = Some(url.to_string());
            if found.is_empty() {
                found = url.into();
            }
        }
        (found, other.environment())
    }
}

/// The login of a connection string.
pub(super) fn login(url: &Url) -> Login {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Login {
        user: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
        database: decoded(url.path().trim_start_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::session::event::{Endpoint, Protocol, ServiceState};

    fn server(url: &str) -> ServerAddress {
        let endpoint = Endpoint {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 32768,
            target: 5432,
            protocol: Protocol::Tcp,
            url: Some(url.to_owned()),
        };
        let status = ServiceStatus {
            service: "db".to_owned(),
            replica: 1,
            container: "sbx-shop.db".to_owned(),
            image: "postgres".to_owned(),
            state: ServiceState::Running,
            endpoints: vec![endpoint],
        };
        let (sandbox, service) = ("shop".parse().unwrap(), "db".parse().unwrap());
        ServerAddress { sandbox, service, statuses: vec![status] }
    }

    #[test]
    fn another_database_changes_only_the_path() {
        let (url, env) = server("postgres://app:p%40ss@127.0.0.1:32768/shop").of_database("lend_1");
        assert_eq!(url, "postgres://app:p%40ss@127.0.0.1:32768/lend_1");
        assert_eq!(env["DATABASE_URL"], url);
        assert_eq!((&*env["DB_URL"], &*env["DB_PORT"]), (&*url, "32768"));
        assert_eq!(server("redis://127.0.0.1:32768").of_database("3").0, "redis://127.0.0.1:32768/3");
    }

    #[test]
    fn a_login_is_decoded() {
        let url = server("postgres://app:p%40ss%2F1@127.0.0.1:32768/my%20shop").url().unwrap();
        let expected =
            Login { user: "app".to_owned(), password: "p@ss/1".to_owned(), database: "my shop".to_owned() };
        assert_eq!(login(&url), expected);
    }
}
