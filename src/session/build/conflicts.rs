//! What others were faster to take, between the look at an engine and the call: then looking and planning again helps.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::host_ports::{self, PreferredPort};
use crate::engine::network::Subnet;
use crate::engine::{Engine, ErrorKind, Port};
use crate::plan::{Observed, Op};
use crate::session::error::SessionError;
use crate::spec::Spec;

/// How long it is waited before another look at what somebody else is making.
const SETTLING: Duration = Duration::from_millis(100);

/// What an engine has told to be taken, though a look does not show it, or not yet.
#[derive(Debug, Default)]
pub(crate) struct Conflict {
    ports: BTreeSet<Port>,
    /// Of networks: it may be a while until those of others are listed.
    subnets: Vec<Ipv4Net>,
}

/// Whose plan it is.
pub(crate) struct PlanOwner<'a> {
    pub spec: &'a Spec,
    pub ports: PreferredPort,
    /// The sandbox's gateway.
    pub gateway: String,
}

impl Conflict {
    /// Adds it to what a look has shown.
    pub(crate) fn add_to(&self, observed: &mut Observed) {
        observed.busy_ports.extend(&self.ports);
        observed.taken.extend(&self.subnets);
    }

    /// Forgets the subnets: where none is free, one of them may be again.
    pub(crate) fn forget_subnets(&mut self) {
        self.subnets.clear();
    }

    /// Whether the failure of an operation only means that somebody else was faster. What is lost by it is noted, and what
    /// was made for it removed.
    ///
    /// # Errors
    /// When the engine refuses the removal.
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
            // For a moment there are several edge networks. What was told of one of them has to be told anew.
            (ErrorKind::Ambiguous, Op::Start { container }) if *container == whose.gateway => {
                engine.remove_container(container, true, false).await?;
                give_way().await;
            }
            (ErrorKind::Ambiguous, Op::Claim(_)) => give_way().await,
            (ErrorKind::SubnetOverlap, Op::CreateNetwork(network)) => {
                self.subnets.extend(network.subnets.iter().filter_map(Subnet::ipv4));
            }
            (ErrorKind::SubnetOverlap | ErrorKind::Conflict, Op::CreateEdge(_)) => {
                // Another first sandbox makes it, and it is not listed before that is done.
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
                // The engine has the old ports in the container: it has to be made anew.
                engine.remove_container(container, true, false).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Waits for a moment, each client for another one.
async fn give_way() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(20..250))).await;
}
