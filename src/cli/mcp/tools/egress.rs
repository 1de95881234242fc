//! `egress`: what was refused, and what would allow it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::ToolResult;
use crate::cli::mcp::server::Server;
use crate::cli::mcp::untrusted;
use crate::session::inspect;
use crate::session::readiness::gateway_probe::GatewayProber;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Egress {
    /// Default: the only one
    sandbox: Option<String>,
}

/// Lists refusals.
pub(in crate::cli::mcp) async fn egress(server: Server, args: Egress, _: Call) -> ToolResult {
    let target = server.target(args.sandbox.as_deref()).await?;
    let Some(gateway) = &target.observed.gateway else {
        return Err(Failure::failed(format!("sandbox `{}` has no gateway", target.held.name), None).into());
    };
    // The gateway's log is behind by a moment.
    let refusals = GatewayProber::new(Arc::clone(&target.engine), gateway.name.clone()).refusals().await?;
    let lines: Vec<String> = refusals
        .iter()
        .map(|refusal| {
            let key = &refusal.key;
            let port = key.port.map(|port| format!(":{port}")).unwrap_or_default();
            let way_out = match (key.rule(), &key.reason) {
                (Some(rule), _) => format!("`egress: [\"{rule}\"]` allows it"),
                (None, Some(reason)) => format!("no rule allows it: {reason}"),
                (None, None) => "no rule allows it".to_owned(),
            };
            format!("{} asked for {}{port} ({} times); {way_out}", key.service, key.target, refusal.count)
        })
        .collect();
    let spec = inspect::declared(target.held.keeper(), &target.observed).await?;
    let mut facts = json!({
        "refused": refusals.len(),
        "policy": spec.map(|spec| spec.egress.to_string()),
        "server_allows": server.permissions.egress.to_string(),
    });
    if !refusals.is_empty() {
        facts["hint"] =
            "add the rule to `egress` in the spec and call `up`, as far as the server allows it".into();
    }
    let text: Vec<String> = lines.iter().map(|line| untrusted::plain(line)).collect();
    Ok(server.pages.reply(facts, "refusals", &text.join("\n")))
}
