//! Reports that a sandbox is up: how to reach it, when it ends, and what is not as the spec prefers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::port_check;
use crate::agent::protocol::{Attachment, End, Lifetime};
use crate::engine::identity;
use crate::plan::{self, Observed};
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::{Event, ServiceState, ServiceStatus};
use crate::session::inspect::{self, Passwords};
use crate::session::readiness::gateway_probe::GatewayProber;
use crate::session::readiness::log_tail::tail;
use crate::session::request::BuildRequest;
use crate::spec::{Probe, RestartPolicy, Spec};

/// Checks for services that failed after they were ready and that will not be restarted.
async fn none_failed(
    context: &Context,
    order: &BuildRequest,
    services: &[ServiceStatus],
) -> Result<(), SessionError> {
    for status in services {
        let ServiceState::Exited { code } = status.state else { continue };
        let service = order.spec.services.get(status.service.as_str());
        let optional = service.is_some_and(|service| plan::is_optional(&order.spec, &service.name));
        if code != 0
            && !optional
            && service.is_some_and(|service| service.restart_policy() == RestartPolicy::No)
        {
            let prober =
                GatewayProber::new(Arc::clone(&context.engine), identity::gateway(order.name.as_str()));
            return Err(SessionError::Exited {
                service: status.service.clone(),
                code,
                log: tail(&*context.engine, &status.container).await,
                waited_for_by: Vec::new(),
                refused: prober.refused(&status.service).await,
            });
        }
    }
    Ok(())
}

/// Reports that a sandbox is up, how to reach it, and which preferred host ports were not free.
///
/// # Errors
/// Fails if the engine does not answer, or with the first service that failed while others were waited for.
pub async fn tell_up(
    context: &Context,
    order: &BuildRequest,
    manner: &AttachMode,
    elapsed: Duration,
) -> Result<(), SessionError> {
    let Some(observed) = inspect::sandbox(&*context.engine, &context.scope, &order.name).await? else {
        return Err(SessionError::NoSuchSandbox { name: order.name.clone() });
    };
    let mut services = inspect::statuses(&*context.engine, &observed, Passwords::LeftOut).await?;
    // The engine runs its first healthcheck only after an interval, but `up` has already seen the service ready.
    let unchecked = services.iter_mut().filter(|status| status.state == ServiceState::Starting);
    unchecked.for_each(|status| status.state = ServiceState::Ready);
    none_failed(context, order, &services).await?;
    let services: Vec<ServiceStatus> =
        services.into_iter().map(|status| found_ready(&order.spec, status)).collect();
    moved(&order.spec, &services).for_each(|event| context.events.emit(event));
    let local = context.info.location.is_local();
    port_check::unreached(&order.spec, &services, local, port_check::FORWARDERS_TIME)
        .await
        .into_iter()
        .for_each(|event| context.events.emit(event));
    let end = match manner {
        AttachMode::Detached(lifetime) => lifetime.end(Timestamp::now(), Attachment::Detached),
        AttachMode::Session | AttachMode::Visit => end(context, order).await,
    };
    context.events.emit(Event::Up {
        name: order.name.to_string(),
        services,
        deadline: end.map(|end| end.at),
        if_unused: end.is_some_and(|end| end.unless_used),
        elapsed,
        attached: !matches!(manner, AttachMode::Detached(_)),
        stays: !matches!(manner, AttachMode::Session),
    });
    Ok(())
}

/// How a client relates to a sandbox that it has brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachMode {
    /// It is the sandbox's session: when it ends, the sandbox is destroyed.
    Session,
    /// It is attached to a sandbox that outlives it.
    Visit,
    /// It detaches and gives the sandbox this lifetime.
    Detached(Lifetime),
}

/// When a sandbox ends, according to its keeper.
async fn end(context: &Context, order: &BuildRequest) -> Option<End> {
    let standings = context.keeper.sandboxes().await.unwrap_or_default();
    let standing = standings.into_iter().find(|standing| standing.sandbox == order.id);
    match standing {
        Some(standing) => Some(End { at: standing.ends?, unless_used: standing.unless_used }),
        None => order.expires.map(|at| End { at, unless_used: false }),
    }
}

/// Sets a service that `up` has waited for to ready: its healthcheck or its `ready:` probe has succeeded, even if the
/// engine has not run the next healthcheck yet.
pub fn found_ready(spec: &Spec, mut status: ServiceStatus) -> ServiceStatus {
    let probed = spec.services.get(status.service.as_str()).and_then(|service| service.ready.as_ref());
    status.state = match status.state {
        ServiceState::Starting | ServiceState::Healthy => ServiceState::Ready,
        ServiceState::Running if probed.is_some_and(|ready| ready.probe != Probe::None) => {
            ServiceState::Ready
        }
        other => other,
    };
    status
}

/// Ports that are published at none of the host ports that the spec prefers.
fn moved<'a>(spec: &Spec, services: &'a [ServiceStatus]) -> impl Iterator<Item = Event> + 'a {
    plan::published(spec, &Observed::default()).into_iter().filter_map(|port| {
        let wanted = port.wanted?;
        let given: Vec<u16> = port_check::endpoints(&port, services).map(|endpoint| endpoint.port).collect();
        if given.iter().any(|port| wanted.contains(*port)) {
            return None;
        }
        let (service, target, wanted) = (port.service.to_string(), port.target, wanted.start);
        Some(Event::PortMoved { service, target, wanted, given: *given.first()? })
    })
}
