//! The gateway: it claims the name first of all, and starts once it stands on every network.

use super::Draft;
use crate::engine::identity;
use crate::engine::{Attachment, CreateContainer};
use crate::plan::fingerprint::fingerprint;
use crate::plan::op::Op;
use crate::plan::{StepId, Subnet, gateway, network};

impl Draft<'_> {
    /// The claim on the name, before anything else of the sandbox.
    pub(super) fn gateway(&mut self, edge: Subnet) {
        let mut create = gateway::create(self.wish, &self.published);
        let hash = self.gateway_hash(&create, edge);
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
        let cause = match &self.observed.gateway {
            Some(existing) if existing.config_hash == hash => return,
            Some(existing) => {
                let cause = "its ports, networks or egress have changed";
                if existing.running {
                    let op = Op::Stop { container: name.clone() };
                    self.add(StepId::new("stop", &name), op, cause, []);
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

    /// The gateway depends on all that it is told, too.
    fn gateway_hash(&self, create: &CreateContainer, edge: Subnet) -> String {
        let config = gateway::config(self.wish, self.observed, &self.laid, edge, &self.published);
        let mut whole = create.clone();
        whole.labels.clear();
        // Which host port was free is no reason to make it anew, nor are networks that came and went meanwhile.
        whole.published.iter_mut().for_each(|port| port.host_port = None);
        let told = (&config.networks, &config.forwards, &config.egress, &config.services);
        // Another build of this program serves a standing sandbox as well.
        whole.image.clear();
        fingerprint(&whole, &told)
    }

    pub(super) fn claims(&self) -> bool {
        let claim = StepId::new("claim", self.wish.gateway());
        self.plan.steps().iter().any(|step| step.id == claim)
    }

    pub(super) fn start_gateway(&mut self, edge: Subnet) {
        let name = self.wish.gateway();
        let start = StepId::new("start", &name);
        if !self.claims() {
            if self.observed.gateway.as_ref().is_some_and(|gateway| !gateway.running) {
                self.add(start, Op::Start { container: name }, "it is stopped", []);
            }
            return;
        }
        let claim = StepId::new("claim", &name);
        let mut before: Vec<StepId> = vec![claim.clone()];
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
        let config = gateway::config(self.wish, self.observed, &self.laid, edge, &self.published);
        let configure = StepId::new("configure", &name);
        let op = Op::Configure { container: name.clone(), config: Box::new(config) };
        self.add(configure.clone(), op, "ports and egress of the spec", [claim]);
        before.push(configure);
        self.add(start, Op::Start { container: name }, "names, ports and egress pass through it", before);
    }
}
