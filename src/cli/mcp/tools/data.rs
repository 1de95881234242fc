//! `snapshot`, `reset` and `fork`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{lifecycle, status};
use crate::agent::protocol::Reason;
use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::feed::Feed;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};
use crate::cli::mcp::server::{Server, Target};
use crate::engine::identity::SandboxId;
use crate::session::existing::{
    ExistingSandbox, Retention, SnapshotMode, SnapshotRequest, Target as ResetTarget,
};
use crate::session::lifecycle::open;
use crate::spec::{SandboxName, ServiceName};
use crate::storage::SetPath;

/// How long services may take to get ready again.
const PATIENCE: Duration = Duration::from_mins(5);
/// How many forks of one sandbox are numbered.
const MOST_FORKS: usize = 1000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct Snapshot {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    name: String,
}

/// Takes a snapshot that goes with its sandbox.
pub(in crate::cli::mcp) async fn snapshot(server: Server, args: Snapshot, call: Call) -> ToolResult {
    let stored = server.registry.snapshot_name(&args.name);
    let set = SetPath::snapshot(&stored).map_err(|error| Failure::usage(error.to_string(), None))?;
    let (target, existing) = server.existing(args.sandbox.as_deref(), &call).await?;
    Server::unbroken(async move {
        let _changing = target.held.changing.lock().await;
        let request = SnapshotRequest::new(SnapshotMode::Clean, Retention::WithSandbox, PATIENCE);
        let consistency = existing.snapshot(&set, request).await?;
        target.held.add_snapshot(args.name.clone(), set);
        Ok(Reply::new(json!({ "snapshot": args.name, "consistency": consistency.to_string() })))
    })
    .await
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Reset {
    /// Default: the only one
    sandbox: Option<String>,
    /// Snapshot (default: the first state)
    to: Option<String>,
    /// Service or volume (default: everything)
    only: Option<String>,
}

/// Resets data.
pub(in crate::cli::mcp) async fn reset(server: Server, args: Reset, call: Call) -> ToolResult {
    let set = match &args.to {
        Some(name) => Some(find_snapshot(&server, name)?),
        None => None,
    };
    let (target, existing) = server.existing(args.sandbox.as_deref(), &call).await?;
    Server::unbroken(async move {
        let _changing = target.held.changing.lock().await;
        let what = reset_target(&existing, args.only.as_deref());
        let volumes = existing.reset(&what, set.as_ref(), PATIENCE).await?;
        let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
        Ok(Reply::new(json!({ "sandbox": target.held.name.as_str(), "reset": volumes })))
    })
    .await
}

fn reset_target(existing: &ExistingSandbox, only: Option<&str>) -> ResetTarget {
    match only {
        None => ResetTarget::Everything,
        Some(only) => match ServiceName::new(only) {
            Ok(service) if existing.spec.services.contains_key(&service) => ResetTarget::Service(service),
            _ => ResetTarget::Volume(only.to_owned()),
        },
    }
}

/// A snapshot that was taken through this server.
pub(super) fn find_snapshot(server: &Server, name: &str) -> Result<SetPath, ErrorReply> {
    let all = server.registry.all();
    let known = all.iter().flat_map(|held| held.snapshots());
    let known: Vec<(String, SetPath)> = known.collect();
    if let Some((_, set)) = known.iter().find(|(known, _)| known == name) {
        return Ok(set.clone());
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let hint = if names.is_empty() {
        "take one with `snapshot`; without `to` the data goes back to its first state".to_owned()
    } else {
        format!("the snapshots are {}", names.join(", "))
    };
    Err(Failure::failed(format!("there is no snapshot `{name}`"), Some(hint)).into())
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Fork {
    /// Default: the only one
    sandbox: Option<String>,
    /// Name of the copy; the server adds a suffix
    name: Option<String>,
}

/// Copies a sandbox.
pub(in crate::cli::mcp) async fn fork(server: Server, args: Fork, call: Call) -> ToolResult {
    let target = server.target(args.sandbox.as_deref()).await?;
    let adding = server.adding.lock().await;
    server.check_room()?;
    let name = fork_name(&server, &target, args.name.as_deref())?;
    let (feed, events) = Feed::start(call.progress());
    let scope = server.context.scope()?;
    let origin = ExistingSandbox::of(&target.engine, &scope, target.observed.clone(), events).await?;
    let id = SandboxId::random();
    let order = origin.fork(name.clone(), id.clone(), PATIENCE).await?;
    let session = open::begin(origin.context.clone(), order, false).await?;
    let lent = {
        let _changing = target.held.changing.lock().await;
        origin.lend(&id).await
    };
    if let Err(error) = lent {
        session.lease.release(Reason::Failed).await.map_err(Failure::from)?;
        return Err(error.into());
    }
    drop(origin);
    let (held, ready) = lifecycle::add(&server, session, feed);
    drop(adding);
    lifecycle::finish(&server, &held, ready, &call).await?;
    Ok(Reply::new(status::facts(&server, Some(name.as_str())).await?))
}

/// The name of a copy: the given one, or that of the original with a number.
fn fork_name(server: &Server, target: &Target, asked: Option<&str>) -> Result<SandboxName, ErrorReply> {
    let free = |name: &SandboxName| server.registry.find(name).is_none();
    let taken = |name: &SandboxName| {
        let hint = Some("choose another `name`".to_owned());
        ErrorReply::from(Failure::failed(format!("sandbox `{name}` exists already"), hint))
    };
    if let Some(asked) = asked {
        let name = server.registry.name(asked);
        return if free(&name) { Ok(name) } else { Err(taken(&name)) };
    }
    let base = server.registry.base(&target.held.name);
    let mut names = (2..=MOST_FORKS).map(|number| server.registry.name(&format!("{base}-{number}")));
    names.find(free).ok_or_else(|| taken(&target.held.name))
}
