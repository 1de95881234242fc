//! Converts [`CreateContainer`] to the body of the API request.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models as api;

use crate::engine::identity;
use crate::engine::{
    ApiVersion, Attachment, BlkioLimit, CreateContainer, Healthcheck, Mount, MountKind, NetworkMode,
    PublishedPort, Resources, RestartPolicy, SelinuxLabel,
};
use crate::spec::ContainerSettings;

/// The first API version that accepts several networks on create.
const SEVERAL_NETWORKS: ApiVersion = ApiVersion { major: 1, minor: 44 };

/// Whether create accepts several networks.
pub(super) fn takes_several_networks(version: ApiVersion) -> bool {
    version >= SEVERAL_NETWORKS
}

/// The body of the create request.
pub(super) fn body(
    container: &CreateContainer,
    version: ApiVersion,
) -> serde_json::Result<serde_json::Value> {
    let (c, s) = (container, &container.settings);
    let typed = api::ContainerCreateBody {
        hostname: s.hostname.clone(),
        domainname: s.domainname.clone(),
        user: s.user.clone(),
        exposed_ports: listed(
            c.exposed.iter().chain(c.published.iter().map(|p| &p.container)).map(ToString::to_string),
        ),
        tty: Some(s.tty),
        open_stdin: Some(s.stdin_open),
        stdin_once: Some(c.stdin_once),
        env: listed(c.env.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        })),
        cmd: c.cmd.clone(),
        entrypoint: c.entrypoint.clone(),
        healthcheck: c.healthcheck.as_ref().map(healthcheck),
        image: Some(c.image.clone()),
        working_dir: s.working_dir.clone(),
        labels: mapped(&identity::complete(&c.labels)),
        stop_signal: s.stop_signal.clone(),
        stop_timeout: s.stop_grace_period.map(seconds),
        host_config: Some(host_config(c)),
        networking_config: Some(api::NetworkingConfig { endpoints_config: Some(at_create(c, version)) }),
        ..Default::default()
    };
    let mut body = serde_json::to_value(typed)?;
    let object = body.as_object_mut();
    if let (Some(object), Some(Attachment { mac: Some(mac), .. })) = (object, c.networks.first())
        && !takes_several_networks(version)
    {
        // Older engines read the MAC address only from here, and bollard no longer has the field.
        object.insert("MacAddress".into(), mac.clone().into());
    }
    if c.entrypoint.as_deref() == Some(&[]) {
        // "No entrypoint": an empty list would mean the image's.
        body["Entrypoint"] = serde_json::json!([""]);
    }
    Ok(body)
}

/// Whole seconds, rounded up: half a second of grace must not become zero.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).unwrap_or(i64::MAX)
}

fn at_create(c: &CreateContainer, version: ApiVersion) -> HashMap<String, api::EndpointSettings> {
    let count = if takes_several_networks(version) { c.networks.len() } else { 1 };
    c.networks
        .iter()
        .take(count)
        .map(|attachment| (attachment.network.clone(), endpoint(attachment)))
        .collect()
}

/// Converts a network connection.
pub(super) fn endpoint(attachment: &Attachment) -> api::EndpointSettings {
    let a = attachment;
    let fixed = a.ipv4.is_some() || a.ipv6.is_some() || !a.link_local.is_empty();
    api::EndpointSettings {
        aliases: listed(a.aliases.iter().cloned()),
        ipam_config: fixed.then(|| api::EndpointIpamConfig {
            ipv4_address: a.ipv4.map(|address| address.to_string()),
            ipv6_address: a.ipv6.map(|address| address.to_string()),
            link_local_ips: listed(a.link_local.iter().map(ToString::to_string)),
        }),
        links: listed(a.links.iter().cloned()),
        mac_address: a.mac.clone(),
        driver_opts: mapped(&a.options),
        gw_priority: a.gateway_priority,
        ..Default::default()
    }
}

fn host_config(c: &CreateContainer) -> api::HostConfig {
    let (binds, mounts) = split_mounts(&c.mounts);
    let s = &c.settings;
    let limits = resources(&c.resources, s);
    api::HostConfig {
        binds: some(binds),
        mounts: some(mounts),
        network_mode: Some(network_mode(c)),
        port_bindings: published(&c.published),
        restart_policy: Some(restart_policy(c.restart)),
        auto_remove: Some(c.auto_remove),
        annotations: mapped(&s.annotations),
        group_add: listed(s.group_add.iter().cloned()),
        init: s.init,
        runtime: s.runtime.clone(),
        dns: listed(c.dns.iter().cloned()),
        dns_search: listed(c.dns_search.iter().cloned()),
        dns_options: listed(c.dns_options.iter().cloned()),
        extra_hosts: listed(c.extra_hosts.iter().cloned()),
        links: listed(c.links.iter().cloned()),
        tmpfs: mapped(&c.tmpfs),
        volumes_from: listed(c.volumes_from.iter().cloned()),
        volume_driver: c.volume_driver.clone(),
        readonly_rootfs: Some(s.read_only),
        storage_opt: mapped(&c.storage_opt),
        shm_size: s.shm_size.and_then(|bytes| i64::try_from(bytes).ok()),
        privileged: Some(s.privileged),
        cap_add: listed(s.cap_add.iter().cloned()),
        cap_drop: listed(s.cap_drop.iter().cloned()),
        security_opt: listed(s.security_opt.iter().cloned()),
        sysctls: mapped(&s.sysctls),
        ulimits: listed(c.ulimits.iter().map(|limit| api::ResourcesUlimits {
            name: Some(limit.name.clone()),
            soft: Some(limit.soft),
            hard: Some(limit.hard),
        })),
        devices: listed(c.devices.iter().map(|device| api::DeviceMapping {
            path_on_host: Some(device.source.clone()),
            path_in_container: Some(device.target.clone()),
            cgroup_permissions: Some(device.permissions.clone()),
        })),
        device_cgroup_rules: listed(s.device_cgroup_rules.iter().cloned()),
        device_requests: listed(c.device_requests.iter().map(|request| api::DeviceRequest {
            driver: request.driver.clone(),
            count: request.count,
            device_ids: listed(request.ids.iter().cloned()),
            capabilities: listed(request.capabilities.iter().cloned()),
            options: mapped(&request.options),
        })),
        readonly_paths: c.readonly_paths.clone(),
        ipc_mode: c.ipc.clone(),
        pid_mode: c.pid.clone(),
        uts_mode: s.uts.clone(),
        userns_mode: s.userns_mode.clone(),
        cgroupns_mode: c.cgroup.as_deref().and_then(|mode| mode.parse().ok()),
        cgroup_parent: s.cgroup_parent.clone(),
        isolation: s.isolation.as_deref().and_then(|isolation| isolation.parse().ok()),
        log_config: c.logging.as_ref().map(|logging| api::HostConfigLogConfig {
            typ: logging.driver.clone(),
            config: mapped(&logging.options),
        }),
        ..limits
    }
}

fn resources(r: &Resources, s: &ContainerSettings) -> api::HostConfig {
    let throttle = |limits: &[BlkioLimit]| {
        listed(
            limits
                .iter()
                .map(|limit| api::ThrottleDevice { path: Some(limit.path.clone()), rate: Some(limit.value) }),
        )
    };
    #[expect(clippy::cast_possible_truncation, reason = "a billionth of a processor is small enough")]
    let nano_cpus = r.cpus.map(|cpus| (cpus * 1e9).round() as i64);
    api::HostConfig {
        memory: r.memory,
        memory_swap: r.memory_swap,
        memory_reservation: r.memory_reservation,
        memory_swappiness: r.memory_swappiness,
        nano_cpus,
        cpu_shares: s.cpu_shares,
        cpu_period: r.cpu_period,
        cpu_quota: r.cpu_quota,
        cpu_realtime_period: r.cpu_rt_period,
        cpu_realtime_runtime: r.cpu_rt_runtime,
        cpu_count: s.cpu_count,
        cpu_percent: r.cpu_percent,
        cpuset_cpus: s.cpuset.clone(),
        cpuset_mems: r.cpuset_mems.clone(),
        pids_limit: r.pids_limit,
        oom_kill_disable: s.oom_kill_disable.then_some(true),
        oom_score_adj: s.oom_score_adj,
        blkio_weight: r.blkio_weight,
        blkio_weight_device: listed(r.blkio_weight_device.iter().map(|limit| {
            api::ResourcesBlkioWeightDevice {
                path: Some(limit.path.clone()),
                weight: usize::try_from(limit.value).ok(),
            }
        })),
        blkio_device_read_bps: throttle(&r.blkio_read_bps),
        blkio_device_read_iops: throttle(&r.blkio_read_iops),
        blkio_device_write_bps: throttle(&r.blkio_write_bps),
        blkio_device_write_iops: throttle(&r.blkio_write_iops),
        ..Default::default()
    }
}

fn network_mode(c: &CreateContainer) -> String {
    match &c.network_mode {
        NetworkMode::Attached => c.networks.first().map_or("none", |first| &first.network).to_owned(),
        NetworkMode::None => "none".into(),
        NetworkMode::Bridge => "bridge".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::Container(name) => format!("container:{name}"),
    }
}

fn restart_policy(policy: RestartPolicy) -> api::RestartPolicy {
    use api::RestartPolicyNameEnum as Name;
    let (name, count) = match policy {
        RestartPolicy::No => (Name::NO, None),
        RestartPolicy::Always => (Name::ALWAYS, None),
        RestartPolicy::UnlessStopped => (Name::UNLESS_STOPPED, None),
        RestartPolicy::OnFailure(count) => (Name::ON_FAILURE, count.map(i64::from)),
    };
    api::RestartPolicy { name: Some(name), maximum_retry_count: count }
}

fn published(ports: &[PublishedPort]) -> Option<api::PortMap> {
    let mut map = api::PortMap::new();
    for port in ports {
        let binding = api::PortBinding {
            host_ip: port.host_ip.map(|address| address.to_string()),
            host_port: Some(port.host_port.map_or_else(String::new, |port| port.to_string())),
        };
        map.entry(port.container.to_string()).or_default().get_or_insert_default().push(binding);
    }
    (!map.is_empty()).then_some(map)
}

fn healthcheck(check: &Healthcheck) -> api::HealthConfig {
    let nanos = |duration: Option<Duration>| duration.and_then(|d| i64::try_from(d.as_nanos()).ok());
    api::HealthConfig {
        test: some(check.test.to_list()),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries.map(i64::from),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    }
}

/// Splits mounts: binds that create their source or are relabelled need the API's older, textual form.
fn split_mounts(list: &[Mount]) -> (Vec<String>, Vec<api::Mount>) {
    let mut binds = Vec::new();
    let mut mounts = Vec::new();
    for mount in list {
        match &mount.kind {
            MountKind::Bind { source, propagation, create_host_path, selinux }
                if *create_host_path || selinux.is_some() =>
            {
                let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
                options.extend(selinux.map(|label| match label {
                    SelinuxLabel::Shared => "z",
                    SelinuxLabel::Private => "Z",
                }));
                options.extend(propagation.as_deref());
                binds.push(format!("{source}:{}:{}", mount.target, options.join(",")));
            }
            kind => mounts.push(as_mount(mount, kind)),
        }
    }
    (binds, mounts)
}

fn as_mount(mount: &Mount, kind: &MountKind) -> api::Mount {
    let base = api::Mount {
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Default::default()
    };
    match kind {
        MountKind::Volume { name, no_copy, subpath } => api::Mount {
            typ: Some(api::MountType::VOLUME),
            source: Some(name.clone()),
            volume_options: Some(api::MountVolumeOptions {
                no_copy: Some(*no_copy),
                subpath: subpath.clone(),
                ..Default::default()
            }),
            ..base
        },
        MountKind::NewVolume { create, no_copy } => api::Mount {
            typ: Some(api::MountType::VOLUME),
            source: Some(create.name.clone()),
            volume_options: Some(api::MountVolumeOptions {
                no_copy: Some(*no_copy),
                labels: mapped(&create.labels),
                driver_config: Some(api::MountVolumeOptionsDriverConfig {
                    name: Some(create.driver.clone().unwrap_or_else(|| "local".into())),
                    options: mapped(&create.options),
                }),
                ..Default::default()
            }),
            ..base
        },
        MountKind::Bind { source, propagation, .. } => api::Mount {
            typ: Some(api::MountType::BIND),
            source: Some(source.clone()),
            bind_options: propagation.as_deref().and_then(|p| p.parse().ok()).map(|propagation| {
                api::MountBindOptions { propagation: Some(propagation), ..Default::default() }
            }),
            ..base
        },
        MountKind::Tmpfs { size, mode } => api::Mount {
            typ: Some(api::MountType::TMPFS),
            tmpfs_options: Some(api::MountTmpfsOptions {
                size_bytes: size.and_then(|bytes| i64::try_from(bytes).ok()),
                mode: mode.map(i64::from),
                ..Default::default()
            }),
            ..base
        },
        MountKind::Image { reference, subpath } => api::Mount {
            typ: Some(api::MountType::IMAGE),
            source: Some(reference.clone()),
            image_options: Some(api::MountImageOptions { subpath: subpath.clone() }),
            ..base
        },
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn listed<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    some(items.collect())
}

pub(super) fn mapped(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Port;

    const OLD: ApiVersion = ApiVersion { major: 1, minor: 41 };
    const NEW: ApiVersion = ApiVersion { major: 1, minor: 45 };

    fn two_networks() -> CreateContainer {
        let mut container = CreateContainer::new("c", "i");
        container.networks = vec![Attachment::new("a").alias("web"), Attachment::new("b")];
        container
    }

    #[test]
    fn an_older_engine_is_given_only_the_first_network() {
        let old = body(&two_networks(), OLD).unwrap();
        assert_eq!(old["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap().len(), 1);
        let new = body(&two_networks(), NEW).unwrap();
        assert_eq!(new["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap().len(), 2);
        assert_eq!(new["HostConfig"]["NetworkMode"], "a");
        assert_eq!(new["NetworkingConfig"]["EndpointsConfig"]["a"]["Aliases"][0], "web");
    }

    #[test]
    fn a_container_on_no_network_has_none() {
        let alone = body(&CreateContainer::new("c", "i"), OLD).unwrap();
        assert_eq!(alone["HostConfig"]["NetworkMode"], "none");
    }

    #[test]
    fn a_bind_that_may_create_its_source_is_written_the_older_way() {
        let mut container = CreateContainer::new("c", "i");
        let mut made = Mount::bind("/a", "/b").read_only();
        made.kind =
            MountKind::Bind { source: "/a".into(), propagation: None, create_host_path: true, selinux: None };
        container.mounts = vec![made, Mount::bind("/c", "/d"), Mount::volume("v", "/e")];
        let body = body(&container, OLD).unwrap();
        assert_eq!(body["HostConfig"]["Binds"], serde_json::json!(["/a:/b:ro"]));
        assert_eq!(body["HostConfig"]["Mounts"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn published_ports_are_exposed_too() {
        let mut container = CreateContainer::new("c", "i");
        let port =
            PublishedPort { container: Port::tcp(80), host_ip: "127.0.0.1".parse().ok(), host_port: None };
        container.published = vec![port];
        let body = body(&container, OLD).unwrap();
        assert_eq!(body["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
        assert_eq!(body["HostConfig"]["PortBindings"]["80/tcp"][0]["HostIp"], "127.0.0.1");
    }

    #[test]
    fn half_a_second_of_grace_is_rounded_up() {
        assert_eq!(seconds(Duration::from_millis(500)), 1);
        assert_eq!(seconds(Duration::ZERO), 0);
    }
}
