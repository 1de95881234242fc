//! Plans the gateway: its creation claims the name, and it starts once it is connected to every network.

use std::collections::BTreeSet;

use super::Planner;
use super::network::host_firewall;
use crate::engine::identity;
use crate::engine::{Attachment, CreateContainer};
use crate::plan::fingerprint::fingerprint;
use crate::plan::gateway_config::GatewayConfig;
use crate::plan::network::Standing;
use crate::plan::op::Op;
use crate::plan::port_binding::{PortBinding, PublishedService};
use crate::plan::{StepId, Subnet, gateway, network};

impl Planner<'_> {
    /// Plans the claim on the name, before any other object of the sandbox.
    pub(super) fn gateway(&mut self, edge: Subnet) {
        let config = gateway::config(self.wish, self.observed, &self.laid, edge, &self.published);
        let mut create = gateway::create(self.wish, &config, &self.published);
        let hash = gateway_hash(&create, &config, &self.published);
        create.labels.insert(identity::CONFIG_HASH.to_owned(), hash.clone());
        let name = create.name.clone();
        if self.observed.edge.is_none() {
            let network = network::create_edge(self.wish, edge);
            self.add(
                StepId::new("network", "edge"),
                Op::CreateEdge(network),
                "the first sandbox on this engine",
                [],
            );
        }
        // A network that is recreated or missing must be connected again, and only before the gateway starts.
        let moves = self.laid.values().any(|laid| laid.standing != Standing::Kept) || self.has_a_free_port();
        let cause = match &self.observed.gateway {
            Some(existing) if existing.config_hash == hash && !moves => return,
            Some(existing) => {
                let cause = "its ports, networks or egress have changed";
                if existing.running {
                    let op = Op::Stop { container: name.clone() };
                    // Containers that are about to be removed may still need it.
                    let after = self.observed.containers.keys().map(|name| StepId::new("stop", name));
                    self.add(StepId::new("stop", &name), op, cause, after.collect::<Vec<_>>());
                }
                let op = Op::RemoveContainer { container: name.clone() };
                self.add(StepId::new("remove", &name), op, cause, [StepId::new("stop", &name)]);
                cause
            }
            None => "its name is the lock on the sandbox's name",
        };
        let needs = [StepId::new("network", "edge"), StepId::new("remove", &name)];
        self.add(StepId::new("claim", &name), Op::Claim(Box::new(create)), cause, needs);
    }

    /// Whether a fixed host port that was taken is free now.
    fn has_a_free_port(&self) -> bool {
        self.published.iter().any(|port| {
            let elsewhere = |binding: &PortBinding| {
                binding.port.edge_port == port.edge_port
                    && binding.host_port.is_some_and(|now| port.single().is_some_and(|wanted| wanted != now))
            };
            port.asked == port.single() && self.observed.ports.iter().any(elsewhere)
        })
    }

    pub(super) fn claims(&self) -> bool {
        let claim = StepId::new("claim", self.wish.gateway());
        self.plan.steps().iter().any(|step| step.id == claim)
    }

    pub(super) fn start_gateway(&mut self) {
        let name = self.wish.gateway();
        let start = StepId::new("start", &name);
        if !self.claims() {
            if self.observed.gateway.as_ref().is_some_and(|gateway| !gateway.running) {
                self.add(start, Op::Start { container: name }, "it is stopped", [host_firewall()]);
            }
            return;
        }
        let claim = StepId::new("claim", &name);
        // Once the gateway runs the sandbox exists, and the keeper may start its services.
        let mut before: Vec<StepId> = vec![claim.clone(), host_firewall()];
        let laid = self.laid.clone();
        for (key, laid) in &laid {
            let attachment = Attachment {
                ipv4: Some(std::net::IpAddr::V4(laid.subnet.gateway())),
                ..Attachment::new(&laid.name)
            };
            let op = Op::Connect { container: name.clone(), attachment };
            let id = StepId::new("connect", key);
            self.add(id.clone(), op, format!("networks.{key}"), [StepId::new("network", key), claim.clone()]);
            before.push(id);
        }
        self.add(start, Op::Start { container: name }, "names, ports and egress pass through it", before);
    }

    /// Lets services start before the gateway if there are enough of them to keep the host busy: starting a container
    /// takes CPU time, and a service's own startup overlaps with the gateway's start. The gateway starts once the
    /// first of them runs. It does not wait for services that depend on others or on the gateway, that are filled, or
    /// that the gateway probes, because those may be ready immediately.
    pub(super) fn give_way(&mut self) {
        let gateway = StepId::new("start", self.wish.gateway());
        let waiting = self.plan.steps().iter().filter(|step| matches!(step.op, Op::Await { .. }));
        let tried: BTreeSet<&StepId> =
            waiting.filter(|step| step.needs.contains(&gateway)).flat_map(|step| &step.needs).collect();
        let at_once: Vec<StepId> = self
            .plan
            .steps()
            .iter()
            .filter(|step| matches!(step.op, Op::Start { .. }) && step.id != gateway)
            .filter(|step| {
                let mut before = self.plan.before(step);
                before.all(|other| other.id != gateway && !takes_long(&other.op))
            })
            .map(|step| step.id.clone())
            .filter(|start| !tried.contains(start))
            .collect();
        let processors = self.observed.processors as usize;
        if processors > 0 && at_once.len() >= processors {
            self.plan.put_off(&gateway, at_once);
        }
    }
}

/// Whether the operation fills a container or waits for one, and so may take long.
fn takes_long(op: &Op) -> bool {
    matches!(op, Op::Await { .. } | Op::Fill { .. } | Op::Seed { .. } | Op::RunHook { .. } | Op::RunInit(_))
}

/// Hashes the gateway's container together with its configuration and the requested host ports.
fn gateway_hash(create: &CreateContainer, config: &GatewayConfig, published: &[PublishedService]) -> String {
    let mut whole = create.clone();
    whole.labels.clear();
    // A different free host port does not recreate the gateway, nor do networks that came and went meanwhile.
    whole.published.iter_mut().for_each(|port| port.host_port = None);
    whole.env.clear();
    let table: Vec<_> =
        published.iter().map(|port| (port.edge_port, port.wanted, &port.app_protocol)).collect();
    let told = (&config.networks, &config.forwards, &config.egress, &config.services, table);
    // Another build of this program can still serve an existing sandbox.
    whole.image.clear();
    fingerprint(&whole, &told)
}
