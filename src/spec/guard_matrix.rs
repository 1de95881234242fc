//! Tests the guard with every key of the Compose Specification. A key that can name a path, namespace, device, driver,
//! image, network or command of the host is rejected, needs host access, or is harmless, both in the user's folder and
//! in a snapshot file. A key that is in neither list fails the test, so that new keys must be classified.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// The verdict on a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// It does not access the host.
    Harmless,
    /// It requires `--allow-host-access`.
    Flag,
    /// It is always rejected.
    Refused,
}

use Placed::{Flag, Harmless, Refused};

/// A key, a spec that uses it for as much access as possible, and the verdicts for the user's folder and for a
/// snapshot file.
const MATRIX: &[(&str, &str, Placed, Placed)] = &[
    (
        "configs.<name>.external",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { external: true } }",
        Refused,
        Refused,
    ),
    (
        "configs.<name>.file",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { file: ./file } }",
        Harmless,
        Flag,
    ),
    (
        "configs.<name>.environment",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { environment: TOKEN } }",
        Harmless,
        Flag,
    ),
    (
        "configs.<name>.template_driver",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { file: ./file, template_driver: golang } }",
        Refused,
        Refused,
    ),
    (
        "include[].path",
        "include: [{ path: other.yaml }]\nservices: { a: { image: x, command: x } }",
        Harmless,
        Harmless,
    ),
    (
        "include[].env_file",
        "include: [{ path: other.yaml, env_file: ./file }]\nservices: { a: { image: x, command: x } }",
        Harmless,
        Harmless,
    ),
    (
        "include[].project_directory",
        "include: [{ path: other.yaml, project_directory: ./folder }]\nservices: { a: { image: x, command: x } }",
        Harmless,
        Harmless,
    ),
    (
        "models.<name>.model",
        "models: { m: { model: x } }\nservices: { a: { image: x, models: [m] } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.models",
        "models: { m: { model: x } }\nservices: { a: { image: x, models: [m] } }",
        Refused,
        Refused,
    ),
    (
        "networks.<name>.driver",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { driver: macvlan } }",
        Refused,
        Refused,
    ),
    (
        "networks.<name>.driver_opts",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { driver_opts: { parent: eth0 } } }",
        Flag,
        Flag,
    ),
    (
        "networks.<name>.external",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { external: true } }",
        Refused,
        Refused,
    ),
    (
        "networks.<name>.external.name",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { external: { name: host } } }",
        Refused,
        Refused,
    ),
    (
        "networks.<name>.name",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { name: host } }",
        Harmless,
        Harmless,
    ),
    (
        "networks.<name>.ipam.driver",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { ipam: { driver: dhcp } } }",
        Harmless,
        Harmless,
    ),
    (
        "networks.<name>.ipam.options",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { ipam: { options: { a: b } } } }",
        Harmless,
        Harmless,
    ),
    (
        "networks.<name>.ipam.config[].gateway",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { ipam: { config: [{ subnet: 192.168.9.0/24, gateway: 192.168.9.1 }] } } }",
        Harmless,
        Harmless,
    ),
    (
        "networks.<name>.ipam.config[].subnet",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { ipam: { config: [{ subnet: 169.254.0.0/16 }] } } }",
        Harmless,
        Harmless,
    ),
    (
        "secrets.<name>.driver",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { driver: x } }",
        Refused,
        Refused,
    ),
    (
        "secrets.<name>.driver_opts",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { file: ./file, driver_opts: { a: b } } }",
        Refused,
        Refused,
    ),
    (
        "secrets.<name>.environment",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { environment: TOKEN } }",
        Harmless,
        Flag,
    ),
    (
        "secrets.<name>.external",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { external: true } }",
        Refused,
        Refused,
    ),
    (
        "secrets.<name>.external.name",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { external: { name: x } } }",
        Refused,
        Refused,
    ),
    (
        "configs.<name>.external.name",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { external: { name: x } } }",
        Refused,
        Refused,
    ),
    (
        "secrets.<name>.file",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { file: ./file } }",
        Harmless,
        Flag,
    ),
    (
        "secrets.<name>.template_driver",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { file: ./file, template_driver: golang } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.blkio_config.device_read_bps[].path",
        "services: { a: { image: x, blkio_config: { device_read_bps: [{ path: /dev/sda, rate: 1 }] } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.blkio_config.device_read_iops[].path",
        "services: { a: { image: x, blkio_config: { device_read_iops: [{ path: /dev/sda, rate: 1 }] } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.blkio_config.device_write_bps[].path",
        "services: { a: { image: x, blkio_config: { device_write_bps: [{ path: /dev/sda, rate: 1 }] } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.blkio_config.device_write_iops[].path",
        "services: { a: { image: x, blkio_config: { device_write_iops: [{ path: /dev/sda, rate: 1 }] } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.blkio_config.weight_device[].path",
        "services: { a: { image: x, blkio_config: { weight_device: [{ path: /dev/sda, weight: 10 }] } } }",
        Harmless,
        Harmless,
    ),
    ("services.<name>.build", "services: { a: { build: . } }", Harmless, Flag),
    (
        "services.<name>.build.context",
        "services: { a: { build: { context: 'https://github.com/x/y.git' } } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.dockerfile",
        "services: { a: { build: { context: ., dockerfile: /etc/passwd } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.build.dockerfile_inline",
        "services: { a: { build: { context: ., dockerfile_inline: FROM scratch } } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.additional_contexts",
        "services: { a: { build: { context: ., additional_contexts: { o: ./folder } } } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.cache_from",
        "services: { a: { build: { context: ., cache_from: ['type=local,src=/var'] } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.build.cache_to",
        "services: { a: { build: { context: ., cache_to: ['type=local,dest=/var'] } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.build.entitlements",
        "services: { a: { build: { context: ., entitlements: [network.host] } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.build.extra_hosts",
        "services: { a: { build: { context: ., extra_hosts: ['h=host-gateway'] } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.build.isolation",
        "services: { a: { build: { context: ., isolation: hyperv } } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.network",
        "services: { a: { build: { context: ., network: 'container:x' } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.build.privileged",
        "services: { a: { build: { context: ., privileged: true } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.build.secrets",
        "services: { a: { build: { context: ., secrets: [c] } } }\nsecrets: { c: { file: ./file } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.secrets[].source",
        "services: { a: { build: { context: ., secrets: [{ source: c }] } } }\nsecrets: { c: { file: ./file } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.ssh",
        "services: { a: { build: { context: ., ssh: [default] } } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.build.tags",
        "services: { a: { build: { context: ., tags: ['sandbox-agent:1'] } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.build.labels",
        "services: { a: { build: { context: ., labels: { dev.sandbox.built: x } } } }",
        Refused,
        Refused,
    ),
    ("services.<name>.cap_add", "services: { a: { image: x, cap_add: [SYS_ADMIN] } }", Flag, Flag),
    ("services.<name>.cgroup", "services: { a: { image: x, cgroup: host } }", Flag, Flag),
    ("services.<name>.cgroup_parent", "services: { a: { image: x, cgroup_parent: /x } }", Flag, Flag),
    ("services.<name>.command", "services: { a: { image: x, command: [sh] } }", Harmless, Harmless),
    (
        "services.<name>.configs[].source",
        "services: { a: { image: x, configs: [{ source: c, target: /c }] } }\nconfigs: { c: { content: x } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.container_name",
        "services: { a: { image: x, container_name: sandbox-keeper } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.credential_spec.file",
        "services: { a: { image: x, credential_spec: { file: ./file } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.credential_spec.config",
        "services: { a: { image: x, credential_spec: { config: c } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.credential_spec.registry",
        "services: { a: { image: x, credential_spec: { registry: c } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.deploy.labels",
        "services: { a: { image: x, deploy: { labels: { dev.sandbox.role: keeper } } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.deploy.resources.reservations.devices",
        "services: { a: { image: x, deploy: { resources: { reservations: { devices: [{ capabilities: [gpu] }] } } } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.deploy.resources.reservations.devices[].driver",
        "services: { a: { image: x, deploy: { resources: { reservations: { devices: [{ driver: cdi, capabilities: [gpu] }] } } } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.deploy.resources.reservations.devices[].device_ids",
        "services: { a: { image: x, deploy: { resources: { reservations: { devices: [{ device_ids: ['0'], capabilities: [gpu] }] } } } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.deploy.resources.reservations.devices[].options",
        "services: { a: { image: x, deploy: { resources: { reservations: { devices: [{ options: { a: b }, capabilities: [gpu] }] } } } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.deploy.resources.reservations.generic_resources",
        "services: { a: { image: x, deploy: { resources: { reservations: { generic_resources: [{ discrete_resource_spec: { kind: gpu, value: 1 } }] } } } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.develop.watch[].path",
        "services: { a: { image: x, develop: { watch: [{ path: /etc, action: sync, target: /x }] } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.develop.watch[].exec.command",
        "services: { a: { image: x, develop: { watch: [{ path: ., action: sync+exec, target: /x, exec: { command: x } }] } } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.develop.watch[].exec.privileged",
        "services: { a: { image: x, develop: { watch: [{ path: ., action: sync+exec, target: /x, exec: { command: x, privileged: true } }] } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.device_cgroup_rules",
        "services: { a: { image: x, device_cgroup_rules: ['a *:* rwm'] } }",
        Flag,
        Flag,
    ),
    ("services.<name>.devices", "services: { a: { image: x, devices: ['/dev/sda'] } }", Flag, Flag),
    (
        "services.<name>.devices[].source",
        "services: { a: { image: x, devices: [{ source: /dev/sda, target: /dev/x }] } }",
        Flag,
        Flag,
    ),
    ("services.<name>.entrypoint", "services: { a: { image: x, entrypoint: [sh] } }", Harmless, Harmless),
    ("services.<name>.env_file", "services: { a: { image: x, env_file: ./file } }", Harmless, Harmless),
    (
        "services.<name>.env_file[].path",
        "services: { a: { image: x, env_file: [{ path: ./file }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.extends",
        "services: { a: { image: x, extends: { file: other.yaml, service: b } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.extends.file",
        "services: { a: { image: x, extends: { file: other.yaml, service: b } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.external_links",
        "services: { a: { image: x, external_links: [x] } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.extra_hosts",
        "services: { a: { image: x, extra_hosts: ['h=host-gateway'] } }",
        Harmless,
        Harmless,
    ),
    ("services.<name>.dns", "services: { a: { image: x, dns: 192.0.2.1 } }", Harmless, Harmless),
    ("services.<name>.gpus", "services: { a: { image: x, gpus: all } }", Flag, Flag),
    ("services.<name>.gpus[].driver", "services: { a: { image: x, gpus: [{ driver: cdi }] } }", Flag, Flag),
    (
        "services.<name>.gpus[].device_ids",
        "services: { a: { image: x, gpus: [{ device_ids: ['0'] }] } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.gpus[].options",
        "services: { a: { image: x, gpus: [{ options: { a: b } }] } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.healthcheck.test",
        "services: { a: { image: x, healthcheck: { test: x } } }",
        Harmless,
        Harmless,
    ),
    ("services.<name>.image", "services: { a: { image: 'sandbox-agent:1' } }", Refused, Refused),
    ("services.<name>.ipc", "services: { a: { image: x, ipc: host } }", Flag, Flag),
    ("services.<name>.isolation", "services: { a: { image: x, isolation: hyperv } }", Harmless, Harmless),
    ("services.<name>.label_file", "services: { a: { image: x, label_file: ./labels } }", Refused, Refused),
    (
        "services.<name>.labels",
        "services: { a: { image: x, labels: { dev.sandbox.scope: x } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.annotations",
        "services: { a: { image: x, annotations: { dev.sandbox.scope: x } } }",
        Refused,
        Refused,
    ),
    (
        "networks.<name>.labels",
        "services: { a: { image: x, networks: [n] } }\nnetworks: { n: { labels: { dev.sandbox.scope: x } } }",
        Refused,
        Refused,
    ),
    (
        "volumes.<name>.labels",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { labels: { dev.sandbox.from: x } } }",
        Refused,
        Refused,
    ),
    (
        "secrets.<name>.labels",
        "services: { a: { image: x, secrets: [c] } }\nsecrets: { c: { file: ./file, labels: { dev.sandbox.from: x } } }",
        Refused,
        Refused,
    ),
    (
        "configs.<name>.labels",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { file: ./file, labels: { dev.sandbox.from: x } } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.links",
        "services: { a: { image: x, links: [b]}, b: { image: x } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.logging.driver",
        "services: { a: { image: x, logging: { driver: syslog } } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.logging.options",
        "services: { a: { image: x, logging: { options: { syslog-address: 'udp://192.0.2.1:1' } } } }",
        Flag,
        Flag,
    ),
    ("services.<name>.network_mode", "services: { a: { image: x, network_mode: host } }", Flag, Flag),
    (
        "services.<name>.networks.<name>.driver_opts",
        "services: { a: { image: x, networks: { n: { driver_opts: { a: b } } } } }\nnetworks: { n: {} }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.networks.<name>.interface_name",
        "services: { a: { image: x, networks: { n: { interface_name: lan0 } } } }\nnetworks: { n: {} }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.networks.<name>.link_local_ips",
        "services: { a: { image: x, networks: { n: { link_local_ips: [169.254.1.1] } } } }\nnetworks: { n: {} }",
        Flag,
        Flag,
    ),
    ("services.<name>.pid", "services: { a: { image: x, pid: host } }", Flag, Flag),
    ("services.<name>.platform", "services: { a: { image: x, platform: linux/amd64 } }", Harmless, Harmless),
    (
        "services.<name>.ports[].host_ip",
        "services: { a: { image: x, ports: [{ target: 80, host_ip: 0.0.0.0 }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.post_start[].command",
        "services: { a: { image: x, post_start: [{ command: x }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.post_start[].privileged",
        "services: { a: { image: x, post_start: [{ command: x, privileged: true }] } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.pre_start[].command",
        "services: { a: { image: x, pre_start: [{ command: x }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.pre_start[].image",
        "services: { a: { image: x, pre_start: [{ command: x, image: y }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.pre_start[].privileged",
        "services: { a: { image: x, pre_start: [{ command: x, privileged: true }] } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.pre_stop[].command",
        "services: { a: { image: x, pre_stop: [{ command: x }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.pre_stop[].privileged",
        "services: { a: { image: x, pre_stop: [{ command: x, privileged: true }] } }",
        Flag,
        Flag,
    ),
    ("services.<name>.privileged", "services: { a: { image: x, privileged: true } }", Flag, Flag),
    ("services.<name>.provider.type", "services: { a: { provider: { type: x } } }", Refused, Refused),
    (
        "services.<name>.provider.options",
        "services: { a: { provider: { type: x, options: { a: b } } } }",
        Refused,
        Refused,
    ),
    ("services.<name>.runtime", "services: { a: { image: x, runtime: /bin/sh } }", Flag, Flag),
    (
        "services.<name>.secrets[].source",
        "services: { a: { image: x, secrets: [{ source: c }] } }\nsecrets: { c: { file: ./file } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.security_opt",
        "services: { a: { image: x, security_opt: [seccomp=unconfined] } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.storage_opt",
        "services: { a: { image: x, storage_opt: { size: 1g } } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.sysctls",
        "services: { a: { image: x, sysctls: { net.ipv6.conf.all.disable_ipv6: '0' } } }",
        Flag,
        Flag,
    ),
    ("services.<name>.tmpfs", "services: { a: { image: x, tmpfs: /run } }", Harmless, Harmless),
    (
        "services.<name>.use_api_socket",
        "services: { a: { image: x, use_api_socket: true } }",
        Refused,
        Refused,
    ),
    ("services.<name>.userns_mode", "services: { a: { image: x, userns_mode: host } }", Flag, Flag),
    ("services.<name>.uts", "services: { a: { image: x, uts: host } }", Flag, Flag),
    ("services.<name>.volumes", "services: { a: { image: x, volumes: ['/etc:/e'] } }", Flag, Flag),
    (
        "services.<name>.volumes[].source",
        "services: { a: { image: x, volumes: [{ type: bind, source: /etc, target: /e }] } }",
        Flag,
        Flag,
    ),
    (
        "services.<name>.volumes[].type",
        "services: { a: { image: x, volumes: [{ type: npipe, source: x, target: /e }] } }",
        Refused,
        Refused,
    ),
    (
        "services.<name>.volumes[].bind.propagation",
        "services: { a: { image: x, volumes: [{ type: bind, source: ./folder, target: /e, bind: { propagation: rshared } }] } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.volumes[].bind.create_host_path",
        "services: { a: { image: x, volumes: [{ type: bind, source: ./new, target: /e, bind: { create_host_path: true } }] } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.volumes[].bind.selinux",
        "services: { a: { image: x, volumes: [{ type: bind, source: ./folder, target: /e, bind: { selinux: Z } }] } }",
        Harmless,
        Flag,
    ),
    (
        "services.<name>.volumes[].volume.labels",
        "services: { a: { image: x, volumes: [{ type: volume, source: v, target: /e, volume: { labels: { dev.sandbox.from: x } } }] } }\nvolumes: { v: {} }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.volumes[].volume.subpath",
        "services: { a: { image: x, volumes: [{ type: volume, source: v, target: /e, volume: { subpath: ../x } }] } }\nvolumes: { v: {} }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.volumes[].image.subpath",
        "services: { a: { image: x, volumes: [{ type: image, source: y, target: /e, image: { subpath: x } }] } }",
        Harmless,
        Harmless,
    ),
    (
        "services.<name>.volumes_from",
        "services: { a: { image: x, volumes_from: ['container:x'] } }",
        Refused,
        Refused,
    ),
    (
        "volumes.<name>.driver",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { driver: nfs } }",
        Refused,
        Refused,
    ),
    (
        "volumes.<name>.driver_opts",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { driver_opts: { type: none, o: bind, device: /etc } } }",
        Flag,
        Flag,
    ),
    (
        "volumes.<name>.external",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { external: true } }",
        Refused,
        Refused,
    ),
    (
        "volumes.<name>.external.name",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { external: { name: x } } }",
        Refused,
        Refused,
    ),
    (
        "volumes.<name>.name",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { name: sandbox-pool } }",
        Harmless,
        Harmless,
    ),
    // What these do on the host is asked for where it happens.
    ("env", "services: { a: { image: x } }\nenv: { PATH: /x }", Harmless, Harmless),
    ("open", "services: { a: { image: x } }\nopen: ['https://example.com/']", Harmless, Harmless),
    ("requires", "services: { a: { image: x } }\nrequires: { commands: [sh] }", Harmless, Harmless),
    ("requires.path", "services: { a: { image: x } }\nrequires: { commands: [../x] }", Refused, Refused),
];

/// Keys without a reference to the host: numbers, times, our own keys, and the parents of keys above.
const NAMES_NOTHING: &str = include_str!("../../fixtures/compose/keys_naming_nothing.txt");

/// The keys of the Compose Specification, one per line with its form.
const KEYS: &str = include_str!("../../fixtures/compose/keys.txt");

fn loaded(folder: &Path, origin: SpecOrigin, access: HostAccess) -> Result<Loaded, Problems> {
    load(&LoadRequest {
        folder: folder.to_owned(),
        env: [("TOKEN".to_owned(), "value".to_owned())].into(),
        name: Some("test".to_owned()),
        origin,
        allow_host_access: access,
        ..LoadRequest::default()
    })
}

fn placed(folder: &Path, origin: SpecOrigin) -> Result<Placed, String> {
    let Err(problems) = loaded(folder, origin, HostAccess::Refused) else { return Ok(Harmless) };
    let of_host = problems.iter().all(|problem| problem.kind == ProblemKind::HostAccess);
    match loaded(folder, origin, HostAccess::Allowed) {
        Ok(_) if of_host => Ok(Flag),
        Ok(_) => Err(problems.to_string()),
        Err(_) => Ok(Refused),
    }
}

#[test]
fn every_key_that_can_name_something_of_the_host_has_its_place() {
    let mut wrong = Vec::new();
    for (key, yaml, local, foreign) in MATRIX {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("project");
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        for (file, text) in [
            ("sandbox.yaml", *yaml),
            ("other.yaml", "services: { b: { image: x } }"),
            ("Dockerfile", "FROM scratch"),
            ("file", "A=1"),
            ("labels", "dev.sandbox.scope=x"),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        for (origin, expected) in [(SpecOrigin::Local, local), (SpecOrigin::SnapshotFile, foreign)] {
            let found = placed(&folder, origin);
            if found != Ok(*expected) {
                let said = loaded(&folder, origin, HostAccess::Refused).err().map(|it| it.to_string());
                wrong.push(format!(
                    "{key} {origin:?}: {found:?}, not {expected:?}: {}",
                    said.unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_repository_may_use_its_own_files_and_nothing_of_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("project");
    std::fs::create_dir_all(folder.join("folder")).unwrap();
    std::fs::create_dir(folder.join(".git")).unwrap();
    std::fs::write(folder.join("Dockerfile"), "FROM scratch").unwrap();
    std::fs::write(folder.join("file"), "A=1").unwrap();
    std::fs::write(dir.path().join("file"), "A=1").unwrap();
    for (yaml, expected) in [
        ("services: { a: { build: ., volumes: ['./folder:/x'], env_file: file } }", Harmless),
        ("services: { a: { image: x, secrets: [s] } }\nsecrets: { s: { file: ./file } }", Harmless),
        ("services: { a: { image: x, secrets: [s] } }\nsecrets: { s: { file: ../file } }", Flag),
        ("services: { a: { image: x, secrets: [s] } }\nsecrets: { s: { environment: TOKEN } }", Flag),
        ("services: { a: { build: { context: ., ssh: [default] } } }", Flag),
        ("services: { a: { image: x, volumes: ['/etc:/x'] } }", Flag),
        ("services: { a: { image: x, privileged: true } }", Flag),
        (
            "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { seed: [{ snapshot: s }] } }",
            Flag,
        ),
    ] {
        std::fs::write(folder.join("sandbox.yaml"), yaml).unwrap();
        assert_eq!(placed(&folder, SpecOrigin::Repository), Ok(expected), "{yaml}");
    }
}

#[test]
fn files_outside_of_the_repository_need_host_access() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("project");
    std::fs::create_dir_all(dir.path().join("folder")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for file in ["Dockerfile", "../file", "../labels", "../folder/Dockerfile"] {
        std::fs::write(folder.join(file), "A=1").unwrap();
    }
    for yaml in [
        "services: { a: { image: x, secrets: [s] } }\nsecrets: { s: { file: ../file } }",
        "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { file: ../file } }",
        "services: { a: { image: x, env_file: ../file } }",
        "services: { a: { image: x, env_file: [{ path: ../file, format: raw }] } }",
        "services: { a: { image: x, label_file: ../labels } }",
        "services: { a: { build: ../folder } }",
        "services: { a: { build: { context: ., additional_contexts: { o: ../folder } } } }",
        "services: { a: { image: x, seed: [{ sql: ../file }] } }",
        "services: { a: { image: x, volumes: ['v:/v'] } }\nvolumes: { v: { seed: [{ copy: ../folder }] } }",
        "services: { a: { image: x, annotations: { run.oci.seccomp_bpf_data: x } } }",
        "services: { a: { image: x, security_opt: ['unmask=ALL'] } }",
    ] {
        std::fs::write(folder.join("sandbox.yaml"), yaml).unwrap();
        assert_eq!(placed(&folder, SpecOrigin::Local), Ok(Flag), "{yaml}");
    }
    // In a repository, all of its files are the project's.
    std::fs::create_dir(dir.path().join(".git")).unwrap();
    std::fs::write(folder.join("sandbox.yaml"), "services: { a: { image: x, env_file: ../file } }").unwrap();
    assert_eq!(placed(&folder, SpecOrigin::Local), Ok(Harmless));
}

#[test]
fn every_key_of_the_specification_is_placed_once() {
    let keys: BTreeSet<&str> = KEYS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split('\t').next())
        .collect();
    let reaching: BTreeSet<&str> = MATRIX.iter().map(|(key, ..)| *key).collect();
    let others: BTreeSet<&str> = NAMES_NOTHING.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(reaching.intersection(&others).collect::<Vec<_>>(), [&""; 0]);
    let placed: BTreeSet<&str> = reaching.union(&others).copied().collect();
    let unplaced: Vec<_> = keys.difference(&placed).collect();
    assert!(unplaced.is_empty(), "place these keys: {unplaced:?}");
}
