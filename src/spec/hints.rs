//! Finds ways out of a sandbox that bypass its gateway and so the egress policy: traffic of the engine itself, and
//! options that change the isolation of its networks. The [`guard`](super::guard()) rejects them.

use super::host_access::HostAccessPath;
use super::model::{Network, Service, Spec};

/// Log drivers that store output on the engine's host.
const KEPT_LOGS: [&str; 5] = ["json-file", "local", "journald", "k8s-file", "none"];

/// Options of log drivers that only set how much is kept and in which format. Any other option may set a destination,
/// and without a driver in the spec it applies to the engine's default driver.
const LOG_OPTIONS: [&str; 15] = [
    "cache-compress",
    "cache-disabled",
    "cache-max-file",
    "cache-max-size",
    "compress",
    "env",
    "env-regex",
    "keep-file",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "max-file",
    "max-size",
    "mode",
    "tag",
];

/// Bridge options that grant no access: sizes, names, and stricter isolation.
const HARMLESS_OPTIONS: [&str; 4] = [
    "com.docker.network.driver.mtu",
    "com.docker.network.container_iface_prefix",
    "com.docker.network.bridge.enable_icc",
    "mtu",
];

/// Prefixes of annotations that runtimes, their hooks and systemd on the engine's machine act on: they replace a seccomp
/// profile, set properties of a unit, name programs and files.
const RUNTIME_ANNOTATIONS: [&str; 9] = [
    "run.oci.",
    "org.systemd.",
    "org.criu.",
    "io.containers.",
    "io.podman.",
    "io.kubernetes.",
    "io.katacontainers.",
    "dev.gvisor.",
    "com.docker.",
];

/// The option that sets an interface's name in a container.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

/// Whether a log driver stores output on the engine's host.
pub fn keeps_logs(driver: &str) -> bool {
    KEPT_LOGS.contains(&driver)
}

/// Findings in a service, each with its key.
pub(super) fn of_service(spec: &Spec, service: &Service) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let driver = service.logging.as_ref().and_then(|logging| logging.driver.as_deref()).unwrap_or_default();
    if !driver.is_empty() && !keeps_logs(driver) {
        let message = format!(
            "the log driver `{driver}`, with which the engine sends what the service writes past `egress` (`json-file`, `local`, `journald` and `none` do not)"
        );
        found.push(("logging", message));
    }
    let options = service.logging.iter().flat_map(|logging| logging.options.keys());
    for option in options.filter(|option| !LOG_OPTIONS.contains(&option.as_str())) {
        let message = format!(
            "the log option `{option}`, by which the engine may send what the service writes past `egress`"
        );
        found.push(("logging", message));
    }
    let acted_on = |key: &&String| {
        let key = key.to_ascii_lowercase();
        RUNTIME_ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix))
    };
    for annotation in service.settings.annotations.keys().filter(acted_on) {
        let message =
            format!("the annotation `{annotation}`, which a program of the engine's machine acts on");
        found.push(("annotations", message));
    }
    let mut networks = service.networks.keys().map(|key| spec.networks.get(key));
    let asks = !service.networks.is_empty() && networks.all(|it| it.is_some_and(Network::has_ipv6));
    for (name, value) in service.settings.sysctls.iter().filter(|_| !asks) {
        if turns_ipv6_on(name, value) {
            let message = format!("`sysctls: {name}={value}`, by which IPv6 reaches the host past `egress`");
            found.push(("sysctls", message));
        }
    }
    for (network, attachment) in &service.networks {
        for option in attachment.driver_opts.keys().filter(|option| *option != INTERFACE_NAME) {
            let message =
                format!("the option `{option}` on network `{network}`, which may change how it is closed");
            found.push(("networks", message));
        }
        if !attachment.link_local_ips.is_empty() {
            let message = format!("`link_local_ips` on network `{network}`, addresses of no sandbox");
            found.push(("networks", message));
        }
    }
    found
}

/// Findings in the networks.
pub(super) fn of_networks(spec: &Spec) -> impl Iterator<Item = HostAccessPath> + '_ {
    spec.networks.iter().flat_map(|(name, network)| {
        let options =
            network.driver_opts.keys().filter(|option| !HARMLESS_OPTIONS.contains(&option.as_str()));
        options.map(move |option| {
            let message =
                format!("network `{name}` asks for the option `{option}`, which may change how it is closed");
            HostAccessPath { at: network.at.clone(), message, key: None }
        })
    })
}

/// Whether the option enables IPv6, which is only for services whose networks all request it: on other networks, the
/// IPv6 address of a bridge would reach the host.
fn turns_ipv6_on(name: &str, value: &str) -> bool {
    let name = name.replace('/', ".");
    name.starts_with("net.ipv6.conf.") && name.ends_with(".disable_ipv6") && value.trim() != "1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_that_the_engine_s_machine_acts_on_are_found() {
        let name = super::super::model::ProjectName::new("p").unwrap();
        let spec = Spec::new(name, std::path::Path::new("/p"));
        let mut service = Service::new(super::super::model::ServiceName::new("a").unwrap(), "x");
        for key in ["run.oci.seccomp_bpf_data", "org.systemd.property.Slice", "com.example.note", "plain"] {
            service.settings.annotations.insert(key.to_owned(), "x".to_owned());
        }
        let found: Vec<String> = of_service(&spec, &service).into_iter().map(|(_, what)| what).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|it| it.contains("run.oci.") || it.contains("org.systemd.")), "{found:?}");
    }

    #[test]
    fn only_what_turns_ipv6_off_leaves_it_off() {
        for (name, value, on) in [
            ("net.ipv6.conf.all.disable_ipv6", "0", true),
            ("net/ipv6/conf/eth0/disable_ipv6", "0", true),
            ("net.ipv6.conf.all.disable_ipv6", "1", false),
            ("net.ipv6.conf.all.forwarding", "1", false),
            ("net.core.somaxconn", "1024", false),
        ] {
            assert_eq!(turns_ipv6_on(name, value), on, "{name}={value}");
        }
    }
}
