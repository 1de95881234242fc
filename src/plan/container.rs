//! Translates a service into its container, key by key as Compose does it, except for these deliberate differences:
//!
//! - names, labels and networks are generated, addresses are fixed, and the resolver is the sandbox's gateway;
//! - the gateway publishes the ports, the keeper restarts the services;
//! - secrets and configs are copied in as files, never bind-mounted from the host;
//! - `NET_RAW` is dropped, new privileges (of services that run as root) and fsync are disabled, and the number of
//!   processes is limited, unless the spec says otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::fingerprint::fingerprint;
use super::network::Laid;
use super::volume::Volumes;
use super::{DesiredState, Sharing, divided_limits, gateway, images};
use crate::engine::identity::{self, Role};
use crate::engine::{
    self, Attachment, BlkioLimit, CreateContainer, HealthTest, Healthcheck, Image, Logging, Mount,
    NetworkMode, Resources, SelinuxLabel,
};
use crate::spec::{self, Durability, Hook, MountKind, NetworkName, RestartPolicy, Service};

/// Default limit of processes and threads of a service (`pids_limit`).
const PIDS: i64 = 8192;

pub(super) fn create(
    wish: &DesiredState<'_>,
    service: &Service,
    replica: u32,
    image: Option<&Image>,
    volumes: &Volumes,
    laid: &BTreeMap<NetworkName, Laid>,
    group: Option<&String>,
) -> CreateContainer {
    let name = wish.container(&service.name, replica);
    let mut create = CreateContainer::new(name, images::reference(wish.spec, service));
    process(&mut create, service);
    place(&mut create, wish, service, replica, laid);
    create.mounts = mounts(wish, service, volumes);
    create.tmpfs = service.tmpfs.iter().map(|entry| tmpfs(entry)).collect();
    confine(&mut create, wish, service, image);
    create.settings.cgroup_parent = create.settings.cgroup_parent.or_else(|| group.cloned());
    let sharing = if group.is_some() { Sharing::Group } else { Sharing::Parts };
    create.resources = resources(wish, service, sharing);
    create.healthcheck = service.healthcheck.as_ref().map(healthcheck);
    create.logging = service.logging.as_ref().map(logging);
    let policy = Some(service.restart_policy()).filter(|policy| *policy != RestartPolicy::No);
    create.labels.extend(policy.map(|policy| (identity::RESTART.to_owned(), policy.to_string())));
    // A rebuilt or newly pulled image also changes the container.
    let hash = fingerprint(&create, &(image.map(|image| &image.id), &service.pre_start));
    create.labels.extend(wish.labels(Role::Service));
    create.labels.insert(identity::SERVICE.to_owned(), service.name.to_string());
    create.labels.insert(identity::REPLICA.to_owned(), replica.to_string());
    create.labels.insert(identity::CONFIG_HASH.to_owned(), hash);
    create
}

/// The container of a `pre_start` command. What the hook does not set comes from the service, including its address,
/// which is unused until the service starts.
pub(super) fn init(
    wish: &DesiredState<'_>,
    service: &Service,
    of: &CreateContainer,
    name: &str,
    hook: &Hook,
) -> CreateContainer {
    let mut init = CreateContainer { name: name.to_owned(), ..of.clone() };
    init.labels = service.labels.clone();
    init.labels.extend(wish.labels(Role::Probe));
    init.labels.insert(identity::SERVICE.to_owned(), service.name.to_string());
    if let Some(image) = &hook.image {
        init.image.clone_from(image);
    }
    init.cmd = Some(hook.command.clone());
    init.entrypoint = None;
    init.env.extend(hook.environment.clone());
    init.settings.user = hook.user.clone().or(init.settings.user);
    init.settings.working_dir = hook.working_dir.clone().or(init.settings.working_dir);
    init.settings.privileged |= hook.privileged;
    init.healthcheck = Some(Healthcheck { test: HealthTest::Disabled, ..Healthcheck::default() });
    init
}

fn process(create: &mut CreateContainer, service: &Service) {
    create.platform.clone_from(&service.platform);
    create.cmd.clone_from(&service.command);
    create.entrypoint.clone_from(&service.entrypoint);
    // A variable without a value removes the one of the image.
    create.env = service.environment.clone().into_iter().collect();
    create.labels.clone_from(&service.labels);
    create.settings.clone_from(&service.settings);
    create.storage_opt.clone_from(&service.storage_opt);
    create.cgroup.clone_from(&service.cgroup);
    create.ulimits = images::ulimits(&service.resources.ulimits);
}

/// Sets networks, addresses and names.
fn place(
    create: &mut CreateContainer,
    wish: &DesiredState<'_>,
    service: &Service,
    replica: u32,
    laid: &BTreeMap<NetworkName, Laid>,
) {
    let other = |name: &str| {
        name.strip_prefix("service:")
            .and_then(|name| spec::ServiceName::new(name).ok())
            .map_or_else(|| name.to_owned(), |service| format!("container:{}", wish.container(&service, 1)))
    };
    create.pid = service.pid.as_deref().map(other);
    create.ipc = service.ipc.as_deref().map(other);
    create.volumes_from = service.volumes_from.iter().map(|entry| volumes_from(wish, entry)).collect();
    create.network_mode = match &service.network_mode {
        None => NetworkMode::Attached,
        Some(spec::NetworkMode::None) => NetworkMode::None,
        Some(spec::NetworkMode::Host) => NetworkMode::Host,
        Some(spec::NetworkMode::Bridge(_)) => NetworkMode::Bridge,
        Some(spec::NetworkMode::Service(name)) => NetworkMode::Container(wish.container(name, 1)),
        Some(spec::NetworkMode::Container(name) | spec::NetworkMode::Other(name)) => {
            NetworkMode::Container(name.clone())
        }
    };
    if service.network_mode.is_some() {
        return;
    }
    create.exposed = exposed(service);
    create.networks = attachments(wish, service, replica, laid);
    create.extra_hosts = images::hosts(&service.extra_hosts);
    create.dns_options.clone_from(&service.dns_opt);
    create.dns = service.reachable_resolvers(&wish.spec.egress).map(str::to_owned).collect();
    if create.dns.is_empty() {
        let first = service.networks.keys().find_map(|key| laid.get(key));
        create.dns = first.map(|laid| laid.subnet.gateway().to_string()).into_iter().collect();
    }
    create.dns_search.clone_from(&service.dns_search);
    if create.dns_search.is_empty() {
        create.dns_search.push(".".to_owned());
    }
}

fn volumes_from(wish: &DesiredState<'_>, entry: &str) -> String {
    let (name, mode) = entry.split_once(':').map_or((entry, None), |(name, mode)| (name, Some(mode)));
    let container =
        spec::ServiceName::new(name).map_or_else(|_| name.to_owned(), |service| wish.container(&service, 1));
    mode.map_or_else(|| container.clone(), |mode| format!("{container}:{mode}"))
}

/// Ports from `expose` and the targets of `ports`.
fn exposed(service: &Service) -> Vec<engine::Port> {
    let published = service.ports.iter().map(|port| engine::Port {
        number: port.container,
        protocol: match port.protocol {
            spec::Protocol::Tcp => engine::Protocol::Tcp,
            spec::Protocol::Udp => engine::Protocol::Udp,
            spec::Protocol::Sctp => engine::Protocol::Sctp,
        },
    });
    let mut ports: Vec<engine::Port> =
        service.expose.iter().flat_map(|entry| expose(entry)).chain(published).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Parses an `expose` entry: `8080`, `53/udp`, `3000-3005`.
pub(super) fn expose(entry: &str) -> Vec<engine::Port> {
    let (range, protocol) = entry.split_once('/').unwrap_or((entry, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return Vec::new() };
    (first..=last).filter_map(|number| format!("{number}/{protocol}").parse().ok()).collect()
}

/// The networks of a container, the one with the highest priority first.
fn attachments(
    wish: &DesiredState<'_>,
    service: &Service,
    replica: u32,
    laid: &BTreeMap<NetworkName, Laid>,
) -> Vec<Attachment> {
    let mut on: Vec<(&NetworkName, &spec::Attachment)> = service.networks.iter().collect();
    on.sort_by_key(|(_, attachment)| std::cmp::Reverse(attachment.priority));
    on.into_iter()
        .filter_map(|(key, written)| {
            let laid = laid.get(key)?;
            let mut attachment = Attachment::new(&laid.name).alias(service.name.as_str());
            attachment.aliases.extend(written.aliases.iter().chain(&service.container_name).cloned());
            attachment.ipv4 =
                laid.addresses.get(&(service.name.clone(), replica)).map(|address| IpAddr::V4(*address));
            attachment.mac = written.mac_address.clone().or_else(|| service.mac_address.clone());
            attachment.link_local = written.link_local_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            attachment.options.clone_from(&written.driver_opts);
            attachment.links = service.links.iter().filter_map(|link| self::link(wish, link)).collect();
            Some(attachment)
        })
        .collect()
}

/// Translates `SERVICE` or `SERVICE:ALIAS` to `CONTAINER:ALIAS`.
fn link(wish: &DesiredState<'_>, written: &str) -> Option<String> {
    let (service, alias) = written.split_once(':').unwrap_or((written, written));
    let service = spec::ServiceName::new(service).ok()?;
    wish.spec.services.contains_key(&service).then(|| format!("{}:{alias}", wish.container(&service, 1)))
}

fn mounts(wish: &DesiredState<'_>, service: &Service, volumes: &Volumes) -> Vec<Mount> {
    let of_volumes = volumes.values().map(|volume| Mount {
        target: volume.target.clone(),
        read_only: volume.read_only,
        kind: engine::MountKind::Volume {
            name: volume.name.clone(),
            no_copy: volume.options.as_ref().is_some_and(|options| options.nocopy),
            subpath: volume.options.as_ref().and_then(|options| options.subpath.clone()),
        },
    });
    let others = service.mounts.iter().filter_map(other_mount);
    let mut mounts: Vec<Mount> = of_volumes.chain(others).collect();
    if !service.secrets.is_empty() {
        mounts.push(gateway::secrets_mount(wish, service, "/run/secrets".to_owned()));
    }
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts
}

/// Mounts other than volumes.
fn other_mount(mount: &spec::Mount) -> Option<Mount> {
    let kind = match &mount.kind {
        MountKind::Named { .. } | MountKind::Anonymous { .. } => return None,
        MountKind::Bind { source, options } => engine::MountKind::Bind {
            source: source.display().to_string(),
            propagation: options.as_ref().and_then(|options| options.propagation.clone()),
            create_host_path: options.as_ref().is_some_and(|options| options.create_host_path),
            selinux: options.as_ref().and_then(|options| match options.selinux.as_deref() {
                Some("z") => Some(SelinuxLabel::Shared),
                Some("Z") => Some(SelinuxLabel::Private),
                _ => None,
            }),
        },
        MountKind::Tmpfs { options } => engine::MountKind::Tmpfs {
            size: options.as_ref().and_then(|options| options.size),
            mode: options.as_ref().and_then(|options| options.mode),
        },
        MountKind::Image { image, subpath } => {
            engine::MountKind::Image { reference: image.clone(), subpath: subpath.clone() }
        }
    };
    Some(Mount { target: mount.target.clone(), read_only: mount.read_only, kind })
}

/// Parses `/run` or `/run:size=64m`.
fn tmpfs(entry: &str) -> (String, String) {
    let (target, options) = entry.split_once(':').unwrap_or((entry, ""));
    (target.to_owned(), options.to_owned())
}

fn confine(create: &mut CreateContainer, wish: &DesiredState<'_>, service: &Service, image: Option<&Image>) {
    create.devices = service
        .devices
        .iter()
        .map(|device| engine::Device {
            source: device.source.clone(),
            target: device.target.clone(),
            permissions: if device.permissions.is_empty() {
                "rwm".into()
            } else {
                device.permissions.clone()
            },
        })
        .collect();
    create.device_requests = service
        .resources
        .gpus
        .iter()
        .chain(
            service
                .deploy
                .iter()
                .filter_map(|deploy| deploy.reservations.as_ref())
                .flat_map(|bounds| bounds.devices.iter()),
        )
        .map(|request| engine::DeviceRequest {
            driver: request.driver.clone(),
            count: request.count,
            ids: request.device_ids.clone(),
            capabilities: vec![request.capabilities.clone()],
            options: request.options.clone(),
        })
        .collect();
    create.settings.security_opt =
        service.settings.security_opt.iter().map(|option| security_option(option)).collect();
    if service.settings.privileged {
        return;
    }
    let asks = |capability: &str| {
        create.settings.cap_add.iter().any(|added| {
            let added = added.to_ascii_uppercase();
            let added = added.strip_prefix("CAP_").unwrap_or(&added).to_owned();
            added == capability || added == "ALL"
        })
    };
    if !asks("NET_RAW") && !create.settings.cap_drop.iter().any(|dropped| dropped.eq_ignore_ascii_case("all"))
    {
        create.settings.cap_drop.push("NET_RAW".to_owned());
        create.settings.cap_drop.sort_unstable();
        create.settings.cap_drop.dedup();
    }
    let says = |what: &str| create.settings.security_opt.iter().any(|option| option.starts_with(what));
    let (privileges, seccomp) = (says("no-new-privileges"), says("seccomp"));
    if !privileges && runs_as_root(service, image) {
        create.settings.security_opt.push("no-new-privileges:true".to_owned());
    }
    if let (Some(profile), false, Durability::Throwaway) =
        (&wish.throwaway_seccomp, seccomp, service.durable.unwrap_or(wish.spec.durable))
    {
        create.settings.security_opt.push(format!("seccomp={profile}"));
    }
}

/// Whether a service's process runs as root. A process of another user has no capabilities, so with
/// `no-new-privileges` a hook or an `exec` that runs as root would have none either.
fn runs_as_root(service: &Service, image: Option<&Image>) -> bool {
    let user = service.settings.user.as_deref().filter(|user| !user.is_empty());
    let user = user.or(image.map(|image| image.config.user.as_str())).unwrap_or_default();
    matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

/// Compose allows `label:disable`, the engine writes `label=disable`; both accept the second form.
fn security_option(written: &str) -> String {
    match written.split_once(':') {
        Some((key, value)) if !key.contains('=') && key != "no-new-privileges" => format!("{key}={value}"),
        _ => written.to_owned(),
    }
}

fn resources(wish: &DesiredState<'_>, service: &Service, sharing: Sharing) -> Resources {
    let share = super::shares(wish.spec, sharing).remove(&service.name).unwrap_or_default();
    let written = &service.resources;
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let blkio = written.blkio.clone().unwrap_or_default();
    let rates = |rates: &[spec::DeviceRate]| -> Vec<BlkioLimit> {
        rates.iter().map(|rate| BlkioLimit { path: rate.path.clone(), value: whole(rate.rate) }).collect()
    };
    Resources {
        memory: share.memory.map(whole),
        memory_swap: written.memswap_limit,
        memory_reservation: service.memory_reservation().map(whole),
        memory_swappiness: written.mem_swappiness.map(whole),
        cpus: share.cpus.filter(|_| !divided_limits::told_by_quota(service)),
        cpu_period: written.cpu_period,
        cpu_quota: divided_limits::quota_of(service, wish.spec.limits.cpus, share.cpus, sharing),
        cpu_rt_period: written.cpu_rt_period,
        cpu_rt_runtime: written.cpu_rt_runtime,
        #[expect(clippy::cast_possible_truncation, reason = "a share of 100")]
        cpu_percent: written.cpu_percent.map(|percent| percent as i64),
        cpuset_mems: None,
        pids_limit: Some(share.pids.or(service.pids_limit()).unwrap_or(PIDS)),
        blkio_weight: blkio.weight,
        blkio_weight_device: blkio
            .weight_device
            .iter()
            .map(|device| BlkioLimit { path: device.path.clone(), value: i64::from(device.weight) })
            .collect(),
        blkio_read_bps: rates(&blkio.device_read_bps),
        blkio_read_iops: rates(&blkio.device_read_iops),
        blkio_write_bps: rates(&blkio.device_write_bps),
        blkio_write_iops: rates(&blkio.device_write_iops),
    }
}

fn healthcheck(written: &spec::Healthcheck) -> Healthcheck {
    let test = match &written.test {
        _ if written.is_disabled() => HealthTest::Disabled,
        None | Some(spec::HealthTest::None) => HealthTest::Inherit,
        Some(spec::HealthTest::Exec(words)) => HealthTest::Exec(words.clone()),
        Some(spec::HealthTest::Shell(line)) => HealthTest::Shell(line.clone()),
    };
    Healthcheck {
        test,
        interval: written.interval,
        timeout: written.timeout,
        retries: written.retries.and_then(|retries| u32::try_from(retries).ok()),
        start_period: written.start_period,
        start_interval: written.start_interval,
    }
}

fn logging(written: &spec::Logging) -> Logging {
    Logging {
        driver: written.driver.clone(),
        options: written
            .options
            .iter()
            .filter_map(|(key, value)| value.clone().map(|value| (key.clone(), value)))
            .collect(),
    }
}
