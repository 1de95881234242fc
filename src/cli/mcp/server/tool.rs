//! A tool: its name, description, input schema and handler.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rmcp::model::{self, JsonObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Server;
use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};

/// What a tool changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::mcp) enum Effect {
    /// Nothing.
    Reads,
    /// It adds something.
    Changes,
    /// It may destroy data of a sandbox.
    Destroys,
}

type Handler = Box<dyn Fn(Server, Value, Call) -> BoxFuture<'static, ToolResult> + Send + Sync>;

/// A tool.
pub(in crate::cli::mcp) struct Tool {
    /// What the client sees.
    pub listed: model::Tool,
    run: Handler,
}

impl Tool {
    /// A tool whose arguments are `A`.
    pub fn new<A, F>(
        name: &'static str,
        effect: Effect,
        description: &'static str,
        run: fn(Server, A, Call) -> F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Future<Output = ToolResult> + Send + 'static,
    {
        let schema = schemars::schema_for!(A).to_value();
        let schema = match compact(schema) {
            Value::Object(schema) => schema,
            _ => JsonObject::new(),
        };
        let mut listed = model::Tool::new(name, description, Arc::new(schema));
        listed.annotations = annotations(effect);
        let run: Handler = Box::new(move |server, arguments, call| match serde_json::from_value(arguments) {
            Ok(arguments) => run(server, arguments, call).boxed(),
            Err(error) => std::future::ready(Err(misused(name, &error))).boxed(),
        });
        Self { listed, run }
    }

    /// Calls the tool.
    pub async fn call(&self, server: Server, arguments: Option<JsonObject>, call: Call) -> Reply {
        let arguments = Value::Object(arguments.unwrap_or_default());
        (self.run)(server, arguments, call).await.unwrap_or_else(Reply::from)
    }
}

fn annotations(effect: Effect) -> Option<ToolAnnotations> {
    match effect {
        Effect::Reads => Some(ToolAnnotations::new().read_only(true)),
        Effect::Changes => Some(ToolAnnotations::new().destructive(false)),
        // The protocol's default.
        Effect::Destroys => None,
    }
}

fn misused(name: &str, error: &serde_json::Error) -> ErrorReply {
    let hint = format!("see the input schema of `{name}`; what is allowed is fixed when the server starts");
    Failure::usage(format!("wrong arguments: {error}"), Some(hint)).into()
}

/// Removes what costs tokens and tells a model nothing.
fn compact(schema: Value) -> Value {
    match schema {
        Value::Object(object) => {
            let kept = object.into_iter().filter(|(key, value)| match key.as_str() {
                "$schema" | "title" | "format" | "minimum" => !value.is_string() && !value.is_number(),
                "default" => false,
                _ => true,
            });
            let kept = kept.map(|(key, value)| match (key.as_str(), value) {
                ("type", Value::Array(mut types)) => {
                    types.retain(|one| one != "null");
                    let only = if types.len() == 1 { types.pop() } else { None };
                    (key, only.unwrap_or(Value::Array(types)))
                }
                (_, value) => (key, compact(value)),
            });
            Value::Object(kept.collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(compact).collect()),
        other => other,
    }
}
