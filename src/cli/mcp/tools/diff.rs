//! `diff`: what changed in a sandbox's data.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::data::find_snapshot;
use crate::cli::diff::line;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::ToolResult;
use crate::cli::mcp::server::Server;
use crate::cli::mcp::untrusted;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Diff {
    /// Default: the only one
    sandbox: Option<String>,
    /// Snapshot (default: the first state)
    from: Option<String>,
}

/// Lists the files that changed.
pub(in crate::cli::mcp) async fn diff(server: Server, args: Diff, call: Call) -> ToolResult {
    let set = args.from.as_deref().map(|name| find_snapshot(&server, name)).transpose()?;
    let (target, existing) = server.existing(args.sandbox.as_deref(), &call).await?;
    let diff = existing.diff(set.as_ref()).await?;
    let counts: Vec<_> = diff
        .volumes
        .iter()
        .map(|volume| {
            json!({
                "volume": volume.volume, "added": volume.added, "removed": volume.removed, "changed": volume.changed,
            })
        })
        .collect();
    let mut facts = json!({ "sandbox": target.held.name.as_str(), "volumes": counts });
    if !diff.without_origin.is_empty() {
        facts["nothing_to_compare_with"] = json!(diff.without_origin);
    }
    let lines =
        diff.volumes.iter().flat_map(|volume| volume.changes.iter().map(|change| line(volume, change)));
    let text = lines.collect::<Vec<_>>().join("\n");
    Ok(server.pages.reply(facts, "files", &untrusted::plain(&text)))
}
