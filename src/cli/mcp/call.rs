//! One call of a tool: its cancellation, and where its progress is sent.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::report::messages::fact;
use crate::session::event::Event;

/// How often steps that repeat, such as the output of a build, are reported.
const CHATTY: Duration = Duration::from_millis(500);

/// A call of a tool.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Cancelled by the client, or when the server ends.
    pub cancelled: CancellationToken,
    peer: Peer<RoleServer>,
    progress: Option<ProgressToken>,
}

impl Call {
    /// The call of a request.
    pub fn new(context: &RequestContext<RoleServer>) -> Self {
        Self {
            cancelled: context.ct.clone(),
            peer: context.peer.clone(),
            progress: context.meta.get_progress_token(),
        }
    }

    /// Starts to send progress, if the client asked for it.
    pub fn progress(&self) -> Option<Progress> {
        let token = self.progress.clone()?;
        let (sender, mut messages) = mpsc::unbounded_channel();
        let peer = self.peer.clone();
        tokio::spawn(async move {
            let mut count = 0.0;
            while let Some(message) = messages.recv().await {
                count += 1.0;
                let mut progress = ProgressNotificationParam::new(token.clone(), count);
                progress.message = Some(message);
                if peer.notify_progress(progress).await.is_err() {
                    return;
                }
            }
        });
        Some(Progress { sender, chatty: Mutex::new(None) })
    }
}

/// Sends the events of an operation as progress.
#[derive(Debug)]
pub(super) struct Progress {
    sender: mpsc::UnboundedSender<String>,
    chatty: Mutex<Option<Instant>>,
}

impl Progress {
    /// Sends an event, unless it says nothing to a user.
    pub fn report(&self, event: &Event) {
        let Some(fact) = fact(event) else { return };
        let chatty =
            matches!(event, Event::BuildLine { .. } | Event::Transfer { .. } | Event::Waiting { .. });
        if chatty && !self.may_chat() {
            return;
        }
        let subject = if fact.subject.is_empty() { String::new() } else { format!("{}: ", fact.subject) };
        // The receiver is gone when the client is.
        let _ = self.sender.send(format!("{subject}{}", fact.text));
    }

    fn may_chat(&self) -> bool {
        let Ok(mut last) = self.chatty.lock() else { return false };
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= CHATTY);
        if due {
            *last = Some(now);
        }
        due
    }
}
