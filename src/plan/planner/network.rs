//! Plans the networks: creates them, recreates changed ones, and shields the engine's host from them.

use super::Planner;
use crate::engine::identity;
use crate::plan::network::{self, Standing};
use crate::plan::op::Op;
use crate::plan::{ExistingContainer, StepId};
use crate::spec::{NetworkName, Service, ServiceName};

impl Planner<'_> {
    pub(super) fn networks(&mut self) {
        let claim = StepId::new("claim", self.wish.gateway());
        let laid = self.laid.clone();
        for (key, laid) in &laid {
            let Some(network) = self.wish.spec.networks.get(key) else { continue };
            let mut before = vec![claim.clone()];
            if laid.standing == Standing::Outdated {
                before.push(self.unmake(key, &laid.name));
            }
            if laid.standing != Standing::Kept {
                let create = network::create(self.wish, key, network, laid);
                let cause = format!("networks.{key}");
                self.add(StepId::new("network", key), Op::CreateNetwork(create), cause, before);
            }
        }
    }

    /// Removes networks that the spec no longer has. Containers on them are recreated.
    pub(super) fn stray_networks(&mut self) {
        if !self.wish.remove_orphans {
            return;
        }
        let stray = self.observed.networks.keys().filter(|key| !self.laid.contains_key(*key));
        for key in stray.cloned().collect::<Vec<_>>() {
            self.unmake(&key, &identity::network(self.wish.name.as_str(), key.as_str()));
        }
    }

    /// Removes a network, after its services and the gateway are removed; all of them are created again.
    fn unmake(&mut self, key: &NetworkName, network: &str) -> StepId {
        let on_it = |existing: &ExistingContainer| existing.addresses.contains_key(network);
        let containers = self.observed.containers.iter().filter(|(_, existing)| on_it(existing));
        let before: Vec<StepId> = containers
            .map(|(name, _)| name.clone())
            .chain([self.wish.gateway()])
            .map(|name| StepId::new("remove", name))
            .collect();
        let id = StepId::new("unmake", key);
        let stays = self.wish.spec.networks.contains_key(key);
        let cause =
            format!("networks.{key} {}", if stays { "has changed" } else { "is not in the spec any more" });
        self.add(id.clone(), Op::RemoveNetwork { network: network.to_owned() }, cause, before);
        id
    }

    /// Why a service's unchanged containers are recreated: their network or the container they share changed.
    pub(super) fn displaced(&self, service: &Service) -> Option<&'static str> {
        let outdated = |key| self.laid.get(key).is_some_and(|laid| laid.standing == Standing::Outdated);
        let made = |other: &str| {
            let other = ServiceName::new(other).ok().map(|other| self.wish.container(&other, 1));
            let create = other.map(|container| StepId::new("create", container));
            create.is_some_and(|id| self.plan.steps().iter().any(|step| step.id == id))
        };
        if service.networks.keys().any(outdated) {
            Some("is on a network that has changed")
        } else {
            service.joined().any(made).then_some("is in what is another service's, which has changed")
        }
    }

    /// Plans the host firewall. New bridges, and those that a reboot of the host recreated, are unfiltered. Repeated
    /// at every start, because the firewall may have failed the last time.
    pub(super) fn filter_host_firewall(&mut self) {
        let before: Vec<StepId> = self.laid.keys().map(|key| StepId::new("network", key)).collect();
        if !before.is_empty() {
            let cause = "nothing leaves but through the gateway";
            self.add(host_firewall(), Op::ProtectHost(self.wish.id.clone()), cause, before);
        }
    }
}

/// The step after which packets from the sandbox's networks no longer reach the engine's host.
pub(super) fn host_firewall() -> StepId {
    StepId::new("host-firewall", "networks")
}
