//! Converts the API's types to the types of this layer.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models as api;
use jiff::Timestamp;

use crate::engine::identity;
use crate::engine::{
    Container, ContainerState, ContainerSummary, Endpoint, Health, HealthProbe, HealthStatus, HealthTest,
    Healthcheck, MountPoint, MountPointKind, Port, PublishedPort,
};

/// Converts the label and name conditions of a filter to the API's form.
pub(super) fn labels_filter(labels: &[(String, Option<String>)]) -> HashMap<String, Vec<String>> {
    let words = labels.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { HashMap::new() } else { HashMap::from([("label".to_owned(), words)]) }
}

pub(super) fn sorted<V>(map: Option<HashMap<String, V>>) -> BTreeMap<String, V> {
    map.unwrap_or_default().into_iter().collect()
}

pub(super) fn labels(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    identity::read_back(map.unwrap_or_default())
}

/// Converts a time in nanoseconds.
pub(super) fn moment(nanoseconds: i128) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanoseconds).ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

fn moment_text(text: Option<&String>) -> Option<Timestamp> {
    text?.parse::<Timestamp>().ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

/// Parses an address with an optional prefix length.
pub(super) fn address(text: Option<&String>) -> Option<IpAddr> {
    let text = text?;
    text.split('/').next().and_then(|address| address.parse().ok())
}

pub(super) fn healthcheck(config: Option<api::HealthConfig>) -> Option<Healthcheck> {
    let config = config?;
    let duration = |nanos: Option<i64>| {
        nanos.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).map(Duration::from_nanos)
    };
    Some(Healthcheck {
        test: HealthTest::from_list(&config.test.unwrap_or_default()),
        interval: duration(config.interval),
        timeout: duration(config.timeout),
        retries: config.retries.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        start_period: duration(config.start_period),
        start_interval: duration(config.start_interval),
    })
}

pub(super) fn ports(list: Option<Vec<String>>) -> Vec<Port> {
    let mut ports: Vec<Port> = list.unwrap_or_default().iter().filter_map(|port| port.parse().ok()).collect();
    ports.sort_unstable();
    ports
}

pub(super) fn summary(summary: api::ContainerSummary) -> ContainerSummary {
    let name =
        summary.names.unwrap_or_default().into_iter().map(|name| name.trim_start_matches('/').to_owned());
    // Links add names to a container, each prefixed with another container's name.
    let name = name.min_by_key(|name| name.contains('/')).unwrap_or_default();
    let networks = summary.network_settings.and_then(|settings| settings.networks);
    ContainerSummary {
        id: summary.id.unwrap_or_default(),
        name,
        labels: labels(summary.labels),
        state: state(&summary.state.map(|state| state.to_string()).unwrap_or_default()),
        status: summary.status.unwrap_or_default(),
        image: summary.image.unwrap_or_default(),
        image_id: summary.image_id.unwrap_or_default(),
        created: summary.created.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        ports: summary.ports.unwrap_or_default().iter().filter_map(listed_port).collect(),
        networks: endpoints(networks),
        mounts: mounts(summary.mounts),
    }
}

/// Parses a container state, which listing and inspection return in two different types.
fn state(word: &str) -> ContainerState {
    match word {
        "created" => ContainerState::Created,
        "running" | "stopping" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "exited" => ContainerState::Exited,
        "removing" => ContainerState::Removing,
        _ => ContainerState::Dead,
    }
}

fn listed_port(port: &api::PortSummary) -> Option<PublishedPort> {
    let protocol = port.typ.as_ref().map(ToString::to_string).unwrap_or_default();
    Some(PublishedPort {
        container: format!("{}/{protocol}", port.private_port).parse().ok()?,
        host_ip: address(port.ip.as_ref()),
        host_port: Some(port.public_port?),
    })
}

fn bound_ports(map: Option<api::PortMap>) -> Vec<PublishedPort> {
    let mut ports = Vec::new();
    for (container, bindings) in map.unwrap_or_default() {
        let Ok(container) = container.parse::<Port>() else { continue };
        for binding in bindings.unwrap_or_default() {
            let host_port = binding.host_port.and_then(|port| port.parse().ok());
            ports.push(PublishedPort { container, host_ip: address(binding.host_ip.as_ref()), host_port });
        }
    }
    ports.sort_unstable();
    ports
}

fn endpoints(networks: Option<HashMap<String, api::EndpointSettings>>) -> BTreeMap<String, Endpoint> {
    let convert = |settings: api::EndpointSettings| {
        let configured = settings.ipam_config.unwrap_or_default();
        Endpoint {
            network_id: settings.network_id.unwrap_or_default(),
            ipv4: address(settings.ip_address.as_ref()).or_else(|| address(configured.ipv4_address.as_ref())),
            ipv6: address(settings.global_ipv6_address.as_ref())
                .or_else(|| address(configured.ipv6_address.as_ref())),
            gateway: address(settings.gateway.as_ref()),
            aliases: settings.aliases.unwrap_or_default(),
            mac: settings.mac_address.filter(|mac| !mac.is_empty()),
        }
    };
    networks.unwrap_or_default().into_iter().map(|(name, settings)| (name, convert(settings))).collect()
}

fn mounts(list: Option<Vec<api::MountPoint>>) -> Vec<MountPoint> {
    let convert = |point: api::MountPoint| MountPoint {
        kind: match point.typ.as_ref().map(ToString::to_string).as_deref() {
            Some("volume") => MountPointKind::Volume,
            Some("bind") => MountPointKind::Bind,
            Some("tmpfs") => MountPointKind::Tmpfs,
            _ => MountPointKind::Other,
        },
        name: point.name.unwrap_or_default(),
        source: point.source.unwrap_or_default(),
        target: point.destination.unwrap_or_default(),
        read_only: point.rw == Some(false),
    };
    let mut mounts: Vec<MountPoint> = list.unwrap_or_default().into_iter().map(convert).collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts
}

fn health(health: Option<api::Health>) -> Option<Health> {
    use api::HealthStatusEnum as S;
    let health = health?;
    let status = match health.status? {
        S::STARTING => HealthStatus::Starting,
        S::HEALTHY => HealthStatus::Healthy,
        S::UNHEALTHY => HealthStatus::Unhealthy,
        S::NONE | S::EMPTY => return None,
    };
    let probe = |probe: api::HealthcheckResult| HealthProbe {
        exit_code: probe.exit_code.unwrap_or_default(),
        output: probe.output.unwrap_or_default(),
        start: probe.start.and_then(|time| moment(time.unix_timestamp_nanos())),
        end: probe.end.and_then(|time| moment(time.unix_timestamp_nanos())),
    };
    let failing_streak = health.failing_streak.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    Some(Health {
        status,
        failing_streak,
        log: health.log.unwrap_or_default().into_iter().map(probe).collect(),
    })
}

pub(super) fn container(inspect: api::ContainerInspectResponse) -> Container {
    let state_now = inspect.state.unwrap_or_default();
    let config = inspect.config.unwrap_or_default();
    let network = inspect.network_settings.unwrap_or_default();
    let finished_at = moment_text(state_now.finished_at.as_ref());
    Container {
        id: inspect.id.unwrap_or_default(),
        name: inspect.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        image_id: inspect.image.unwrap_or_default(),
        labels: labels(config.labels),
        state: state(&state_now.status.map(|status| status.to_string()).unwrap_or_default()),
        exit_code: finished_at.and(state_now.exit_code),
        oom_killed: state_now.oom_killed.unwrap_or_default(),
        error: state_now.error.unwrap_or_default(),
        pid: state_now.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        health: health(state_now.health),
        restart_count: inspect.restart_count.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        created: inspect.created.and_then(|time| moment(time.unix_timestamp_nanos())),
        started_at: moment_text(state_now.started_at.as_ref()),
        finished_at,
        networks: endpoints(network.networks),
        ports: bound_ports(network.ports),
        mounts: mounts(inspect.mounts),
        env: config.env.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        workdir: config.working_dir.unwrap_or_default(),
        hostname: config.hostname.unwrap_or_default(),
        tty: config.tty.unwrap_or_default(),
        stdin_open: config.open_stdin.unwrap_or_default(),
        healthcheck: healthcheck(config.healthcheck),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
    }
}
