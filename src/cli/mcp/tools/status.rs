//! `list` and `status`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};
use crate::cli::mcp::server::{Server, Target};
use crate::cli::mcp::untrusted;
use crate::session::event::{ServiceState, ServiceStatus};
use crate::session::existing::fault;
use crate::session::inspect::{self, Passwords};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct List {}

/// Lists the server's sandboxes, and why those that ended meanwhile did.
pub(in crate::cli::mcp) async fn list(server: Server, _: List, _: Call) -> ToolResult {
    let (mut alive, mut ended) = (Vec::new(), Vec::new());
    for held in server.registry.all() {
        if let Some(error) = held.end_so_far() {
            ended.push(json!({ "sandbox": held.name.as_str(), "ended": Reply::from(error).facts() }));
            server.registry.remove(&held);
        } else {
            let folder = held.folder.strip_prefix(&server.permissions.folder).unwrap_or(&held.folder);
            alive.push(json!({ "sandbox": held.name.as_str(), "folder": folder.display().to_string() }));
        }
    }
    let mut facts = json!({ "sandboxes": alive });
    if !ended.is_empty() {
        facts["ended"] = ended.into();
    }
    Ok(Reply::new(facts))
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Status {
    /// Default: the only one
    sandbox: Option<String>,
}

/// Shows one sandbox.
pub(in crate::cli::mcp) async fn status(server: Server, args: Status, _: Call) -> ToolResult {
    let facts = facts(&server, args.sandbox.as_deref()).await?;
    let held = server.registry.pick(args.sandbox.as_deref())?;
    // Warnings and exits may quote what services wrote.
    let notes: Vec<String> = held.feed.notes().iter().map(|note| untrusted::plain(note)).collect();
    Ok(Reply::new(facts).with_untrusted("warnings", &notes.join("\n")))
}

/// The state of a sandbox in our own words.
pub(super) async fn facts(server: &Server, asked: Option<&str>) -> Result<Value, ErrorReply> {
    let target = server.target(asked).await?;
    let Target { held, engine, observed } = &target;
    let statuses = inspect::statuses(&**engine, observed, Passwords::LeftOut).await?;
    let standings = held.keeper().sandboxes().await.map_err(Failure::from)?;
    let ends =
        standings.iter().find(|standing| standing.sandbox == held.id).and_then(|standing| standing.ends);
    let mut facts = json!({
        "sandbox": held.name.as_str(),
        "services": statuses.iter().map(service).collect::<Vec<_>>(),
    });
    if let Some(ends) = ends {
        facts["ends"] = ends.to_string().into();
    }
    let snapshots: Vec<String> = held.snapshots().into_keys().collect();
    if !snapshots.is_empty() {
        facts["snapshots"] = json!(snapshots);
    }
    let faults = fault::all(&**engine, observed).await?;
    if !faults.is_empty() {
        let shown = faults.iter().map(|one| format!("{}: {}", fault::service_of(one), one.fault));
        facts["faults"] = shown.collect::<Vec<_>>().into();
    }
    Ok(facts)
}

fn service(status: &ServiceStatus) -> Value {
    let mut shown = json!({ "service": status.service, "state": state(&status.state) });
    if status.replica > 1 {
        shown["replica"] = status.replica.into();
    }
    let addresses = status.endpoints.iter().map(|endpoint| {
        let address = std::net::SocketAddr::new(endpoint.host, endpoint.port);
        json!({ "port": endpoint.target, "address": endpoint.url.clone().unwrap_or_else(|| address.to_string()) })
    });
    let addresses: Vec<Value> = addresses.collect();
    if !addresses.is_empty() {
        shown["addresses"] = addresses.into();
    }
    shown
}

fn state(state: &ServiceState) -> String {
    match state {
        ServiceState::Created => "created".to_owned(),
        ServiceState::Starting => "starting".to_owned(),
        ServiceState::Running => "running".to_owned(),
        ServiceState::Healthy => "healthy".to_owned(),
        ServiceState::Ready => "ready".to_owned(),
        ServiceState::Unhealthy => "unhealthy".to_owned(),
        ServiceState::Paused => "paused".to_owned(),
        ServiceState::Restarting => "restarting".to_owned(),
        ServiceState::Exited { code } => format!("exited ({code})"),
    }
}
