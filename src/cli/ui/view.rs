//! The content of the page: every sandbox with its services, addresses, remaining time and refused connections.

use std::path::PathBuf;

use crate::engine::join_bounded;
use jiff::Timestamp;
use serde::Serialize;

use super::UiServer;
use crate::agent::gateway::stats::{LogSummary, Refusal};
use crate::agent::protocol::{LeaseStatus, Standing};
use crate::cli::{Failure, egress};
use crate::session::event::ServiceStatus;
use crate::session::inspect::{self, ObservedSandbox, Passwords};

/// A sandbox on the page.
#[derive(Serialize)]
pub(super) struct Shown {
    name: String,
    folder: PathBuf,
    created: Option<Timestamp>,
    ends: Option<Timestamp>,
    hold: Option<LeaseStatus>,
    services: Vec<ServiceStatus>,
    refused: Vec<Refused>,
}

/// A refused connection, and the rule that would allow it.
#[derive(Serialize)]
struct Refused {
    #[serde(flatten)]
    refusal: Refusal,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

/// All sandboxes of this scope.
pub(super) async fn sandboxes(desk: &UiServer) -> Result<Vec<Shown>, Failure> {
    let observed = inspect::sandboxes(&*desk.engine, &desk.scope).await?;
    let standings = match desk.keeper().await {
        Some(keeper) if !observed.is_empty() => keeper.sandboxes().await.unwrap_or_default(),
        _ => Vec::new(),
    };
    let shown = observed.iter().map(|observed| shown(desk, observed, &standings));
    join_bounded(shown).await.into_iter().collect()
}

async fn shown(
    desk: &UiServer,
    observed: &ObservedSandbox,
    standings: &[Standing],
) -> Result<Shown, Failure> {
    let services = inspect::statuses(&*desk.engine, observed, Passwords::LeftOut).await?;
    let standing = standings.iter().find(|standing| standing.sandbox.as_str() == observed.id);
    Ok(Shown {
        name: observed.name.clone(),
        folder: observed.folder.clone(),
        created: observed.created,
        ends: standing.map_or(observed.expires, |standing| standing.ends),
        hold: standing.map(|standing| standing.hold),
        services,
        refused: refused(desk, observed).await,
    })
}

async fn refused(desk: &UiServer, observed: &ObservedSandbox) -> Vec<Refused> {
    let Some(gateway) = &observed.gateway else { return Vec::new() };
    // The gateway may be about to be removed; then there is no log.
    let log = egress::log(&*desk.engine, &gateway.name).await.unwrap_or_default();
    let refusals = LogSummary::read(&log).refusals.into_iter();
    refusals.map(|refusal| Refused { rule: refusal.key.rule(), refusal }).collect()
}
