//! Calls of the API for networks.

use bollard::models as api;
use bollard::query_parameters as query;

use super::failure::{call, found};
use super::{Docker, create, read};
use crate::engine::network::{NetworkMember, Subnet};
use crate::engine::{CreateNetwork, Filter, Network, ObjectKind, Result};

impl Docker {
    pub(super) async fn make_network(&self, network: &CreateNetwork) -> Result<String> {
        let n = network;
        let subnets = n.subnets.iter().map(|subnet| api::IpamConfig {
            subnet: Some(subnet.subnet.to_string()),
            gateway: subnet.gateway.map(|address| address.to_string()),
            ip_range: subnet.range.map(|range| range.to_string()),
            auxiliary_addresses: (!subnet.reserved.is_empty()).then(|| {
                subnet.reserved.iter().map(|(name, address)| (name.clone(), address.to_string())).collect()
            }),
        });
        let request = api::NetworkCreateRequest {
            name: n.name.clone(),
            driver: Some(n.driver.clone()),
            internal: Some(n.internal),
            attachable: Some(n.attachable),
            enable_ipv6: Some(n.ipv6),
            labels: create::mapped(&n.labels),
            options: create::mapped(&n.options),
            ipam: Some(api::Ipam {
                driver: n.ipam_driver.clone(),
                config: (!n.subnets.is_empty()).then(|| subnets.collect()),
                options: create::mapped(&n.ipam_options),
            }),
            ..Default::default()
        };
        let call = call("create", ObjectKind::Network, &n.name);
        Ok(self.api.create_network(request).await.map_err(call.on_failed())?.id)
    }

    pub(super) async fn list_networks(&self, filter: &Filter) -> Result<Vec<Network>> {
        let mut filters = read::labels_filter(&filter.labels);
        if !filter.names.is_empty() {
            filters.insert("name".into(), filter.names.clone());
        }
        let call = call("list the networks of", ObjectKind::Engine, "");
        let options = query::ListNetworksOptions { filters: Some(filters) };
        let list = self.api.list_networks(Some(options)).await.map_err(call.on_failed())?;
        let ours =
            list.into_iter().map(listed).filter(|network| filter.matches(&network.name, &network.labels));
        Ok(ours.collect())
    }

    pub(super) async fn inspect_network(&self, name: &str) -> Result<Option<Network>> {
        let call = call("inspect", ObjectKind::Network, name);
        let outcome = self.api.inspect_network(name, None).await;
        found(outcome.map(inspected).map_err(call.on_failed()))
    }

    pub(super) async fn detach_from_network(&self, network: &str, container: &str) -> Result<()> {
        let request = api::NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        let call = call("disconnect a container from", ObjectKind::Network, network);
        self.api.disconnect_network(network, request).await.map_err(call.on_failed())
    }

    pub(super) async fn drop_network(&self, name: &str) -> Result<()> {
        let call = call("remove", ObjectKind::Network, name);
        self.api.remove_network(name).await.map_err(call.on_failed())
    }
}

fn listed(n: api::Network) -> Network {
    Network {
        id: n.id.unwrap_or_default(),
        name: n.name.unwrap_or_default(),
        driver: n.driver.unwrap_or_default(),
        labels: read::labels(n.labels),
        options: read::sorted(n.options),
        internal: n.internal.unwrap_or_default(),
        ipv6: n.enable_ipv6.unwrap_or_default(),
        subnets: subnets(n.ipam),
        containers: Vec::new(),
        created: n.created.and_then(|time| read::moment(time.unix_timestamp_nanos())),
    }
}

fn inspected(n: api::NetworkInspect) -> Network {
    let member = |(id, endpoint): (String, api::EndpointResource)| NetworkMember {
        id,
        name: endpoint.name.unwrap_or_default(),
        address: read::address(endpoint.ipv4_address.as_ref()),
    };
    let mut containers: Vec<_> = n.containers.unwrap_or_default().into_iter().map(member).collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let the_rest = api::Network {
        id: n.id,
        name: n.name,
        driver: n.driver,
        labels: n.labels,
        options: n.options,
        internal: n.internal,
        enable_ipv6: n.enable_ipv6,
        ipam: n.ipam,
        created: n.created,
        ..api::Network::default()
    };
    Network { containers, ..listed(the_rest) }
}

fn subnets(ipam: Option<api::Ipam>) -> Vec<Subnet> {
    let convert = |config: api::IpamConfig| {
        Some(Subnet {
            subnet: config.subnet?.parse().ok()?,
            gateway: read::address(config.gateway.as_ref()),
            range: config.ip_range.and_then(|range| range.parse().ok()),
            reserved: config
                .auxiliary_addresses
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(name, address)| Some((name, address.parse().ok()?)))
                .collect(),
        })
    };
    ipam.and_then(|ipam| ipam.config).unwrap_or_default().into_iter().filter_map(convert).collect()
}
