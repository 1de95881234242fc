//! `more`: the next page of a long output.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::logs;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::pages::Rest;
use crate::cli::mcp::reply::ToolResult;
use crate::cli::mcp::server::Server;
use crate::engine::Tail;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct More {
    cursor: String,
}

/// Continues an output.
pub(in crate::cli::mcp) async fn more(server: Server, args: More, _: Call) -> ToolResult {
    match server.pages.find(&args.cursor)? {
        Rest::Text { source, text } => Ok(server.pages.reply(json!({}), &source, &text)),
        Rest::Logs(position) => logs::read(&server, position, Tail::All).await,
    }
}
