//! Renders a service.

use serde_json::{Value as Json, json};

use super::super::model::{
    Attachment, BlkioConfig, Build, Deploy, DeviceRate, DeviceRequest, Dockerfile, FileGrant, Healthcheck,
    Hook, Mount, MountKind, NetworkMode, Port, PullPolicy, ResourceBounds, Resources, Service, Ulimit,
};
use super::super::units::duration_text;
use super::{Form, Object, extended, number, sandbox_keys};

pub(super) fn service(service: &Service, form: Form) -> Object {
    let mut object = Object::default();
    image(&mut object, service, form);
    process(&mut object, service, form);
    service.settings.render(&mut object);
    rights(&mut object, service);
    resources(&mut object, &service.resources, form);
    surroundings(&mut object, service, form);
    life(&mut object, service, form);
    object.object("x-sandbox", sandbox_keys::service(service));
    extended(&mut object, &service.extensions, form);
    object
}

fn image(object: &mut Object, service: &Service, form: Form) {
    object.some("image", service.image().filter(|image| !image.is_empty()));
    object.some("build", service.build().map(|one| build(one, form)));
    object
        .some("platform", service.platform.clone())
        .some("pull_policy", service.pull_policy.map(pull_policy));
}

fn process(object: &mut Object, service: &Service, form: Form) {
    for (key, words) in [("command", &service.command), ("entrypoint", &service.entrypoint)] {
        match (words, form) {
            // Compose's JSON uses null for "not set", an empty list for "cleared".
            (None, Form::Compose) => object.set(key, Json::Null),
            (words, _) => object.some(key, words.clone()),
        };
    }
    object
        .options("environment", &service.environment)
        .pairs("labels", &service.labels)
        .texts("profiles", &service.profiles)
        .some("attach", service.attach);
    if let Some(logging) = &service.logging {
        let mut inner = Object::default();
        inner.some("driver", logging.driver.clone()).options("options", &logging.options);
        object.set("logging", inner);
    }
}

fn rights(object: &mut Object, service: &Service) {
    object
        .some("cgroup", service.cgroup.clone())
        .some("pid", service.pid.clone())
        .some("ipc", service.ipc.clone())
        .pairs("storage_opt", &service.storage_opt);
    let devices = service.devices.iter().map(|device| {
        json!({ "source": device.source, "target": device.target, "permissions": device.permissions })
    });
    object.list("devices", devices.collect());
}

fn resources(object: &mut Object, resources: &Resources, form: Form) {
    // Compose's JSON treats zero as "not set".
    let text = |size: u64| size.to_string();
    let given = |n: Option<f64>| n.filter(|n| *n != 0.0).map(number);
    object
        .some("mem_limit", resources.mem_limit.filter(|n| *n > 0).map(text))
        .some("mem_reservation", resources.mem_reservation.filter(|n| *n > 0).map(text))
        .some("mem_swappiness", resources.mem_swappiness.filter(|n| *n > 0 || form == Form::Spec).map(text))
        .some("memswap_limit", resources.memswap_limit.map(|size| size.to_string()))
        .some("cpus", given(resources.cpus))
        .some("cpu_percent", given(resources.cpu_percent))
        .some("cpu_period", resources.cpu_period)
        .some("cpu_quota", resources.cpu_quota)
        .some("cpu_rt_period", resources.cpu_rt_period)
        .some("cpu_rt_runtime", resources.cpu_rt_runtime)
        .some("pids_limit", resources.pids_limit)
        .some("blkio_config", resources.blkio.as_ref().map(|one| blkio(one, form)))
        .some("ulimits", ulimits(&resources.ulimits))
        .list("gpus", resources.gpus.iter().map(request).collect());
}

fn blkio(blkio: &BlkioConfig, form: Form) -> Object {
    // Compose's JSON has these keys in capitals, which Compose itself does not read.
    let (path, rate, weight) =
        if form == Form::Compose { ("Path", "Rate", "Weight") } else { ("path", "rate", "weight") };
    let rates = |rates: &[DeviceRate]| {
        rates.iter().map(|r| json!({ path: r.path, rate: r.rate.to_string() })).collect()
    };
    let weights = blkio.weight_device.iter().map(|w| json!({ path: w.path, weight: w.weight }));
    let mut object = Object::default();
    object
        .some("weight", blkio.weight)
        .list("weight_device", weights.collect())
        .list("device_read_bps", rates(&blkio.device_read_bps))
        .list("device_read_iops", rates(&blkio.device_read_iops))
        .list("device_write_bps", rates(&blkio.device_write_bps))
        .list("device_write_iops", rates(&blkio.device_write_iops));
    object
}

fn ulimits(limits: &std::collections::BTreeMap<String, Ulimit>) -> Option<Object> {
    let mut object = Object::default();
    for (name, limit) in limits {
        if limit.single {
            object.set(name, limit.soft);
        } else {
            object.set(name, json!({ "soft": limit.soft, "hard": limit.hard }));
        }
    }
    (!limits.is_empty()).then_some(object)
}

fn request(request: &DeviceRequest) -> Json {
    let mut object = Object::default();
    object
        .texts("capabilities", &request.capabilities)
        .some("driver", request.driver.clone())
        .some("count", request.count)
        .texts("device_ids", &request.device_ids)
        .pairs("options", &request.options);
    object.into()
}

fn surroundings(object: &mut Object, service: &Service, form: Form) {
    object
        .some("mac_address", service.mac_address.clone())
        .some("container_name", service.container_name.clone())
        .some("network_mode", service.network_mode.as_ref().map(network_mode))
        .list("ports", service.ports.iter().map(port).collect())
        .texts("expose", &service.expose)
        .texts("links", &service.links)
        .texts("external_links", &service.external_links)
        .list("extra_hosts", hosts(&service.extra_hosts))
        .texts("dns", &service.dns)
        .texts("dns_search", &service.dns_search)
        .texts("dns_opt", &service.dns_opt)
        .list("volumes", service.mounts.iter().map(mount).collect())
        .texts("volumes_from", &service.volumes_from)
        .texts("tmpfs", &service.tmpfs)
        .list("secrets", service.secrets.iter().map(|grant| granted(grant, Some("/run/secrets/"))).collect())
        .list("configs", service.configs.iter().map(|grant| granted(grant, None)).collect());
    let mut networks = Object::default();
    for (name, one) in &service.networks {
        networks.set(name.as_str(), attachment(one, form));
    }
    object.object("networks", networks);
}

fn attachment(attachment: &Attachment, form: Form) -> Json {
    if !attachment.written {
        return Json::Null;
    }
    let mut object = Object::default();
    object
        .some("priority", Some(attachment.priority).filter(|priority| *priority != 0))
        .texts("aliases", &attachment.aliases)
        .some("ipv4_address", attachment.ipv4_address.clone())
        .some("ipv6_address", attachment.ipv6_address.clone())
        .texts("link_local_ips", &attachment.link_local_ips)
        .some("mac_address", attachment.mac_address.clone())
        .pairs("driver_opts", &attachment.driver_opts);
    extended(&mut object, &attachment.extensions, form);
    object.into()
}

fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Bridge(name) | NetworkMode::Other(name) => name.clone(),
        NetworkMode::Service(name) => format!("service:{name}"),
        NetworkMode::Container(name) => format!("container:{name}"),
    }
}

fn port(port: &Port) -> Json {
    let published = port.host.map(|host| {
        if host.start == host.end { host.start.to_string() } else { format!("{}-{}", host.start, host.end) }
    });
    let mut object = Object::default();
    object
        .some("name", port.name.clone())
        .set("mode", port.mode.as_deref().unwrap_or("ingress"))
        .some("host_ip", port.host_ip.clone())
        .set("target", port.container)
        .some("published", published)
        .set("protocol", port.protocol.word())
        .some("app_protocol", port.app_protocol.clone());
    object.into()
}

fn hosts(hosts: &std::collections::BTreeMap<String, Vec<String>>) -> Vec<Json> {
    hosts
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(move |address| json!(format!("{name}={address}"))))
        .collect()
}

fn mount(mount: &Mount) -> Json {
    let mut object = Object::default();
    let kind = match &mount.kind {
        MountKind::Named { .. } | MountKind::Anonymous { .. } => "volume",
        MountKind::Bind { .. } => "bind",
        MountKind::Tmpfs { .. } => "tmpfs",
        MountKind::Image { .. } => "image",
    };
    object.set("type", kind).set("target", mount.target.as_str());
    object.flag("read_only", mount.read_only).some("consistency", mount.consistency.clone());
    match &mount.kind {
        MountKind::Named { volume, .. } => object.set("source", volume.as_str()),
        MountKind::Bind { source, .. } => object.set("source", source.to_string_lossy()),
        MountKind::Image { image, .. } => object.set("source", image.as_str()),
        MountKind::Anonymous { .. } | MountKind::Tmpfs { .. } => &mut object,
    };
    let mut inner = Object::default();
    match &mount.kind {
        MountKind::Named { options: Some(options), .. } | MountKind::Anonymous { options: Some(options) } => {
            inner.flag("nocopy", options.nocopy).some("subpath", options.subpath.clone());
            object.set("volume", inner);
        }
        MountKind::Bind { options: Some(options), .. } => {
            inner
                .some("selinux", options.selinux.clone())
                .some("propagation", options.propagation.clone())
                .flag("create_host_path", options.create_host_path)
                .some("recursive", options.recursive.clone());
            object.set("bind", inner);
        }
        MountKind::Tmpfs { options: Some(options) } => {
            inner.some("size", options.size.map(|size| size.to_string())).some("mode", options.mode);
            object.set("tmpfs", inner);
        }
        MountKind::Image { subpath: Some(subpath), .. } => {
            inner.set("subpath", subpath.as_str());
            object.set("image", inner);
        }
        _ => {}
    }
    object.into()
}

fn granted(grant: &FileGrant, folder: Option<&str>) -> Json {
    let target = grant.target.clone().or_else(|| folder.map(|folder| format!("{folder}{}", grant.source)));
    let mut object = Object::default();
    object
        .set("source", grant.source.as_str())
        .some("target", target)
        .some("uid", grant.uid.clone())
        .some("gid", grant.gid.clone())
        .some("mode", grant.mode.map(octal));
    object.into()
}

fn life(object: &mut Object, service: &Service, form: Form) {
    let mut dependencies = Object::default();
    for (name, dependency) in &service.depends_on {
        let mut one = Object::default();
        one.set("condition", dependency.condition.word())
            .flag("restart", dependency.restart)
            .set("required", dependency.required);
        if !dependency.required {
            // Compose's JSON omits `false`, but the reader only takes it from an explicit value.
            one.set("required", false);
        }
        dependencies.set(name.as_str(), one);
    }
    object
        .object("depends_on", dependencies)
        .some("healthcheck", service.healthcheck.as_ref().map(healthcheck))
        .some("restart", service.restart.map(|policy| policy.to_string()))
        .list("pre_start", service.pre_start.iter().map(hook).collect())
        .list("post_start", service.post_start.iter().map(hook).collect())
        .list("pre_stop", service.pre_stop.iter().map(hook).collect())
        .some("deploy", service.deploy.as_ref().map(deploy))
        .some("scale", service.scale);
    let watch: Vec<Json> = service
        .watch
        .iter()
        .map(|rule| {
            let mut one = Object::default();
            one.set("path", rule.path.to_string_lossy())
                .set("action", json!(rule.action))
                .some("target", rule.target.clone())
                .texts("ignore", &rule.ignore)
                .texts("include", &rule.include)
                .flag("initial_sync", rule.initial_sync)
                .some("exec", rule.exec.as_ref().map(hook));
            if rule.exec.is_none() && form == Form::Compose {
                one.set("exec", json!({ "command": null }));
            }
            one.into()
        })
        .collect();
    if !watch.is_empty() {
        object.set("develop", json!({ "watch": watch }));
    }
}

fn hook(hook: &Hook) -> Json {
    let mut object = Object::default();
    object
        .texts("command", &hook.command)
        .some("image", hook.image.clone())
        .flag("per_replica", hook.per_replica)
        .some("user", hook.user.clone())
        .flag("privileged", hook.privileged)
        .some("working_dir", hook.working_dir.clone())
        .options("environment", &hook.environment);
    object.into()
}

fn healthcheck(check: &Healthcheck) -> Object {
    let mut object = Object::default();
    object
        .some("test", check.test.as_ref().map(super::super::model::HealthTest::to_words))
        .some("timeout", check.timeout.map(duration_text))
        .some("interval", check.interval.map(duration_text))
        .some("retries", check.retries)
        .some("start_period", check.start_period.map(duration_text))
        .some("start_interval", check.start_interval.map(duration_text))
        .flag("disable", check.disable);
    object
}

/// Formats a file mode in octal.
fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn pull_policy(policy: PullPolicy) -> String {
    match policy {
        PullPolicy::Always => "always".to_owned(),
        PullPolicy::Never => "never".to_owned(),
        PullPolicy::Missing | PullPolicy::IfNotPresent => "missing".to_owned(),
        PullPolicy::Build => "build".to_owned(),
        PullPolicy::Daily => "daily".to_owned(),
        PullPolicy::Weekly => "weekly".to_owned(),
        PullPolicy::Refresh => "refresh".to_owned(),
        PullPolicy::Every(seconds) => {
            let (unit, length) = [("d", 86_400), ("h", 3_600), ("m", 60)]
                .into_iter()
                .find(|(_, length)| seconds % length == 0)
                .unwrap_or(("s", 1));
            format!("every_{}{unit}", seconds / length)
        }
    }
}

fn build(build: &Build, form: Form) -> Object {
    let mut object = Object::default();
    object.set("context", build.context.as_str());
    match &build.dockerfile {
        Dockerfile::File(file) => object.set("dockerfile", file.as_str()),
        Dockerfile::Inline(text) => object.set("dockerfile_inline", text.as_str()),
    };
    let ssh = build.ssh.iter().map(|(id, path)| match path {
        Some(path) => json!(format!("{id}={path}")),
        None => json!(id),
    });
    let secrets = build.secrets.iter().map(|secret| {
        let mut one = Object::default();
        one.set("source", secret.source.as_str())
            .some("target", secret.target.clone())
            .some("uid", secret.uid.clone())
            .some("gid", secret.gid.clone())
            .some("mode", secret.mode.map(octal));
        one.into()
    });
    object
        .options("args", &build.args)
        .list("ssh", ssh.collect())
        .pairs("labels", &build.labels)
        .texts("cache_from", &build.cache_from)
        .texts("cache_to", &build.cache_to)
        .flag("no_cache", build.no_cache)
        .texts("no_cache_filter", &build.no_cache_filter)
        .flag("pull", build.pull)
        .pairs("additional_contexts", &build.additional_contexts)
        .list("extra_hosts", hosts(&build.extra_hosts))
        .some("isolation", build.isolation.clone())
        .some("network", build.network.clone())
        .some("target", build.target.clone())
        .list("secrets", secrets.collect())
        .some("shm_size", build.shm_size.map(|size| size.to_string()))
        .texts("tags", &build.tags)
        .some("ulimits", ulimits(&build.ulimits))
        .texts("platforms", &build.platforms)
        .flag("privileged", build.privileged)
        .texts("entitlements", &build.entitlements);
    extended(&mut object, &build.extensions, form);
    object
}

fn deploy(deploy: &Deploy) -> Object {
    let mut resources = Object::default();
    resources.some("limits", deploy.limits.as_ref().map(bounds));
    resources.some("reservations", deploy.reservations.as_ref().map(bounds));
    let mut object = Object::default();
    object
        .some("mode", deploy.mode.clone())
        .some("replicas", deploy.replicas)
        .pairs("labels", &deploy.labels)
        .some("update_config", deploy.update_config.clone())
        .some("rollback_config", deploy.rollback_config.clone())
        .set("resources", resources)
        .some("restart_policy", deploy.restart_policy.clone())
        .set("placement", if deploy.placement.is_null() { json!({}) } else { deploy.placement.clone() })
        .some("endpoint_mode", deploy.endpoint_mode.clone());
    object
}

fn bounds(bounds: &ResourceBounds) -> Object {
    let mut object = Object::default();
    object
        .some("cpus", bounds.cpus().map(number))
        .some("memory", bounds.memory.map(|size| size.to_string()))
        .some("pids", bounds.pids)
        .list("devices", bounds.devices.iter().map(request).collect())
        .list("generic_resources", bounds.generic_resources.clone());
    object
}
