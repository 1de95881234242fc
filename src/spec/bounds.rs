//! Limits the size of a spec, well below what an engine, a bridge or a process start can handle.

use super::model::{ConfigSource, Service, Spec};

/// Maximum number of containers of a spec. A Linux bridge has at most 1,024 ports.
pub const MAX_CONTAINERS: u32 = 500;
/// Maximum number of networks: each is a bridge on the engine's host, and the gateway joins all of them.
const MAX_NETWORKS: usize = 60;
/// Maximum number of volumes, including anonymous ones.
const MAX_VOLUMES: usize = 2_000;
/// Maximum number of published ports: the engine starts a process for each.
const MAX_PORTS: usize = 1_000;
/// Maximum bytes of a variable with its name. The kernel rejects 128 KiB when a process starts (`MAX_ARG_STRLEN`).
const MAX_VARIABLE: usize = 120 << 10;
/// Maximum bytes of a service's variables, command and labels. The kernel rejects 2 MiB of variables and arguments.
const MAX_SERVICE: usize = 1 << 20;
/// Maximum bytes of all inline configs.
const MAX_CONFIGS: usize = 16 << 20;

/// A limit that a spec exceeds.
pub(super) struct Excess<'a> {
    /// The service that exceeds it.
    pub service: Option<&'a Service>,
    /// The key in the service.
    pub key: Option<&'static str>,
    pub message: String,
    pub hint: &'static str,
}

/// All limits that a spec exceeds.
pub(super) fn exceeded(spec: &Spec) -> Vec<Excess<'_>> {
    let mut found = Vec::new();
    let replicas = |service: &Service| service.replicas() as usize;
    let volumes = |service: &Service| replicas(service).saturating_mul(service.mounts.len());
    let ports = |service: &Service| replicas(service).saturating_mul(service.ports.len());
    found.extend(total(spec, "containers", "scale", MAX_CONTAINERS as usize, replicas));
    found.extend(total(spec, "mounts", "volumes", MAX_VOLUMES, volumes));
    found.extend(total(spec, "published ports", "ports", MAX_PORTS, ports));
    for (what, count, most) in
        [("networks", spec.networks.len(), MAX_NETWORKS), ("volumes", spec.volumes.len(), MAX_VOLUMES)]
    {
        if count > most {
            let message = format!("the spec has {count} {what}, and at most {most} are made");
            found.push(Excess { service: None, key: None, message, hint: "divide it into several specs" });
        }
    }
    found.extend(spec.services.values().flat_map(of_service));
    let configs: usize = spec
        .configs
        .values()
        .map(|config| match &config.source {
            ConfigSource::Content(content) => content.len(),
            _ => 0,
        })
        .sum();
    if configs > MAX_CONFIGS {
        let message =
            format!("the configs of the spec have {configs} bytes, and at most {MAX_CONFIGS} are taken");
        found.push(Excess { service: None, key: None, message, hint: "mount a file instead" });
    }
    found
}

/// The service at which a total exceeds its limit.
fn total<'a>(
    spec: &'a Spec,
    what: &str,
    key: &'static str,
    most: usize,
    count: impl Fn(&Service) -> usize,
) -> Option<Excess<'a>> {
    let mut total = 0usize;
    let (service, total) = spec.services.values().find_map(|service| {
        total = total.saturating_add(count(service));
        (total > most).then_some((service, total))
    })?;
    let message =
        format!("with service `{}` the spec has {total} {what}, and at most {most} are made", service.name);
    let hint = if key == "scale" { "ask for fewer of them with `scale`" } else { "ask for fewer of them" };
    Some(Excess { service: Some(service), key: Some(key), message, hint })
}

fn of_service(service: &Service) -> Vec<Excess<'_>> {
    let mut found = Vec::new();
    let length =
        |(name, value): (&String, &Option<String>)| name.len() + value.as_ref().map_or(0, String::len) + 2;
    for variable in &service.environment {
        let bytes = length(variable);
        if bytes > MAX_VARIABLE {
            let message = format!(
                "the variable `{}` of service `{}` has {bytes} bytes, and no process starts with more than {MAX_VARIABLE}",
                variable.0, service.name
            );
            let hint = "give it as a config or a secret, which is a file";
            found.push(Excess { service: Some(service), key: Some("environment"), message, hint });
        }
    }
    let variables: usize = service.environment.iter().map(length).sum();
    let words: usize = service.command.iter().chain(&service.entrypoint).flatten().map(String::len).sum();
    let labels: usize = service.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    let bytes = variables + words + labels;
    if bytes > MAX_SERVICE {
        let message = format!(
            "the variables, command and labels of service `{}` have {bytes} bytes, and at most {MAX_SERVICE} are taken",
            service.name
        );
        let hint = "give some of them as a config, which is a file";
        found.push(Excess { service: Some(service), key: None, message, hint });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ProjectName, ServiceName};

    fn told(change: impl FnOnce(&mut Service)) -> Vec<String> {
        let name = ServiceName::new("a").unwrap();
        let mut service = Service::new(name.clone(), "x");
        change(&mut service);
        let mut spec = Spec::new(ProjectName::new("p").unwrap(), std::path::Path::new("/nowhere"));
        spec.services.insert(name, service);
        exceeded(&spec).into_iter().map(|excess| excess.message).collect()
    }

    #[test]
    fn a_usual_spec_is_within_all_bounds() {
        assert!(told(|service| service.scale = Some(100)).is_empty());
    }

    #[test]
    fn what_no_engine_starts_is_named_with_its_bound() {
        assert!(told(|service| service.scale = Some(9_999))[0].contains("9999 containers, and at most 500"));
        let large = |service: &mut Service| {
            service.environment.insert("BIG".to_owned(), Some("x".repeat(130 << 10)));
        };
        assert!(told(large)[0].contains("the variable `BIG` of service `a`"));
        let many = |service: &mut Service| {
            let variable = |n: u32| (format!("V{n}"), Some("x".repeat(100_000)));
            service.environment.extend((0..12).map(variable));
        };
        assert!(told(many)[0].contains("the variables, command and labels"));
    }
}
