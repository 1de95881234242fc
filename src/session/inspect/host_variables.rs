//! The variables of a spec's `env`, for commands on this machine: placeholders are replaced by what the running sandbox
//! has.

use std::collections::BTreeMap;

use super::{ObservedSandbox, read_whole};
use crate::engine::{Engine, EngineError};
use crate::plan::held_path;
use crate::session::event::{Endpoint, Protocol, ServiceStatus};
use crate::spec::{HostValue, Spec};

/// The variables of `env`.
#[derive(Debug, Default)]
pub struct HostVariables {
    /// Those that have a value.
    pub known: BTreeMap<String, String>,
    /// Why others have none, as text for the user.
    pub missing: Vec<String>,
}

/// Resolves the variables of a spec's `env`. Secrets are read from where the gateway holds them: their values are on no
/// other object of the engine.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn host_variables(
    engine: &dyn Engine,
    observed: &ObservedSandbox,
    statuses: &[ServiceStatus],
    spec: &Spec,
) -> Result<HostVariables, EngineError> {
    let mut variables = HostVariables::default();
    let mut secrets = BTreeMap::new();
    for (name, value) in &spec.env {
        let mut text = String::new();
        let mut missing = None;
        for part in &value.parts {
            match resolved(engine, observed, statuses, spec, part, &mut secrets).await? {
                Ok(piece) => text.push_str(&piece),
                Err(cause) => missing = Some(cause),
            }
        }
        match missing {
            None => {
                variables.known.insert(name.clone(), text);
            }
            Some(cause) => variables.missing.push(format!("`{name}` of `env` is not set: {cause}")),
        }
    }
    Ok(variables)
}

async fn resolved(
    engine: &dyn Engine,
    observed: &ObservedSandbox,
    statuses: &[ServiceStatus],
    spec: &Spec,
    part: &HostValue,
    secrets: &mut BTreeMap<String, Option<String>>,
) -> Result<Result<String, String>, EngineError> {
    let endpoint = |service: &str, port: Option<u16>| {
        endpoint(statuses, service, port).ok_or_else(|| match port {
            Some(port) => format!("port {port} of service `{service}` is not published now"),
            None => format!("service `{service}` has no published port now"),
        })
    };
    Ok(match part {
        HostValue::Text(text) => Ok(text.clone()),
        HostValue::Host(service) => endpoint(service.as_str(), None).map(|found| found.host.to_string()),
        HostValue::Port(service, port) => {
            endpoint(service.as_str(), Some(*port)).map(|found| found.port.to_string())
        }
        HostValue::Secret(name) => {
            if !secrets.contains_key(name.as_str()) {
                let value = secret(engine, observed, spec, name.as_str()).await?;
                secrets.insert(name.to_string(), value);
            }
            let value = secrets.get(name.as_str()).cloned().flatten();
            value.ok_or_else(|| format!("the sandbox does not hold the secret `{name}` as text now"))
        }
    })
}

fn endpoint<'a>(statuses: &'a [ServiceStatus], service: &str, port: Option<u16>) -> Option<&'a Endpoint> {
    let mut of_service = statuses
        .iter()
        .filter(|status| status.service == service && status.replica == 1)
        .flat_map(|status| &status.endpoints)
        .filter(|endpoint| port.is_none_or(|port| endpoint.target == port));
    let tcp = of_service.clone().find(|endpoint| endpoint.protocol == Protocol::Tcp);
    tcp.or_else(|| of_service.next())
}

/// A secret's value without a line break at its end, as a file of one line has it.
async fn secret(
    engine: &dyn Engine,
    observed: &ObservedSandbox,
    spec: &Spec,
    name: &str,
) -> Result<Option<String>, EngineError> {
    let Some(gateway) = &observed.gateway else { return Ok(None) };
    for service in spec.services.values() {
        for grant in service.secrets.iter().filter(|grant| grant.source == name) {
            let path = held_path(service.name.as_str(), grant);
            if let Some(bytes) = read_whole(engine, &gateway.name, &path).await? {
                let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
                return Ok(text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::engine::recording::Recording;
    use crate::session::event::ServiceState;
    use crate::spec::{LoadRequest, load};

    fn spec(env: &str) -> Spec {
        let text = format!(
            "services: {{ db: {{ image: x, ports: ['5432'], secrets: [pw] }} }}\nsecrets: {{ pw: {{ generate: 8 }} }}\nenv:\n{env}"
        );
        let request = LoadRequest {
            files: vec!["-".into()],
            input: Some(text.into_bytes()),
            folder: "/nowhere".into(),
            ..LoadRequest::default()
        };
        load(&request).unwrap_or_else(|problems| panic!("{problems}")).spec
    }

    fn statuses() -> Vec<ServiceStatus> {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let endpoint = Endpoint { host, port: 32768, target: 5432, protocol: Protocol::Tcp, url: None };
        vec![ServiceStatus {
            service: "db".into(),
            replica: 1,
            container: String::new(),
            image: String::new(),
            state: ServiceState::Running,
            endpoints: vec![endpoint],
        }]
    }

    #[tokio::test]
    async fn addresses_stand_where_their_placeholders_stood() {
        let spec = spec("  URL: 'pg://${host:db}:${port:db:5432}/a$$b'\n");
        let sandbox = ObservedSandbox::default();
        let found = host_variables(&*Recording::new(), &sandbox, &statuses(), &spec).await.unwrap();
        assert_eq!(found.known["URL"], "pg://127.0.0.1:32768/a$b");
        assert!(found.missing.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_there_leaves_its_variable_out_and_says_why() {
        let spec = spec("  A: '${secret:pw}'\n  B: '${port:db:5432}'\n  C: plain\n");
        let sandbox = ObservedSandbox::default();
        let found = host_variables(&*Recording::new(), &sandbox, &[], &spec).await.unwrap();
        assert_eq!(found.known.keys().collect::<Vec<_>>(), ["C"]);
        assert_eq!(found.missing.len(), 2, "{:?}", found.missing);
    }
}
