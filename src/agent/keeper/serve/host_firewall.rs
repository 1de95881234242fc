//! Starts the host firewall, applies it to sandboxes, and retries when it fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Serving;
use crate::agent::client::in_full;
use crate::agent::host_firewall::container::{HostFirewall, HostFirewallError};
use crate::agent::keeper::state::{ConnectionId, Event};
use crate::agent::protocol::{Line, Outcome, Refusal, RefusalKind, Reply};
use crate::engine::identity::SandboxId;

/// How long other work waits for the first attempt.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The pauses between retries after the engine has refused.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_mins(1)];

impl Serving {
    /// Starts the host firewall early: a client that takes a lease is about to create networks.
    pub(super) fn prepare_host_firewall(&mut self) {
        let Some(host_firewall) = self.host_firewall.clone() else { return };
        self.busy += 1;
        self.spawn(async move {
            host_firewall.prepare().await;
            Event::Quiet
        });
    }

    pub(super) fn filter_host_firewall(&mut self, client: ConnectionId, id: u64, sandbox: SandboxId) {
        let Some(lines) = self.clients.sender(client) else { return };
        self.busy += 1;
        self.spawn(filter(self.host_firewall.clone(), lines, id, sandbox));
    }
}

/// Filters for a sandbox and replies to the request.
async fn filter(
    host_firewall: Option<Arc<HostFirewall>>,
    lines: mpsc::UnboundedSender<Line>,
    id: u64,
    sandbox: SandboxId,
) -> Event {
    let refused = if let Some(host_firewall) = host_firewall {
        host_firewall.filter(&sandbox).await.err().map(|error| Refusal {
            kind: if matches!(error, HostFirewallError::Ipv6(_)) {
                RefusalKind::Ipv6
            } else {
                RefusalKind::HostFirewall
            },
            message: in_full(&error),
            hint: Some(error.hint().to_owned()),
        })
    } else {
        let message = "this keeper filters nothing".to_owned();
        Some(Refusal { kind: RefusalKind::HostFirewall, message, hint: None })
    };
    let outcome = refused.map_or(Outcome::Ok(serde_json::Value::Null), Outcome::Error);
    // The client may have disconnected; its networks are removed with the sandbox.
    let _ = lines.send(Line::Reply(Reply { id, outcome }));
    Event::Quiet
}

/// Filters again for all sandboxes: after a reboot of the engine's machine they have new bridges.
pub async fn take_up(host_firewall: Arc<HostFirewall>) {
    if !timeout(AT_ONCE, tried(&host_firewall)).await.unwrap_or_default() {
        tokio::spawn(async move {
            for pause in AGAIN {
                sleep(pause).await;
                if tried(&host_firewall).await {
                    break;
                }
            }
        });
    }
}

/// Tries to filter; returns whether to stop retrying.
async fn tried(host_firewall: &HostFirewall) -> bool {
    match host_firewall.filter_all().await {
        Ok(()) | Err(HostFirewallError::Podman) => true,
        Err(error) => {
            tracing::warn!(error = in_full(&error), "services may reach the engine's machine");
            false
        }
    }
}
