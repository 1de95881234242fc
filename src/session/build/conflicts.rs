//! Handles conflicts with concurrent clients: a subnet, port or name was taken between observing and executing, so that
//! observing and planning again helps.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::host_ports;
use crate::engine::network::Subnet;
use crate::engine::{Engine, ErrorKind, Port};
use crate::plan::{Observed, Op};
use crate::session::error::SessionError;
use crate::session::request::PreferredPort;
use crate::spec::Spec;

/// How long to wait before looking again for an object that another client is creating.
const SETTLING: Duration = Duration::from_millis(100);

/// What the engine reported as taken, although observing does not show it, or not yet.
#[derive(Debug, Default)]
pub(crate) struct Conflict {
    ports: BTreeSet<Port>,
    /// Subnets of networks: those of other clients may take a while to be listed.
    subnets: Vec<Ipv4Net>,
}

/// The sandbox that a plan is for.
pub(crate) struct PlanOwner<'a> {
    pub spec: &'a Spec,
    pub ports: PreferredPort,
    pub gateway: String,
}

impl Conflict {
    /// Adds the conflicts to the observed state.
    pub(crate) fn add_to(&self, observed: &mut Observed) {
        observed.busy_ports.extend(&self.ports);
        observed.taken.extend(&self.subnets);
    }

    /// Forgets the subnets: if none is free, one of them may have become free again.
    pub(crate) fn forget_subnets(&mut self) {
        self.subnets.clear();
    }

    /// Whether an operation failed only because another client was faster. If so, records the conflict and removes what
    /// must be created again.
    ///
    /// # Errors
    /// Fails if the engine rejects the removal.
    pub(crate) async fn to_others(
        &mut self,
        engine: &dyn Engine,
        whose: &PlanOwner<'_>,
        observed: &Observed,
        op: &Op,
        error: &SessionError,
    ) -> Result<bool, SessionError> {
        let error = match error {
            SessionError::Engine(error) => error,
            SessionError::Overtaken { .. } => {
                give_way().await;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        match (error.kind, op) {
            // For a moment there are several edge networks. A container that refers to them has to be created again.
            (ErrorKind::Ambiguous, Op::Start { container }) if *container == whose.gateway => {
                engine.remove_container(container, true, false).await?;
                give_way().await;
            }
            (ErrorKind::Ambiguous, Op::Claim(_)) => give_way().await,
            (ErrorKind::SubnetOverlap, Op::CreateNetwork(network)) => {
                self.subnets.extend(network.subnets.iter().filter_map(Subnet::ipv4));
            }
            (ErrorKind::SubnetOverlap | ErrorKind::Conflict, Op::CreateEdge(_)) => {
                // Another client creates the edge network, which is not listed before it is complete.
                tokio::time::sleep(SETTLING).await;
            }
            (ErrorKind::PortTaken, Op::Start { container }) => {
                self.ports
                    .extend(host_ports::refused(host_ports::asked(whose.spec, observed), &error.cause.0));
                let mut without = observed.clone();
                self.add_to(&mut without);
                if host_ports::check(whose.spec, whose.ports, &without).is_err() {
                    return Ok(false);
                }
                // The container still has the old ports: it has to be created again.
                engine.remove_container(container, true, false).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Waits for a random time, so that clients in conflict do not retry together.
async fn give_way() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(20..250))).await;
}
