//! `up` and `down`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::status;
use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::feed::Feed;
use crate::cli::mcp::held::{Held, Ready};
use crate::cli::mcp::permissions::SpecRequest;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};
use crate::cli::mcp::server::Server;
use crate::session::error::SessionError;
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::{Outcome, Session};
use crate::session::request::UpOptions;
use crate::spec::{Loaded, SandboxName, Warning};

/// How long a service may take to get ready, in seconds.
const PATIENCE: u64 = 300;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Up {
    /// Folder of the spec, relative to the server's
    folder: Option<String>,
    /// Spec files (default: sandbox.yaml or compose.yaml)
    files: Vec<String>,
    /// Services to start, with their dependencies (default: all)
    services: Vec<String>,
    profiles: Vec<String>,
    /// Name of the sandbox; the server adds a suffix
    name: Option<String>,
    /// Build images again
    build: bool,
    /// Longest wait for a service (default: 300)
    wait_seconds: Option<u64>,
}

/// Builds a sandbox, or applies the spec to the one that is up.
pub(in crate::cli::mcp) async fn up(server: Server, args: Up, call: Call) -> ToolResult {
    let asked = SpecRequest {
        folder: args.folder,
        files: args.files,
        services: args.services.clone(),
        profiles: args.profiles,
    };
    let loaded = tokio::task::block_in_place(|| server.permissions.load(&asked))?;
    let name = server.registry.name(args.name.as_deref().unwrap_or(loaded.sandbox.as_str()));
    let opening = UpOptions {
        services: args.services,
        name: Some(name.clone()),
        rebuild: args.build,
        patience: Duration::from_secs(args.wait_seconds.unwrap_or(PATIENCE)),
        ..UpOptions::default()
    };
    let warnings: Vec<String> = loaded.warnings.iter().map(Warning::to_string).collect();
    match server.registry.find(&name) {
        Some(held) => change(&held, loaded, opening, &call).await?,
        None => build(&server, &name, loaded, opening, &call).await?,
    }
    let mut facts = status::facts(&server, Some(name.as_str())).await?;
    if !warnings.is_empty() {
        facts["warnings"] = json!(warnings);
    }
    Ok(Reply::new(facts))
}

async fn change(held: &Held, loaded: Loaded, opening: UpOptions, call: &Call) -> Result<(), ErrorReply> {
    if held.folder != loaded.spec.folder {
        let message = format!("sandbox `{}` was made from `{}`", held.name, held.folder.display());
        return Err(Failure::usage(message, Some("give this one another `name`".to_owned())).into());
    }
    let _changing = held.changing.lock().await;
    held.feed.attach(call.progress());
    let changed = held.change(loaded, opening, call.cancelled.clone()).await;
    held.feed.attach(None);
    changed
}

async fn build(
    server: &Server,
    name: &SandboxName,
    loaded: Loaded,
    opening: UpOptions,
    call: &Call,
) -> Result<(), ErrorReply> {
    let adding = server.adding.lock().await;
    server.check_room()?;
    let (feed, events) = Feed::start(call.progress());
    let (engine, scope) = (server.context.engine().await?, server.context.scope()?);
    let session = tokio::select! {
        session = open::open(&engine, &scope, &loaded, &opening, events) => session?,
        () = call.cancelled.cancelled() => return Err(SessionError::Cancelled.into()),
        () = server.closing.cancelled() => return Err(SessionError::Cancelled.into()),
    };
    if session.existed {
        // A sandbox of this very name that this server did not make is not its own.
        session.lease.relinquish().await.map_err(Failure::from)?;
        let hint = "choose another `name`".to_owned();
        return Err(Failure::failed(format!("sandbox `{name}` exists already"), Some(hint)).into());
    }
    let (held, ready) = add(server, session, feed);
    drop(adding);
    finish(server, &held, ready, call).await
}

/// Starts a session as one of the server's own.
pub(super) fn add(
    server: &Server,
    session: Session,
    feed: std::sync::Arc<Feed>,
) -> (std::sync::Arc<Held>, Ready) {
    let (held, ready) = Held::start(session, feed);
    server.registry.add(std::sync::Arc::clone(&held));
    (held, ready)
}

/// Waits until a new sandbox is up; one that cannot be built is forgotten.
pub(super) async fn finish(
    server: &Server,
    held: &Held,
    ready: Ready,
    call: &Call,
) -> Result<(), ErrorReply> {
    let built = held.built(ready, &call.cancelled).await;
    held.feed.attach(None);
    if built.is_err() {
        server.registry.remove(held);
    }
    built
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Down {
    /// Default: the only one
    sandbox: Option<String>,
}

/// Destroys a sandbox.
pub(in crate::cli::mcp) async fn down(server: Server, args: Down, call: Call) -> ToolResult {
    let held = server.registry.pick(args.sandbox.as_deref())?;
    held.feed.attach(call.progress());
    held.end();
    let ended = held.ended().await;
    server.registry.remove(&held);
    match &*ended {
        Ok(Outcome::Ended(_) | Outcome::LeftUp) => {
            Ok(Reply::new(json!({ "sandbox": held.name.as_str(), "destroyed": true })))
        }
        Err(error) => Err(error.into()),
    }
}
