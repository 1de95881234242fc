//! Ways out of a sandbox that do not pass its gateway, and so no egress policy: what the engine itself sends, and what
//! changes how its networks are closed. The [`guard`](super::guard()) refuses them.

use super::guard::HostAccessPath;
use super::model::{Network, Service, Spec};

/// Drivers that keep what a service writes on the engine's machine.
const KEPT_LOGS: [&str; 5] = ["json-file", "local", "journald", "k8s-file", "none"];

/// Options of log drivers that say how much is kept, and how it is written. Every other one may say where it is sent, and
/// without a driver in the spec it is the engine's own choice that it is an option of.
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

/// Options of a bridge that open nothing: sizes, names, and what closes it further.
const HARMLESS_OPTIONS: [&str; 4] = [
    "com.docker.network.driver.mtu",
    "com.docker.network.container_iface_prefix",
    "com.docker.network.bridge.enable_icc",
    "mtu",
];

/// The option that names an interface in a container.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

/// Whether a log driver keeps what a service writes on the engine's machine.
pub fn keeps_logs(driver: &str) -> bool {
    KEPT_LOGS.contains(&driver)
}

/// What a service asks for, each with its key.
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
    let mut networks = service.networks.keys().map(|key| spec.networks.get(key));
    let asks = !service.networks.is_empty() && networks.all(|it| it.is_some_and(Network::has_ipv6));
    for (name, value) in service.sysctls.iter().filter(|_| !asks) {
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

/// What the networks ask for.
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

/// IPv6 is for services whose networks all ask for it: on others an IPv6 address of a bridge would be the host.
fn turns_ipv6_on(name: &str, value: &str) -> bool {
    let name = name.replace('/', ".");
    name.starts_with("net.ipv6.conf.") && name.ends_with(".disable_ipv6") && value.trim() != "1"
}

#[cfg(test)]
mod tests {
    use super::*;

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
