//! The ingress filter from the keeper's side: when it is asked for, and what comes of it.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::state::Found;
use crate::agent::client::in_full;
use crate::agent::ingress::container::Ingress;
use crate::agent::protocol::{Line, Outcome, Refusal, RefusalKind, Reply};
use crate::engine::identity::SandboxId;

/// Filters for a sandbox and answers whoever asked for it.
pub async fn filter(
    ingress: Option<Arc<Ingress>>,
    lines: mpsc::UnboundedSender<Line>,
    id: u64,
    sandbox: SandboxId,
) {
    let filtered = match ingress {
        Some(ingress) => {
            ingress.filter(&sandbox).await.map_err(|error| (in_full(&error), Some(error.hint().to_owned())))
        }
        None => Err(("this keeper filters nothing".to_owned(), None)),
    };
    let outcome = match filtered {
        Ok(()) => Outcome::Ok(serde_json::Value::Null),
        Err((message, hint)) => Outcome::Error(Refusal { kind: RefusalKind::Ingress, message, hint }),
    };
    // The client may have gone; its networks go with the sandbox.
    let _ = lines.send(Line::Reply(Reply { id, outcome }));
}

/// Filters again for all that is there: after a start of the engine's machine their bridges are others.
pub async fn take_up(ingress: &Ingress, found: &[Found]) {
    let again = found.iter().map(async |it| {
        if let Err(error) = ingress.filter(&it.sandbox).await {
            tracing::warn!(name = %it.name, error = in_full(&error), "services may reach the engine's machine");
        }
    });
    join_all(again).await;
}
