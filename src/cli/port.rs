//! `port`: prints the host address of a service's port.

use clap_complete::engine::ArgValueCandidates;

use super::{Context, Exit, Failure, complete};
use crate::plan::{self, PortBinding};
use crate::report::Output;
use crate::report::summary::plain_address;
use crate::session::event::{Endpoint, Protocol, ServiceStatus};
use crate::session::inspect::{self, Passwords, service_of};

/// Arguments of `port`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service
    #[arg(add = ArgValueCandidates::new(complete::services))]
    service: String,
    /// Port in the service, such as `5432` or `53/udp` (default: all published ones)
    #[arg(value_parser = inside)]
    port: Option<(u16, Option<Protocol>)>,
    /// Protocol: tcp or udp
    #[arg(long, value_parser = protocol)]
    protocol: Option<Protocol>,
    /// Index of the replica
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    index: u32,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err("`tcp` or `udp`".to_owned()),
    }
}

fn inside(text: &str) -> Result<(u16, Option<Protocol>), String> {
    let (number, kind) = match text.split_once('/') {
        Some((number, kind)) => (number, Some(protocol(kind)?)),
        None => (text, None),
    };
    let number = number.parse().map_err(|_| "a port such as `5432` or `53/udp`".to_owned())?;
    Ok((number, kind))
}

/// Runs `port`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let mut observed = context.chosen().await?;
        observed.container(&self.service, self.index)?;
        observed.services.retain(|summary| service_of(summary) == self.service);
        let bindings =
            observed.gateway.as_ref().map(|it| plan::bindings(&it.labels, &it.ports)).unwrap_or_default();
        let statuses = inspect::statuses(engine.as_ref(), &observed, Passwords::LeftOut).await?;
        let all = self.endpoints(statuses, &bindings);
        let endpoints: Vec<&Endpoint> = all.iter().filter(|endpoint| self.asks_for(endpoint)).collect();
        if let (Some((port, _)), true) = (self.port, endpoints.is_empty()) {
            return Err(self.unpublished(port, &all));
        }
        let mut out = Output::stdout();
        if context.globals.json {
            out.json(&endpoints);
            return Ok(Exit::Done);
        }
        for endpoint in endpoints {
            let address = std::net::SocketAddr::new(endpoint.host, endpoint.port);
            match self.port {
                Some(_) => out.line(&address.to_string()),
                None => out.line(&format!("{} -> {}", endpoint.target, plain_address(endpoint))),
            }
        }
        Ok(Exit::Done)
    }

    /// The endpoints of the replica. A port that all replicas share is listed with the first.
    fn endpoints(&self, statuses: Vec<ServiceStatus>, bindings: &[PortBinding]) -> Vec<Endpoint> {
        let is_shared = |endpoint: &Endpoint| {
            bindings.iter().any(|binding| {
                binding.port.replica.is_none()
                    && binding.port.service.as_str() == self.service
                    && binding.port.target == endpoint.target
                    && binding.host_port == Some(endpoint.port)
            })
        };
        let of_replica = statuses.into_iter().flat_map(|status| {
            let is_asked = status.replica == self.index;
            status.endpoints.into_iter().filter(move |endpoint| is_asked || is_shared(endpoint))
        });
        of_replica.collect()
    }

    fn asks_for(&self, endpoint: &Endpoint) -> bool {
        let asked = self.port.and_then(|(_, kind)| kind).or(self.protocol);
        self.port.is_none_or(|(port, _)| port == endpoint.target)
            && asked.is_none_or(|kind| kind == endpoint.protocol)
    }

    fn unpublished(&self, port: u16, all: &[Endpoint]) -> Failure {
        let known: Vec<String> = all.iter().map(|endpoint| endpoint.target.to_string()).collect();
        let hint = if known.is_empty() {
            format!("publish it in the spec: `ports: [\"{port}\"]`")
        } else {
            format!("it publishes {}; publish more in the spec with `ports`", known.join(", "))
        };
        Failure::failed(format!("service `{}` does not publish port {port}", self.service), Some(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::ServiceState;

    fn status(replica: u32, ports: &[(u16, u16)]) -> ServiceStatus {
        let endpoint = |(port, target): &(u16, u16)| Endpoint {
            host: [127, 0, 0, 1].into(),
            port: *port,
            target: *target,
            protocol: Protocol::Tcp,
            url: None,
        };
        ServiceStatus {
            service: "web".into(),
            replica,
            container: format!("web-{replica}"),
            image: "x".into(),
            state: ServiceState::Running,
            endpoints: ports.iter().map(endpoint).collect(),
        }
    }

    #[test]
    fn a_port_that_replicas_share_is_each_replicas_port() {
        let args = Args { service: "web".into(), port: None, protocol: None, index: 2 };
        let binding = |replica: Option<u32>, target: u16, host_port: u16| -> PortBinding {
            serde_json::from_value(serde_json::json!({
                "port": { "service": "web", "replica": replica, "target": target, "protocol": "tcp", "edge_port": 20_000 },
                "host_port": host_port,
            }))
            .unwrap()
        };
        let bindings = [binding(None, 80, 8080), binding(Some(1), 81, 4001), binding(Some(2), 81, 4002)];
        let statuses = vec![status(1, &[(8080, 80), (4001, 81)]), status(2, &[(4002, 81)])];

        let endpoints = args.endpoints(statuses, &bindings);

        assert_eq!(endpoints.iter().map(|it| it.port).collect::<Vec<_>>(), [8080, 4002]);
    }
}
