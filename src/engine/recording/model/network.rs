//! Networks of the model: their subnets do not overlap, and each knows its containers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Model, ModelContainer, refuse};
use crate::engine::network::{NetworkMember, Subnet};
use crate::engine::recording::now;
use crate::engine::{
    Attachment, CreateNetwork, Endpoint, EngineError, ErrorKind, Network, ObjectKind, Result,
};

impl Model {
    pub(in crate::engine::recording) fn create_network(&mut self, create: &CreateNetwork) -> Result<String> {
        let subnets =
            if create.subnets.is_empty() { vec![self.free_subnet()?] } else { create.subnets.clone() };
        for subnet in &subnets {
            if let Some(other) = self.overlapping(&subnet.subnet) {
                let words = format!("Pool overlaps with other one on this address space ({other})");
                return refuse("create", ObjectKind::Network, &create.name, ErrorKind::SubnetOverlap, words);
            }
        }
        let id = self.new_id();
        self.networks.push(Network {
            id: id.clone(),
            name: create.name.clone(),
            driver: create.driver.clone(),
            labels: create.labels.clone(),
            options: create.options.clone(),
            internal: create.internal,
            ipv6: create.ipv6,
            subnets,
            containers: Vec::new(),
            created: Some(now()),
        });
        self.tell(ObjectKind::Network, "create", &id, &create.name, create.labels.clone());
        Ok(id)
    }

    fn overlapping(&self, subnet: &IpNet) -> Option<&str> {
        let overlaps = |other: &Subnet| other.subnet.contains(subnet) || subnet.contains(&other.subnet);
        self.networks
            .iter()
            .find(|network| network.subnets.iter().any(overlaps))
            .map(|network| network.name.as_str())
    }

    fn free_subnet(&self) -> Result<Subnet> {
        let candidates = (17..=47).filter_map(|n| format!("172.{n}.0.0/16").parse::<IpNet>().ok());
        match candidates.into_iter().find(|subnet| self.overlapping(subnet).is_none()) {
            Some(subnet) => Ok(Subnet::new(subnet)),
            None => refuse(
                "create",
                ObjectKind::Network,
                "",
                ErrorKind::AddressPool,
                "could not find an available, non-overlapping IPv4 address pool",
            ),
        }
    }

    pub(super) fn network_index(&self, name: &str, operation: &'static str) -> Result<usize> {
        let found = self.networks.iter().position(|network| network.id == name);
        let found = found.or_else(|| self.networks.iter().position(|network| network.name == name));
        found.ok_or_else(|| {
            let words = format!("network {name} not found");
            EngineError::new(operation, ObjectKind::Network, name, ErrorKind::NotFound, words)
        })
    }

    pub(in crate::engine::recording) fn network(&self, name: &str) -> Option<Network> {
        let mut network = self.networks.get(self.network_index(name, "inspect").ok()?)?.clone();
        network.containers = self.members(&network.name);
        Some(network)
    }

    fn members(&self, network: &str) -> Vec<NetworkMember> {
        let alive = self.containers.iter().filter(|kept| kept.seen.state.is_alive());
        let on_it = alive.filter_map(|kept| {
            let endpoint = kept.seen.networks.get(network)?;
            Some(NetworkMember {
                id: kept.seen.id.clone(),
                name: kept.seen.name.clone(),
                address: endpoint.ipv4,
            })
        });
        on_it.collect()
    }

    pub(in crate::engine::recording) fn remove_network(&mut self, name: &str) -> Result<()> {
        let index = self.network_index(name, "remove")?;
        if !self.members(&self.networks[index].name).is_empty() {
            let words = format!("network {name} has active endpoints");
            return refuse("remove", ObjectKind::Network, name, ErrorKind::InUse, words);
        }
        let network = self.networks.remove(index);
        self.tell(ObjectKind::Network, "destroy", &network.id, &network.name, network.labels);
        Ok(())
    }

    pub(in crate::engine::recording) fn connect(
        &mut self,
        container: &str,
        attachment: &Attachment,
    ) -> Result<()> {
        let network =
            self.networks[self.network_index(&attachment.network, "connect a container to")?].clone();
        let index = self.container_index(container, "connect")?;
        let endpoint = self.endpoint(&network, attachment)?;
        self.containers[index].seen.networks.insert(network.name, endpoint);
        Ok(())
    }

    pub(in crate::engine::recording) fn disconnect(&mut self, network: &str, container: &str) -> Result<()> {
        let name = self.networks[self.network_index(network, "disconnect a container from")?].name.clone();
        let index = self.container_index(container, "disconnect")?;
        match self.containers[index].seen.networks.remove(&name) {
            Some(_) => Ok(()),
            None => refuse(
                "disconnect a container from",
                ObjectKind::Network,
                network,
                ErrorKind::NotFound,
                format!("container {container} is not connected to the network {network}"),
            ),
        }
    }

    pub(super) fn endpoint(&self, network: &Network, attachment: &Attachment) -> Result<Endpoint> {
        let on_it =
            |kept: &ModelContainer| kept.seen.networks.get(&network.name).and_then(|endpoint| endpoint.ipv4);
        let mut taken: BTreeSet<IpAddr> = self.containers.iter().filter_map(on_it).collect();
        let subnet = network.subnets.first();
        let gateway = subnet.and_then(|subnet| subnet.gateway.or_else(|| subnet.subnet.hosts().next()));
        taken.extend(gateway);
        let ipv4 = match attachment.ipv4 {
            Some(address) if taken.contains(&address) => {
                return refuse(
                    "connect a container to",
                    ObjectKind::Network,
                    &network.name,
                    ErrorKind::Conflict,
                    "Address already in use",
                );
            }
            Some(address) => Some(address),
            None => subnet.and_then(|subnet| subnet.subnet.hosts().find(|address| !taken.contains(address))),
        };
        Ok(Endpoint {
            network_id: network.id.clone(),
            ipv4,
            ipv6: attachment.ipv6,
            gateway,
            aliases: attachment.aliases.clone(),
            mac: attachment.mac.clone(),
        })
    }
}
