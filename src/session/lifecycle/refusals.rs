//! Reports the blocked outbound connections of a session's services, each name once, with the rule that allows it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::gateway::stats::{LogSummary, Refusal};
use crate::engine::identity::{self, SandboxName};
use crate::engine::{Engine, LogOptions, LogStream};
use crate::session::event::{Event, Events};

/// How long to wait before reopening the gateway's log after its end: a changed spec may have replaced the gateway.
const AGAIN: Duration = Duration::from_secs(2);
/// A gateway writes no longer lines than this, so a longer one is dropped.
const LONGEST_LINE: usize = 64 * 1024;
/// Maximum number of names to report; `sandbox egress` shows the others.
const MOST_NAMES: usize = 20;

/// Follows the log of a sandbox's gateway until the token is cancelled.
pub(crate) fn follow(
    engine: &Arc<dyn Engine>,
    events: &Events,
    name: &SandboxName,
    since: Timestamp,
    token: &CancellationToken,
) {
    let mut watch = Watch {
        engine: Arc::clone(engine),
        events: events.clone(),
        gateway: identity::gateway(name.as_str()),
        reported: BTreeSet::new(),
    };
    let token = token.clone();
    tokio::spawn(async move { token.run_until_cancelled(watch.run(since)).await });
}

struct Watch {
    engine: Arc<dyn Engine>,
    events: Events,
    gateway: String,
    /// The names and addresses already reported.
    reported: BTreeSet<String>,
}

impl Watch {
    async fn run(&mut self, mut since: Timestamp) {
        while self.reported.len() < MOST_NAMES {
            let options = LogOptions { follow: true, since: Some(since), ..LogOptions::default() };
            // While the gateway is being recreated it has no log.
            if let Ok(log) = self.engine.logs(&self.gateway, &options).await {
                since = Timestamp::now();
                self.read(log).await;
            }
            tokio::time::sleep(AGAIN).await;
        }
        let text = "more names were refused; `sandbox egress` shows all".to_owned();
        self.events.emit(Event::Notice { text });
    }

    /// Reads a log until its end.
    async fn read(&mut self, mut log: LogStream) {
        let mut pending = String::new();
        while let Some(Ok(chunk)) = log.next().await {
            pending.push_str(&String::from_utf8_lossy(&chunk.bytes));
            while let Some(end) = pending.find('\n') {
                let line: String = pending.drain(..=end).collect();
                for refusal in LogSummary::read(&line).refusals {
                    self.report(&refusal);
                }
            }
            if pending.len() > LONGEST_LINE {
                pending.clear();
            }
        }
    }

    fn report(&mut self, refusal: &Refusal) {
        if self.reported.len() < MOST_NAMES && self.reported.insert(refusal.key.target.clone()) {
            self.events.emit(warning(refusal));
        }
    }
}

fn warning(refusal: &Refusal) -> Event {
    let key = &refusal.key;
    let port = key.port.map(|port| format!(":{port}")).unwrap_or_default();
    let reason = key.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Event::Warning {
        text: format!("egress refused `{}{port}` to service `{}`{reason}", key.target, key.service),
        hint: key.rule().map(|rule| format!("`egress: [\"{rule}\"]` in the spec allows it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::Recording;

    fn refusal(target: &str) -> Refusal {
        let json = format!(
            r#"{{"service":"web","target":"{target}","port":443,"kind":"name","count":1,"last":"2026-11-30T00:00:00Z"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn each_name_is_reported_once_with_the_line_that_allows_it() {
        let (events, mut heard) = Events::channel();
        let mut watch = Watch {
            engine: Recording::with_images(&[]),
            events,
            gateway: String::new(),
            reported: BTreeSet::new(),
        };
        for target in ["a.example", "a.example", "b.example"] {
            watch.report(&refusal(target));
        }
        drop(watch);
        let mut told = Vec::new();
        while let Some(event) = heard.try_recv() {
            told.push(event);
        }
        assert_eq!(told.len(), 2);
        let Event::Warning { text, hint } = &told[0] else { panic!("{told:?}") };
        assert!(text.contains("a.example:443") && text.contains("web"), "{text}");
        assert_eq!(hint.as_deref(), Some("`egress: [\"a.example:443\"]` in the spec allows it"));
    }
}
