//! Reads `networks`, `network_mode` and `ports`.

use std::collections::BTreeMap;

use super::super::model::{
    Attachment, Ipam, IpamPool, Network, NetworkMode, NetworkName, Port, Protocol, ServiceName,
};
use super::super::node::{Node, Span};
use super::super::ports;
use super::super::problem::ProblemKind;
use super::{Fields, Reader};

/// The driver option that sets a bridge's name.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const OWN_SUBNETS: &str = "each sandbox gets a subnet of its own, so that any number run side by side";

impl Reader<'_> {
    /// Reads a top-level network.
    pub(super) fn network(&self, name: &NetworkName, span: Span, node: &Node) -> Network {
        let Some(fields) = Fields::of(self.log, node, format!("network `{name}`")) else {
            return Network::default();
        };
        let (external, external_name) = self.external(&fields);
        if external {
            let message =
                format!("network `{name}` is external, which is refused: a sandbox is alone on its networks");
            self.refuse(
                fields.key_span("external"),
                message,
                "take `external` out, or copy its service into the spec",
            );
        }
        let written_name = fields.text("name").or(external_name);
        if written_name.is_some() && !external {
            let message =
                format!("`name` of network `{name}` is not applied: a sandbox's networks are named after it");
            self.not_applied(fields.key_span("name"), message);
        }
        let driver = fields.text("driver");
        if let Some(driver) = driver.as_deref().filter(|driver| !matches!(*driver, "" | "bridge" | "default"))
            && !external
        {
            let message =
                format!("the driver `{driver}` of network `{name}` is refused: sandboxes use bridges");
            self.refuse(fields.key_span("driver"), message, "take `driver` out");
        }
        if fields.flag("enable_ipv4") == Some(false) {
            let message =
                format!("`enable_ipv4: false` of network `{name}` is refused: services are reached by IPv4");
            self.refuse(fields.key_span("enable_ipv4"), message, "take it out");
        }
        let enable_ipv6 = fields.flag("enable_ipv6");
        let driver_opts = fields.texts_by_name("driver_opts");
        if driver_opts.contains_key(BRIDGE_NAME) && !external {
            let message = format!(
                "`{BRIDGE_NAME}` of network `{name}` is refused: a bridge of that name is the host's, or another sandbox's"
            );
            self.refuse(fields.key_span("driver_opts"), message, "take it out");
        }
        let attachable = fields.flag("attachable").unwrap_or(false);
        let network = Network {
            written_name,
            driver,
            driver_opts,
            internal: fields.flag("internal").unwrap_or(false),
            attachable,
            enable_ipv6,
            ipam: self.ipam(&fields, name),
            labels: self.labels(&fields),
            external,
            extensions: fields.extensions(),
            at: self.log.at(span),
        };
        fields.finish();
        network
    }

    fn ipam(&self, fields: &Fields<'_>, name: &NetworkName) -> Ipam {
        let Some(ipam) = fields.inner("ipam") else { return Ipam::default() };
        let config: Vec<IpamPool> = ipam
            .list("config")
            .iter()
            .filter_map(|node| {
                let pool = Fields::of(self.log, node, format!("an address pool of network `{name}`"))?;
                let read = IpamPool {
                    subnet: pool.text("subnet"),
                    gateway: pool.text("gateway"),
                    ip_range: pool.text("ip_range"),
                    aux_addresses: pool.texts_by_name("aux_addresses"),
                };
                pool.finish();
                Some(read)
            })
            .collect();
        if !config.is_empty() {
            let message = format!("`ipam` of network `{name}` is not applied: {OWN_SUBNETS}");
            self.not_applied(fields.key_span("ipam"), message);
        }
        let read = Ipam { driver: ipam.text("driver"), config, options: ipam.texts_by_name("options") };
        ipam.finish();
        read
    }

    /// Reads `external`: a flag, or the older mapping with a name.
    pub(super) fn external(&self, fields: &Fields<'_>) -> (bool, Option<String>) {
        if let Some(node) = fields.node("external")
            && node.as_map().is_some()
        {
            let name = fields.inner("external").and_then(|inner| {
                let name = inner.text("name");
                inner.finish();
                name
            });
            return (true, name);
        }
        (fields.flag("external").unwrap_or(false), None)
    }

    /// Reads `labels`; a label without a value is empty.
    pub(super) fn labels(&self, fields: &Fields<'_>) -> BTreeMap<String, String> {
        if let Some(node) = fields.node("labels")
            && let Some(items) = node.as_seq()
        {
            // In services, lists are mappings by now; in networks, volumes and secrets they are not.
            return items
                .iter()
                .filter_map(Node::scalar)
                .map(|text| {
                    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
                    (name.to_owned(), value.to_owned())
                })
                .collect();
        }
        fields.texts_by_name("labels")
    }

    /// Reads the `networks` of a service.
    pub(super) fn attachments(&self, fields: &Fields<'_>) -> BTreeMap<NetworkName, Attachment> {
        let mut attachments = BTreeMap::new();
        let Some(node) = fields.node("networks") else { return attachments };
        let Some(map) = node.as_map() else {
            let message =
                format!("`networks` of {} must be a list or mapping of names, this is {}", fields.what, {
                    node.kind()
                });
            self.log.problem(ProblemKind::Type, node.span, message);
            return attachments;
        };
        for entry in &map.entries {
            let Some(name) = self.name(NetworkName::new(&*entry.key), entry.span) else { continue };
            let what = format!("network `{name}` of {}", fields.what);
            let Some(inner) = Fields::of(self.log, &entry.value, what) else { continue };
            for key in ["ipv4_address", "ipv6_address"] {
                if inner.node(key).is_some() {
                    let message = format!("`{key}` of {} is not applied: {OWN_SUBNETS}", inner.what);
                    self.not_applied(inner.key_span(key), message);
                }
            }
            for key in ["interface_name", "gw_priority"] {
                if inner.node(key).is_some() {
                    let message = format!(
                        "`{key}` of {} is not applied: engines below API 1.48 do not know it",
                        inner.what
                    );
                    self.not_applied(inner.key_span(key), message);
                }
            }
            let attachment = Attachment {
                aliases: inner.texts("aliases").unwrap_or_default(),
                ipv4_address: inner.text("ipv4_address"),
                ipv6_address: inner.text("ipv6_address"),
                link_local_ips: inner.texts("link_local_ips").unwrap_or_default(),
                mac_address: inner.text("mac_address"),
                priority: inner.int("priority").unwrap_or(0),
                driver_opts: inner.texts_by_name("driver_opts"),
                written: !entry.value.is_null(),
                extensions: inner.extensions(),
            };
            inner.finish();
            attachments.insert(name, attachment);
        }
        attachments
    }

    pub(super) fn network_mode(&self, fields: &Fields<'_>) -> Option<NetworkMode> {
        let text = fields.filled("network_mode")?;
        let span = fields.key_span("network_mode");
        let refuse = |what: &str, hint: &str| {
            let message = format!("`network_mode: {text}` of {} is refused: {what}", fields.what);
            self.refuse(span, message, hint);
        };
        Some(match text.split_once(':') {
            _ if text == "none" => NetworkMode::None,
            _ if text == "host" => NetworkMode::Host,
            _ if matches!(text.as_str(), "bridge" | "default") => {
                refuse("that bridge is shared by everything on the engine", "take it out");
                NetworkMode::Bridge(text)
            }
            Some(("service", name)) => NetworkMode::Service(self.name(ServiceName::new(name), span)?),
            Some(("container", name)) => {
                refuse("a sandbox does not join containers that are not its own", "use `service:NAME`");
                NetworkMode::Container(name.to_owned())
            }
            _ => {
                refuse("a sandbox is alone on its networks", "list a network of the spec under `networks`");
                NetworkMode::Other(text)
            }
        })
    }

    pub(super) fn ports(&self, fields: &Fields<'_>) -> Vec<Port> {
        let mut read = Vec::new();
        for node in fields.list("ports") {
            let Some(inner) = Fields::of(self.log, node, format!("a port of {}", fields.what)) else {
                continue;
            };
            let target = inner.int_in::<u16>("target", "from 1 to 65535").filter(|port| *port > 0);
            if target.is_none() && inner.node("target").is_none() {
                let message = format!("{} has no `target`", inner.what);
                self.log.hinted(ProblemKind::Type, inner.span, message, "add `target: CONTAINER_PORT`");
            }
            let host = inner.text("published").filter(|text| !text.is_empty()).and_then(|text| {
                ports::range(&text)
                    .map_err(|reason| {
                        let span = inner.map.get("published").map_or(inner.span, |node| node.span);
                        let message = format!("`{text}` is not a host port: {reason}");
                        self.log.problem(ProblemKind::Value, span, message);
                    })
                    .ok()
            });
            let words = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
            let protocol = inner.word("protocol", &words).unwrap_or_default();
            if protocol == Protocol::Sctp {
                self.refuse(
                    node.span,
                    format!("{} is SCTP, which is not forwarded", inner.what),
                    "use TCP or UDP",
                );
            }
            let host_ip = inner.text("host_ip");
            if let Some(ip) =
                host_ip.as_deref().filter(|ip| !matches!(*ip, "127.0.0.1" | "localhost" | "::1"))
            {
                let message = format!(
                    "`host_ip: {ip}` of {} is not applied: ports are published on 127.0.0.1",
                    inner.what
                );
                self.not_applied(node.span, message);
            }
            let port = target.map(|container| Port {
                host_ip,
                host,
                container,
                protocol,
                name: inner.text("name"),
                app_protocol: inner.text("app_protocol"),
                mode: inner.text("mode"),
                extensions: inner.extensions(),
                at: self.log.at(node.span),
            });
            if port.is_none() {
                for key in ["name", "app_protocol", "mode"] {
                    let _ = inner.node(key);
                }
            }
            inner.finish();
            read.extend(port);
        }
        read
    }
}
